//! This image's architecture, named once.

use alloc::{string::String, vec::Vec};

use axaddrspace::NestedMode;
use axerrno::AxResult;
use axplat_riscv64::machine;
use axvcpu::{AxArchPerCpu, AxVCpuHal};
use axvm::{IsaInfo, RiscvMachine};
use axvmconfig::Isa;
use riscv_vcpu::MachineIds;

use crate::host::{self, Host};

/// One vCPU's hardware side.
pub(crate) type VCpu = riscv_vcpu::RISCVVCpu<Host>;
/// One pCPU's virtualization state.
pub(crate) type PerCpu = riscv_vcpu::RISCVPerCpu<Host>;
/// The instruction set, as configs know it.
pub(crate) const ISA: Isa = Isa::Riscv64;

/// The machine, as VMs see it.
pub(crate) type Machine = axvm::Machine<RiscvMachine>;

/// What VMs are told about the machine; `None` if its CPUs cannot run guests.
pub(crate) fn describe_machine() -> Option<Machine> {
    let host = machine();
    let [cbom_block_size, cboz_block_size] = host.cache_blocks;
    Some(Machine {
        timebase_hz: host.timebase_hz,
        nested_mode: PerCpu::best_mode()?,
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

/// How many bits a guest-physical address has.
pub(crate) const fn guest_phys_bits(mode: NestedMode) -> u32 {
    mode.gpa_bits()
}

/// The nested translation's name in the privileged specification.
pub(crate) const fn nested_mode_name(mode: NestedMode) -> &'static str {
    mode.name()
}

/// Lets guests run on the current pCPU, if they cannot yet.
pub(crate) fn enable_this_pcpu() -> AxResult {
    let mut pcpu = PerCpu::new(Host::this_pcpu())?;
    if pcpu.is_enabled() {
        Ok(())
    } else {
        pcpu.hardware_enable()
    }
}
