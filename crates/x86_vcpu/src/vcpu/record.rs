//! A vCPU's registers in words, for the record of a VM that is stopped.

use core::fmt;

use axvcpu::{AxVCpuHal, Home};

use super::VCpu;
use crate::{
    backend::VendorVcpu,
    regs::{GPR_NAMES, Register, SegmentName, TableName, rflags},
};

impl<H: AxVCpuHal, V: VendorVcpu> VCpu<H, V> {
    pub(super) fn record(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let get = |register| self.backend.get(register);
        writeln!(
            out,
            "VM {} vCPU {}, rip {:#018x}, rflags {:#x}, cpl {}",
            self.vm_id,
            self.vcpu_id,
            get(Register::Rip),
            get(Register::Rflags),
            self.backend.privilege()
        )?;
        for (row, names) in GPR_NAMES.chunks(4).enumerate() {
            for (column, name) in names.iter().enumerate() {
                let value = self.gpr((row * 4 + column) as u8);
                write!(out, "{name:>5} {value:#018x}")?;
            }
            writeln!(out)?;
        }
        let [cr0, cr2, cr3, cr4, efer] = [
            Register::Cr0,
            Register::Cr2,
            Register::Cr3,
            Register::Cr4,
            Register::Efer,
        ]
        .map(get);
        writeln!(
            out,
            "  cr0 {cr0:#x}  cr2 {cr2:#x}  cr3 {cr3:#x}  cr4 {cr4:#x}  efer {efer:#x}"
        )?;
        for name in SegmentName::ALL {
            let segment = self.backend.segment(name);
            writeln!(
                out,
                "   {:>4} {:#06x} base {:#018x} limit {:#010x} rights {:#06x}",
                name.name(),
                segment.selector,
                segment.base,
                segment.limit,
                segment.rights.0
            )?;
        }
        for (name, table) in [
            ("gdtr", self.backend.table(TableName::Gdtr)),
            ("idtr", self.backend.table(TableName::Idtr)),
        ] {
            writeln!(
                out,
                "   {name:>4} base {:#018x} limit {:#06x}",
                table.base, table.limit
            )?;
        }
        let exit = match self.residence.home() {
            Home::Hardware => self.backend.raw_exit(),
            Home::Both | Home::Memory => self.saved_exit,
        };
        let interrupts = get(Register::Rflags) & rflags::INTERRUPT != 0;
        writeln!(
            out,
            "interrupts {}, {:?}; last {:?} exit: {}, {}",
            if interrupts { "on" } else { "off" },
            self.activity,
            V::VENDOR,
            self.backend.exit_name(exit.reason),
            exit
        )
    }
}
