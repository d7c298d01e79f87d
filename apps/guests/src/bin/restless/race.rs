//! Two CPUs that touch the same pages for the first time, in the same order at the same time.

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use guests::arch::Machine;

use crate::arch;

const PAGE: usize = 4096;

/// The pages, and how many of them are for the race; the second CPU touches the rest while the machine is reset.
static START: AtomicUsize = AtomicUsize::new(0);
static RACED: AtomicUsize = AtomicUsize::new(0);
static PAGES: AtomicUsize = AtomicUsize::new(0);

/// How many CPUs stand ready, how many are through, and whether the second one may go on.
static READY: AtomicUsize = AtomicUsize::new(0);
static THROUGH: AtomicUsize = AtomicUsize::new(0);
static GO_ON: AtomicBool = AtomicBool::new(false);

/// Has both CPUs touch the first half of the pages, and looks whether each left its mark on each.
pub(crate) fn run(
    machine: &'static Machine,
    start: usize,
    pages: usize,
) -> Result<(), &'static str> {
    START.store(start, Ordering::SeqCst);
    RACED.store(pages / 2, Ordering::SeqCst);
    PAGES.store(pages, Ordering::SeqCst);
    if !arch::start_second(machine) {
        return Err("there is no second CPU");
    }
    race();
    while THROUGH.load(Ordering::SeqCst) < 2 {
        core::hint::spin_loop();
    }
    if (0..pages / 2).any(|page| mark(start, page).load(Ordering::SeqCst) != 2) {
        return Err("a page does not hold what both CPUs wrote");
    }
    Ok(())
}

/// Lets the second CPU touch the other half of the pages.
pub(crate) fn go_on() {
    GO_ON.store(true, Ordering::SeqCst);
}

/// What the second CPU does.
pub(crate) fn second() -> ! {
    race();
    while !GO_ON.load(Ordering::SeqCst) {
        core::hint::spin_loop();
    }
    touch(RACED.load(Ordering::SeqCst)..PAGES.load(Ordering::SeqCst));
    loop {
        core::hint::spin_loop();
    }
}

fn race() {
    READY.fetch_add(1, Ordering::SeqCst);
    while READY.load(Ordering::SeqCst) < 2 {
        core::hint::spin_loop();
    }
    touch(0..RACED.load(Ordering::SeqCst));
    THROUGH.fetch_add(1, Ordering::SeqCst);
}

fn touch(pages: core::ops::Range<usize>) {
    let start = START.load(Ordering::SeqCst);
    for page in pages {
        mark(start, page).fetch_add(1, Ordering::SeqCst);
    }
}

/// The first word of a page.
fn mark(start: usize, page: usize) -> &'static AtomicUsize {
    // SAFETY: whoever configured the VM says that there is RAM, which nobody else uses; it is aligned, and mapped to itself.
    unsafe { AtomicUsize::from_ptr((start + page * PAGE) as *mut usize) }
}
