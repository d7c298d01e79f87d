//! Accesses to ports at devices that a vCPU keeps at hand: they are the same as at devices that are looked for each time.

extern crate std;

use alloc::{rc::Rc, sync::Arc, vec::Vec};
use core::cell::RefCell;
use std::sync::Mutex;

use axdevice::{AccessFault, AxVmDevices, Device};
use axvcpu::AxArchVCpu;
use proptest::prelude::*;

use super::*;
use crate::{
    regs::rflags,
    svm::script::{HOST_INTERRUPT, is_over, then},
    testing::{ENTRY, World},
};

/// Answers each read with another value, refuses offset 3, and keeps note of all that is asked.
#[derive(Default)]
struct Probe {
    seen: Mutex<Vec<(u64, AccessWidth, Option<u64>)>>,
}

impl Probe {
    fn note(&self, offset: u64, width: AccessWidth, data: Option<u64>) -> Result<u64, AccessFault> {
        let mut seen = self.seen.lock().unwrap();
        if offset & 7 == 3 {
            return Err(AccessFault);
        }
        seen.push((offset, width, data));
        Ok(0x1122_3344_5566_7788_u64.rotate_left(8 * seen.len() as u32))
    }
}

impl Device for Probe {
    fn name(&self) -> &str {
        "probe"
    }

    fn read(&self, offset: u64, width: AccessWidth) -> Result<u64, AccessFault> {
        self.note(offset, width, None)
    }

    fn write(&self, offset: u64, width: AccessWidth, data: u64) -> Result<(), AccessFault> {
        self.note(offset, width, Some(data)).map(|_| ())
    }

    fn reset(&self) {}
}

/// Whether the vCPU may keep a device at hand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Windows {
    Open,
    Shut,
}

struct Devices {
    bus: AxVmDevices,
    windows: Windows,
}

impl DeviceAccess for Devices {
    type Registers = dyn Device;

    fn port_window(&self, port: u16, width: AccessWidth) -> Option<PortWindow<'_, dyn Device>> {
        match self.windows {
            Windows::Open => self.bus.port_window(port, width),
            Windows::Shut => None,
        }
    }

    fn mmio_read(&self, _: GuestPhysAddr, _: AccessWidth) -> Option<u64> {
        None
    }

    fn mmio_write(&self, _: GuestPhysAddr, _: AccessWidth, _: u64) -> Option<()> {
        None
    }

    fn port_read(&self, port: u16, width: AccessWidth) -> Option<u64> {
        Some(self.bus.handle_port_read(port, width).unwrap_or(u64::MAX))
    }

    fn port_write(&self, port: u16, width: AccessWidth, data: u64) -> Option<()> {
        let _ = self.bus.handle_port_write(port, width, data);
        Some(())
    }
}

#[derive(Clone, Copy, Debug)]
struct Access {
    port: u16,
    size: u64,
    reads: bool,
    rax: u64,
    /// Whether the guest steps through its code.
    steps: bool,
}

fn accesses() -> impl Strategy<Value = Vec<Access>> {
    let access = (
        0x3f0..0x410u16,
        0..3u32,
        any::<bool>(),
        any::<u64>(),
        prop::bool::weighted(0.1),
    );
    let access = access.prop_map(|(port, size, reads, rax, steps)| Access {
        port,
        size: 1 << (4 + size),
        reads,
        rax,
        steps,
    });
    prop::collection::vec(access, 1..40)
}

/// What the guest and the devices have seen of `accesses`: RAX, RIP and what was injected after each, and each device's part.
fn seen_of(accesses: &[Access], windows: Windows) -> impl PartialEq + core::fmt::Debug {
    let probes = [(); 3].map(|()| Arc::new(Probe::default()));
    let [serial, system, far] = probes.clone();
    let bus = AxVmDevices::builder()
        .port(0x3f8, 8, serial)
        .port_by_number(0x400, 2, system)
        .port(0x406, 6, far)
        .build()
        .unwrap();
    let (mut world, devices) = (World::new(), Devices { bus, windows });
    let states = Rc::new(RefCell::new(Vec::new()));
    for &access in accesses {
        let states = states.clone();
        then(move |guest| {
            let state = (*guest.rax(), *guest.rip(), guest.injected());
            states.borrow_mut().push(state);
            *guest.rip() = ENTRY;
            *guest.rax() = access.rax;
            *guest.rflags() = rflags::ALWAYS | if access.steps { rflags::TRAP } else { 0 };
            let info = u64::from(access.port) << 16 | access.size | u64::from(access.reads);
            guest.exits(0x7b, info, ENTRY + 1 + u64::from(access.size == 0x20));
        });
    }
    let last = states.clone();
    then(move |guest| {
        let state = (*guest.rax(), *guest.rip(), guest.injected());
        last.borrow_mut().push(state);
        guest.exits(HOST_INTERRUPT, 0, 0);
    });
    let exit = world.vcpu.run(&world.mailbox, &devices).unwrap();
    assert_eq!(exit, AxVCpuExitReason::ExternalInterrupt { vector: 0 });
    assert!(is_over());
    let counts =
        [ExitKind::PortRead, ExitKind::PortWrite].map(|kind| world.vcpu.account().exits_of(kind));
    let at_devices = probes.map(|probe| probe.seen.lock().unwrap().clone());
    (states.take(), counts, at_devices)
}

proptest! {
    #[test]
    fn a_device_at_hand_is_the_one_that_a_lookup_finds(accesses in accesses()) {
        let kept = seen_of(&accesses, Windows::Open);
        prop_assert_eq!(kept, seen_of(&accesses, Windows::Shut));
    }
}
