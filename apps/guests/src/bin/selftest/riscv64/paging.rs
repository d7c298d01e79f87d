//! An address space for the checks: Sv39, with what runs now mapped as it is for supervisor mode,
//! and one page of every kind that a check needs from [`USER`] on.
//!
//! Privileged Architecture, "Sv39: Page-Based 39-bit Virtual-Memory System".

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

use guests::arch::context::Code;
use guests::arch::{Machine, uart};
use guests::write_csr;

use super::expect::HOLE;

const PAGE: usize = 4096;
const GIB: usize = 1 << 30;

/// Where the pages of the checks begin.
const USER: usize = 4 * GIB;
/// The snippets, for user mode to read and execute.
pub(crate) const USER_CODE: usize = USER;
/// The snippets, for user mode to execute but not to read.
pub(crate) const EXECUTE_ONLY_CODE: usize = page(64);
/// For user mode to read and write: see [`data`].
pub(crate) const DATA: usize = page(128);
/// The same for user mode to read only.
pub(crate) const READ_ONLY: usize = page(129);
/// The same for supervisor mode to read and write.
pub(crate) const SUPERVISOR: usize = page(130);
/// A page for everything that is outside of RAM and no device.
pub(crate) const OUTSIDE: usize = page(131);
/// The UART's registers.
pub(crate) const UART: usize = page(132);
/// A hole in the map of devices.
pub(crate) const DEVICE_HOLE: usize = page(133);
/// An entry that is not valid.
pub(crate) const INVALID: usize = page(134);
/// An entry that the architecture reserves: writable but not readable.
pub(crate) const RESERVED: usize = page(135);
/// Two pages for a check to map.
pub(crate) const FREE: usize = page(136);
/// A page-table pointer outside of RAM.
pub(crate) const TABLE_OUTSIDE: usize = USER + (2 << 20);
/// A page-table pointer to a device.
pub(crate) const TABLE_IN_DEVICE: usize = USER + (4 << 20);
/// A root-table pointer outside of RAM.
pub(crate) const ROOT_OUTSIDE: usize = 5 * GIB;

const fn page(n: usize) -> usize {
    USER + n * PAGE
}

/// Bits of a page-table entry.
pub(crate) mod pte {
    #![allow(missing_docs, reason = "the names are the manual's")]
    pub(crate) const V: u64 = 1 << 0;
    pub(crate) const R: u64 = 1 << 1;
    pub(crate) const W: u64 = 1 << 2;
    pub(crate) const X: u64 = 1 << 3;
    pub(crate) const U: u64 = 1 << 4;
    const A: u64 = 1 << 6;
    const D: u64 = 1 << 7;
    /// Valid, and nothing that hardware would have to set.
    pub(crate) const LEAF: u64 = V | A | D;
}

/// A page of 64-bit words, as a table or for data.
#[repr(C, align(4096))]
pub(crate) struct Page(pub(crate) [AtomicU64; 512]);

impl Page {
    pub(crate) const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; 512])
    }

    /// Its physical address, which is its address outside of [`Paging`], too.
    pub(crate) fn address(&self) -> usize {
        (&raw const *self).addr()
    }

    /// Sets an entry of a table.
    fn set(&self, n: usize, physical: usize, flags: u64) {
        self.0[n].store((physical >> 12 << 10) as u64 | flags, Ordering::Relaxed);
    }
}

static ROOT: Page = Page::new();
/// Of the GiB at `USER`.
static MIDDLE: Page = Page::new();
/// Of the first 2 MiB of that.
static LEAVES: Page = Page::new();
static DATA_PAGE: Page = Page::new();

/// The page that is mapped at [`DATA`].
pub(crate) fn data() -> &'static Page {
    &DATA_PAGE
}

/// Translation is on as long as this lives.
pub(crate) struct Paging(());

impl Paging {
    /// Makes the tables anew and switches to them.
    pub(crate) fn on(machine: &Machine) -> Self {
        fill(machine);
        const SV39: usize = 8;
        // SAFETY: the tables map everything that this program uses to itself.
        unsafe { write_csr!("satp", SV39 << 60 | ROOT.address() >> 12) }
        flush();
        Self(())
    }

    /// Maps the `n`th page at [`FREE`].
    pub(crate) fn map_free(&self, n: usize, physical: usize, flags: u64) {
        LEAVES.set((FREE - USER) / PAGE + n, physical, flags);
        flush();
    }
}

impl Drop for Paging {
    fn drop(&mut self) {
        // SAFETY: without translation everything is where it was.
        unsafe { write_csr!("satp", 0_usize) }
        flush();
    }
}

/// Makes the hart forget translations.
pub(crate) fn flush() {
    // SAFETY: forgetting is always allowed.
    unsafe { asm!("sfence.vma", options(nostack)) }
}

fn fill(machine: &Machine) {
    use pte::{LEAF, R, U, V, W, X};
    // No RAM is that high on these machines.
    const FAR: usize = 1 << 50;

    // Devices, then RAM, for supervisor mode.
    ROOT.set(0, 0, LEAF | R | W);
    ROOT.set(2, 2 * GIB, LEAF | R | W | X);
    ROOT.set(3, 3 * GIB, LEAF | R | W | X);
    ROOT.set(USER / GIB, MIDDLE.address(), V);
    ROOT.set(ROOT_OUTSIDE / GIB, FAR, V);
    MIDDLE.set(0, LEAVES.address(), V);
    MIDDLE.set(
        (TABLE_OUTSIDE - USER) >> 21,
        machine.ram().end.next_multiple_of(PAGE),
        V,
    );
    MIDDLE.set((TABLE_IN_DEVICE - USER) >> 21, uart::base(), V);

    let leaf = |address: usize, physical: usize, flags: u64| {
        LEAVES.set((address - USER) / PAGE, physical, flags);
    };
    for (n, physical) in Code::section().step_by(PAGE).enumerate() {
        leaf(USER_CODE + n * PAGE, physical, LEAF | U | R | X);
        leaf(EXECUTE_ONLY_CODE + n * PAGE, physical, LEAF | U | X);
    }
    assert!(Code::section().len() <= EXECUTE_ONLY_CODE - USER_CODE);
    let data = DATA_PAGE.address();
    leaf(DATA, data, LEAF | U | R | W);
    leaf(READ_ONLY, data, LEAF | U | R);
    leaf(SUPERVISOR, data, LEAF | R | W);
    leaf(OUTSIDE, FAR, LEAF | U | R | W | X);
    leaf(UART, uart::base(), LEAF | U | R | W);
    leaf(DEVICE_HOLE, HOLE, LEAF | U | R | W | X);
    leaf(INVALID, data, 0);
    leaf(RESERVED, data, LEAF | U | W);
}
