//! This CPU's local APIC, by MMIO (xAPIC) or by MSR (x2APIC), whichever the CPU has (Intel SDM volume 3, chapter "APIC").

use core::sync::atomic::{AtomicUsize, Ordering};

use axplat::mem::{PhysAddr, phys_to_virt};
use kernel_guard::IrqSave;
use raw_cpuid::CpuId;

use crate::{
    cpus::ApicIds,
    msr::{rdmsr, wrmsr},
};

/// Registers by their offset from the xAPIC's base. In x2APIC mode each is an MSR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
enum Register {
    TaskPriority = 0x80,
    EndOfInterrupt = 0xb0,
    SpuriousVector = 0xf0,
    ErrorStatus = 0x280,
    Command = 0x300,
    CommandHigh = 0x310,
    LvtTimer = 0x320,
    LvtPerformance = 0x340,
    LvtLint0 = 0x350,
    LvtLint1 = 0x360,
    LvtError = 0x370,
    InitialCount = 0x380,
    CurrentCount = 0x390,
    DivideConfiguration = 0x3e0,
}

const IA32_APIC_BASE: u32 = 0x1b;
const BASE_ENABLE: u64 = 1 << 11;
const BASE_X2APIC: u64 = 1 << 10;
const X2APIC_FIRST_MSR: u32 = 0x800;

const LVT_MASKED: u32 = 1 << 16;
const LVT_TSC_DEADLINE: u32 = 2 << 17;
const LVT_NMI: u32 = 4 << 8;
const SPURIOUS_ENABLE: u32 = 1 << 8;
/// Of the command register: the last command has not been delivered yet. xAPIC only.
const COMMAND_PENDING: u32 = 1 << 12;
const DIVIDE_BY_ONE: u32 = 0b1011;

/// Vectors of the local APIC's own, out of the way of everything else.
const ERROR_VECTOR: u32 = 0xfe;
pub(crate) const SPURIOUS_VECTOR: usize = 0xff;

/// Where the registers are mapped; 0 in x2APIC mode.
static XAPIC: AtomicUsize = AtomicUsize::new(0);

/// The modes of the timer that this platform uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimerMode {
    /// Counts down once, in ticks of its own.
    OneShot,
    /// Comes when the TSC has reached a value.
    TscDeadline,
}

/// Chooses the mode for all CPUs. `address` is where the registers are in xAPIC mode.
pub(crate) fn choose_mode(address: usize) {
    let x2apic = CpuId::new()
        .get_feature_info()
        .is_some_and(|features| features.has_x2apic());
    let base = match x2apic {
        true => 0,
        false => phys_to_virt(PhysAddr::from_usize(address)).as_usize(),
    };
    XAPIC.store(base, Ordering::Relaxed);
}

/// Whether the registers are reached by MMIO.
pub(crate) fn is_xapic() -> bool {
    XAPIC.load(Ordering::Relaxed) != 0
}

/// Turns the current CPU's local APIC on, with all its inputs masked but those that carry NMIs.
pub(crate) fn enable_current(nmi_inputs: NmiInputs) {
    let mut base = rdmsr(IA32_APIC_BASE) | BASE_ENABLE;
    // The modes are entered in this order only.
    // SAFETY: the MSR and its bits exist, since CPUID shows an APIC; no interrupt is routed here yet.
    unsafe {
        wrmsr(IA32_APIC_BASE, base);
        if !is_xapic() {
            base |= BASE_X2APIC;
            wrmsr(IA32_APIC_BASE, base);
        }
    }
    let input = |is_nmi| if is_nmi { LVT_NMI } else { LVT_MASKED };
    write(
        Register::SpuriousVector,
        SPURIOUS_ENABLE | SPURIOUS_VECTOR as u32,
    );
    write(Register::TaskPriority, 0);
    write(Register::LvtTimer, LVT_MASKED);
    write(Register::LvtPerformance, LVT_MASKED);
    write(Register::LvtLint0, input(nmi_inputs.lint0));
    write(Register::LvtLint1, input(nmi_inputs.lint1));
    write(Register::LvtError, ERROR_VECTOR);
    write(Register::DivideConfiguration, DIVIDE_BY_ONE);
    write(Register::InitialCount, 0);
}

/// Which of the two local inputs carry NMIs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NmiInputs {
    pub(crate) lint0: bool,
    pub(crate) lint1: bool,
}

/// The current CPU's APIC id, whether the APIC is on or not.
pub(crate) fn id_from_cpuid() -> u32 {
    let cpuid = CpuId::new();
    let extended = cpuid
        .get_extended_topology_info()
        .and_then(|mut levels| levels.next())
        .map(|level| level.x2apic_id());
    let initial = cpuid
        .get_feature_info()
        .map_or(0, |features| u32::from(features.initial_local_apic_id()));
    extended.filter(|_| !is_xapic()).unwrap_or(initial)
}

/// Which CPUs a command can name.
pub(crate) fn ids() -> ApicIds {
    if is_xapic() {
        ApicIds::EightBits
    } else {
        ApicIds::ThirtyTwoBits
    }
}

/// Tells the APIC that the interrupt in service has been served.
pub(crate) fn end_of_interrupt() {
    write(Register::EndOfInterrupt, 0);
}

/// The errors since the last look, if `vector` says that there are any.
pub(crate) fn take_error(vector: usize) -> Option<u32> {
    (vector == ERROR_VECTOR as usize).then(|| {
        // A write latches what there is.
        write(Register::ErrorStatus, 0);
        read(Register::ErrorStatus)
    })
}

/// Lets the timer interrupt by `vector`.
pub(crate) fn set_timer_mode(vector: u8, mode: TimerMode) {
    let mode = match mode {
        TimerMode::OneShot => 0,
        TimerMode::TscDeadline => LVT_TSC_DEADLINE,
    };
    write(Register::LvtTimer, u32::from(vector) | mode);
    // In xAPIC mode, a write of the deadline's MSR could overtake this one (Intel SDM volume 3, "TSC-Deadline Mode").
    fence();
}

/// Lets the timer count down from `count`; 0 stops it. In one-shot mode.
pub(crate) fn start_countdown(count: u32) {
    write(Register::InitialCount, count);
}

/// What remains of the countdown.
pub(crate) fn countdown() -> u32 {
    read(Register::CurrentCount)
}

/// What one CPU sends to another (Intel SDM volume 3, "Interrupt Command Register").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// An interrupt.
    Fixed { vector: u8 },
    /// Reset, then wait for [`Startup`](Self::Startup).
    Init,
    /// Begin at this page, in real mode.
    Startup { page: u8 },
}

/// Sends a command to the CPU with that APIC id.
pub(crate) fn send(apic_id: u32, command: Command) {
    const ASSERT: u32 = 1 << 14;
    let command = match command {
        Command::Fixed { vector } => ASSERT | u32::from(vector),
        Command::Init => ASSERT | 5 << 8,
        Command::Startup { page } => ASSERT | 6 << 8 | u32::from(page),
    };
    if is_xapic() {
        // The two writes belong together.
        let _guard = IrqSave::new();
        while read(Register::Command) & COMMAND_PENDING != 0 {
            core::hint::spin_loop();
        }
        write(Register::CommandHigh, apic_id << 24);
        write(Register::Command, command);
    } else {
        // What was stored before must be seen by whom it interrupts; an MSR write waits for nothing (Intel SDM volume 3, "MSR Access in x2APIC Mode").
        fence();
        // SAFETY: a command to another CPU; its vector is one of this platform's.
        unsafe {
            wrmsr(
                msr(Register::Command),
                u64::from(apic_id) << 32 | u64::from(command),
            );
        }
    }
}

fn fence() {
    // SAFETY: fences touch nothing.
    unsafe { core::arch::asm!("mfence", "lfence", options(nostack, preserves_flags)) };
}

const fn msr(register: Register) -> u32 {
    X2APIC_FIRST_MSR + (register as usize >> 4) as u32
}

fn mmio(register: Register) -> *mut u32 {
    (XAPIC.load(Ordering::Relaxed) + register as usize) as *mut u32
}

fn read(register: Register) -> u32 {
    if is_xapic() {
        // SAFETY: the local APIC is mapped there, and reading these registers changes nothing.
        unsafe { mmio(register).read_volatile() }
    } else {
        rdmsr(msr(register)) as u32
    }
}

fn write(register: Register, value: u32) {
    if is_xapic() {
        // SAFETY: the local APIC is mapped there; the callers write what the manual allows.
        unsafe { mmio(register).write_volatile(value) };
    } else {
        // SAFETY: x2APIC mode has this register as an MSR; the callers write what the manual allows.
        unsafe { wrmsr(msr(register), u64::from(value)) };
    }
}
