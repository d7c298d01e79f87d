//! What happens when the guest exits: what concerns the CPU alone is answered here, and the guest entered again.

mod control;
mod msr;

use axvcpu::{
    AtHostInterrupt, AxVCpuExitReason, AxVCpuHal, DeviceAccess, FailReason, HypercallError,
    ResetCause, SystemDownKind,
};

use crate::{
    ExitKind, Sharing,
    backend::{Direction, Exit, Frequent, Instruction, VendorVcpu},
    cpuid::CpuidState,
    cr::{self, cr4},
    decode,
    device::Pending,
    event::{Exception, Raised, vector},
    hardware::{self, CpuidResult},
    opcode::Opcode,
    regs::{Register, dr6, gpr, rflags},
    vcpu::{Activity, VCpu},
    walk::{Paging, Privilege, WalkFailure},
};

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Back to the guest.
    Resume,
    /// The same, but a device has answered: the vCPU looks what that did to it.
    Look,
    /// Out of the vCPU's loop, for the reason in [`VCpu::exit`](VCpu).
    Leave,
}

/// What a step of an exit's service comes to; `Err`: the guest goes on, or is left, instead.
pub(crate) type Step<T> = Result<T, Next>;

impl<H: AxVCpuHal, V: VendorVcpu> VCpu<H, V> {
    /// Serves the exit that the backend has just made.
    #[inline(always)]
    pub(crate) fn serve_exit(&mut self, exit: Frequent, devices: &dyn DeviceAccess) -> Next {
        let next = match exit {
            Frequent::Cpuid => self.serve_cpuid(self.backend.length()),
            Frequent::Hypercall => {
                let length = self.backend.length();
                self.serve_hypercall(length, devices)
            }
            Frequent::MsrRead => self.read_msr(self.backend.length()),
            Frequent::MsrWrite => self.write_msr(self.backend.length()),
            Frequent::Port => self.port_access(self.backend.io(), devices),
            Frequent::Nested => match self.backend.nested() {
                Some(fault) => self.nested_fault(fault, devices),
                None => self.serve_any(devices),
            },
            Frequent::HostInterrupt => Ok(self.host_interrupt(devices)),
            Frequent::LocalWrite => Ok(self.local_write(self.backend.local_write())),
            Frequent::Other => self.serve_any(devices),
        };
        next.unwrap_or_else(|next| next)
    }

    #[inline(never)]
    fn serve_any(&mut self, devices: &dyn DeviceAccess) -> Step<Next> {
        let info = self.backend.exit();
        if let Some(event) = info.interrupted {
            self.events.interrupted(event);
        }
        match info.exit {
            Exit::Instruction(instruction) => self.instruction(info.length, instruction, devices),
            Exit::Msr(Direction::Read) => self.read_msr(info.length),
            Exit::Msr(Direction::Write) => self.write_msr(info.length),
            Exit::Io(io) => self.port_access(io, devices),
            Exit::Nested(fault) => self.nested_fault(fault, devices),
            Exit::HostInterrupt => Ok(self.host_interrupt(devices)),
            Exit::LocalWrite(offset) => Ok(self.local_write(offset)),
            Exit::LocalEnd(vector) => {
                self.counters.count(ExitKind::ApicEnd);
                self.local.ended(vector);
                Ok(Next::Look)
            }
            Exit::TaskPriority => {
                self.counters.count(ExitKind::TaskPriority);
                Ok(Next::Resume)
            }
            Exit::HostNmi => {
                self.counters.count(ExitKind::HostNmi);
                Ok(Next::Resume)
            }
            Exit::Deadline => {
                self.counters.count(ExitKind::Deadline);
                self.deadline_came();
                // A timer may have raised an NMI.
                Ok(Next::Look)
            }
            Exit::InterruptWindow => {
                self.counters.count(ExitKind::InterruptWindow);
                self.window_opened();
                Ok(Next::Resume)
            }
            Exit::NmiWindow => {
                self.counters.count(ExitKind::NmiWindow);
                Ok(Next::Resume)
            }
            Exit::Control(access) => {
                self.counters.count(ExitKind::ControlRegister);
                let length = match info.length {
                    Some(length) => length,
                    None => self.decoded(decode::any_length)?,
                };
                self.control(access, length)
            }
            Exit::ControlInstruction => {
                self.counters.count(ExitKind::ControlRegister);
                let instruction = self.decoded(decode::control_instruction)?;
                self.control(instruction.access, instruction.length)
            }
            Exit::Exception { vector, error_code } => self.exception(vector, error_code),
            Exit::TripleFault => {
                self.counters.count(ExitKind::TripleFault);
                Ok(self.leave(TRIPLE_FAULT))
            }
            Exit::TaskSwitch => {
                Ok(self.fail("the guest switches tasks by hardware, which is not supported"))
            }
            Exit::Refused(what) => Ok(self.fail(what)),
            Exit::Unknown => {
                self.counters.count(ExitKind::Unknown);
                let raw = self.backend.raw_exit();
                Ok(self.leave(AxVCpuExitReason::Unknown(raw)))
            }
        }
    }

    /// The guest has written a register of its local APIC, which the hardware keeps: what follows from that.
    fn local_write(&mut self, offset: u16) -> Next {
        self.counters.count(ExitKind::ApicWrite);
        let schedule = self.local.written(offset);
        self.follow(schedule);
        Next::Look
    }

    /// A host interrupt is pending. Where the pCPU is this vCPU's own, it is served here and now: most often it is the guest's own timer.
    #[inline]
    fn host_interrupt(&mut self, devices: &dyn DeviceAccess) -> Next {
        self.counters.count(ExitKind::HostInterrupt);
        match (self.sharing, devices.at_host_interrupt()) {
            (Sharing::Dedicated, AtHostInterrupt::Stay) => {
                hardware::let_interrupts_in();
                self.follow_local();
                Next::Look
            }
            (Sharing::Shared, _) | (_, AtHostInterrupt::Leave) => {
                self.leave(AxVCpuExitReason::ExternalInterrupt {
                    vector: H::irq_fetch(),
                })
            }
        }
    }

    /// Leaves the loop.
    #[inline(always)]
    pub(crate) fn leave(&mut self, why: AxVCpuExitReason) -> Next {
        self.exit = why;
        Next::Leave
    }

    /// The VM cannot go on, for a reason in words.
    #[cold]
    pub(crate) fn fail(&mut self, what: &'static str) -> Next {
        self.counters.count(ExitKind::Unknown);
        let raw = self.backend.raw_exit();
        self.leave(AxVCpuExitReason::FailEntry {
            reason: FailReason { what, raw },
        })
    }

    /// The guest suffers `exception` for the instruction that it is at.
    pub(crate) fn raise(&mut self, exception: Exception) -> Next {
        match self.events.raise(exception) {
            Raised::Queued => Next::Resume,
            Raised::TripleFault => self.leave(TRIPLE_FAULT),
        }
    }

    /// #GP(0).
    pub(crate) fn general_protection(&mut self) -> Next {
        self.raise(Exception::GENERAL_PROTECTION)
    }

    /// An address led nowhere.
    pub(crate) fn walk_failed(&mut self, failure: WalkFailure) -> Next {
        match failure.exception() {
            Some((exception, cr2)) => {
                if let Some(cr2) = cr2 {
                    self.backend.set(Register::Cr2, cr2);
                }
                self.raise(exception)
            }
            None => self.fail("the guest's page tables lie outside of its RAM"),
        }
    }

    /// An intercepted exception goes back to the guest.
    fn exception(&mut self, vector: u8, error_code: Option<u32>) -> Step<Next> {
        self.counters.count(ExitKind::Exception);
        Ok(self.raise(Exception { vector, error_code }))
    }

    fn instruction(
        &mut self,
        length: Option<u8>,
        instruction: Instruction,
        devices: &dyn DeviceAccess,
    ) -> Step<Next> {
        match instruction {
            Instruction::Cpuid => self.serve_cpuid(length),
            Instruction::Hlt => {
                self.counters.count(ExitKind::Hlt);
                let length = self.length(length, &[Opcode::HLT])?;
                let next = self.advance(length);
                Ok(self.halt(next))
            }
            Instruction::Hypercall => self.serve_hypercall(length, devices),
            Instruction::Xsetbv => {
                self.counters.count(ExitKind::Xsetbv);
                let length = self.length(length, &[Opcode::XSETBV])?;
                Ok(self.xsetbv(length))
            }
            // Caches are the machine's: they stay.
            Instruction::Invd => self.nothing(length, Opcode::INVD),
            Instruction::Wbinvd => self.nothing(length, Opcode::WBINVD),
            Instruction::Pause => self.nothing(length, Opcode::PAUSE),
            // There are no performance counters.
            Instruction::Rdpmc => {
                self.counters.count(ExitKind::OtherInstruction);
                Ok(self.general_protection())
            }
            Instruction::Absent => {
                self.counters.count(ExitKind::OtherInstruction);
                Ok(self.raise(Exception::UNDEFINED))
            }
        }
    }

    #[inline(always)]
    fn serve_hypercall(&mut self, length: Option<u8>, devices: &dyn DeviceAccess) -> Step<Next> {
        self.counters.count(ExitKind::Hypercall);
        let length = self.length(length, &[Opcode::VMMCALL, Opcode::VMCALL])?;
        Ok(self.hypercall(length, devices))
    }

    /// An instruction that has no effect here.
    fn nothing(&mut self, length: Option<u8>, opcode: Opcode) -> Step<Next> {
        self.counters.count(ExitKind::OtherInstruction);
        let length = self.length(length, &[opcode])?;
        Ok(self.advance(length))
    }

    #[inline(always)]
    fn serve_cpuid(&mut self, length: Option<u8>) -> Step<Next> {
        self.counters.count(ExitKind::Cpuid);
        let length = self.length(length, &[Opcode::CPUID])?;
        let [leaf, subleaf] = [gpr::RAX, gpr::RCX].map(|number| self.regs.gpr[number] as u32);
        match self.cpuid.plain(leaf) {
            Some(answer) => self.regs.set_cpuid(answer),
            None => self.regs.set_cpuid(&self.cpuid_of_state(leaf, subleaf)),
        }
        Ok(self.advance(length))
    }

    #[cold]
    fn cpuid_of_state(&self, leaf: u32, subleaf: u32) -> CpuidResult {
        self.cpuid.answer(leaf, subleaf, || CpuidState {
            cr4: self.backend.get(Register::Cr4),
            xcr0: self.xsave.xcr0(),
        })
    }

    /// HLT has been completed, with `next` to follow.
    fn halt(&mut self, next: Next) -> Next {
        let takes_interrupts = self.backend.get(Register::Rflags) & rflags::INTERRUPT != 0;
        if next != Next::Resume || self.wakes(takes_interrupts) {
            return next;
        }
        self.activity = Activity::Halted { takes_interrupts };
        self.leave(AxVCpuExitReason::Halt)
    }

    /// VMCALL or VMMCALL: number in RAX, arguments in RBX, RCX, RDX, RSI, RDI, R8. Programs have none: #UD.
    #[inline]
    fn hypercall(&mut self, length: u8, devices: &dyn DeviceAccess) -> Next {
        if self.backend.privilege() != 0 {
            return self.raise(Exception::UNDEFINED);
        }
        let nr = self.regs.gpr[gpr::RAX];
        let next = self.advance(length);
        if next == Next::Leave {
            return next;
        }
        let args = || {
            let registers = [gpr::RBX, gpr::RCX, gpr::RDX, gpr::RSI, gpr::RDI, gpr::R8];
            registers.map(|number| self.regs.gpr[number])
        };
        match devices.hypercall(nr, &args) {
            Some(answer) => {
                self.regs.gpr[gpr::RAX] = hypercall_answer(answer);
                next
            }
            None => {
                let args = args();
                self.pending = Pending::Hypercall;
                self.leave(AxVCpuExitReason::Hypercall { nr, args })
            }
        }
    }

    fn xsetbv(&mut self, length: u8) -> Next {
        if self.backend.get(Register::Cr4) & cr4::OSXSAVE == 0 {
            return self.raise(Exception::UNDEFINED);
        }
        let value = self.edx_eax();
        let index = self.regs.gpr[gpr::RCX] as u32;
        if self.backend.privilege() != 0
            || index != 0
            || !cr::xcr0_is_valid(self.xsave.supported(), value)
        {
            return self.general_protection();
        }
        self.xsave.set_xcr0(value);
        self.advance(length)
    }

    fn edx_eax(&self) -> u64 {
        self.regs.gpr[gpr::RDX] << 32 | self.regs.gpr[gpr::RAX] & 0xffff_ffff
    }

    /// Past the instruction, and out.
    fn leave_past(&mut self, length: u8, exit: AxVCpuExitReason) -> Next {
        match self.advance(length) {
            Next::Resume | Next::Look => self.leave(exit),
            Next::Leave => Next::Leave,
        }
    }

    /// The instruction, of this length, has been completed. A single-stepping guest sees the step.
    #[inline(always)]
    pub(crate) fn advance(&mut self, length: u8) -> Next {
        // Only 64-bit code runs above 4 GiB; where it ends there, the hardware says so.
        let flags = self.backend.complete(length);
        self.past(flags)
    }

    /// The guest is past the instruction, with these flags.
    #[inline(always)]
    pub(crate) fn past(&mut self, flags: u64) -> Next {
        if flags & rflags::TRAP != 0 {
            return self.single_step();
        }
        Next::Resume
    }

    #[cold]
    fn single_step(&mut self) -> Next {
        let status = self.backend.get(Register::Dr6);
        self.backend.set(Register::Dr6, status | dr6::SINGLE_STEP);
        self.raise(Exception {
            vector: vector::DEBUG,
            error_code: None,
        })
    }

    /// How the guest's addresses are translated, for `privilege`.
    pub(crate) fn paging(&self, privilege: Privilege) -> Paging {
        Paging {
            registers: self.control_registers(),
            rflags: self.backend.get(Register::Rflags),
            privilege,
        }
    }

    /// The guest's present privilege.
    pub(crate) fn privilege(&self) -> Privilege {
        if self.backend.privilege() == 3 {
            Privilege::User
        } else {
            Privilege::Supervisor
        }
    }
}

/// What RAX shows of a hypercall's answer: an error is a negative number.
pub(crate) fn hypercall_answer(answer: Result<u64, HypercallError>) -> u64 {
    let code = |error| match error {
        HypercallError::Failed => -1i64,
        HypercallError::NotSupported => -2,
        HypercallError::InvalidParam => -3,
        HypercallError::Denied => -4,
        HypercallError::InvalidAddress => -5,
        HypercallError::AlreadyAvailable => -6,
    };
    answer.unwrap_or_else(|error| code(error) as u64)
}

/// The processor shut down: a PC resets.
const TRIPLE_FAULT: AxVCpuExitReason = AxVCpuExitReason::SystemDown {
    kind: SystemDownKind::Reset(ResetCause::TripleFault),
};

#[cfg(test)]
mod tests;
