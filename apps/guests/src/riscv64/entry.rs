//! How a hart gets into Rust, and what happens when a guest itself fails.

use core::arch::naked_asm;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::arch::{Machine, csr, sbi};
use crate::{Exit, println, read_csr};

const STACK_SIZE: usize = 64 << 10;

#[repr(C, align(16))]
struct Stack([u8; STACK_SIZE]);

/// The boot hart's stack. Written by that hart's pushes only, never through this name.
static mut BOOT_STACK: Stack = Stack([0; STACK_SIZE]);

unsafe extern "Rust" {
    /// The guest, as [`guest!`](crate::guest) names it.
    safe fn guest_main(machine: &'static Machine) -> Exit;
}

/// The first instruction: a0 is the hart's id, a1 the device tree; interrupts are off.
#[unsafe(naked)]
#[unsafe(no_mangle)]
#[unsafe(link_section = ".text.entry")]
extern "C" fn _start() -> ! {
    naked_asm!(
        // Whoever loaded a flat binary need not have cleared what it does not hold.
        "la t0, __bss_start",
        "la t1, __bss_end",
        "1: bgeu t0, t1, 2f",
        "sd zero, 0(t0)",
        "addi t0, t0, 8",
        "j 1b",
        "2: la sp, {stack}",
        "li t0, {stack_size}",
        "add sp, sp, t0",
        "csrw sie, zero",
        "la t0, {fatal}",
        "csrw stvec, t0",
        "tail {boot}",
        stack = sym BOOT_STACK,
        stack_size = const STACK_SIZE,
        fatal = sym fatal_entry,
        boot = sym boot,
    )
}

extern "C" fn boot(hart: usize, device_tree: *const u8) -> ! {
    // SAFETY: the boot protocol passes the device tree, and nothing ever writes over it.
    let machine = unsafe { Machine::new(hart, device_tree) };
    sbi::power_off(guest_main(machine))
}

/// What another hart needs to get into Rust; its address is the `opaque` of SBI `hart_start`.
#[repr(C)]
#[derive(Debug)]
pub struct HartStart {
    stack_top: usize,
    main: extern "C" fn(hart: usize, opaque: usize) -> !,
}

impl HartStart {
    /// A start at `main`, on a stack that ends at `stack_top`.
    ///
    /// # Safety
    /// The stack is this hart's alone, and large enough for `main`.
    pub const unsafe fn new(
        stack_top: usize,
        main: extern "C" fn(hart: usize, opaque: usize) -> !,
    ) -> Self {
        Self { stack_top, main }
    }

    /// The address to start the hart at.
    pub fn entry() -> usize {
        hart_entry as *const () as usize
    }
}

/// Where `hart_start` enters: a0 is the hart's id, a1 points to a [`HartStart`].
#[unsafe(naked)]
extern "C" fn hart_entry() -> ! {
    naked_asm!(
        "ld sp, {stack_top}(a1)",
        "csrw sie, zero",
        "la t0, {fatal}",
        "csrw stvec, t0",
        "ld t0, {main}(a1)",
        "jr t0",
        stack_top = const core::mem::offset_of!(HartStart, stack_top),
        main = const core::mem::offset_of!(HartStart, main),
        fatal = sym fatal_entry,
    )
}

/// Takes a trap that no context was to end in.
#[unsafe(naked)]
pub(super) extern "C" fn fatal_entry() -> ! {
    naked_asm!(
        ".balign 4", // stvec's lowest bits are its mode
        "andi sp, sp, -16",
        "tail {fatal}",
        fatal = sym fatal,
    )
}

extern "C" fn fatal() -> ! {
    panic!(
        "unexpected trap: scause {:#x} stval {:#x} sepc {:#x}",
        read_csr!("scause"),
        read_csr!("stval"),
        read_csr!("sepc"),
    )
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    static PANICKING: AtomicBool = AtomicBool::new(false);
    csr::enable_interrupts(0);
    // A panic while printing this one must not start over.
    if !PANICKING.swap(true, Ordering::Relaxed) {
        println!("guest: {info}");
    }
    sbi::power_off(Exit::Failure)
}
