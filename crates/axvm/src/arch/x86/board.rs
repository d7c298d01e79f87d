//! The main board of a PC: its devices, and how they are wired.
//!
//! The lines of the ISA bus lead to both the 8259s and the I/O APIC; both reach the local APICs, and
//! those the vCPUs, by letters. Registers that power the machine off or reset it take the VM down.

use alloc::{
    sync::{Arc, Weak},
    vec::Vec,
};

use axaddrspace::GuestPhysAddr;
use axdevice::{
    AcpiPm, ApicBus, AxVmDevices, AxVmDevicesBuilder, Clock, CmosRtc, CpuEvents, DebugPort,
    HostTrigger, I8042, InterruptController, IoApic, IrqLine, IsaLines, LocalApic, NoPci,
    PassedInterrupt, PassedPorts, Pic8259, Pit8254, SystemPower, Timed, TimerWidth,
};
use axvcpu::{ResetCause, SystemDownKind};
use axvmconfig::{ConfigError, DeviceModel, IrqTrigger, PassedIrq, X86_ACPI_PORTS, keys};

use super::super::{GuestDevices, serial_port};
use crate::{AxVMConfig, VmLink, X86Machine};

/// The letters in a vCPU's mailbox that events of its devices are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Letters {
    /// It is to look at its local APIC and its timers.
    pub(crate) notify: usize,
    /// A non-maskable interrupt.
    pub(crate) nmi: usize,
    /// It is to go down, and wait for a start-up IPI.
    pub(crate) init: usize,
}

/// A PC's devices.
pub(crate) struct Board {
    pub(crate) devices: GuestDevices,
    /// Each vCPU's part of them, by number.
    pub(crate) sockets: Vec<Socket>,
}

/// What a vCPU has of the board for itself.
pub(crate) struct Socket {
    pub(crate) local: Arc<LocalApic>,
    /// What it must wake in time.
    pub(crate) timed: Arc<[Arc<dyn Timed>]>,
}

impl Board {
    /// The devices of the VM that `config` describes and `link` leads to.
    pub(crate) fn new(
        config: &AxVMConfig<X86Machine>,
        link: Arc<dyn VmLink>,
        clock: Arc<dyn Clock>,
        letters: Letters,
    ) -> Result<Self, ConfigError> {
        let vm = &config.vm;
        let events: Arc<dyn CpuEvents> = Arc::new(Events {
            link: link.clone(),
            letters,
        });
        let power: Arc<dyn SystemPower> = Arc::new(Power(link));
        // The config has at most 64.
        let apics = ApicBus::new(vm.vcpus.len() as u32, clock.clone(), events.clone());
        let io_apic = IoApic::new("ioapic", apics.clone());
        let pic = Pic8259::new("pic", &apics);
        let isa = IsaLines::new(pic.clone(), io_apic.clone());

        let wire = isa.wire(IsaLines::TIMER);
        let pit = Arc::new(Pit8254::new("pit", wire, clock.clone(), events.clone()));
        let now_s = clock.now() / clock.frequency_hz().max(1);
        let epoch_s = config.machine.isa.epoch_s.saturating_add(now_s);
        let wire = isa.wire(IsaLines::RTC);
        let rtc = Arc::new(CmosRtc::new("rtc", wire, epoch_s, clock.clone(), events));
        let (wire, width) = (isa.wire(IsaLines::SCI), TimerWidth::Bits32);
        let pm = Arc::new(AcpiPm::new("acpi", wire, width, clock, power.clone()));
        let i8042 = Arc::new(I8042::new("i8042", power.clone()));
        let pci = Arc::new(NoPci::new("pci", power));
        let debug_port = Arc::new(DebugPort::new("port80"));
        let mut console = None;
        let serial: Vec<_> = vm
            .devices
            .iter()
            .map(|device| match device.model {
                DeviceModel::Ns16550 => {
                    let uart = serial_port(config, device, isa.wire(device.irq), &mut console);
                    (device, uart)
                }
            })
            .collect();

        let passed_ports: Vec<_> = vm
            .passed
            .iter()
            .filter_map(|device| {
                let (ports, host) = (device.ports?, config.host.clone());
                let device = PassedPorts::new(device.id.as_str(), ports.first, host);
                Some((ports, Arc::new(device)))
            })
            .collect();

        let shared = || {
            let bus = AxVmDevices::builder().mmio(IoApic::PAGE, IoApic::PAGE_SIZE, io_apic.clone());
            let bus = pic.put_on(bus);
            let bus = pit.put_on(bus);
            let bus = rtc.put_on(bus);
            let bus = bus.port(X86_ACPI_PORTS as u16, AcpiPm::PORTS, pm.clone());
            let bus = i8042.put_on(bus);
            let bus = pci.put_on(bus);
            let bus = debug_port.put_on(bus);
            let bus = passed_ports.iter().fold(bus, |bus, (ports, device)| {
                bus.port(ports.first, ports.count, device.clone())
            });
            serial.iter().fold(bus, |bus, (device, uart)| {
                // The config has them within 16 bits.
                bus.port(port(device.addr), device.size as u32, uart.clone())
            })
        };
        let build = |bus: AxVmDevicesBuilder| {
            let bus = bus.build();
            bus.map_err(|why| vm.error(keys::VIRTUAL, why))
        };
        let timers: [Arc<dyn Timed>; 2] = [pit.clone(), rtc.clone()];
        let (mut first, mut own_buses, mut sockets) = (None, Vec::new(), Vec::new());
        for cpu in 0..vm.vcpus.len() {
            let local = apics.local(cpu);
            let local = local.ok_or_else(|| vm.error(keys::CPU_NUM, "a vCPU has no local APIC"))?;
            let bus = build(local.put_on(shared()))?;
            match &first {
                None => first = Some(bus),
                Some(_) => own_buses.push(bus),
            }
            let own: Arc<dyn Timed> = local.clone();
            // Of those that every vCPU could keep, the first does.
            let kept = match cpu {
                0 => timers.as_slice(),
                _ => &[],
            };
            let timed = [own].into_iter().chain(kept.iter().cloned()).collect();
            sockets.push(Socket { local, timed });
        }
        let bus = first.ok_or_else(|| vm.error(keys::CPU_NUM, "there is no vCPU"))?;
        Ok(Self {
            devices: GuestDevices {
                bus,
                own_buses,
                console,
                passed: passed_interrupts(config, &isa, &io_apic),
            },
            sockets,
        })
    }
}

/// The machine's interrupts that the VM has. Edges go where those of the ISA bus go, levels to a pin of the I/O APIC alone: the 8259s tell
/// nobody when one has been served.
fn passed_interrupts(
    config: &AxVMConfig<X86Machine>,
    isa: &Arc<IsaLines>,
    io_apic: &Arc<IoApic>,
) -> Vec<Arc<PassedInterrupt>> {
    let irqs = config.vm.passed.iter().filter_map(|device| device.irq);
    let passed = irqs.map(|PassedIrq { host, guest }| {
        let (trigger, line) = match IrqTrigger::of_guest(config.vm.isa, guest) {
            IrqTrigger::Edge => (HostTrigger::Edge, isa.wire(guest)),
            IrqTrigger::Level => {
                let pins: Arc<dyn InterruptController> = io_apic.clone();
                (HostTrigger::Level, IrqLine::new(pins, guest))
            }
        };
        let interrupt = PassedInterrupt::new(host, trigger, config.host.clone(), line);
        let interrupt = Arc::new(interrupt);
        match trigger {
            HostTrigger::Edge => {}
            HostTrigger::Level => {
                let weak: Weak<PassedInterrupt> = Arc::downgrade(&interrupt);
                io_apic.on_served(guest, weak);
            }
        }
        interrupt
    });
    passed.collect()
}

/// The number of the port that a config calls an address.
fn port(addr: GuestPhysAddr) -> u16 {
    addr.as_u64() as u16
}

/// What the interrupt controllers and timers tell the vCPUs.
struct Events {
    link: Arc<dyn VmLink>,
    letters: Letters,
}

impl CpuEvents for Events {
    fn notify(&self, cpu: usize) {
        self.link.raise(cpu, self.letters.notify);
    }

    fn nmi(&self, cpu: usize) {
        self.link.raise(cpu, self.letters.nmi);
    }

    fn init(&self, cpu: usize) {
        self.link.stop(cpu, self.letters.init);
    }

    fn startup(&self, cpu: usize, page: u8) {
        self.link
            .start(cpu, GuestPhysAddr::new(u64::from(page) << 12));
    }
}

/// The registers that end the VM's life.
struct Power(Arc<dyn VmLink>);

impl SystemPower for Power {
    fn power_off(&self) {
        self.0.shut_down(SystemDownKind::PowerOff);
    }

    fn reset(&self) {
        self.0.shut_down(SystemDownKind::Reset(ResetCause::Asked));
    }
}

#[cfg(test)]
mod tests;
