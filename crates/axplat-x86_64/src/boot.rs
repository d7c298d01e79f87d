//! The first instructions of each CPU: into long mode, into the high half, to ArceOS.
//!
//! A Multiboot loader enters in 32-bit mode without paging. The other CPUs begin in real mode, on a page below 1 MiB to which their first steps
//! are copied, and join the same path. Both run on boot tables that map the low 4 GiB twice, where they are and in the high half, until the
//! [final tables](crate::paging) are there.

use core::{
    arch::global_asm,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
};

use crate::{
    config::plat::{BOOT_STACK_SIZE, PHYS_VIRT_OFFSET},
    power::{DEBUG_EXIT_PORT, EXIT_FAILURE},
};

/// How much physical memory the boot tables map.
pub(crate) const MAPPED_AT_BOOT: usize = 4 << 30;

const PAGE: usize = 4096;

/// A stack below which nothing is mapped: it is that of ArceOS's main task too, and what overflows it must not write the data that lie below.
#[repr(C, align(4096))]
struct GuardedStack {
    guard: [u8; PAGE],
    stack: [u8; BOOT_STACK_SIZE],
}

#[unsafe(link_section = ".bss.stack")]
static mut BOOT_STACK: GuardedStack = GuardedStack {
    guard: [0; PAGE],
    stack: [0; BOOT_STACK_SIZE],
};

/// The page that is not to be mapped.
pub(crate) fn guard_page() -> *const u8 {
    (&raw const BOOT_STACK).cast()
}

/// What a starting CPU is told. In `.data`, since ArceOS clears `.bss`; CPUs start one after the other.
#[repr(C)]
struct Start {
    page_table: AtomicU64,
    stack_top: AtomicU64,
    cpu: AtomicU64,
}

#[unsafe(link_section = ".data")]
static START: Start = Start {
    page_table: AtomicU64::new(0),
    stack_top: AtomicU64::new(0),
    cpu: AtomicU64::new(0),
};

/// The CPU that came up last.
static ARRIVED: AtomicUsize = AtomicUsize::new(0);

/// Prepares the path of the next CPU.
pub(crate) fn prepare(cpu: usize, page_table: u64, stack_top: usize) {
    START.page_table.store(page_table, Ordering::Relaxed);
    START.stack_top.store(stack_top as u64, Ordering::Relaxed);
    START.cpu.store(cpu as u64, Ordering::Release);
}

/// Whether the CPU that was prepared last has come up.
pub(crate) fn has_arrived(cpu: usize) -> bool {
    ARRIVED.load(Ordering::Acquire) == cpu
}

/// A starting CPU's first steps, to be copied to the page where it begins.
pub(crate) fn first_steps() -> &'static [u8] {
    unsafe extern "C" {
        static real_mode_start: u8;
        static real_mode_end: u8;
    }
    // SAFETY: the two labels are the ends of one piece of code, below.
    unsafe {
        let start = &raw const real_mode_start;
        let end = &raw const real_mode_end;
        core::slice::from_raw_parts(start, end.offset_from_unsigned(start))
    }
}

/// pCPU 0 is the CPU that the firmware chose. The argument is the physical address of the loader's information.
extern "C" fn primary(boot_info: u32) -> ! {
    axplat::call_main(0, boot_info as usize)
}

extern "C" fn secondary(cpu: usize) -> ! {
    ARRIVED.store(cpu, Ordering::Release);
    axplat::call_secondary_main(cpu)
}

/// Where a Multiboot loader finds what to do (Multiboot Specification 0.6.96, "OS image format"): modules on page boundaries, a memory map, and
/// addresses given here, since the image is no 32-bit ELF file.
const HEADER_MAGIC: u32 = 0x1bad_b002;
const HEADER_FLAGS: u32 = 1 << 0 | 1 << 1 | 1 << 16;
/// What a Multiboot loader leaves in EAX.
const LOADER_MAGIC: u32 = 0x2bad_b002;

/// PE, MP, ET, NE, WP and PG.
const CR0: u32 = 1 << 0 | 1 << 1 | 1 << 4 | 1 << 5 | 1 << 16 | 1 << 31;
/// PAE and PGE.
const CR4: u32 = 1 << 5 | 1 << 7;
const IA32_EFER: u32 = 0xc000_0080;
/// LME and NXE.
const EFER: u32 = 1 << 8 | 1 << 11;
/// CPUID 0x8000_0001 EDX: NX and LM.
const LONG_MODE: u32 = 1 << 20 | 1 << 29;

const CODE32: u16 = 0x08;
const CODE64: u16 = 0x10;
const DATA: u16 = 0x18;

global_asm!(
    r#"
    .macro ENTER_LONG_MODE target
        mov     eax, {cr4}
        mov     cr4, eax
        mov     eax, offset boot_pml4 - {offset}
        mov     cr3, eax
        mov     ecx, {efer_msr}
        rdmsr
        or      eax, {efer}
        wrmsr
        mov     eax, {cr0}
        mov     cr0, eax
        // A far jump to 64-bit code, which is still where it is.
        .byte   0xea
        .long   \target - {offset}
        .short  {code64}
    .endm

    .macro CLEAR_SEGMENTS
        xor     eax, eax
        mov     ds, eax
        mov     es, eax
        mov     ss, eax
        mov     fs, eax
        mov     gs, eax
    .endm

    .section .text.boot, "ax"
    .code32
    .global _start
_start:
    cli
    cld
    mov     edi, ebx
    mov     esi, offset no_multiboot - {offset}
    cmp     eax, {loader_magic}
    jne     stop32
    mov     esi, offset no_long_mode - {offset}
    mov     eax, 0x80000000
    cpuid
    cmp     eax, 0x80000001
    jb      stop32
    mov     eax, 0x80000001
    cpuid
    and     edx, {long_mode}
    cmp     edx, {long_mode}
    jne     stop32
    lgdt    [boot_gdt_pointer - {offset}]
    ENTER_LONG_MODE primary64

    // Writes the line at ESI to COM1, tells an emulator that waits for it, and stops.
stop32:
    lodsb
    test    al, al
    jz      end32
    mov     bl, al
wait32:
    mov     dx, 0x3fd
    in      al, dx
    test    al, 0x20
    jz      wait32
    mov     dx, 0x3f8
    mov     al, bl
    out     dx, al
    jmp     stop32
end32:
    mov     dx, {exit_port}
    in      eax, dx
    test    eax, eax
    jnz     halt32
    mov     eax, {exit_failure}
    out     dx, eax
halt32:
    hlt
    jmp     halt32

    .balign 4
multiboot_header:
    .long   {header_magic}
    .long   {header_flags}
    .long   -({header_magic} + {header_flags})
    .long   multiboot_header - {offset}
    .long   _skernel - {offset}
    .long   _percpu_end - {offset}
    .long   _ekernel - {offset}
    .long   _start - {offset}

no_multiboot:
    .asciz  "axhv: the image was not started by a Multiboot loader\r\n"
no_long_mode:
    .asciz  "axhv: this CPU has no 64-bit mode with no-execute pages: use one that has (QEMU: -cpu EPYC,+svm,+npt)\r\n"

    // Where the other CPUs come from real mode.
secondary32:
    mov     ax, {data}
    mov     ds, eax
    mov     ss, eax
    ENTER_LONG_MODE secondary64

    .balign 8
boot_gdt:
    .quad   0
    .quad   0x00cf9b000000ffff
    .quad   0x00af9b000000ffff
    .quad   0x00cf93000000ffff
boot_gdt_end:
boot_gdt_pointer:
    .short  boot_gdt_end - boot_gdt - 1
    .long   boot_gdt - {offset}

    .code16
    .global real_mode_start
real_mode_start:
    cli
    mov     ax, cs
    mov     ds, ax
    // LGDT with a base of 32 bits, from an address in this segment.
    .byte   0x66, 0x0f, 0x01, 0x16
    .short  real_mode_gdt_pointer - real_mode_start
    mov     eax, cr0
    or      al, 1
    mov     cr0, eax
    // A far jump to 32-bit code.
    .byte   0x66, 0xea
    .long   secondary32 - {offset}
    .short  {code32}
real_mode_gdt_pointer:
    .short  boot_gdt_end - boot_gdt - 1
    .long   boot_gdt - {offset}
    .global real_mode_end
real_mode_end:

    .code64
primary64:
    movabs  rax, offset primary_high
    jmp     rax
primary_high:
    CLEAR_SEGMENTS
    lea     rsp, [rip + {stack}]
    add     rsp, {stack_size}
    xor     ebp, ebp
    call    {primary}
    ud2

secondary64:
    movabs  rax, offset secondary_high
    jmp     rax
secondary_high:
    CLEAR_SEGMENTS
    mov     rax, [rip + {start}]
    mov     cr3, rax
    mov     rsp, [rip + {start} + 8]
    mov     rdi, [rip + {start} + 16]
    xor     ebp, ebp
    call    {secondary}
    ud2

    .section .data.boot_page_table, "aw"
    .balign 4096
boot_pml4:
    .quad   boot_pdpt - {offset} + 3
    .zero   255 * 8
    .quad   boot_pdpt - {offset} + 3
    .zero   255 * 8
boot_pdpt:
    .set    gib, 0
    .rept   4
    .quad   boot_pd - {offset} + gib * 4096 + 3
    .set    gib, gib + 1
    .endr
    .zero   508 * 8
boot_pd:
    .set    page, 0
    .rept   2048
    .quad   (page << 21) + 0x83
    .set    page, page + 1
    .endr
    .text
    "#,
    offset = const PHYS_VIRT_OFFSET,
    cr0 = const CR0,
    cr4 = const CR4,
    efer_msr = const IA32_EFER,
    efer = const EFER,
    long_mode = const LONG_MODE,
    code32 = const CODE32,
    code64 = const CODE64,
    data = const DATA,
    header_magic = const HEADER_MAGIC,
    header_flags = const HEADER_FLAGS,
    loader_magic = const LOADER_MAGIC,
    exit_port = const DEBUG_EXIT_PORT,
    exit_failure = const EXIT_FAILURE,
    stack = sym BOOT_STACK,
    stack_size = const size_of::<GuardedStack>(),
    start = sym START,
    primary = sym primary,
    secondary = sym secondary,
);
