//! The multiplexer on a mock of the hardware: one pCPU to a test's thread.

use core::cell::{Cell, RefCell};
use std::{boxed::Box, thread_local, vec, vec::Vec};

use super::*;

thread_local! {
    static TIMERS: CpuTimers<Mock> = const { CpuTimers::new() };
    static NOW: Cell<u64> = const { Cell::new(0) };
    static PROGRAMMED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
    static FIRED: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

enum Mock {}

impl Hardware for Mock {
    fn now() -> u64 {
        NOW.get()
    }

    fn program(deadline: u64) {
        PROGRAMMED.with_borrow_mut(|log| log.push(deadline));
    }

    fn with_current<T>(f: impl FnOnce(&CpuTimers<Self>) -> T) -> T {
        TIMERS.with(f)
    }
}

/// A registered timer that notes its `name` when it expires.
fn timer(name: usize) -> &'static VmTimer<Mock> {
    let timer = Box::leak(Box::new(VmTimer::new(
        |name| FIRED.with_borrow_mut(|fired| fired.push(name)),
        name,
    )));
    timer.register();
    timer
}

fn interrupt_at(now: u64) {
    NOW.set(now);
    // The scheduler's part: its next tick is 100 later.
    serve::<Mock>(Tick::Handled(|| set_tick::<Mock>(NOW.get() + 100)));
}

/// What the hardware was told since the last look.
fn programmed() -> Vec<u64> {
    PROGRAMMED.take()
}

fn fired() -> Vec<usize> {
    FIRED.take()
}

#[test]
fn the_hardware_holds_the_earliest_of_tick_and_timers() {
    let (one, two) = (timer(1), timer(2));
    set_tick::<Mock>(100);
    one.arm(50);
    // Later than what the hardware holds: it will be told when that has come.
    two.arm(70);
    assert_eq!(programmed(), [100, 50]);
    interrupt_at(50);
    assert_eq!((fired(), programmed()), (vec![1], vec![70]));
    interrupt_at(75);
    assert_eq!((fired(), programmed()), (vec![2], vec![100]));
    interrupt_at(100);
    assert_eq!((fired(), programmed()), (vec![], vec![200]));
}

#[test]
fn a_timer_fires_once_and_not_when_it_was_disarmed() {
    let (one, two) = (timer(1), timer(2));
    one.arm(10);
    two.arm(10);
    two.arm(NEVER);
    interrupt_at(10);
    interrupt_at(20);
    assert_eq!(fired(), [1]);
    assert_eq!(programmed().last(), Some(&NEVER));
}

#[test]
fn an_interrupt_that_comes_early_arms_the_same_deadline_again() {
    timer(1).arm(1_000);
    interrupt_at(400);
    assert_eq!((fired(), programmed()), (vec![], vec![1_000, 1_000]));
}

#[test]
fn a_suspended_tick_neither_comes_nor_is_lost() {
    set_tick::<Mock>(100);
    suspend_tick::<Mock>();
    interrupt_at(100);
    assert_eq!(programmed(), [100, NEVER]);
    NOW.set(500);
    resume_tick::<Mock>();
    assert_eq!(programmed(), [100], "it was due long ago: at once");
    interrupt_at(500);
    assert_eq!(programmed(), [600]);
}

#[test]
fn a_suspended_tick_can_be_set_and_leaves_the_hardware_alone() {
    suspend_tick::<Mock>();
    set_tick::<Mock>(100);
    assert_eq!(programmed(), []);
    resume_tick::<Mock>();
    assert_eq!(programmed(), [100]);
}

#[test]
fn before_the_scheduler_has_a_handler_ticks_go_on() {
    set_tick::<Mock>(0);
    NOW.set(30);
    serve::<Mock>(Tick::Unclaimed { period: 100 });
    assert_eq!(programmed(), [0, 130]);
}

#[test]
fn an_expiry_may_arm_its_timer_again() {
    static AGAIN: VmTimer<Mock> = VmTimer::new(|_| AGAIN.arm(NOW.get() + 5), 0);
    AGAIN.register();
    AGAIN.arm(10);
    interrupt_at(10);
    assert_eq!(programmed().last(), Some(&15));
}

#[test]
fn ticks_and_nanoseconds_agree() {
    for hz in [
        1,
        10_000_000,
        24_000_000,
        999_999_937,
        2_494_000_000,
        5_000_000_000,
    ] {
        let clock = Frequency::new(hz);
        for nanos in [
            0,
            1,
            7,
            999,
            1_000_000,
            1_000_000_007,
            86_400_000_000_000,
            u64::MAX >> 8,
        ] {
            let ticks = clock.nanos_to_ticks(nanos);
            assert!(
                clock.ticks_to_nanos(ticks) >= nanos,
                "{hz} Hz, {nanos} ns: too early"
            );
            assert!(
                ticks == 0 || clock.ticks_to_nanos(ticks - 1) < nanos,
                "{hz} Hz, {nanos} ns: too late"
            );
        }
    }
    let ten_mhz = Frequency::new(10_000_000);
    assert_eq!(ten_mhz.ticks_to_nanos(1_000_000_007), 100_000_000_700);
    assert_eq!(ten_mhz.nanos_to_ticks(101), 2);
}

#[test]
fn no_frequency_and_no_time_overflow() {
    assert_eq!(Frequency::new(0), Frequency::new(1));
    assert_eq!(Frequency::new(u64::MAX).ticks_to_nanos(0), 0);
    assert_eq!(
        Frequency::new(3_000_000_000).nanos_to_ticks(u64::MAX),
        u64::MAX
    );
}

#[test]
fn the_scheduler_says_once_what_it_does_at_a_tick() {
    let handler = TickHandler::new();
    assert!(matches!(
        handler.tick(1000, 100),
        Tick::Unclaimed { period: 10 }
    ));
    assert!(handler.set(|| ()));
    assert!(!handler.set(|| panic!("the first one stays")));
    match handler.tick(1000, 100) {
        Tick::Handled(handler) => handler(),
        Tick::Unclaimed { .. } => panic!("somebody has said"),
    }
}
