//! x86 VMs: PCs with vCPUs on VMX or SVM.

mod board;

use alloc::sync::Arc;
use core::{marker::PhantomData, ops::Range};

use axaddrspace::{GuestPhysAddr, RamPage};
use axdevice::{Clock, Keeps, LocalApic};
use axvcpu::AxVCpuHal;
use axvmconfig::{ConfigError, Sharing, keys};
use x86_vcpu::{
    GuestBytes, HltPolicy, INIT, LocalApicHardware, NMI, NOTIFY, X86PerCpu, X86Start, X86VCpu,
    X86VCpuConfig,
};

use super::{BootState, GuestArch, Parts};
use crate::{
    AxVCpuConfig, AxVMConfig, GuestRam, GuestRange, VmLink, X86Machine,
    boot::pc::{self, StartMode},
};
use board::{Board, Letters};

const LETTERS: Letters = Letters {
    notify: NOTIFY,
    nmi: NMI,
    init: INIT,
};

impl<H: AxVCpuHal> GuestArch for X86VCpu<H> {
    type MachineInfo = X86Machine;

    fn parts(
        config: &AxVMConfig<X86Machine>,
        ram: &[GuestRange],
        vm: Arc<dyn VmLink>,
    ) -> Result<Parts<X86VCpuConfig>, ConfigError> {
        let machine = &config.machine;
        let clock = Arc::new(HostClock::<H> {
            hz: machine.timebase_hz,
            host: PhantomData,
        });
        let Board { devices, sockets } = Board::new(config, vm.clone(), clock, LETTERS)?;
        let keeps = machine.isa.local_apic.of(X86PerCpu::<H>::local_apic());
        let stand_in = || {
            let stand_in = vm.stand_in(LocalApic::PAGE);
            stand_in.map_err(|why| config.vm.error(keys::MEMORY_REGIONS, why))
        };
        let local_hardware = match keeps {
            None => LocalApicHardware::Nothing,
            Some(Keeps::TaskPriority) => LocalApicHardware::TaskPriority,
            Some(Keeps::Registers) => LocalApicHardware::Registers {
                stand_in: stand_in()?,
            },
            Some(Keeps::Everything) => LocalApicHardware::Everything {
                stand_in: stand_in()?,
            },
        };
        let ram: Arc<[Range<GuestPhysAddr>]> =
            ram.iter().map(|range| range.start()..range.end()).collect();
        let memory: Arc<dyn GuestBytes> = Arc::new(Memory(vm));
        let placements = config.vm.vcpus.iter();
        let vcpus = placements.zip(sockets).map(|(placement, socket)| {
            let sharing = placement.sharing_on(machine.pcpus);
            let hlt = match sharing {
                Sharing::Dedicated => HltPolicy::Untrapped,
                Sharing::Shared => HltPolicy::Exit,
            };
            X86VCpuConfig {
                vcpu_count: config.vm.vcpus.len(),
                tsc_hz: machine.timebase_hz,
                nested_mode: machine.nested_mode,
                hlt,
                longest_turn: machine.isa.longest_turn(machine.timebase_hz),
                sharing,
                ram: ram.clone(),
                local: socket.local,
                local_hardware,
                timed: socket.timed,
                memory: memory.clone(),
            }
        });
        Ok(Parts {
            devices,
            vcpus: vcpus.collect(),
        })
    }

    fn parked() -> X86Start {
        X86Start::Parked
    }

    fn load(
        config: &AxVMConfig<X86Machine>,
        ram: &[GuestRange],
        memory: &mut dyn GuestRam,
    ) -> Result<BootState<X86Start>, ConfigError> {
        load_x86(config, ram, memory)
    }
}

/// Puts into RAM what an x86 VM finds there when it starts. This asks nothing of the host, so that
/// others than [`AxVM`](crate::AxVM) can start the same VM.
///
/// # Errors
/// Those of [`GuestArch::load`]; also a start at or above 4 GiB, and a ramdisk or a command line that
/// the kernel's boot protocol cannot tell of.
pub fn load_x86(
    config: &AxVMConfig<X86Machine>,
    ram: &[GuestRange],
    memory: &mut dyn GuestRam,
) -> Result<BootState<X86Start>, ConfigError> {
    let start = pc::load(config, ram, memory)?;
    let (rip, info) = (start.entry.as_u64(), start.info);
    let setup = match start.mode {
        StartMode::Long { cr3 } => X86Start::Long64 {
            rip,
            rsi: info,
            cr3,
        },
        // The loader has both below 4 GiB.
        StartMode::Protected { magic } => X86Start::Protected32 {
            eip: rip as u32,
            ebx: info as u32,
            eax: magic,
        },
    };
    Ok(BootState {
        entries: AxVCpuConfig {
            bsp_entry: start.entry,
            // They wait for a start-up IPI to say where.
            ap_entry: GuestPhysAddr::new(0),
        },
        arg: info,
        setup,
    })
}

/// The host's counter, which is the guest's time stamp counter too.
struct HostClock<H> {
    hz: u64,
    host: PhantomData<fn() -> H>,
}

impl<H: AxVCpuHal> Clock for HostClock<H> {
    fn now(&self) -> u64 {
        H::now()
    }

    fn frequency_hz(&self) -> u64 {
        self.hz.max(1)
    }
}

/// The VM's RAM, as its vCPUs read it.
struct Memory(Arc<dyn VmLink>);

impl GuestBytes for Memory {
    fn read(&self, gpa: GuestPhysAddr, buf: &mut [u8]) -> bool {
        self.0.read_ram(gpa, buf)
    }

    fn write(&self, gpa: GuestPhysAddr, bytes: &[u8]) -> bool {
        self.0.write_ram(gpa, bytes)
    }

    fn page(&self, gpa: GuestPhysAddr) -> Option<RamPage> {
        self.0.ram_page(gpa)
    }
}

#[cfg(test)]
mod tests;
