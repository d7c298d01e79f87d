//! x86_64 with Intel's VMX or AMD's SVM, whichever the CPUs have.

use alloc::format;

use axaddrspace::PcpuMask;
use axvcpu::{AccessWidth, AxVCpuHal};
use axvm::{Machine, X86Machine};
use axvmconfig::{
    DeviceSpace, HostRange, IrqTrigger, Isa, MachineDevices, MachineIrq, Master, Taken,
};
use x86_vcpu::Unfit;

use crate::{
    host::{self, Host},
    housekeeping::Housekeeping,
};

pub(crate) use axplat_x86_64 as platform;

pub(crate) type VCpu = x86_vcpu::X86VCpu<Host>;
pub(crate) type PerCpu = x86_vcpu::X86PerCpu<Host>;
pub(crate) type MachineInfo = X86Machine;
pub(crate) const ISA: Isa = Isa::X86_64;

pub(crate) fn describe_machine(house: &Housekeeping) -> Result<Machine<MachineInfo>, Unfit> {
    let found = platform::machine();
    let isa = X86Machine {
        epoch_s: found.epoch_s,
        ..X86Machine::default()
    };
    let isa = isa.with_options(found.bootargs, |option, rule| {
        house.error(&format!("boot option {option:?}: must be {rule}; ignored"));
    });
    Ok(Machine {
        timebase_hz: found.timebase_hz,
        nested_mode: PerCpu::best_mode()?,
        pcpus: host::pcpu_count(),
        isa,
    })
}

pub(crate) fn describe_devices() -> MachineDevices {
    use platform::{Owned, Space};
    let host = platform::machine();
    let range = |owned: &Owned| HostRange {
        space: match owned.space {
            Space::Memory => DeviceSpace::Memory,
            Space::Ports => DeviceSpace::Ports,
        },
        first: owned.start as u64,
        size: owned.size as u64,
    };
    let taken = host.owned().map(|owned| Taken {
        range: range(&owned),
        what: owned.what,
    });
    let masters = host.masters().map(|master| Master {
        range: range(&master),
        what: master.what,
        how: "stores what its driver chooses where its driver chooses, for an interrupt",
    });
    let irqs = host.inputs().map(|input| MachineIrq {
        number: input.gsi,
        trigger: if input.is_level {
            IrqTrigger::Level
        } else {
            IrqTrigger::Edge
        },
        owner: input.is_own.then_some("the hypervisor's console"),
    });
    MachineDevices {
        taken: taken.collect(),
        masters: masters.collect(),
        irqs: irqs.collect(),
        phys_bits: platform::phys_bits(),
    }
}

/// The platform has said it by itself.
pub(crate) fn unused_cpus() -> usize {
    0
}

/// The interrupt stays pending until it is served, which the host's own vectors did as soon as the exit path let interrupts in.
pub(crate) fn serve_interrupt(_vector: usize) {}

/// Before it next runs a guest.
pub(crate) fn forget_nested_here() {
    x86_vcpu::forget_nested(Host::this_pcpu());
}

/// Each of these pCPUs forgets before it next runs a guest; those in a guest are taken out of it first.
pub(crate) fn flush_nested(pcpus: PcpuMask) {
    (0..host::pcpu_count())
        .filter(|&pcpu| pcpus.contains(pcpu))
        .for_each(x86_vcpu::forget_nested);
    platform::irq::run_on(pcpus.0, || ());
}

pub(crate) fn read_port(port: u16, width: AccessWidth) -> Option<u64> {
    use platform::port::{read_byte, read_dword, read_word};
    match width {
        AccessWidth::Byte => Some(read_byte(port).into()),
        AccessWidth::Word => Some(read_word(port).into()),
        AccessWidth::Dword => Some(read_dword(port).into()),
        AccessWidth::Qword => None,
    }
}

pub(crate) fn write_port(port: u16, width: AccessWidth, data: u64) -> Option<()> {
    use platform::port::{write_byte, write_dword, write_word};
    match width {
        AccessWidth::Byte => write_byte(port, data as u8),
        AccessWidth::Word => write_word(port, data as u16),
        AccessWidth::Dword => write_dword(port, data as u32),
        AccessWidth::Qword => return None,
    }
    Some(())
}
