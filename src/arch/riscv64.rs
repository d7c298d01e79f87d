//! RISC-V with the H extension.

use alloc::{string::String, vec::Vec};

use axaddrspace::PcpuMask;
use axvcpu::{AccessWidth, AxVCpuHal};
use axvm::{IsaInfo, Machine, RiscvMachine};
use axvmconfig::{DeviceSpace, HostRange, IrqTrigger, Isa, MachineDevices, MachineIrq, Taken};
use riscv_vcpu::MachineIds;

use crate::{
    host::{self, Host},
    housekeeping::Housekeeping,
};

pub(crate) use axplat_riscv64 as platform;

pub(crate) type VCpu = riscv_vcpu::RISCVVCpu<Host>;
pub(crate) type PerCpu = riscv_vcpu::RISCVPerCpu<Host>;
pub(crate) type MachineInfo = RiscvMachine;
pub(crate) const ISA: Isa = Isa::Riscv64;

pub(crate) fn describe_machine(
    _house: &Housekeeping,
) -> Result<Machine<MachineInfo>, &'static str> {
    let host = platform::machine();
    let [cbom_block_size, cboz_block_size] = host.cache_blocks;
    Ok(Machine {
        timebase_hz: host.timebase_hz,
        nested_mode: PerCpu::best_mode()
            .ok_or("its harts need the H extension with Sv39x4 or Sv48x4")?,
        pcpus: host::pcpu_count(),
        isa: RiscvMachine {
            cpus: IsaInfo {
                extensions: host.extensions().map(String::from).collect::<Vec<_>>(),
                mmu_type: (!host.mmu_type.is_empty()).then(|| host.mmu_type.into()),
                cbom_block_size,
                cbop_block_size: None,
                cboz_block_size,
            },
            ids: MachineIds::default(),
        },
    })
}

/// The device tree knows all interrupts as sources of the PLIC, whose gateways make levels of them.
pub(crate) fn describe_devices() -> MachineDevices {
    let host = platform::machine();
    let taken = host.owned().map(|owned| Taken {
        range: HostRange {
            space: DeviceSpace::Memory,
            first: owned.start as u64,
            size: owned.size as u64,
        },
        what: owned.what,
    });
    let irqs = (1..=host.plic_sources).map(|source| MachineIrq {
        number: source,
        trigger: IrqTrigger::Level,
        owner: host
            .is_console_source(source)
            .then_some("the hypervisor's console"),
    });
    MachineDevices {
        taken: taken.collect(),
        masters: Vec::new(),
        irqs: irqs.collect(),
        phys_bits: PHYS_BITS,
    }
}

/// A physical page number has 44 bits (privileged specification, "Sv39").
const PHYS_BITS: u32 = 56;

pub(crate) fn unused_cpus() -> usize {
    platform::machine().unused_harts
}

/// The interrupt stays pending until it is served, which the trap vector did as soon as the exit path let interrupts in.
pub(crate) fn serve_interrupt(_vector: usize) {}

/// By the firmware, which returns once each of these harts has done it; those that run no guests have nothing to forget.
pub(crate) fn flush_nested(pcpus: PcpuMask) {
    // A fence with an address would leave the tables on the way there cached, which are freed too.
    platform::irq::flush_nested_on(pcpus.0 & riscv_vcpu::enabled_pcpus());
}

/// By the firmware too.
pub(crate) fn forget_nested_here() {
    platform::irq::flush_nested_on(1 << Host::this_pcpu());
}

pub(crate) fn read_port(_: u16, _: AccessWidth) -> Option<u64> {
    None
}

pub(crate) fn write_port(_: u16, _: AccessWidth, _: u64) -> Option<()> {
    None
}
