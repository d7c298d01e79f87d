//! The hypervisor's own page table: all RAM in the largest pages that fit, the image by the rights of its sections, the interrupt
//! controllers uncached, and nothing else.
//!
//! ArceOS would map RAM in pages of 4 KiB, which takes seconds and a five-hundredth of a large machine; every CPU comes back to this table
//! when ArceOS is done with that.

use core::sync::atomic::{AtomicU64, Ordering};

use axplat::mem::{PhysAddr, VirtAddr, phys_to_virt, virt_to_phys};
use axplat_ranges::{Range, Ranges};
use raw_cpuid::CpuId;
use x86_64::{
    PhysAddr as FrameAddr,
    registers::control::{Cr3, Cr3Flags},
    structures::paging::PhysFrame,
};

use crate::{
    boot,
    machine::{self, machine},
    mem, power,
};

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
/// PCD and PWT.
const UNCACHED: u64 = 1 << 3 | 1 << 4;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// What may be done with a page.
#[derive(Clone, Copy, Debug)]
enum Rights {
    Code,
    Constants,
    Data,
    Device,
}

impl Rights {
    fn bits(self) -> u64 {
        PRESENT
            | match self {
                Self::Code => 0,
                Self::Constants => NO_EXECUTE,
                Self::Data => WRITABLE | NO_EXECUTE,
                Self::Device => WRITABLE | UNCACHED | NO_EXECUTE,
            }
    }
}

const PAGE: usize = 4096;
const ENTRIES: usize = 512;
/// Levels of tables; those of level 0 map pages of 4 KiB.
const LEVELS: usize = 4;

/// How much one entry of a table of that level maps.
const fn span(level: usize) -> usize {
    PAGE << (9 * level)
}

/// The largest pages that this CPU has, by the level that maps them.
fn largest_level() -> usize {
    let gigabyte_pages = CpuId::new()
        .get_extended_processor_and_feature_identifiers()
        .is_some_and(|features| features.has_1gib_pages());
    if gigabyte_pages { 2 } else { 1 }
}

/// How many bytes of tables are enough for these ranges, and a few single pages.
pub(crate) fn bytes_needed(ram: &Ranges) -> usize {
    /// The root, the image's tables and those of single pages.
    const FIXED: usize = 64;
    let per_range = |&(_, size): &Range| {
        // At each end of a range there may be a table of every level that its middle does not need.
        let ends = 2 * (LEVELS - 1);
        ends + size / span(largest_level() + 1) + size / span(LEVELS - 1)
    };
    let tables: usize = ram.as_slice().iter().map(per_range).sum();
    (FIXED + tables) * PAGE
}

static ROOT: AtomicU64 = AtomicU64::new(0);

/// The physical address of the root.
pub(crate) fn root() -> u64 {
    ROOT.load(Ordering::Relaxed)
}

/// Builds the table, and turns to it.
pub(crate) fn init() {
    let (start, size) = mem::page_tables();
    let mut builder = Builder {
        next: start,
        end: start + size,
        root: 0,
        largest_level: largest_level(),
    };
    builder.root = builder.table();
    for &(start, size) in machine().ram.without(&image_as_ranges()).as_slice() {
        builder.map(start, start + size, Rights::Data);
    }
    for (start, end, rights) in image_sections() {
        builder.map(start, end, rights);
    }
    for &(start, size) in machine().mmio.as_slice() {
        builder.map(start, start + size, Rights::Device);
    }
    ROOT.store(builder.root as u64, Ordering::Relaxed);
    load();
}

/// Turns the current CPU to the table.
pub(crate) fn load() {
    let root = PhysFrame::containing_address(FrameAddr::new_truncate(root()));
    // SAFETY: the table maps everything that is in use, at the same addresses as before.
    unsafe { Cr3::write(root, Cr3Flags::empty()) };
}

unsafe extern "C" {
    static _skernel: u8;
    static _stext: u8;
    static _etext: u8;
    static _srodata: u8;
    static _erodata: u8;
    static _sdata: u8;
    static _ekernel: u8;
}

fn phys_of(label: *const u8) -> usize {
    virt_to_phys(VirtAddr::from_usize(label.addr())).as_usize()
}

/// Where the image is, with everything that it brings.
pub(crate) fn image() -> Range {
    let start = phys_of(&raw const _skernel);
    (start, phys_of(&raw const _ekernel) - start)
}

fn image_as_ranges() -> Ranges {
    let mut ranges = Ranges::new();
    let (start, size) = image();
    machine::keep(&mut ranges, start, size);
    ranges
}

/// The image's sections, without the page that guards the boot stack.
fn image_sections() -> [(usize, usize, Rights); 4] {
    let guard = boot::guard_page();
    let above_guard = guard.wrapping_add(PAGE);
    [
        (&raw const _stext, &raw const _etext, Rights::Code),
        (&raw const _srodata, &raw const _erodata, Rights::Constants),
        (&raw const _sdata, guard, Rights::Data),
        (above_guard, &raw const _ekernel, Rights::Data),
    ]
    .map(|(start, end, rights)| (phys_of(start), phys_of(end), rights))
}

/// Builds the table from frames that lie side by side.
struct Builder {
    next: usize,
    end: usize,
    root: usize,
    largest_level: usize,
}

impl Builder {
    /// A new table, empty.
    fn table(&mut self) -> usize {
        let table = self.next;
        if table == self.end {
            power::stop("the page tables are larger than was reckoned");
        }
        self.next += PAGE;
        // SAFETY: the frame was taken from RAM that the boot tables map and nobody uses.
        unsafe { entries(table).write_bytes(0, ENTRIES) };
        table
    }

    /// Maps whole pages of physical memory to their place in the high half.
    fn map(&mut self, start: usize, end: usize, rights: Rights) {
        let mut at = start;
        while at < end {
            let fits = |&level: &usize| at.is_multiple_of(span(level)) && end - at >= span(level);
            let level = (1..=self.largest_level).rev().find(fits).unwrap_or(0);
            let size = if level > 0 { LARGE } else { 0 };
            let entry = self.entry(at, level);
            // SAFETY: an entry of one of our tables, which no CPU uses yet.
            unsafe { entry.write(at as u64 | rights.bits() | size) };
            at += span(level);
        }
    }

    /// The entry of that level for a physical address.
    fn entry(&mut self, at: usize, level: usize) -> *mut u64 {
        let virt = phys_to_virt(PhysAddr::from_usize(at)).as_usize();
        let mut table = self.root;
        for above in (level + 1..LEVELS).rev() {
            let entry = entry_of(table, virt, above);
            // SAFETY: as in `map`.
            table = match unsafe { entry.read() } {
                0 => {
                    let new = self.table();
                    // SAFETY: as in `map`.
                    unsafe { entry.write(new as u64 | PRESENT | WRITABLE) };
                    new
                }
                there => (there & ADDRESS) as usize,
            };
        }
        entry_of(table, virt, level)
    }
}

fn entries(table: usize) -> *mut u64 {
    phys_to_virt(PhysAddr::from_usize(table))
        .as_mut_ptr()
        .cast()
}

fn entry_of(table: usize, virt: usize, level: usize) -> *mut u64 {
    entries(table).wrapping_add(virt / span(level) % ENTRIES)
}
