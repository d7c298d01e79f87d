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

    /// The selftest guest failed nothing, and passed `least` checks or more; all ended well.
    ///
    /// # Panics
    /// If not; with all that the machine said.
    pub fn selftest_passed(&self, least: u32) {
        let verdict = self
            .output
            .rsplit_once("selftest: ")
            .and_then(|(_, rest)| rest.lines().next())
            .map(str::trim);
        let passed = verdict.and_then(|verdict| verdict.strip_suffix(" passed, 0 failed"));
        let count = passed.and_then(|count| count.parse().ok()).unwrap_or(0);
        assert!(count >= least, "{verdict:?}:\n{}", self.output);
        self.all_well();
    }
}
