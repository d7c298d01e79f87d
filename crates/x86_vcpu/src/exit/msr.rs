//! RDMSR and WRMSR, by the table of [`msr`].

use axvcpu::{AxVCpuExitReason, AxVCpuHal};

use crate::{
    ExitKind,
    backend::VendorVcpu,
    cr,
    device::Pending,
    exit::{Next, Step},
    hardware,
    msr::{self, MsrKind, OnWrite},
    opcode::Opcode,
    regs::{Register, Segment, SegmentName, gpr},
    vcpu::VCpu,
    walk::Privilege,
};

impl<H: AxVCpuHal, V: VendorVcpu> VCpu<H, V> {
    pub(super) fn read_msr(&mut self, length: Option<u8>) -> Step<Next> {
        self.counters.count(ExitKind::MsrRead);
        let length = self.length(length, &[Opcode::RDMSR])?;
        let number = self.regs.gpr[gpr::RCX] as u32;
        let Some(kind) = self.msr_kind(number) else {
            return Ok(self.general_protection());
        };
        let value = match kind {
            MsrKind::Device => {
                if let Some(value) = self.local.read_register(number) {
                    self.set_edx_eax(value);
                    return Ok(self.answered(length));
                }
                self.pending = Pending::SystemRegisterRead {
                    rip: self.backend.get(Register::Rip),
                };
                return Ok(self.leave_past(length, AxVCpuExitReason::SysRegRead { addr: number }));
            }
            MsrKind::Address(register) | MsrKind::Plain(register) => self.backend.get(register),
            MsrKind::Efer => self.backend.get(Register::Efer),
            MsrKind::Pat => self.backend.get(Register::Pat),
            MsrKind::FsBase => self.backend.segment(SegmentName::Fs).base,
            MsrKind::GsBase => self.backend.segment(SegmentName::Gs).base,
            MsrKind::Tsc => hardware::read_tsc(),
            MsrKind::TscAux => self.tsc_aux,
            MsrKind::Microcode => hardware::read_msr(msr::number::MICROCODE_REVISION),
            MsrKind::Stored { place, .. } => self.msrs.read(place),
            MsrKind::Constant(value, _) => value,
        };
        self.set_edx_eax(value);
        Ok(self.advance(length))
    }

    /// What MSR `number` is. A guest tends to stay with one for a while.
    #[inline]
    fn msr_kind(&mut self, number: u32) -> Option<MsrKind> {
        if self.last_msr.0 != number {
            self.last_msr = (number, msr::kind(number));
        }
        self.last_msr.1
    }

    /// What RDMSR reads.
    pub(crate) fn set_edx_eax(&mut self, value: u64) {
        self.regs.gpr[gpr::RAX] = value & 0xffff_ffff;
        self.regs.gpr[gpr::RDX] = value >> 32;
    }

    pub(super) fn write_msr(&mut self, length: Option<u8>) -> Step<Next> {
        self.counters.count(ExitKind::MsrWrite);
        let length = self.length(length, &[Opcode::WRMSR])?;
        let (number, value) = (self.regs.gpr[gpr::RCX] as u32, self.edx_eax());
        let Some(kind) = self.msr_kind(number) else {
            return Ok(self.general_protection());
        };
        match kind {
            MsrKind::Device => {
                if let Some(schedule) = self.local.write_register(number, value) {
                    self.follow(schedule);
                    return Ok(self.answered(length));
                }
                self.pending = Pending::SystemRegisterWrite {
                    rip: self.backend.get(Register::Rip),
                };
                let exit = AxVCpuExitReason::SysRegWrite {
                    addr: number,
                    value,
                };
                Ok(self.leave_past(length, exit))
            }
            _ if self.set_msr(kind, value) => Ok(self.advance(length)),
            _ => Ok(self.general_protection()),
        }
    }

    /// Whether the MSR takes the value.
    fn set_msr(&mut self, kind: MsrKind, value: u64) -> bool {
        match kind {
            MsrKind::Address(register) if self.is_canonical(value) => {
                self.backend.set(register, value);
            }
            MsrKind::Plain(register) => self.backend.set(register, value),
            MsrKind::Pat if msr::is_valid_pat(value) => self.backend.set(Register::Pat, value),
            MsrKind::FsBase if self.is_canonical(value) => self.set_base(SegmentName::Fs, value),
            MsrKind::GsBase if self.is_canonical(value) => self.set_base(SegmentName::Gs, value),
            MsrKind::Efer => {
                let allowed = cr::efer_of(&self.cpuid);
                match cr::write_efer(self.control_registers(), allowed, value) {
                    Ok(efer) => self.backend.set(Register::Efer, efer),
                    Err(_) => return false,
                }
            }
            MsrKind::TscAux if value >> 32 == 0 && self.cpuid.has_tsc_aux() => {
                self.tsc_aux = value;
                self.load_tsc_aux();
            }
            MsrKind::Stored { place, writable } if value & !writable == 0 => {
                self.msrs.write(place, value);
            }
            MsrKind::Tsc | MsrKind::Microcode | MsrKind::Constant(_, OnWrite::Ignore) => {}
            MsrKind::Address(_)
            | MsrKind::Pat
            | MsrKind::FsBase
            | MsrKind::GsBase
            | MsrKind::TscAux
            | MsrKind::Stored { .. }
            | MsrKind::Device
            | MsrKind::Constant(_, OnWrite::Fault) => return false,
        }
        true
    }

    fn set_base(&mut self, name: SegmentName, base: u64) {
        let segment = self.backend.segment(name);
        self.backend.set_segment(name, Segment { base, ..segment });
    }

    fn is_canonical(&self, address: u64) -> bool {
        msr::is_canonical(address, self.paging(Privilege::Supervisor).address_bits())
    }
}
