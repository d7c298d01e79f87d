//! The heartbeat guest's steady beats, by its own account.

use crate::Run;

/// How many there are, of 10 ms each: a second of guest time.
pub const BEATS: u64 = 100;

/// The guest's options for them: one that has nothing else to do.
#[must_use]
pub fn options() -> String {
    format!("steady={BEATS} beats=1")
}

impl Run {
    /// The exits that the hypervisor took in a heartbeat's steady beats, by kind.
    ///
    /// # Panics
    /// If the machine ends first, or takes too long; with all it said.
    pub fn steady_exits(&mut self) -> Vec<(String, u64)> {
        self.expect(&format!("{BEATS} steady beats, exits: "));
        let said = self.rest_of_line();
        let items = said.split(", ").filter(|&item| item != "none");
        items
            .map(|item| {
                let (kind, count) = item.split_once(' ').expect("a kind and a count");
                (kind.to_owned(), count.parse().expect("a count"))
            })
            .collect()
    }
}
