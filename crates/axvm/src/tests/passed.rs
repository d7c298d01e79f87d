//! Devices of the machine: their registers in the VM's memory, and their interrupts from the host to the guest's controller.

use alloc::{format, string::ToString, sync::Arc, vec, vec::Vec};

use axaddrspace::{GuestPhysAddr, MappingFlags};
use axdevice::{AccessFault, Arrival, HostDevices, NotLed};
use axvcpu::{AccessWidth, AxVCpuExitReason as Exit, DEVICE_LETTER, LineLevel, SystemDownKind};
use spin::Mutex;

use crate::{
    AxVM, AxVMConfig, AxVMRef, VCpuNext, VmError,
    testing::{Event, Files, MEMORY, ScriptedCpu, TestConsole, TestHal, machine, vm_config, world},
};

const OFF: Exit = Exit::SystemDown {
    kind: SystemDownKind::PowerOff,
};

/// A host with interrupts 1 to 20: which are open, and where.
#[derive(Default)]
struct Host(Mutex<Vec<(u32, usize, Arrival)>>);

impl Host {
    fn open(&self) -> Vec<(u32, usize)> {
        let open = self.0.lock();
        open.iter().map(|&(irq, pcpu, _)| (irq, pcpu)).collect()
    }

    fn interrupt(&self, irq: u32) {
        let open = self.0.lock();
        let arrival = open.iter().find(|open| open.0 == irq);
        let arrival = arrival.map(|open| open.2.clone());
        drop(open);
        arrival.expect("it is open")();
    }
}

impl HostDevices for Host {
    fn open_interrupt(&self, irq: u32, pcpu: usize, arrival: Arrival) -> Result<(), NotLed> {
        if irq > 20 {
            return Err(NotLed { pcpu });
        }
        self.0.lock().push((irq, pcpu, arrival));
        Ok(())
    }

    fn interrupt_served(&self, _: u32) {}

    fn close_interrupt(&self, irq: u32) {
        self.0.lock().retain(|open| open.0 != irq);
    }

    fn read_port(&self, _: u16, _: AccessWidth) -> Result<u64, AccessFault> {
        Err(AccessFault)
    }

    fn write_port(&self, _: u16, _: AccessWidth, _: u64) -> Result<(), AccessFault> {
        Err(AccessFault)
    }
}

type Made<const W: usize> = Result<AxVMRef<TestHal<W>, ScriptedCpu<W>>, VmError>;

/// A VM with two vCPUs that has these interrupts, each of a device with a page of its own.
fn vm<const W: usize>(irqs: &[u32]) -> (Made<W>, Arc<Host>) {
    let devices = irqs.iter().map(|irq| {
        format!(
            "[[devices.passthrough]]\nid = \"d{irq}\"\naddr = {:#x}\nsize = 4096\nguest_addr = {:#x}\nirq = {irq}\ndma = \"none\"\n",
            0x7000_0000 + irq * 0x1000,
            0x2000_0000 + irq * 0x1000,
        )
    });
    let host = Arc::new(Host::default());
    let text: Vec<_> = [format!("{MEMORY}\n")].into_iter().chain(devices).collect();
    let config = AxVMConfig {
        vm: vm_config(2, &text.concat()),
        machine: Arc::new(machine("rv64imac_sstc")),
        images: Arc::new(Files(vec![("image", b"kernel".to_vec())])),
        console: Arc::new(TestConsole::new()),
        host: host.clone(),
    };
    (AxVM::new(config), host)
}

#[test]
fn registers_are_the_machines() {
    let (vm, _) = vm::<65>(&[3]);
    let vm = vm.unwrap();
    let mut memory = vm.memory.lock();
    let found = memory.translate(GuestPhysAddr::new(0x2000_3010)).unwrap();
    assert_eq!(found.hpa.as_u64(), 0x7000_3010);
    let flags = MappingFlags::READ | MappingFlags::WRITE | MappingFlags::DEVICE;
    assert_eq!(found.flags, flags);
    // The hypervisor never looks there, and nobody else's page is there.
    let mut byte = [0];
    assert!(
        memory
            .loader()
            .read(GuestPhysAddr::new(0x2000_3000), &mut byte)
            .is_err()
    );
    assert_eq!(memory.translate(GuestPhysAddr::new(0x2000_4000)), None);
}

#[test]
fn interrupts_come_while_the_vm_runs() {
    let (vm, host) = vm::<66>(&[3, 7]);
    let vm = vm.unwrap();
    let world = world::<66>();
    assert_eq!(host.open(), []);
    vm.boot().unwrap();
    // At the pCPU of vCPU 0.
    assert_eq!(host.open(), [(3, 1), (7, 1)]);
    // One comes before the vCPU has started, which throws letters away.
    host.interrupt(3);
    let arrives = host.clone();
    world.then(0, move |mailbox| {
        // The first was delivered at the start, and its letter may be there.
        mailbox.take_device_letter();
        arrives.interrupt(7);
        assert!(mailbox.take_device_letter());
        Exit::DeviceInterrupt
    });
    world.exits(0, &[OFF]);
    let _ = world.take_events(0);
    crate::testing::run_on(1);
    assert_eq!(vm.drive(0), VCpuNext::VmDown(SystemDownKind::PowerOff));
    let events = world.take_events(0);
    let lines: Vec<_> = events
        .into_iter()
        .filter(|event| matches!(event, Event::Line(..)))
        .collect();
    assert_eq!(
        lines,
        [
            Event::Line(3, LineLevel::High),
            Event::Line(7, LineLevel::High)
        ]
    );
    // The last task that leaves closes them.
    assert_eq!(host.open(), [(3, 1), (7, 1)]);
    crate::testing::run_on(2);
    assert_eq!(vm.drive(1), VCpuNext::VmDown(SystemDownKind::PowerOff));
    assert_eq!(host.open(), []);
    // And the next life opens them anew.
    vm.boot().unwrap();
    assert_eq!(host.open(), [(3, 1), (7, 1)]);
    vm.shutdown(SystemDownKind::PowerOff);
    for id in 0..2 {
        crate::testing::run_on(id + 1);
        assert_eq!(vm.drive(id), VCpuNext::VmDown(SystemDownKind::PowerOff));
    }
    assert_eq!(host.open(), []);
}

#[test]
fn what_the_machine_has_not_stops_the_start() {
    let (vm, host) = vm::<67>(&[3, 21]);
    let vm = vm.unwrap();
    let error = vm.boot().unwrap_err().to_string();
    assert!(
        error.contains(
            "devices.passthrough[1].irq: the machine's interrupt controller cannot lead it to pCPU 1, where vCPU 0 is"
        ),
        "{error}"
    );
    assert_eq!(host.open(), []);
    assert!(!vm.running());
}

/// A vCPU that waits wakes for it.
#[test]
fn a_letter_ends_a_wait() {
    let (vm, host) = vm::<68>(&[3]);
    let vm = vm.unwrap();
    vm.boot().unwrap();
    world::<68>().exits(0, &[Exit::Halt, OFF]);
    crate::testing::run_on(1);
    assert!(matches!(vm.drive(0), VCpuNext::Wait { .. }));
    assert!(!vm.vcpu_should_wake(0));
    host.interrupt(3);
    assert!(vm.vcpu_should_wake(0));
    vm.shutdown(SystemDownKind::PowerOff);
    assert_eq!(DEVICE_LETTER, 61, "below the letters of fences");
}

/// What has come is vCPU 0's to deliver, and nobody does it at another's start.
#[test]
fn no_other_vcpu_delivers() {
    let (vm, host) = vm::<64>(&[3]);
    let vm = vm.unwrap();
    let world = world::<64>();
    vm.boot().unwrap();
    let start = Exit::CpuUp {
        target_cpu: 1,
        entry_point: GuestPhysAddr::new(0x8000_0000),
        arg: 0,
    };
    world.exits(0, &[start, Exit::Halt, Exit::DeviceInterrupt, OFF]);
    world.exits(1, &[Exit::Halt]);
    let delivered = || {
        let events = world.take_events(0);
        events.contains(&Event::Line(3, LineLevel::High))
    };
    crate::testing::run_on(1);
    assert!(matches!(vm.drive(0), VCpuNext::Wait { .. }));
    host.interrupt(3);
    crate::testing::run_on(2);
    assert!(matches!(vm.drive(1), VCpuNext::Wait { .. }));
    assert!(!delivered());
    crate::testing::run_on(1);
    assert_eq!(vm.drive(0), VCpuNext::VmDown(SystemDownKind::PowerOff));
    assert!(delivered());
}
