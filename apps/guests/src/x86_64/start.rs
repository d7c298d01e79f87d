//! How another CPU gets into Rust: by INIT and a startup interrupt, through real mode.

use core::arch::naked_asm;
use core::mem::offset_of;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use crate::arch::segment::{Cpu, DESCRIPTORS, selector};
use crate::arch::{Timer, entry, lapic};

/// Where a CPU starts: a page below 1 MiB that nobody else uses.
pub const STARTUP_PAGE: usize = 0x8000;

/// What another CPU needs to get into Rust: a state of its own, and the function to run there. One
/// CPU at a time may start with it.
#[repr(C)]
#[derive(Debug)]
pub struct CpuStart {
    cpu: Cpu,
    main: extern "C" fn() -> !,
    /// CR0 as the CPU found it.
    cr0: AtomicU32,
}

/// With what the next CPU starts.
static NEXT: AtomicPtr<CpuStart> = AtomicPtr::new(ptr::null_mut());

impl CpuStart {
    /// A start at `main`.
    pub const fn new(main: extern "C" fn() -> !) -> Self {
        Self {
            cpu: Cpu::new(),
            main,
            cr0: AtomicU32::new(0),
        }
    }

    /// Stops the CPU `id`, wherever it is, and starts it with this.
    pub fn launch(&'static self, timer: &Timer, id: u32) {
        self.prepare();
        Self::init(timer, id);
        lapic::send(id, Self::command());
    }

    /// Makes the startup page ready for the next CPU.
    pub fn prepare(&'static self) {
        NEXT.store((&raw const *self).cast_mut(), Ordering::SeqCst);
        let (from, to) = (real_mode as *const () as *const u8, STARTUP_PAGE as *mut u8);
        // SAFETY: nothing else is on that page, and the code is that long at least.
        unsafe { ptr::copy_nonoverlapping(from, to, REAL_MODE_SIZE) }
    }

    /// Puts the CPU `id` into the state in which it waits for a startup interrupt.
    pub fn init(timer: &Timer, id: u32) {
        lapic::send(id, lapic::command::INIT);
        timer.spin(timer.ticks_per_second() / 100);
    }

    /// The startup interrupt.
    pub const fn command() -> u32 {
        lapic::command::STARTUP | (STARTUP_PAGE >> 12) as u32
    }

    /// CR0 as the CPU found it.
    pub fn first_cr0(&self) -> u32 {
        self.cr0.load(Ordering::Relaxed)
    }
}

/// Bytes of [`real_mode`].
const REAL_MODE_SIZE: usize = 64;

/// Where the CPU starts, in real mode with the startup page as its code segment. What it finds in
/// CR0 goes to ESI.
#[unsafe(naked)]
extern "C" fn real_mode() -> ! {
    naked_asm!(
        ".code16",
        "2: cli",
        "movw %cs, %ax",
        "movw %ax, %ds",
        "movl %cr0, %esi",
        "lgdtw 4f - 2b", // a base of 24 bits, which these programs lie below
        "movl ${protected}, %eax",
        "movl %eax, %cr0",
        "ljmpl ${code}, ${next}",
        ".balign 4",
        "4: .word {limit}",
        ".long {descriptors}",
        ".org 2b + {size}", // which it cannot exceed
        ".code64",
        protected = const 0x11, // ET, PE
        code = const selector::CODE32,
        next = sym protected_mode,
        limit = const size_of_val(&DESCRIPTORS) - 1,
        descriptors = sym DESCRIPTORS,
        size = const REAL_MODE_SIZE,
        options(att_syntax),
    )
}

#[unsafe(naked)]
extern "C" fn protected_mode() -> ! {
    naked_asm!(
        ".code32",
        "mov eax, {data}",
        "mov ds, eax",
        "mov es, eax",
        "mov ss, eax",
        "mov edi, [{next}]",
        "mov [edi + {cr0}], esi",
        "lea esp, [edi + {stack_end}]",
        "mov ebp, offset {start}",
        "jmp {long_mode}",
        ".code64",
        data = const selector::DATA,
        next = sym NEXT,
        cr0 = const offset_of!(CpuStart, cr0),
        stack_end = const offset_of!(CpuStart, cpu) + Cpu::STACK_END,
        start = sym start,
        long_mode = sym entry::to_long_mode,
    )
}

extern "C" fn start(start: &'static CpuStart) -> ! {
    start.cpu.install();
    lapic::enable();
    (start.main)()
}
