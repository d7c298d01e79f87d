//! x86_64 with Intel's VMX or AMD's SVM, whichever the CPUs have.

use alloc::format;

use axaddrspace::PcpuMask;
use axvcpu::AxVCpuHal;
use axvm::{Machine, X86Machine};
use axvmconfig::Isa;
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
