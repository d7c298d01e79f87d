//! How a hart gets into Rust, and what happens at a trap that no one expects.

use core::arch::naked_asm;
use core::cell::UnsafeCell;
use core::mem::offset_of;

use crate::arch::{Machine, sbi};
use crate::{Exit, read_csr};

const STACK_SIZE: usize = 64 << 10;

#[repr(C, align(16))]
#[derive(Debug)]
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
        "csrr s0, time",
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
        "mv a2, s0",
        "tail {boot}",
        stack = sym BOOT_STACK,
        stack_size = const STACK_SIZE,
        fatal = sym fatal_entry,
        boot = sym boot,
    )
}

extern "C" fn boot(hart: usize, device_tree: *const u8, time: u64) -> ! {
    // SAFETY: the boot protocol passes the device tree, and nothing ever writes over it.
    let machine = unsafe { Machine::new(hart, device_tree, time) };
    sbi::power_off(guest_main(machine))
}

/// What another hart needs to get into Rust: a stack of its own, and the function to run there.
/// One hart at a time may start with it.
#[repr(C)]
#[derive(Debug)]
pub struct HartStart {
    stack: UnsafeCell<Stack>,
    main: extern "C" fn(hart: usize, opaque: usize) -> !,
}

// SAFETY: the stack is touched only by the hart that was started with it.
unsafe impl Sync for HartStart {}

impl HartStart {
    /// A start at `main`, which gets the hart's id and [`opaque`](Self::opaque).
    pub const fn new(main: extern "C" fn(hart: usize, opaque: usize) -> !) -> Self {
        Self {
            stack: UnsafeCell::new(Stack([0; _])),
            main,
        }
    }

    /// The `start_addr` for SBI `hart_start`.
    pub fn entry() -> usize {
        hart_entry as *const () as usize
    }

    /// The `opaque` for SBI `hart_start`.
    pub fn opaque(&'static self) -> usize {
        (&raw const *self).addr()
    }
}

/// Where `hart_start` enters: a0 is the hart's id, a1 points to a [`HartStart`].
#[unsafe(naked)]
extern "C" fn hart_entry() -> ! {
    naked_asm!(
        "li t0, {stack_end}",
        "add sp, a1, t0",
        "csrw sie, zero",
        "la t0, {fatal}",
        "csrw stvec, t0",
        "li t0, {main}",
        "add t0, a1, t0",
        "ld t0, 0(t0)",
        "jr t0",
        stack_end = const offset_of!(HartStart, stack) + STACK_SIZE,
        main = const offset_of!(HartStart, main),
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
