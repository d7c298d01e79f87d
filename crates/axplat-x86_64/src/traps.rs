//! This CPU's GDT, TSS and IDT.
//!
//! Exceptions and interrupts go to the handlers of ArceOS's `axcpu`, but for three: #GP, since some accesses are
//! [allowed to fault](crate::msr); NMI and machine check, which are reported here. What may come at any instruction has a stack of its own.

use core::{
    arch::naked_asm,
    sync::atomic::{AtomicUsize, Ordering},
};

use axplat::percpu::this_cpu_id;
use spin::Lazy;
use x86_64::{
    VirtAddr,
    instructions::tables::{lidt, load_tss},
    registers::{
        control::{Cr4, Cr4Flags},
        segmentation::{CS, Segment},
    },
    structures::{
        DescriptorTablePointer,
        gdt::{Descriptor, GlobalDescriptorTable},
        tss::TaskStateSegment,
    },
};

use crate::{
    config::plat::MAX_CPU_NUM,
    console,
    msr::{rdmsr, wrmsr},
    power,
};

const NMI: usize = 2;
const DOUBLE_FAULT: usize = 8;
const GENERAL_PROTECTION: usize = 13;
const MACHINE_CHECK: usize = 18;

/// The vectors with a stack of their own, in the order of the TSS's stacks.
const OWN_STACKS: [usize; 3] = [NMI, DOUBLE_FAULT, MACHINE_CHECK];
const STACK_SIZE: usize = 16 << 10;

#[repr(align(16))]
struct Stacks(#[allow(dead_code)] [[u8; STACK_SIZE]; OWN_STACKS.len()]);

static mut STACKS: [Stacks; MAX_CPU_NUM] =
    [const { Stacks([[0; STACK_SIZE]; OWN_STACKS.len()]) }; MAX_CPU_NUM];

#[percpu::def_percpu]
static TSS: TaskStateSegment = TaskStateSegment::new();

#[percpu::def_percpu]
static GDT: GlobalDescriptorTable = GlobalDescriptorTable::new();

/// An interrupt gate (Intel SDM volume 3, "64-Bit Mode IDT").
#[derive(Clone, Copy)]
#[repr(C)]
struct Gate {
    low: u64,
    high: u64,
}

impl Gate {
    /// Present, for the kernel alone, with interrupts off. Stack 0 is whatever stack is in use.
    fn new(handler: u64, code_segment: u16, stack: u64) -> Self {
        const PRESENT: u64 = 1 << 47;
        const INTERRUPT: u64 = 0xe << 40;
        Self {
            low: handler & 0xffff
                | u64::from(code_segment) << 16
                | stack << 32
                | INTERRUPT
                | PRESENT
                | (handler >> 16 & 0xffff) << 48,
            high: handler >> 32,
        }
    }
}

const VECTORS: usize = 256;

#[repr(C, align(16))]
struct Idt([Gate; VECTORS]);

static IDT: Lazy<Idt> = Lazy::new(|| {
    unsafe extern "C" {
        /// `axcpu`'s entry for each vector.
        #[link_name = "trap_handler_table"]
        static ENTRIES: [u64; VECTORS];
    }
    let code_segment = CS::get_reg().0;
    let mut gates = [Gate { low: 0, high: 0 }; VECTORS];
    for (vector, gate) in gates.iter_mut().enumerate() {
        let handler = match vector {
            NMI => nmi_entry as *const () as u64,
            GENERAL_PROTECTION => general_protection_entry as *const () as u64,
            MACHINE_CHECK => machine_check_entry as *const () as u64,
            // SAFETY: a table in `axcpu`, of one entry for each vector, that nobody writes.
            _ => unsafe { ENTRIES[vector] },
        };
        let own_stack = OWN_STACKS.iter().position(|&own| own == vector);
        *gate = Gate::new(
            handler,
            code_segment,
            own_stack.map_or(0, |stack| stack as u64 + 1),
        );
    }
    Idt(gates)
});

/// Loads the current CPU's tables. Once for each CPU, when its per-CPU data are there.
pub(crate) fn init_current() {
    // SAFETY: this CPU is starting: nothing else has its tables, and no interrupt comes yet.
    let (gdt, tss) = unsafe { (GDT.current_ref_mut_raw(), TSS.current_ref_mut_raw()) };
    // SAFETY: only the address of this CPU's stacks is taken; there are as many as CPUs.
    let stacks = unsafe { (&raw const STACKS).cast::<Stacks>().add(this_cpu_id()) };
    let mut tops = tss.interrupt_stack_table;
    for (index, top) in tops.iter_mut().take(OWN_STACKS.len()).enumerate() {
        *top = VirtAddr::from_ptr(stacks) + ((index + 1) * STACK_SIZE) as u64;
    }
    tss.interrupt_stack_table = tops;
    let code = gdt.append(Descriptor::kernel_code_segment());
    gdt.append(Descriptor::kernel_data_segment());
    // SAFETY: the TSS is this CPU's for good, and from here on only the CPU reads it.
    let tss = gdt.append(Descriptor::tss_segment(unsafe { TSS.current_ref_raw() }));
    gdt.load();
    // SAFETY: the selectors are those of the table just loaded.
    unsafe {
        CS::set_reg(code);
        load_tss(tss);
    }
    let idt = DescriptorTablePointer {
        limit: (size_of::<Idt>() - 1) as u16,
        base: VirtAddr::from_ptr(&raw const *IDT),
    };
    // SAFETY: the table is complete, and stays.
    unsafe { lidt(&idt) };
    // SAFETY: machine checks have a handler now.
    unsafe { Cr4::update(|flags| flags.insert(Cr4Flags::MACHINE_CHECK_EXCEPTION)) };
}

/// One line of the image's table of exceptions: where a fault is allowed, and where to go on.
#[repr(C)]
struct Allowed {
    at: u64,
    go_on: u64,
}

/// Where to go on after a fault at `rip`; 0 if it is not allowed to fault.
extern "C" fn fixup(rip: u64) -> u64 {
    unsafe extern "C" {
        static _ex_table_start: Allowed;
        static _ex_table_end: Allowed;
    }
    // SAFETY: the linker script puts the table, which consists of such lines, between the two.
    let table = unsafe {
        let (start, end) = (&raw const _ex_table_start, &raw const _ex_table_end);
        core::slice::from_raw_parts(start, end.offset_from_unsigned(start))
    };
    table
        .iter()
        .find(|allowed| allowed.at == rip)
        .map_or(0, |allowed| allowed.go_on)
}

/// #GP: on the stack are the error code and RIP. Where it is allowed, RIP is changed; else `axcpu` panics.
#[unsafe(naked)]
extern "C" fn general_protection_entry() {
    naked_asm!("
        cld
        push    rax
        push    rcx
        push    rdx
        push    rsi
        push    rdi
        push    r8
        push    r9
        push    r10
        push    r11
        sub     rsp, 8
        mov     rdi, [rsp + 11 * 8]
        call    {fixup}
        test    rax, rax
        jz      2f
        mov     [rsp + 11 * 8], rax
    2:
        // Zero still says that it was not allowed.
        test    rax, rax
        lea     rsp, [rsp + 8]
        pop     r11
        pop     r10
        pop     r9
        pop     r8
        pop     rdi
        pop     rsi
        pop     rdx
        pop     rcx
        pop     rax
        jz      3f
        lea     rsp, [rsp + 8]
        iretq
    3:
        jmp     qword ptr [rip + trap_handler_table + {vector} * 8]",
        fixup = sym fixup,
        vector = const GENERAL_PROTECTION,
    )
}

/// Saves what a call may change, calls `$handler` with the interrupted RIP, and returns.
macro_rules! entry_without_error_code {
    ($name:ident, $handler:ident) => {
        #[unsafe(naked)]
        extern "C" fn $name() {
            naked_asm!("
                cld
                push    rax
                push    rcx
                push    rdx
                push    rsi
                push    rdi
                push    r8
                push    r9
                push    r10
                push    r11
                mov     rdi, [rsp + 9 * 8]
                call    {handler}
                pop     r11
                pop     r10
                pop     r9
                pop     r8
                pop     rdi
                pop     rsi
                pop     rdx
                pop     rcx
                pop     rax
                iretq",
                handler = sym $handler,
            )
        }
    };
}

entry_without_error_code!(nmi_entry, on_nmi);
entry_without_error_code!(machine_check_entry, on_machine_check);

/// Says that an NMI came. Nothing here sends any: it is the board's, or somebody's at its controls.
extern "C" fn on_nmi(rip: u64) {
    /// After so many there is no news in them.
    const REPORTED: usize = 16;
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    if COUNT.fetch_add(1, Ordering::Relaxed) < REPORTED {
        let cpu = this_cpu_id();
        console::report(format_args!("axhv: NMI on pCPU {cpu} at {rip:#x}\n"));
    }
}

/// Says which banks report what (Intel SDM volume 3, "Machine-Check Architecture"), and goes on where the CPU says that nothing is lost.
extern "C" fn on_machine_check(rip: u64) {
    const MCG_CAP: u32 = 0x179;
    const MCG_STATUS: u32 = 0x17a;
    const MC0_STATUS: u32 = 0x401;
    /// The interrupted program can be continued.
    const RESTART_VALID: u64 = 1 << 0;
    const VALID: u64 = 1 << 63;
    /// The CPU's own state is corrupt.
    const CONTEXT_CORRUPT: u64 = 1 << 57;
    /// The program must not use what it was about to.
    const ACTION_REQUIRED: u64 = 1 << 55;

    let (cpu, global) = (this_cpu_id(), rdmsr(MCG_STATUS));
    console::report(format_args!(
        "axhv: machine check on pCPU {cpu} at {rip:#x}, status {global:#x}\n"
    ));
    let mut lost = global & RESTART_VALID == 0;
    for bank in 0..(rdmsr(MCG_CAP) & 0xff) as u32 {
        let msr = MC0_STATUS + 4 * bank;
        let status = rdmsr(msr);
        if status & VALID != 0 {
            console::report(format_args!("axhv: bank {bank}: status {status:#x}\n"));
            lost |= status & (CONTEXT_CORRUPT | ACTION_REQUIRED) != 0;
            // SAFETY: zero clears what was reported, and nothing else.
            unsafe { wrmsr(msr, 0) };
        }
    }
    if lost {
        console::report(format_args!(
            "axhv: the machine cannot go on after this machine check\n"
        ));
        power::off();
    }
    // SAFETY: zero says that the check has been served.
    unsafe { wrmsr(MCG_STATUS, 0) };
}
