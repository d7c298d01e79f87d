//! A guest's registers: those in memory, and the names of those in a VMCS or VMCB.

use crate::hardware::CpuidResult;

/// The general registers that the entry assembly switches, by their number in an instruction: RAX, RCX, RDX, RBX, (RSP), RBP, RSI, RDI, R8 to R15.
#[repr(C)]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GuestRegisters {
    /// RSP's place is not used: it is in the VMCS or VMCB.
    pub(crate) gpr: [u64; 16],
}

impl GuestRegisters {
    /// What CPUID has answered.
    #[inline(always)]
    pub(crate) fn set_cpuid(&mut self, answer: &CpuidResult) {
        let CpuidResult { eax, ebx, ecx, edx } = *answer;
        self.gpr[gpr::RAX] = eax.into();
        self.gpr[gpr::RBX] = ebx.into();
        self.gpr[gpr::RCX] = ecx.into();
        self.gpr[gpr::RDX] = edx.into();
    }
}

/// The numbers of the general registers in instructions (AMD APM 3, "Instruction Encoding"; Intel SDM 2, "ModR/M").
pub(crate) mod gpr {
    pub(crate) const RAX: usize = 0;
    pub(crate) const RCX: usize = 1;
    pub(crate) const RDX: usize = 2;
    pub(crate) const RBX: usize = 3;
    pub(crate) const RSP: usize = 4;
    #[cfg(target_os = "none")]
    pub(crate) const RBP: usize = 5;
    pub(crate) const RSI: usize = 6;
    pub(crate) const RDI: usize = 7;
    pub(crate) const R8: usize = 8;
}

/// The names of the general registers, for the record.
pub(crate) const GPR_NAMES: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15",
];

/// Where general register `number` is, for assembly.
#[cfg(target_os = "none")]
pub(crate) const fn gpr_offset(number: usize) -> usize {
    core::mem::offset_of!(GuestRegisters, gpr) + 8 * number
}

/// Assembles a vendor's way into a guest and back, a file that is told where the general registers are in [`GuestRegisters`], and what else it names.
#[cfg(target_os = "none")]
macro_rules! world_switch {
    ($file:literal, $($name:ident = $value:expr,)*) => {
        core::arch::global_asm!(
            include_str!("../registers.S"),
            include_str!($file),
            // Both vendors' files may be one to the assembler.
            ".purgem push_host",
            ".purgem pop_host",
            ".purgem load_guest",
            ".purgem store_guest",
            RCX = const $crate::regs::gpr_offset($crate::regs::gpr::RCX),
            RDX = const $crate::regs::gpr_offset($crate::regs::gpr::RDX),
            RBX = const $crate::regs::gpr_offset($crate::regs::gpr::RBX),
            RBP = const $crate::regs::gpr_offset($crate::regs::gpr::RBP),
            RSI = const $crate::regs::gpr_offset($crate::regs::gpr::RSI),
            RDI = const $crate::regs::gpr_offset($crate::regs::gpr::RDI),
            R8 = const $crate::regs::gpr_offset($crate::regs::gpr::R8),
            $($name = const $value,)*
        );
    };
}
#[cfg(target_os = "none")]
pub(crate) use world_switch;

/// The registers that a backend keeps, but for segments and descriptor tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Register {
    Rip,
    Rsp,
    Rflags,
    Cr0,
    Cr2,
    Cr3,
    Cr4,
    Efer,
    Pat,
    Dr6,
    Dr7,
    SysenterCs,
    SysenterEsp,
    SysenterEip,
    Star,
    Lstar,
    Cstar,
    Sfmask,
    KernelGsBase,
}

/// The segment registers, in the order of their numbers in instructions, and the two system ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SegmentName {
    Es,
    Cs,
    Ss,
    Ds,
    Fs,
    Gs,
    Ldtr,
    Tr,
}

impl SegmentName {
    /// All of them.
    pub(crate) const ALL: [Self; 8] = [
        Self::Es,
        Self::Cs,
        Self::Ss,
        Self::Ds,
        Self::Fs,
        Self::Gs,
        Self::Ldtr,
        Self::Tr,
    ];

    /// The one with this number in instructions; DS for none.
    pub(crate) const fn of_number(number: u8) -> Self {
        match number {
            0 => Self::Es,
            1 => Self::Cs,
            2 => Self::Ss,
            4 => Self::Fs,
            5 => Self::Gs,
            _ => Self::Ds,
        }
    }

    /// Its name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Es => "es",
            Self::Cs => "cs",
            Self::Ss => "ss",
            Self::Ds => "ds",
            Self::Fs => "fs",
            Self::Gs => "gs",
            Self::Ldtr => "ldtr",
            Self::Tr => "tr",
        }
    }
}

/// What a segment register holds, its hidden part included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) selector: u16,
    pub(crate) rights: SegmentRights,
    /// In bytes, whatever the granularity.
    pub(crate) limit: u32,
    pub(crate) base: u64,
}

/// A segment's access rights: bits 40 to 55 of its descriptor, those of the limit being zero. That is VMX's format but for its "unusable" bit, which is
/// the opposite of [`PRESENT`](Self::PRESENT) here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SegmentRights(pub(crate) u16);

impl SegmentRights {
    pub(crate) const ACCESSED: u16 = 1 << 0;
    pub(crate) const READABLE: u16 = 1 << 1;
    pub(crate) const CODE: u16 = 1 << 3;
    pub(crate) const CODE_OR_DATA: u16 = 1 << 4;
    pub(crate) const PRESENT: u16 = 1 << 7;
    pub(crate) const RESERVED: u16 = 0xf00;
    pub(crate) const LONG: u16 = 1 << 13;
    pub(crate) const DEFAULT_BIG: u16 = 1 << 14;
    pub(crate) const GRANULAR: u16 = 1 << 15;

    /// Whether any of these bits is set.
    pub(crate) const fn has(self, bits: u16) -> bool {
        self.0 & bits != 0
    }

    /// The type, in four bits.
    pub(crate) const fn kind(self) -> u16 {
        self.0 & 0xf
    }

    pub(crate) const fn is_present(self) -> bool {
        self.has(Self::PRESENT)
    }

    /// 64-bit code (CS only).
    pub(crate) const fn is_long(self) -> bool {
        self.has(Self::LONG)
    }

    /// 32-bit code or stack.
    pub(crate) const fn is_big(self) -> bool {
        self.has(Self::DEFAULT_BIG)
    }

    /// The privilege level.
    pub(crate) const fn dpl(self) -> u8 {
        (self.0 >> 5 & 0b11) as u8
    }
}

/// The registers of descriptor tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TableName {
    Gdtr,
    Idtr,
}

/// What they hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DescriptorTable {
    pub(crate) base: u64,
    pub(crate) limit: u16,
}

/// Bits of RFLAGS.
pub(crate) mod rflags {
    /// Always set.
    pub(crate) const ALWAYS: u64 = 1 << 1;
    pub(crate) const CARRY: u64 = 1 << 0;
    pub(crate) const PARITY: u64 = 1 << 2;
    pub(crate) const ADJUST: u64 = 1 << 4;
    pub(crate) const ZERO: u64 = 1 << 6;
    pub(crate) const SIGN: u64 = 1 << 7;
    pub(crate) const TRAP: u64 = 1 << 8;
    pub(crate) const INTERRUPT: u64 = 1 << 9;
    pub(crate) const DIRECTION: u64 = 1 << 10;
    pub(crate) const OVERFLOW: u64 = 1 << 11;
    pub(crate) const VIRTUAL_8086: u64 = 1 << 17;
    pub(crate) const ALIGNMENT_CHECK: u64 = 1 << 18;
    /// All that there are.
    pub(crate) const ALL: u64 = 0x3f_7fd7;
}

/// Bits of DR6.
pub(crate) mod dr6 {
    /// Which breakpoint was met.
    pub(crate) const BREAKPOINTS: u64 = 0xf;
    /// An instruction reached for a debug register.
    pub(crate) const REGISTER_ACCESS: u64 = 1 << 13;
    /// A single step was taken.
    pub(crate) const SINGLE_STEP: u64 = 1 << 14;
    /// At reset.
    pub(crate) const RESET: u64 = 0xffff_0ff0;
}

/// Bits of DR7.
pub(crate) mod dr7 {
    /// Accesses to debug registers fault.
    pub(crate) const GENERAL_DETECT: u64 = 1 << 13;
    /// At reset.
    pub(crate) const RESET: u64 = 0x400;
}
