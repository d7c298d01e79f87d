//! What a machine that ended has to have said.

use crate::Ended;

impl Ended {
    /// All that was started ended well.
    ///
    /// # Panics
    /// If not; with all that the machine said.
    pub fn all_well(&self) {
        assert_eq!(self.status, Some(0), "{}", self.output);
        self.no_panic();
    }

    /// Something did not start or did not end well, and that was said in order.
    ///
    /// # Panics
    /// If not; with all that the machine said.
    pub fn failed(&self) {
        assert_eq!(self.status, Some(1), "{}", self.output);
        self.no_panic();
    }

    fn no_panic(&self) {
        assert!(!self.output.contains("panicked"), "{}", self.output);
    }

    /// Each of `words` stands in one line of what the machine said.
    ///
    /// # Panics
    /// If not; with all that the machine said.
    pub fn says(&self, words: &[&str]) {
        let found = self
            .output
            .lines()
            .any(|line| words.iter().all(|word| line.contains(word)));
        assert!(found, "no line has all of {words:?}:\n{}", self.output);
    }

    /// The selftest guest passed every check but those in `skipped`, of which the machine has not what they check; all ended well.
    ///
    /// # Panics
    /// If not; with all that the machine said.
    pub fn selftest_passed(&self, skipped: &[&str]) {
        let lines = || self.output.lines().map(str::trim);
        let mut said: Vec<_> = lines()
            .filter_map(|line| line.strip_prefix("skip ")?.split_once(": "))
            .map(|(name, _)| name)
            .collect();
        said.sort_unstable();
        let mut expected = skipped.to_vec();
        expected.sort_unstable();
        assert_eq!(said, expected, "{}", self.output);
        let passed = lines().filter(|line| line.starts_with("ok ")).count();
        let tally = format!(
            "selftest: {passed} passed, 0 failed, {} skipped",
            skipped.len()
        );
        assert!(
            passed > 0 && self.output.contains(&tally),
            "not \"{tally}\":\n{}",
            self.output
        );
        self.all_well();
    }
}
