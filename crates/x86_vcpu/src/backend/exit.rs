//! Why the hardware left a guest, in no vendor's words.

use axaddrspace::{GuestPhysAddr, MappingFlags};
use axvcpu::AccessWidth;

use crate::{event::Event, operand::MemoryOperand};

/// Whether an instruction brings data to the CPU or takes it away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// IN, INS, RDMSR.
    Read,
    /// OUT, OUTS, WRMSR.
    Write,
}

/// An instruction that exits as a whole, and whose operands are in fixed registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Instruction {
    /// CPUID.
    Cpuid,
    /// HLT.
    Hlt,
    /// VMCALL or VMMCALL.
    Hypercall,
    /// INVD.
    Invd,
    /// WBINVD, WBNOINVD.
    Wbinvd,
    /// XSETBV.
    Xsetbv,
    /// RDPMC.
    Rdpmc,
    /// PAUSE, often.
    Pause,
    /// One that the guest has not: MONITOR, MWAIT, and those of VMX, SVM and SMX.
    Absent,
}

/// A control register that is not the guest's alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlRegister {
    /// CR0.
    Cr0,
    /// CR3.
    Cr3,
    /// CR4.
    Cr4,
    /// CR8.
    Cr8,
}

impl ControlRegister {
    /// The one with this number in instructions.
    pub(crate) const fn of_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Cr0,
            3 => Self::Cr3,
            4 => Self::Cr4,
            8 => Self::Cr8,
            _ => return None,
        })
    }
}

/// An access to a control register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlAccess {
    /// MOV to it.
    Write {
        /// Which.
        register: ControlRegister,
        /// From which general register.
        gpr: u8,
    },
    /// MOV from it.
    Read {
        /// Which.
        register: ControlRegister,
        /// To which general register.
        gpr: u8,
    },
    /// CLTS.
    Clts,
    /// LMSW of a value.
    Lmsw {
        /// Of this.
        source: u16,
    },
    /// LMSW of a general register.
    LmswRegister {
        /// Of this.
        gpr: u8,
    },
    /// LMSW of what is in memory.
    LmswMemory {
        /// There.
        operand: MemoryOperand,
    },
}

/// The widths of port accesses, by what both vendors' words have of them in two bits. There is no fourth.
pub(crate) const IO_WIDTHS: [AccessWidth; 4] = [
    AccessWidth::Byte,
    AccessWidth::Word,
    AccessWidth::Dword,
    AccessWidth::Dword,
];

/// How a port access moves its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoKind {
    /// IN, OUT: by RAX.
    Register,
    /// INS, OUTS, perhaps repeated: by memory. What else must be known is in the guest's bytes.
    String,
}

/// A port access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoExit {
    /// Which port.
    pub port: u16,
    /// How wide.
    pub width: AccessWidth,
    /// Which way.
    pub direction: Direction,
    /// By a register or by memory.
    pub kind: IoKind,
}

/// What the guest's access was for, that the nested table did not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NestedPurpose {
    /// The address that the instruction named.
    Access,
    /// An entry of the guest's own page table.
    PageWalk,
}

/// An access that the nested table does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NestedFault {
    pub(crate) gpa: GuestPhysAddr,
    pub(crate) access: MappingFlags,
    pub(crate) purpose: NestedPurpose,
}

/// Why the hardware left the guest, in no vendor's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// A host interrupt is pending.
    HostInterrupt,
    /// A host NMI, an SMI or what else the host has dealt with already.
    HostNmi,
    /// The guest can take an interrupt now. The vendor has closed the window.
    InterruptWindow,
    /// The guest can take an NMI now. The vendor has closed the window.
    NmiWindow,
    /// What [`set_deadline`](super::VendorVcpu::set_deadline) asked for. It is asked for no longer.
    Deadline,
    /// An exception of the guest's that is intercepted (#DB, #AC, #MC), to be given back to it. CR2 or DR6 is as the guest is to find it.
    Exception { vector: u8, error_code: Option<u32> },
    /// The guest faulted while it faulted on a fault.
    TripleFault,
    /// An instruction.
    Instruction(Instruction),
    /// RDMSR or WRMSR.
    Msr(Direction),
    /// MOV to or from a control register, CLTS or LMSW, with its operand.
    Control(ControlAccess),
    /// The same where the hardware does not say which: the guest's bytes do.
    ControlInstruction,
    /// IN, OUT, INS, OUTS.
    Io(IoExit),
    /// A nested page fault.
    Nested(NestedFault),
    /// The guest has written the page of its local APIC, which the hardware keeps, at this offset, and is past the instruction.
    LocalWrite(u16),
    /// The hardware has ended this interrupt, and another must hear of it.
    LocalEnd(u8),
    /// The guest's task priority does not hold back any more what [`hold_back`](super::VendorVcpu::hold_back) said.
    TaskPriority,
    /// A hardware task switch, which is not supported.
    TaskSwitch,
    /// The guest's state was refused, in words.
    Refused(&'static str),
    /// Anything else.
    Unknown,
}

impl Exit {
    /// Whether it is for an instruction as a whole, which the guest is past once it was completed.
    pub(crate) const fn is_instruction(self) -> bool {
        match self {
            Self::Instruction(_)
            | Self::Msr(_)
            | Self::Control(_)
            | Self::ControlInstruction
            | Self::Io(_) => true,
            Self::HostInterrupt
            | Self::HostNmi
            | Self::InterruptWindow
            | Self::NmiWindow
            | Self::Deadline
            | Self::Exception { .. }
            | Self::TripleFault
            | Self::Nested(_)
            | Self::LocalWrite(_)
            | Self::LocalEnd(_)
            | Self::TaskPriority
            | Self::TaskSwitch
            | Self::Refused(_)
            | Self::Unknown => false,
        }
    }
}

/// An exit, and what goes with every exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ExitInfo {
    pub(crate) exit: Exit,
    /// How long the instruction is, where the hardware says so and it is one that exits as a whole; else the guest's bytes tell.
    pub(crate) length: Option<u8>,
    /// The event that was being delivered to the guest, and must be again.
    pub(crate) interrupted: Option<Event>,
}

/// The exits that come often, told by as few words of the hardware's as do. What else goes with them is asked for by whoever serves them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frequent {
    Cpuid,
    Hypercall,
    MsrRead,
    MsrWrite,
    /// IN or OUT: [`io`](super::VendorVcpu::io).
    Port,
    /// [`nested`](super::VendorVcpu::nested).
    Nested,
    HostInterrupt,
    /// [`local_write`](super::VendorVcpu::local_write).
    LocalWrite,
    /// Any other, or the delivery of an event was interrupted: [`exit`](super::VendorVcpu::exit).
    Other,
}
