//! What the VMCB says about an exit, put into no vendor's words.

use axaddrspace::{GuestPhysAddr, MappingFlags};

use super::exit_code;
use crate::{
    backend::{
        ControlAccess, ControlRegister, Direction, Exit, ExitInfo, IO_WIDTHS, Instruction, IoExit,
        IoKind, NestedFault, NestedPurpose,
    },
    event::{Event, InterruptInfo, vector},
};

/// The words of the VMCB about an exit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RawSvmExit {
    pub(super) code: u64,
    pub(super) info1: u64,
    pub(super) info2: u64,
    /// EXITINTINFO.
    pub(super) interrupted: u64,
    pub(super) rip: u64,
    /// Where the hardware saves it.
    pub(super) next_rip: Option<u64>,
    /// Whether EXITINFO1 names the operands of control-register accesses.
    pub(super) decode_assists: bool,
}

/// EVENTINJ for an event, whose error code it has in its upper half.
pub(super) fn encode_event(info: InterruptInfo) -> u64 {
    u64::from(info.error_code.unwrap_or(0)) << 32 | u64::from(info.encode())
}

/// The event that EXITINTINFO tells of.
fn decode_event(word: u64) -> Option<Event> {
    InterruptInfo::decode(word as u32, || (word >> 32) as u32)?.event()
}

/// What the exit was.
pub(super) fn decode(raw: &RawSvmExit) -> ExitInfo {
    let exit = decode_exit(raw);
    let next = raw.next_rip.filter(|_| exit.is_instruction());
    ExitInfo {
        exit,
        length: next.and_then(|next| length_to(raw.rip, next)),
        interrupted: decode_event(raw.interrupted),
    }
}

/// How long the instruction at `rip` is, if the next is at `next`.
#[inline]
pub(super) fn length_to(rip: u64, next: u64) -> Option<u8> {
    let length = next.wrapping_sub(rip);
    (1..=15).contains(&length).then_some(length as u8)
}

fn decode_exit(raw: &RawSvmExit) -> Exit {
    match raw.code {
        exit_code::CPUID => Exit::Instruction(Instruction::Cpuid),
        exit_code::INTR => Exit::HostInterrupt,
        exit_code::MSR => Exit::Msr(direction(raw.info1 & 1 == 0)),
        exit_code::IO => Exit::Io(decode_io(raw.info1)),
        exit_code::NESTED_PAGE_FAULT => Exit::Nested(decode_nested(raw.info1, raw.info2)),
        exit_code::HLT => Exit::Instruction(Instruction::Hlt),
        exit_code::VINTR => Exit::InterruptWindow,
        exit_code::VMMCALL => Exit::Instruction(Instruction::Hypercall),
        exit_code::XSETBV => Exit::Instruction(Instruction::Xsetbv),
        exit_code::PAUSE => Exit::Instruction(Instruction::Pause),
        exit_code::WBINVD => Exit::Instruction(Instruction::Wbinvd),
        exit_code::INVD => Exit::Instruction(Instruction::Invd),
        exit_code::RDPMC => Exit::Instruction(Instruction::Rdpmc),
        // They wait until the host's interrupts are on; the world switch has let the NMI in already.
        exit_code::NMI | exit_code::SMI | exit_code::INIT => Exit::HostNmi,
        exit_code::IRET => Exit::NmiWindow,
        exit_code::SHUTDOWN => Exit::TripleFault,
        exit_code::TASK_SWITCH => Exit::TaskSwitch,
        exit_code::VMRUN
        | exit_code::VMLOAD
        | exit_code::VMSAVE
        | exit_code::STGI
        | exit_code::CLGI
        | exit_code::SKINIT
        | exit_code::INVLPGA
        | exit_code::MONITOR
        | exit_code::MWAIT
        | exit_code::MWAIT_ARMED
        | exit_code::RDPRU => Exit::Instruction(Instruction::Absent),
        code @ exit_code::CR_READ..exit_code::EXCEPTION => decode_control(raw, code),
        code @ exit_code::EXCEPTION..exit_code::INTR => {
            let vector = (code - exit_code::EXCEPTION) as u8;
            Exit::Exception {
                vector,
                error_code: vector::has_error_code(vector).then_some(raw.info1 as u32),
            }
        }
        exit_code::INVALID => Exit::Refused("VMRUN found the guest's state not to be valid"),
        exit_code::BUSY => Exit::Refused("VMRUN found the VMCB in use"),
        _ => Exit::Unknown,
    }
}

const fn direction(reads: bool) -> Direction {
    if reads {
        Direction::Read
    } else {
        Direction::Write
    }
}

/// APM 2, "MOV CRx Intercepts" and "Decode Assists".
fn decode_control(raw: &RawSvmExit, code: u64) -> Exit {
    let Some(register) = ControlRegister::of_number((code & 0xf) as u8) else {
        return Exit::Unknown;
    };
    let is_mov = raw.decode_assists && raw.info1 >> 63 == 1;
    let gpr = (raw.info1 & 0xf) as u8;
    match code & !0xf {
        exit_code::CR_READ if is_mov => Exit::Control(ControlAccess::Read { register, gpr }),
        exit_code::CR_WRITE if is_mov => Exit::Control(ControlAccess::Write { register, gpr }),
        exit_code::CR_READ | exit_code::CR_WRITE => Exit::ControlInstruction,
        // Debug registers are the guest's own.
        _ => Exit::Unknown,
    }
}

/// APM 2, "IOIO Intercept Information".
#[inline]
pub(super) fn decode_io(info: u64) -> IoExit {
    IoExit {
        port: (info >> 16) as u16,
        // One of bits 4 to 6 is set: for 8, 16 or 32 bits.
        width: IO_WIDTHS[(info >> 5 & 0b11) as usize],
        direction: direction(info & 1 == 1),
        kind: if info >> 2 & 1 == 1 {
            IoKind::String
        } else {
            IoKind::Register
        },
    }
}

/// APM 2, "Nested versus Guest Page Faults": an error code as #PF has it, and what was being done.
#[inline]
pub(super) fn decode_nested(error: u64, gpa: u64) -> NestedFault {
    let access = if error >> 4 & 1 == 1 {
        MappingFlags::EXECUTE
    } else if error >> 1 & 1 == 1 {
        MappingFlags::WRITE
    } else {
        MappingFlags::READ
    };
    NestedFault {
        gpa: GuestPhysAddr::new(gpa),
        access,
        purpose: if error >> 33 & 1 == 1 {
            NestedPurpose::PageWalk
        } else {
            NestedPurpose::Access
        },
    }
}

#[cfg(test)]
mod tests;
