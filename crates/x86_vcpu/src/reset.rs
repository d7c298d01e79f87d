//! The states that a vCPU starts in (Intel SDM 3A, "Processor State After Reset"; the boot protocols of Linux, PVH and multiboot).

use axaddrspace::{GuestPhysAddr, VmidTag};
use axvcpu::AxVCpuHal;

use crate::{
    X86Start,
    backend::VendorVcpu,
    cr::{cr0, cr4, efer},
    device::Pending,
    event::EventQueue,
    fetch::CodePages,
    msr::{MsrStorage, PAT_RESET},
    regs::{
        DescriptorTable, GuestRegisters, Register, Segment, SegmentName, SegmentRights, TableName,
        dr6, dr7, gpr, rflags,
    },
    vcpu::{Activity, VCpu},
};

/// A real-mode segment's rights: read, write, accessed.
const REAL_DATA: SegmentRights = SegmentRights(0x93);
/// With execution.
const REAL_CODE: SegmentRights = SegmentRights(0x9b);
/// Flat 32-bit segments: present, 4 KiB granularity.
const FLAT_CODE32: SegmentRights = SegmentRights(0xc09b);
const FLAT_CODE64: SegmentRights = SegmentRights(0xa09b);
const FLAT_DATA: SegmentRights = SegmentRights(0xc093);
const LDT: SegmentRights = SegmentRights(0x82);
const BUSY_TSS: SegmentRights = SegmentRights(0x8b);

/// The selectors that Linux's boot protocol asks for; no table need hold them before the guest loads its own.
const BOOT_CS: u16 = 0x10;
const BOOT_DS: u16 = 0x18;

impl X86Start {
    /// The same, but at `entry` with `arg`; for a parked vCPU, what a start-up IPI makes of it.
    pub(crate) fn at(self, entry: GuestPhysAddr, arg: u64) -> Option<Self> {
        let entry = entry.as_u64();
        match self {
            Self::Long64 { cr3, .. } => Some(Self::Long64 {
                rip: entry,
                rsi: arg,
                cr3,
            }),
            Self::Protected32 { eax, .. } => Some(Self::Protected32 {
                eip: entry.try_into().ok()?,
                ebx: arg as u32,
                eax,
            }),
            Self::RealMode { .. } | Self::Parked
                if entry < 1 << 20 && entry.is_multiple_of(0x1000) =>
            {
                Some(Self::RealMode {
                    cs_base: entry as u32,
                    ip: 0,
                })
            }
            Self::RealMode { .. } | Self::Parked => None,
        }
    }
}

const fn real(rights: SegmentRights) -> Segment {
    Segment {
        selector: 0,
        rights,
        limit: 0xffff,
        base: 0,
    }
}

const fn flat(selector: u16, rights: SegmentRights) -> Segment {
    Segment {
        selector,
        rights,
        limit: u32::MAX,
        base: 0,
    }
}

impl<H: AxVCpuHal, V: VendorVcpu> VCpu<H, V> {
    /// Everything as after power-on, but for what `start` says.
    pub(crate) fn reset(&mut self, start: X86Start) {
        self.backend.reset();
        // What is cached under it is of the life that ends. Another comes before the guest runs.
        self.tag = VmidTag::default();
        self.events = EventQueue::default();
        self.xsave.reset();
        self.msrs = MsrStorage::new();
        self.tsc_aux = 0;
        self.breakpoints = [0; 4];
        (self.pending, self.answer) = (Pending::Nothing, None);
        self.activity = Activity::Active;
        self.code_pages = CodePages::default();
        self.forget_windows();
        self.start = X86Start::Parked;
        self.residence.changed();

        self.regs = GuestRegisters::default();
        // Family, model and stepping.
        self.regs.gpr[gpr::RDX] = self.cpuid.signature().into();
        for register in [
            Register::Rsp,
            Register::Cr2,
            Register::Cr3,
            Register::Cr4,
            Register::Efer,
            Register::SysenterCs,
            Register::SysenterEsp,
            Register::SysenterEip,
            Register::Star,
            Register::Lstar,
            Register::Cstar,
            Register::Sfmask,
            Register::KernelGsBase,
        ] {
            self.backend.set(register, 0);
        }
        self.backend.set(Register::Cr0, cr0::RESET);
        self.backend.set(Register::Rflags, rflags::ALWAYS);
        self.backend.set(Register::Dr6, dr6::RESET);
        self.backend.set(Register::Dr7, dr7::RESET);
        self.backend.set(Register::Pat, PAT_RESET);
        self.set_data_segments(real(REAL_DATA));
        self.backend.set_segment(SegmentName::Ldtr, real(LDT));
        self.backend.set_segment(SegmentName::Tr, real(BUSY_TSS));
        let table = DescriptorTable {
            base: 0,
            limit: 0xffff,
        };
        self.backend.set_table(TableName::Gdtr, table);
        self.backend.set_table(TableName::Idtr, table);
        self.apply(start);
    }

    fn apply(&mut self, start: X86Start) {
        match start {
            X86Start::RealMode { cs_base, ip } => self.real_mode(cs_base, ip),
            // Where a processor begins after power-on: nothing runs there.
            X86Start::Parked => self.real_mode(0xffff_0000, 0xfff0),
            X86Start::Protected32 { eip, ebx, eax } => {
                self.backend.set(Register::Cr0, cr0::PE | cr0::ET | cr0::NE);
                self.backend
                    .set_segment(SegmentName::Cs, flat(BOOT_CS, FLAT_CODE32));
                self.set_data_segments(flat(BOOT_DS, FLAT_DATA));
                self.backend.set(Register::Rip, eip.into());
                self.regs.gpr[gpr::RBX] = ebx.into();
                self.regs.gpr[gpr::RAX] = eax.into();
            }
            X86Start::Long64 { rip, rsi, cr3 } => {
                self.backend.set(Register::Cr4, cr4::PAE);
                self.backend.set(Register::Cr3, cr3);
                self.backend.set(Register::Efer, efer::LME | efer::LMA);
                self.backend.set(
                    Register::Cr0,
                    cr0::PG | cr0::PE | cr0::ET | cr0::NE | cr0::WP,
                );
                self.backend
                    .set_segment(SegmentName::Cs, flat(BOOT_CS, FLAT_CODE64));
                self.set_data_segments(flat(BOOT_DS, FLAT_DATA));
                self.backend.set(Register::Rip, rip);
                self.regs.gpr[gpr::RSI] = rsi;
            }
        }
    }

    fn real_mode(&mut self, cs_base: u32, ip: u16) {
        let cs = Segment {
            selector: (cs_base >> 4) as u16,
            base: cs_base.into(),
            ..real(REAL_CODE)
        };
        self.backend.set_segment(SegmentName::Cs, cs);
        self.backend.set(Register::Rip, ip.into());
    }

    fn set_data_segments(&mut self, segment: Segment) {
        for name in [
            SegmentName::Es,
            SegmentName::Ss,
            SegmentName::Ds,
            SegmentName::Fs,
            SegmentName::Gs,
        ] {
            self.backend.set_segment(name, segment);
        }
    }
}
