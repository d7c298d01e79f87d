//! How the boot CPU gets from the loader into Rust.
//!
//! Multiboot Specification 0.6.96, "Machine state".

use core::arch::naked_asm;
use core::sync::atomic::{AtomicU32, Ordering};

use crate::Exit;
use crate::arch::segment::{self, Cpu, DESCRIPTORS, selector};
use crate::arch::{Machine, power_off};

static BOOT_CPU: Cpu = Cpu::new();

/// The time stamp counter at the first instruction, low half first. Not among what is cleared after that.
#[unsafe(link_section = ".data.boot")]
static STARTED: [AtomicU32; 2] = [const { AtomicU32::new(0) }; 2];

unsafe extern "Rust" {
    /// The guest, as [`guest!`](crate::guest) names it.
    safe fn guest_main(machine: &'static Machine) -> Exit;
}

/// The first instruction, in 32-bit protected mode without paging: EAX is the loader's magic, EBX
/// the address of its information; interrupts are off.
#[unsafe(naked)]
#[unsafe(no_mangle)]
#[unsafe(link_section = ".text.entry")]
extern "C" fn _start() -> ! {
    const HEADER_MAGIC: u32 = 0x1bad_b002;
    // Modules at pages, and what RAM there is.
    const FLAGS: u32 = 0b11;
    naked_asm!(
        ".code32",
        "jmp 3f",
        ".balign 4",
        ".long {magic}, {flags}, {checksum}",
        "3:",
        "cld",
        "mov esi, eax",
        "rdtsc",
        "mov [{started}], eax",
        "mov [{started} + 4], edx",
        // Whoever loaded a flat binary need not have cleared what it does not hold.
        "mov edi, offset __bss_start",
        "mov ecx, offset __bss_end",
        "sub ecx, edi",
        "xor eax, eax",
        "rep stosb",
        "mov edi, esi",
        "mov esi, ebx",
        "mov esp, offset {cpu} + {stack_end}",
        "mov ebp, offset {boot}",
        "jmp {long_mode}",
        ".code64",
        magic = const HEADER_MAGIC,
        flags = const FLAGS,
        checksum = const 0_u32.wrapping_sub(HEADER_MAGIC).wrapping_sub(FLAGS),
        started = sym STARTED,
        cpu = sym BOOT_CPU,
        stack_end = const Cpu::STACK_END,
        boot = sym boot,
        long_mode = sym to_long_mode,
    )
}

/// Goes on in 64-bit mode, from 32-bit protected mode without paging and with flat segments, at the
/// function in EBP, with EDI and ESI as its arguments and ESP as its stack.
///
/// The first 4 GiB are mapped to themselves, the last of them, where the devices are, uncached.
#[unsafe(naked)]
pub(super) extern "C" fn to_long_mode() -> ! {
    naked_asm!(
        ".pushsection .data.boot, \"aw\", @progbits",
        ".balign 4096",
        ".Lboot_root: .quad 772f + {table}",
        ".fill 511, 8, 0",
        "772: .quad 773f + {table}, 773f + 0x1000 + {table}",
        ".quad 773f + 0x2000 + {table}, 773f + 0x3000 + {table}",
        ".fill 508, 8, 0",
        "773:",
        ".set boot_page, 0",
        ".rept 1536",
        ".quad boot_page + {ram}",
        ".set boot_page, boot_page + 0x200000",
        ".endr",
        ".rept 512",
        ".quad boot_page + {device}",
        ".set boot_page, boot_page + 0x200000",
        ".endr",
        ".Lboot_descriptors: .word {limit}",
        ".long {descriptors}",
        ".popsection",
        ".code32",
        "mov eax, cr4",
        "or eax, {cr4}",
        "mov cr4, eax",
        "mov eax, offset .Lboot_root",
        "mov cr3, eax",
        "mov ecx, {efer}",
        "rdmsr",
        "or eax, {efer_bits}",
        "wrmsr",
        "mov eax, {cr0}",
        "mov cr0, eax",
        "lgdt [.Lboot_descriptors]",
        ".byte 0xea", // a far jump
        ".long 2f",
        ".word {code}",
        ".code64",
        "2:",
        "xor eax, eax",
        "mov ds, eax",
        "mov es, eax",
        "mov fs, eax",
        "mov gs, eax",
        "mov eax, {data}",
        "mov ss, eax",
        // What the upper halves hold is not defined.
        "mov esp, esp",
        "mov edi, edi",
        "mov esi, esi",
        "mov ebp, ebp",
        "call rbp",
        "ud2",
        table = const 0b11, // present, writable
        ram = const 0b1000_0011, // of 2 MiB
        device = const 0b1001_1011, // uncached
        limit = const size_of_val(&DESCRIPTORS) - 1,
        descriptors = sym DESCRIPTORS,
        cr4 = const 1 << 10 | 1 << 9 | 1 << 5, // OSXMMEXCPT, OSFXSR, PAE
        cr0 = const 1_u32 << 31 | 1 << 16 | 1 << 5 | 1 << 4 | 1 << 1 | 1, // PG, WP, NE, ET, MP, PE
        efer = const crate::arch::msr::EFER,
        efer_bits = const crate::arch::msr::EFER_LME | crate::arch::msr::EFER_NXE,
        code = const selector::CODE,
        data = const selector::DATA,
    )
}

extern "C" fn boot(magic: u32, info: u32) -> ! {
    segment::fill_gates();
    BOOT_CPU.install();
    let [low, high] = STARTED
        .each_ref()
        .map(|half| u64::from(half.load(Ordering::Relaxed)));
    // SAFETY: the loader passes these, and nothing ever writes over what they lead to.
    let machine = unsafe { Machine::new(magic, info, high << 32 | low) };
    power_off(guest_main(machine))
}
