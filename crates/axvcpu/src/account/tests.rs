use std::vec::Vec;

use super::*;

crate::exit_kinds! {
    /// Why a vCPU left its guest.
    enum ExitKind {
        /// One.
        First = "first",
        /// Another.
        Second = "second",
    }
}

fn account() -> Account {
    Account::new::<ExitKind>()
}

fn times(account: &Account, now: u64) -> (u64, u64) {
    let statement = account.statement(now);
    (statement.guest_ticks, statement.hypervisor_ticks)
}

#[test]
fn each_kind_counts_for_itself() {
    let account = account();
    account.count(ExitKind::Second);
    account.count(ExitKind::Second);
    account.count(ExitKind::First);
    assert_eq!(account.exits_of(ExitKind::Second), 2);
    let statement = account.statement(0);
    let exits: Vec<_> = statement.exits().collect();
    assert_eq!(exits, [("first", 1), ("second", 2)]);
    assert_eq!(statement.exits_in_all(), 3);
}

#[test]
fn the_time_of_a_bound_vcpu_is_the_guests_or_the_hypervisors() {
    let account = account();
    account.bound(1000);
    account.entering(1010);
    account.left(1110);
    account.entering(1113);
    account.left(1200);
    account.unbound(1205);
    assert_eq!(times(&account, 5000), (100 + 87, 10 + 3 + 5));
    // It waited meanwhile.
    account.bound(9000);
    account.entering(9001);
    account.left(9002);
    account.unbound(9003);
    assert_eq!(times(&account, 10_000), (188, 20));
}

#[test]
fn a_vcpu_that_runs_can_be_asked() {
    let account = account();
    account.bound(1000);
    assert_eq!(times(&account, 1004), (0, 4));
    account.entering(1010);
    assert_eq!(times(&account, 1011), (1, 10));
    assert_eq!(times(&account, 1110), (100, 10));
    account.left(1110);
    assert_eq!(times(&account, 1113), (100, 13));
    account.unbound(1114);
    assert_eq!(times(&account, 2000), (100, 14));
}

#[test]
fn a_clock_that_was_started_since_has_run_for_no_time() {
    let account = account();
    account.bound(1000);
    assert_eq!(times(&account, 990), (0, 0));
}
