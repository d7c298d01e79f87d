//! Accesses to control registers.

use axaddrspace::GuestPhysAddr;
use axvcpu::AxVCpuHal;

use crate::{
    backend::{ControlAccess, ControlRegister, VendorVcpu},
    cr::{self, CodeSize, ControlRegisters, cr0, cr4},
    decode::CodeMode,
    event::Exception,
    exit::{Next, Step},
    regs::Register,
    vcpu::VCpu,
    walk::Access,
};

impl<H: AxVCpuHal, V: VendorVcpu> VCpu<H, V> {
    #[inline]
    pub(crate) fn control_registers(&self) -> ControlRegisters {
        ControlRegisters {
            cr0: self.backend.get(Register::Cr0),
            cr3: self.backend.get(Register::Cr3),
            cr4: self.backend.get(Register::Cr4),
            efer: self.backend.get(Register::Efer),
        }
    }

    /// A control register, by an instruction of this length.
    pub(super) fn control(&mut self, access: ControlAccess, length: u8) -> Step<Next> {
        let now = self.control_registers();
        let next = match access {
            ControlAccess::Read { register, gpr } => {
                let value = match register {
                    ControlRegister::Cr0 => now.cr0,
                    ControlRegister::Cr3 => now.cr3,
                    ControlRegister::Cr4 => now.cr4,
                    ControlRegister::Cr8 => self.local.task_priority().into(),
                };
                self.set_gpr(gpr, value);
                return Ok(self.advance(length));
            }
            ControlAccess::Write { register, gpr } => {
                let value = self.gpr(gpr);
                match register {
                    ControlRegister::Cr0 => cr::write_cr0(now, self.code_size(), value),
                    ControlRegister::Cr3 => Ok(ControlRegisters {
                        // The bit that keeps translations, with PCIDs: they may go all the same.
                        cr3: value & !(1 << 63),
                        ..now
                    }),
                    ControlRegister::Cr4 => {
                        let allowed = cr::cr4_of(|leaf| self.cpuid.feature(leaf));
                        cr::write_cr4(now, allowed, value)
                    }
                    ControlRegister::Cr8 if value < 16 => {
                        self.local.set_task_priority(value as u8);
                        self.backend.set_task_priority(value as u8);
                        return Ok(self.advance(length));
                    }
                    ControlRegister::Cr8 => Err(Exception::GENERAL_PROTECTION),
                }
            }
            ControlAccess::Clts => Ok(ControlRegisters {
                cr0: now.cr0 & !cr0::TS,
                ..now
            }),
            ControlAccess::Lmsw { source } => {
                cr::write_cr0(now, self.code_size(), cr::lmsw(now.cr0, source))
            }
            ControlAccess::LmswRegister { gpr } => {
                let source = self.gpr(gpr) as u16;
                cr::write_cr0(now, self.code_size(), cr::lmsw(now.cr0, source))
            }
            ControlAccess::LmswMemory { operand } => {
                let place = self.locate(self.address_of(operand), 2, Access::Read)?;
                let source = self.read_operand(place)? as u16;
                cr::write_cr0(now, self.code_size(), cr::lmsw(now.cr0, source))
            }
        };
        match next {
            Ok(next) => {
                self.set_control_registers(now, next)?;
                Ok(self.advance(length))
            }
            Err(exception) => Ok(self.raise(exception)),
        }
    }

    fn code_size(&self) -> CodeSize {
        match self.code_mode() {
            CodeMode::Bits64 => CodeSize::Long,
            CodeMode::Bits16 | CodeMode::Bits32 => CodeSize::Legacy,
        }
    }

    /// The guest's control registers become `next`.
    pub(super) fn set_control_registers(
        &mut self,
        now: ControlRegisters,
        next: ControlRegisters,
    ) -> Step<()> {
        if next.is_pae() && next != now {
            let entries = self.read_pdptes(next.cr3)?;
            self.backend.set_pdptes(entries);
        }
        for (register, before, after) in [
            (Register::Cr0, now.cr0, next.cr0),
            (Register::Cr3, now.cr3, next.cr3),
            (Register::Cr4, now.cr4, next.cr4),
            (Register::Efer, now.efer, next.efer),
        ] {
            if before != after {
                self.backend.set(register, after);
            }
        }
        const PAGING0: u64 = cr0::PG | cr0::WP | cr0::PE;
        const PAGING4: u64 =
            cr4::PSE | cr4::PAE | cr4::PGE | cr4::PCIDE | cr4::SMEP | cr4::SMAP | cr4::LA57;
        if (now.cr0 ^ next.cr0) & PAGING0 != 0
            || (now.cr4 ^ next.cr4) & PAGING4 != 0
            || now.cr3 != next.cr3
        {
            self.backend.flush();
        }
        Ok(())
    }

    /// The four entries of PAE paging's root; #GP if one has reserved bits (SDM 3A, "PDPTE Registers").
    fn read_pdptes(&mut self, cr3: u64) -> Step<[u64; 4]> {
        const PRESENT: u64 = 1;
        const RESERVED: u64 = 0xfff0_0000_0000_01e6;
        let mut bytes = [0; 32];
        let at = GuestPhysAddr::new(cr3 & 0xffff_ffe0);
        if !self.memory.read(at, &mut bytes) {
            return Err(self.fail("the guest's page tables lie outside of its RAM"));
        }
        let mut entries = [0; 4];
        for (entry, bytes) in entries.iter_mut().zip(bytes.chunks_exact(8)) {
            *entry = bytes.try_into().map_or(0, u64::from_le_bytes);
        }
        if entries
            .iter()
            .any(|entry| entry & PRESENT != 0 && entry & RESERVED != 0)
        {
            return Err(self.general_protection());
        }
        Ok(entries)
    }
}
