//! An address space for the checks: what runs now is mapped as it is, and from [`USER`] on there is
//! one page of every kind that a check needs.
//!
//! AMD64 Architecture Programmer's Manual, volume 2, chapter 5.

use core::arch::asm;
use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering};

use guests::arch::context::Code;
use guests::{read_cr, write_cr};

/// Bytes of a page.
pub(crate) const PAGE: usize = 4096;

/// Where the pages of the checks begin.
const USER: usize = 1 << 39;
/// The snippets, for ring 3 to read and execute.
pub(crate) const USER_CODE: usize = USER;
/// For ring 3 to read and write: see [`data`]. The next page is not there.
pub(crate) const DATA: usize = page(128);
/// An entry that is not present, directly behind the data.
pub(crate) const ABSENT: usize = page(129);
/// The data for ring 3 to read only.
pub(crate) const READ_ONLY: usize = page(130);
/// The data for ring 0 to read and write.
pub(crate) const SUPERVISOR: usize = page(131);
/// An entry with a reserved bit.
pub(crate) const RESERVED: usize = page(132);
/// Two pages of code, see [`stage`], which lie in the other order in memory. The page after them is
/// not there.
pub(crate) const STAGE: usize = page(136);
/// The registers of the local APIC.
pub(crate) const APIC: usize = page(140);

const fn page(n: usize) -> usize {
    USER + n * PAGE
}

/// Bits of a page-table entry.
mod pte {
    pub(super) const PRESENT: u64 = 1 << 0;
    pub(super) const WRITABLE: u64 = 1 << 1;
    pub(super) const USER: u64 = 1 << 2;
    pub(super) const UNCACHED: u64 = 1 << 4 | 1 << 3;
    pub(super) const NO_EXECUTE: u64 = 1 << 63;
}

/// A page of 64-bit words, as a table or for data.
#[repr(C, align(4096))]
pub(crate) struct Page(pub(crate) [AtomicU64; 512]);

impl Page {
    const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; 512])
    }

    /// Its physical address, which is its address outside of [`Paging`], too.
    pub(crate) fn address(&self) -> usize {
        (&raw const *self).addr()
    }

    fn set(&self, n: usize, physical: usize, flags: u64) {
        self.0[n].store(physical as u64 | flags, Ordering::Relaxed);
    }
}

static ROOT: Page = Page::new();
/// Of the 512 GiB at `USER`.
static UPPER: Page = Page::new();
/// Of the first GiB of that.
static MIDDLE: Page = Page::new();
/// Of the first 2 MiB of that.
static LEAVES: Page = Page::new();
static DATA_PAGE: Page = Page::new();
static STAGE_PAGES: [Page; 2] = [Page::new(), Page::new()];

/// The page that is mapped at [`DATA`].
pub(crate) fn data() -> &'static Page {
    &DATA_PAGE
}

/// Writes code to the pages at [`STAGE`], `offset` bytes from their start.
pub(crate) fn stage(offset: usize, bytes: &[u8]) {
    for (at, &byte) in (offset..).zip(bytes) {
        let page = STAGE_PAGES[1 - at / PAGE].address();
        // SAFETY: nobody holds a reference to the inside of these atomics. A CPU that runs what is
        // there runs the one or the other.
        unsafe { ptr::write_volatile((page + at % PAGE) as *mut u8, byte) }
    }
}

/// The first byte at [`STAGE`].
pub(crate) fn staged() -> u8 {
    // SAFETY: the page is there, and any byte is one.
    unsafe { ptr::read_volatile(STAGE_PAGES[1].address() as *const u8) }
}

/// The tables of the checks are in use as long as this lives.
pub(crate) struct Paging {
    before: usize,
}

impl Paging {
    /// Makes the tables anew and switches to them.
    pub(crate) fn on() -> Self {
        let before = read_cr!("cr3");
        fill(before);
        // SAFETY: the tables map everything that this program uses to itself.
        unsafe { write_cr!("cr3", ROOT.address()) }
        Self { before }
    }
}

impl Drop for Paging {
    fn drop(&mut self) {
        // SAFETY: these are the tables of before.
        unsafe { write_cr!("cr3", self.before) }
    }
}

/// Makes the CPU forget the translation of an address.
pub(crate) fn flush(address: usize) {
    // SAFETY: forgetting is always allowed.
    unsafe { asm!("invlpg [{}]", in(reg) address, options(nostack)) }
}

/// Maps the page at [`DATA`] to the data, or to nothing.
pub(crate) fn map_data(present: bool) {
    use pte::{NO_EXECUTE, PRESENT, USER as RING3, WRITABLE};
    let flags = if present { PRESENT } else { 0 };
    let n = (DATA - USER) / PAGE;
    LEAVES.set(
        n,
        DATA_PAGE.address(),
        flags | WRITABLE | RING3 | NO_EXECUTE,
    );
    flush(DATA);
}

fn fill(before: usize) {
    use pte::{NO_EXECUTE, PRESENT, UNCACHED, USER as RING3, WRITABLE};
    const TABLE: u64 = PRESENT | WRITABLE | RING3;

    // SAFETY: CR3 points to a table, which is mapped to itself.
    let everything = unsafe { (before as *const u64).read_volatile() };
    ROOT.0[0].store(everything, Ordering::Relaxed);
    ROOT.set(USER >> 39, UPPER.address(), TABLE);
    UPPER.set(0, MIDDLE.address(), TABLE);
    MIDDLE.set(0, LEAVES.address(), TABLE);

    let leaf = |address: usize, physical: usize, flags: u64| {
        LEAVES.set((address - USER) / PAGE, physical, flags);
    };
    for (n, physical) in Code::section().step_by(PAGE).enumerate() {
        leaf(USER_CODE + n * PAGE, physical, PRESENT | RING3);
    }
    assert!(Code::section().len() <= DATA - USER_CODE);
    let data = DATA_PAGE.address();
    map_data(true);
    leaf(ABSENT, data, 0);
    leaf(READ_ONLY, data, PRESENT | RING3 | NO_EXECUTE);
    leaf(SUPERVISOR, data, PRESENT | WRITABLE | NO_EXECUTE);
    // No CPU has that many bits of physical addresses.
    leaf(RESERVED, data, PRESENT | WRITABLE | RING3 | 1 << 51);
    for (n, page) in STAGE_PAGES.iter().rev().enumerate() {
        leaf(STAGE + n * PAGE, page.address(), PRESENT | RING3);
    }
    leaf(STAGE + 2 * PAGE, 0, 0);
    let device = PRESENT | WRITABLE | RING3 | UNCACHED | NO_EXECUTE;
    leaf(APIC, guests::arch::lapic::BASE, device);
}
