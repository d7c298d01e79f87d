//! Instructions that tell about the CPU, and its control registers.

use core::arch::{asm, x86_64};

/// `CR0.TS`: the FPU is another task's.
pub const CR0_TS: usize = 1 << 3;
/// `CR4.TSD`: the time stamp counter is for ring 0.
pub const CR4_TSD: usize = 1 << 2;
/// `CR4.DE`: DR4 and DR5 are not there.
pub const CR4_DE: usize = 1 << 3;
/// `CR4.PAE`: page-table entries of 64 bits.
pub const CR4_PAE: usize = 1 << 5;
/// `CR4.OSXSAVE`: XSAVE and the extended control registers.
pub const CR4_OSXSAVE: usize = 1 << 18;

/// `RFLAGS.CF`.
pub const FLAGS_CF: usize = 1 << 0;
/// `RFLAGS.TF`: a trap after each instruction.
pub const FLAGS_TF: usize = 1 << 8;
/// `RFLAGS.IF`: interrupts are on.
pub const FLAGS_IF: usize = 1 << 9;
/// `RFLAGS.DF`: strings go downwards.
pub const FLAGS_DF: usize = 1 << 10;
/// `RFLAGS.IOPL`: the privilege level that may use ports, two bits.
pub const FLAGS_IOPL: usize = 3 << 12;

/// What CPUID returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// EAX.
    pub a: u32,
    /// EBX.
    pub b: u32,
    /// ECX.
    pub c: u32,
    /// EDX.
    pub d: u32,
}

/// A leaf of CPUID, with a subleaf.
pub fn cpuid(leaf: u32, subleaf: u32) -> Leaf {
    let answer = x86_64::__cpuid_count(leaf, subleaf);
    Leaf {
        a: answer.eax,
        b: answer.ebx,
        c: answer.ecx,
        d: answer.edx,
    }
}

/// Features that CPUID announces and guests ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// AMD's virtualization.
    Svm,
    /// Intel's virtualization.
    Vmx,
    /// XSAVE and XGETBV.
    Xsave,
    /// AVX.
    Avx,
    /// The x2APIC.
    X2apic,
    /// The APIC's timer can wait for a value of the time stamp counter.
    TscDeadline,
    /// RDTSCP and TSC_AUX.
    Rdtscp,
    /// MONITOR and MWAIT.
    Monitor,
    /// A hypervisor is there.
    Hypervisor,
}

impl Feature {
    /// Whether this CPU has it.
    pub fn is_there(self) -> bool {
        let (leaf, register, bit): (u32, fn(Leaf) -> u32, u32) = match self {
            Self::Svm => (0x8000_0001, |leaf| leaf.c, 2),
            Self::Vmx => (1, |leaf| leaf.c, 5),
            Self::Xsave => (1, |leaf| leaf.c, 26),
            Self::Avx => (1, |leaf| leaf.c, 28),
            Self::X2apic => (1, |leaf| leaf.c, 21),
            Self::TscDeadline => (1, |leaf| leaf.c, 24),
            Self::Rdtscp => (0x8000_0001, |leaf| leaf.d, 27),
            Self::Monitor => (1, |leaf| leaf.c, 3),
            Self::Hypervisor => (1, |leaf| leaf.c, 31),
        };
        register(cpuid(leaf, 0)) >> bit & 1 == 1
    }
}

/// First of the leaves that hypervisors answer: the last one in EAX, a signature in the others.
pub const HYPERVISOR_LEAF: u32 = 0x4000_0000;

/// The signature of the hypervisor, if there is one.
pub fn hypervisor() -> Option<[u8; 12]> {
    Feature::Hypervisor.is_there().then(|| {
        let leaf = cpuid(HYPERVISOR_LEAF, 0);
        let mut signature = [0; 12];
        for (bytes, word) in signature.chunks_exact_mut(4).zip([leaf.b, leaf.c, leaf.d]) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        signature
    })
}

/// The time stamp counter.
pub fn time_stamp() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reads a counter. The fence keeps earlier reads, of a time that another CPU told, say,
    // from moving behind it.
    unsafe {
        asm!("lfence", "rdtsc", out("eax") low, out("edx") high, options(nostack, preserves_flags));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// Reads a control register, given by its name as a string.
#[macro_export]
macro_rules! read_cr {
    ($register:literal) => {{
        let value: usize;
        // SAFETY: reading a control register changes nothing.
        unsafe {
            core::arch::asm!(concat!("mov {}, ", $register), out(reg) value,
                options(nostack, preserves_flags));
        }
        value
    }};
}

/// Writes a control register, given by its name as a string. The block that calls it is `unsafe`:
/// the value decides whether memory stays what Rust takes it for.
#[macro_export]
macro_rules! write_cr {
    ($register:literal, $value:expr) => {
        core::arch::asm!(concat!("mov ", $register, ", {}"), in(reg) $value,
            options(nostack, preserves_flags))
    };
}
