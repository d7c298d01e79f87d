//! Accesses that leave the vCPU for a device: ports here, memory in [`mmio`](crate::mmio), system registers in [`exit`](crate::exit); and their
//! completion once the device has answered.
//!
//! The instruction pointer is past the instruction when the access leaves, but for string instructions: those move on element by element, and
//! simply exit again for the next one ([`string`](crate::string)).

use axaddrspace::GuestPhysAddr;
use axerrno::{AxResult, ax_err};
use axvcpu::{AccessWidth, AxVCpuExitReason, AxVCpuHal, DeviceAccess, MmioRegisters, PortWindow};

use crate::{
    ExitKind,
    backend::{Direction, IoExit, IoKind, VendorVcpu},
    decode::{MemoryInstruction, Part, Source, StringForm, accumulator},
    exit::{Next, Step},
    regs::{Register, gpr},
    vcpu::VCpu,
    walk::Access,
};

/// What the last exit leaves to be completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pending {
    /// Nothing.
    Nothing,
    /// A hypercall's answer.
    Hypercall,
    /// IN.
    PortRead { width: AccessWidth },
    /// INS, at this instruction.
    PortReadString {
        width: AccessWidth,
        form: StringForm,
        length: u8,
    },
    /// OUT, OUTS.
    PortWrite,
    /// A load from a device's memory by this instruction.
    MmioRead {
        instruction: MemoryInstruction,
        addr: GuestPhysAddr,
    },
    /// A store.
    MmioWrite,
    /// RDMSR at `rip`.
    SystemRegisterRead { rip: u64 },
    /// WRMSR at `rip`.
    SystemRegisterWrite { rip: u64 },
    /// RDMSR or WRMSR at `rip`, to which nothing answered.
    Refused { rip: u64 },
}

impl Pending {
    /// Whether it waits for a value.
    pub(crate) const fn is_read(self) -> bool {
        match self {
            Self::PortRead { .. }
            | Self::PortReadString { .. }
            | Self::MmioRead { .. }
            | Self::SystemRegisterRead { .. } => true,
            Self::Nothing
            | Self::Hypercall
            | Self::PortWrite
            | Self::MmioWrite
            | Self::SystemRegisterWrite { .. }
            | Self::Refused { .. } => false,
        }
    }
}

impl<H: AxVCpuHal, V: VendorVcpu> VCpu<H, V> {
    /// Nothing answers the last access.
    pub(crate) fn refuse_access(&mut self) -> AxResult {
        match self.pending {
            Pending::SystemRegisterRead { rip } | Pending::SystemRegisterWrite { rip } => {
                self.pending = Pending::Refused { rip };
            }
            Pending::PortRead { .. }
            | Pending::PortReadString { .. }
            | Pending::MmioRead { .. } => {
                self.answer = Some(u64::MAX);
            }
            Pending::PortWrite | Pending::MmioWrite => self.pending = Pending::Nothing,
            Pending::Nothing if matches!(self.exit, AxVCpuExitReason::NestedPageFault { .. }) => {
                // RAM that may not be used in this way.
                self.pending = Pending::Refused { rip: self.pc };
            }
            Pending::Nothing | Pending::Hypercall | Pending::Refused { .. } => {
                return ax_err!(BadState, "the last exit was no access");
            }
        }
        Ok(())
    }

    /// Before the guest runs again: what the last exit left. The vCPU is in the hardware.
    #[inline]
    pub(crate) fn complete(&mut self) -> Next {
        if matches!(self.pending, Pending::Nothing) {
            return Next::Resume;
        }
        let pending = core::mem::replace(&mut self.pending, Pending::Nothing);
        let value = self.answer.take();
        self.finish(pending, value.unwrap_or(u64::MAX))
            .unwrap_or_else(|next| next)
    }

    /// Has the VM's devices answer the exit, if it is an access to one, and completes it.
    pub(crate) fn ask(&mut self, devices: &dyn DeviceAccess) -> Next {
        loop {
            let done = |()| 0;
            let answer = match self.exit {
                AxVCpuExitReason::MmioRead { addr, width } => devices.mmio_read(addr, width),
                AxVCpuExitReason::MmioWrite { addr, width, data } => {
                    devices.mmio_write(addr, width, data).map(done)
                }
                AxVCpuExitReason::IoRead { port, width } => devices.port_read(port, width),
                AxVCpuExitReason::IoWrite { port, width, data } => {
                    devices.port_write(port, width, data).map(done)
                }
                AxVCpuExitReason::SysRegRead { addr } => devices.sys_reg_read(addr),
                AxVCpuExitReason::SysRegWrite { addr, value } => {
                    devices.sys_reg_write(addr, value).map(done)
                }
                AxVCpuExitReason::Nothing
                | AxVCpuExitReason::Hypercall { .. }
                | AxVCpuExitReason::Console(_)
                | AxVCpuExitReason::NestedPageFault { .. }
                | AxVCpuExitReason::ExternalInterrupt { .. }
                | AxVCpuExitReason::DeviceInterrupt
                | AxVCpuExitReason::CpuUp { .. }
                | AxVCpuExitReason::CpuStatus { .. }
                | AxVCpuExitReason::CpuDown
                | AxVCpuExitReason::SendIPI { .. }
                | AxVCpuExitReason::RemoteFence { .. }
                | AxVCpuExitReason::Halt
                | AxVCpuExitReason::SystemDown { .. }
                | AxVCpuExitReason::FailEntry { .. }
                | AxVCpuExitReason::Unknown(_) => None,
            };
            let Some(value) = answer else {
                return Next::Leave;
            };
            self.answer = Some(value);
            if devices.wants_exit() {
                return self.leave(AxVCpuExitReason::Nothing);
            }
            // An instruction that reads and writes has another access to make.
            if self.complete() != Next::Leave {
                return Next::Look;
            }
        }
    }

    fn finish(&mut self, pending: Pending, value: u64) -> Step<Next> {
        match pending {
            Pending::Nothing
            | Pending::Hypercall
            | Pending::PortWrite
            | Pending::MmioWrite
            | Pending::SystemRegisterWrite { .. } => {}
            Pending::PortRead { width } => self.set_part(accumulator(width), value),
            Pending::PortReadString {
                width,
                form,
                length,
            } => {
                let operand = self.locate(self.destination(form), width.bytes(), Access::Write)?;
                self.write_operand(operand, value)?;
                return Ok(self.step_string(form, width, &[gpr::RDI], length));
            }
            Pending::MmioRead { instruction, addr } => {
                return self.finish_load(instruction, addr, value);
            }
            Pending::SystemRegisterRead { .. } => self.set_edx_eax(value),
            Pending::Refused { rip } => {
                self.backend.set(Register::Rip, rip);
                return Ok(self.general_protection());
            }
        }
        Ok(Next::Resume)
    }

    /// IN or OUT at the device in `ports`, which an earlier one met: the guest's RFLAGS past the instruction. `None`: nothing has happened.
    #[inline(always)]
    pub(crate) fn port_at_hand<R: MmioRegisters + ?Sized>(
        &mut self,
        ports: Option<&PortWindow<'_, R>>,
    ) -> Option<u64> {
        let IoExit {
            port,
            width,
            direction,
            kind,
        } = self.backend.io();
        if kind == IoKind::String {
            return None;
        }
        let (registers, offset) = ports?.reach(port, width)?;
        match direction {
            Direction::Read => {
                let value = registers.load(offset, width)?;
                self.counters.count(ExitKind::PortRead);
                self.set_accumulator(width, value);
            }
            Direction::Write => {
                let data = self.regs.gpr[gpr::RAX] & width.mask();
                registers.store(offset, width, data)?;
                self.counters.count(ExitKind::PortWrite);
            }
        }
        Some(self.backend.complete_io())
    }

    /// Any other access to a port, whose device is at hand from now on.
    #[cold]
    #[inline(never)]
    pub(crate) fn port_elsewhere<'a, D: DeviceAccess>(
        &mut self,
        ports: &mut Option<PortWindow<'a, D::Registers>>,
        devices: &'a D,
    ) -> Next {
        let io = self.backend.io();
        *ports = devices.port_window(io.port, io.width);
        self.port_access(io, devices).unwrap_or_else(|next| next)
    }

    /// IN, OUT, INS, OUTS: the exit is one for `io`. Apart: the most are served before.
    #[cold]
    #[inline(never)]
    pub(crate) fn port_access(&mut self, io: IoExit, devices: &dyn DeviceAccess) -> Step<Next> {
        let IoExit {
            port,
            width,
            direction,
            kind,
        } = io;
        self.counters.count(match direction {
            Direction::Read => ExitKind::PortRead,
            Direction::Write => ExitKind::PortWrite,
        });
        match kind {
            IoKind::String => return self.port_string(),
            IoKind::Register => {}
        }
        match direction {
            Direction::Read => match devices.port_read(port, width) {
                Some(value) => self.set_accumulator(width, value),
                None => {
                    let pending = Pending::PortRead { width };
                    let exit = AxVCpuExitReason::IoRead { port, width };
                    return Ok(self.leave_for_port(pending, exit));
                }
            },
            Direction::Write => {
                let data = self.regs.gpr[gpr::RAX] & width.mask();
                if devices.port_write(port, width, data).is_none() {
                    let exit = AxVCpuExitReason::IoWrite { port, width, data };
                    return Ok(self.leave_for_port(Pending::PortWrite, exit));
                }
            }
        }
        let flags = self.backend.complete_io();
        Ok(self.look_past(flags))
    }

    /// RAX, of which an IN has read so much.
    #[inline(always)]
    fn set_accumulator(&mut self, width: AccessWidth, value: u64) {
        let rax = &mut self.regs.gpr[gpr::RAX];
        // Nearly all are bytes, and a byte is stored without a look at the rest.
        if width == AccessWidth::Byte {
            *rax = *rax & !0xff | value & 0xff;
        } else {
            *rax = accumulator(width).write(*rax, value);
        }
    }

    #[cold]
    fn leave_for_port(&mut self, pending: Pending, exit: AxVCpuExitReason) -> Next {
        self.leave_for_device(self.backend.io_length(), pending, exit)
    }

    /// Past the instruction, whose access a device has answered.
    #[inline]
    pub(crate) fn answered(&mut self, length: u8) -> Next {
        let flags = self.backend.complete(length);
        self.look_past(flags)
    }

    #[inline(always)]
    pub(crate) fn look_past(&mut self, flags: u64) -> Next {
        match self.past(flags) {
            Next::Resume | Next::Look => Next::Look,
            Next::Leave => Next::Leave,
        }
    }

    /// Past the instruction, and out to a device.
    pub(crate) fn leave_for_device(
        &mut self,
        length: u8,
        pending: Pending,
        exit: AxVCpuExitReason,
    ) -> Next {
        match self.advance(length) {
            Next::Resume | Next::Look => {
                self.pending = pending;
                self.leave(exit)
            }
            Next::Leave => Next::Leave,
        }
    }

    pub(crate) fn part(&self, part: Part) -> u64 {
        part.read(self.gpr(part.number))
    }

    pub(crate) fn set_part(&mut self, part: Part, value: u64) {
        let whole = self.gpr(part.number);
        self.set_gpr(part.number, part.write(whole, value));
    }

    pub(crate) fn value(&self, source: Source) -> u64 {
        match source {
            Source::Register(part) => self.part(part),
            Source::Immediate(value) => value,
        }
    }
}

#[cfg(test)]
mod loop_tests;
#[cfg(test)]
mod port_tests;
#[cfg(test)]
mod tests;
