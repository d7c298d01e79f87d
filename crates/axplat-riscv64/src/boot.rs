//! The first instructions of each hart: turn translation on, move to the high half, go to ArceOS.

use core::sync::atomic::{AtomicUsize, Ordering};

use axplat::mem::Aligned4K;

use crate::config::plat::{BOOT_STACK_SIZE, KERNEL_BASE_PADDR, PHYS_VIRT_OFFSET};

#[unsafe(link_section = ".bss.stack")]
static mut BOOT_STACK: [u8; BOOT_STACK_SIZE] = [0; BOOT_STACK_SIZE];

/// The table that harts start on: the low 256 GiB of physical memory at [`PHYS_VIRT_OFFSET`], and the gigabyte that holds the image
/// where it is, for the step between. A constant, so that no code runs before translation is on.
#[unsafe(link_section = ".data.boot_page_table")]
static BOOT_PAGE_TABLE: Aligned4K<[u64; 512]> = Aligned4K::new(boot_page_table());

const fn boot_page_table() -> [u64; 512] {
    const GIB_SHIFT: usize = 30;
    /// A 1 GiB leaf with V, R, W, X, A and D set (privileged specification, "Sv39").
    const fn leaf(gib: usize) -> u64 {
        ((gib as u64) << (GIB_SHIFT - 12) << 10) | 0b1100_1111
    }
    let mut table = [0; 512];
    let image = KERNEL_BASE_PADDR >> GIB_SHIFT;
    table[image] = leaf(image);
    let mut gib = 0;
    while gib < 256 {
        table[256 + gib] = leaf(gib);
        gib += 1;
    }
    table
}

/// `satp.MODE` for Sv39.
const SATP_SV39: usize = 8 << 60;

/// The hart that the firmware started first. In `.data`, since ArceOS clears `.bss` after it is set.
#[unsafe(link_section = ".data")]
static BOOT_HART: AtomicUsize = AtomicUsize::new(usize::MAX);

/// The id of the hart that the firmware started first.
pub(crate) fn boot_hart() -> usize {
    BOOT_HART.load(Ordering::Relaxed)
}

/// Where the firmware enters: a0 is the hart's id, a1 the physical address of the device tree.
#[unsafe(naked)]
#[unsafe(no_mangle)]
#[unsafe(link_section = ".text.boot")]
unsafe extern "C" fn _start() -> ! {
    core::arch::naked_asm!("
        la      sp, {stack}
        li      t0, {stack_size}
        add     sp, sp, t0
        la      t0, {table}
        srli    t0, t0, 12
        li      t1, {sv39}
        or      t0, t0, t1
        sfence.vma
        csrw    satp, t0
        sfence.vma
        li      t1, {offset}
        add     sp, sp, t1
        la      t0, {entry}
        add     t0, t0, t1
        jr      t0",
        stack = sym BOOT_STACK,
        stack_size = const BOOT_STACK_SIZE,
        table = sym BOOT_PAGE_TABLE,
        sv39 = const SATP_SV39,
        offset = const PHYS_VIRT_OFFSET,
        entry = sym primary,
    )
}

/// Where another hart enters: a0 is its id, a1 the physical address of the top of its stack.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn start_secondary() -> ! {
    core::arch::naked_asm!("
        mv      sp, a1
        la      t0, {table}
        srli    t0, t0, 12
        li      t1, {sv39}
        or      t0, t0, t1
        sfence.vma
        csrw    satp, t0
        sfence.vma
        li      t1, {offset}
        add     sp, sp, t1
        la      t0, {entry}
        add     t0, t0, t1
        jr      t0",
        table = sym BOOT_PAGE_TABLE,
        sv39 = const SATP_SV39,
        offset = const PHYS_VIRT_OFFSET,
        entry = sym secondary,
    )
}

/// pCPU 0 is the hart that the firmware chose.
extern "C" fn primary(hart: usize, device_tree: usize) -> ! {
    BOOT_HART.store(hart, Ordering::Relaxed);
    axplat::call_main(0, device_tree)
}

extern "C" fn secondary(hart: usize) -> ! {
    match crate::machine().harts().iter().position(|h| h.id == hart) {
        Some(cpu) => axplat::call_secondary_main(cpu),
        // Nobody starts a hart that is not on the list.
        None => loop {
            axcpu::asm::halt();
        },
    }
}
