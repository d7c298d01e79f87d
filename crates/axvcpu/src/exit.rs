//! Why a vCPU stopped.

use core::fmt;

use axaddrspace::{GuestPhysAddr, GuestVirtAddr, MappingFlags};

/// The width of an access, in bytes a power of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum AccessWidth {
    /// 8 bits.
    Byte,
    /// 16 bits.
    Word,
    /// 32 bits.
    Dword,
    /// 64 bits.
    Qword,
}

impl AccessWidth {
    /// The width in bytes: 1, 2, 4 or 8.
    #[must_use]
    pub const fn bytes(self) -> usize {
        1 << self as usize
    }

    /// The bits of a 64-bit word that an access of this width carries.
    #[must_use]
    pub const fn mask(self) -> u64 {
        u64::MAX >> (64 - 8 * self.bytes())
    }
}

/// A set of a VM's vCPUs: those whose bit is set, bit `i` standing for vCPU `base + i`; or all of them.
///
/// The numbers are the guest's: a member need not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VCpuSet {
    /// Every vCPU of the VM.
    All,
    /// vCPU `base + i` for each set bit `i` of `mask`.
    Mask {
        /// The vCPU that bit 0 stands for.
        base: usize,
        /// One bit a vCPU.
        mask: u64,
    },
}

impl VCpuSet {
    /// Whether vCPU `id` is a member.
    #[must_use]
    pub fn contains(self, id: usize) -> bool {
        match self {
            Self::All => true,
            Self::Mask { base, mask } => id
                .checked_sub(base)
                .is_some_and(|bit| bit < 64 && mask >> bit & 1 == 1),
        }
    }
}

/// Why a system starts again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetCause {
    /// The guest asked for it.
    Asked,
    /// An exception that the guest's CPU could not deliver, nor the one that followed from that (x86).
    TripleFault,
}

impl fmt::Display for ResetCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Asked => "its guest reset it",
            Self::TripleFault => "triple fault",
        })
    }
}

/// How a system goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SystemDownKind {
    /// The guest is done.
    PowerOff,
    /// The guest starts again.
    Reset(ResetCause),
    /// The guest says that it failed.
    Crash,
}

/// What a vCPU asks other vCPUs of its VM to forget before it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fence {
    /// Instruction caches.
    Instructions,
    /// The guest's own address translations of the range `start .. start + len` (`len` of [`u64::MAX`]: all), in one address space or all.
    Translations {
        /// First address.
        start: GuestVirtAddr,
        /// Bytes.
        len: u64,
        /// Address space number, `None` for all.
        asid: Option<u64>,
    },
}

/// What a guest asks of its VM's debug console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsoleCall {
    /// Write `len` bytes from guest memory; the answer is how many were taken.
    Write {
        /// Where the bytes are.
        addr: GuestPhysAddr,
        /// How many.
        len: u64,
    },
    /// Read at most `len` bytes to guest memory, without waiting; the answer is how many there were.
    Read {
        /// Where to.
        addr: GuestPhysAddr,
        /// Room.
        len: u64,
    },
    /// Write this byte; the answer is 0.
    WriteByte(u8),
    /// Read a byte without waiting; the answer is the byte, or an error if there is none.
    ReadByte,
}

/// The hardware's own words about an exit that nobody knows, for the record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RawExit {
    /// `scause`, the VMX basic exit reason, or the SVM exit code.
    pub reason: u64,
    /// `stval`, the exit qualification, or EXITINFO1.
    pub info1: u64,
    /// `htval`, the guest-physical address, or EXITINFO2.
    pub info2: u64,
    /// The guest's program counter.
    pub pc: u64,
}

impl fmt::Display for RawExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            reason,
            info1,
            info2,
            pc,
        } = self;
        write!(
            f,
            "reason {reason:#x}, info {info1:#x} {info2:#x}, pc {pc:#x}"
        )
    }
}

/// Why the hardware, or the vCPU crate, cannot go on with a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailReason {
    /// In words.
    pub what: &'static str,
    /// The hardware's words.
    pub raw: RawExit,
}

/// Why a vCPU stopped, the same on every architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum AxVCpuExitReason {
    /// Nothing that the caller must act upon: run again.
    Nothing,
    /// A hypercall that the vCPU does not answer itself; answer with `set_return_value`.
    Hypercall {
        /// Its number.
        nr: u64,
        /// Its arguments.
        args: [u64; 6],
    },
    /// A call of the debug console; answer with `set_return_value`.
    Console(ConsoleCall),
    /// A load from device memory; answer with `finish_read`.
    MmioRead {
        /// Where.
        addr: GuestPhysAddr,
        /// How wide.
        width: AccessWidth,
    },
    /// A store to device memory. The program counter is past it.
    MmioWrite {
        /// Where.
        addr: GuestPhysAddr,
        /// How wide.
        width: AccessWidth,
        /// The value, zero above `width`.
        data: u64,
    },
    /// A port read; answer with `finish_read`.
    IoRead {
        /// Which.
        port: u16,
        /// How wide.
        width: AccessWidth,
    },
    /// A port write.
    IoWrite {
        /// Which.
        port: u16,
        /// How wide.
        width: AccessWidth,
        /// The value, zero above `width`.
        data: u64,
    },
    /// A read of an MSR or CSR that the vCPU does not answer itself; answer with `finish_read`.
    SysRegRead {
        /// Its number.
        addr: u32,
    },
    /// A write of an MSR or CSR that the vCPU does not handle itself.
    SysRegWrite {
        /// Its number.
        addr: u32,
        /// The value.
        value: u64,
    },
    /// An access that the nested page table does not allow. The program counter is at the instruction.
    NestedPageFault {
        /// Where.
        addr: GuestPhysAddr,
        /// What was tried.
        access_flags: MappingFlags,
    },
    /// A host interrupt took the guest out.
    ExternalInterrupt {
        /// Its number where the exit says it (RISC-V: the interrupt's `scause`), else what [`AxVCpuHal::irq_fetch`](crate::AxVCpuHal::irq_fetch) says.
        vector: usize,
    },
    /// The guest starts another vCPU; answer with `set_return_value`.
    CpuUp {
        /// Which.
        target_cpu: usize,
        /// Where it starts.
        entry_point: GuestPhysAddr,
        /// What it is given.
        arg: u64,
    },
    /// The guest asks for another vCPU's power state; answer with `set_return_value` (0 on, 1 off, 2 start pending, 4 suspended).
    CpuStatus {
        /// Which.
        target_cpu: usize,
    },
    /// This vCPU stops until another starts it.
    CpuDown,
    /// The guest sends an interrupt to others of its vCPUs; answer with `set_return_value`.
    SendIPI {
        /// To whom.
        target: VCpuSet,
        /// Which, as `inject_interrupt` numbers them.
        vector: usize,
    },
    /// The guest asks others of its vCPUs to forget something; answer with `set_return_value` once they have.
    RemoteFence {
        /// Whom.
        target: VCpuSet,
        /// What.
        fence: Fence,
    },
    /// This vCPU waits for an interrupt.
    Halt,
    /// The whole VM goes down.
    SystemDown {
        /// How.
        kind: SystemDownKind,
    },
    /// The vCPU cannot be entered.
    FailEntry {
        /// Why.
        reason: FailReason,
    },
    /// An exit that nobody knows.
    Unknown(RawExit),
    /// A device of the machine's that the VM has for itself has interrupted the host, which said so by a
    /// [letter](crate::DEVICE_LETTER): its guest is to hear of it.
    DeviceInterrupt,
}

#[cfg(test)]
mod tests;
