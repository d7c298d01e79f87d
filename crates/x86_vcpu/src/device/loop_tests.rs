//! Accesses that devices answer without the vCPU leaving its loop.

use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use axvcpu::{AtHostInterrupt, AxArchVCpu};

use super::*;
use crate::{
    INIT, NOTIFY,
    deliver::alarm,
    machine,
    svm::script::{HOST_INTERRUPT, exits, is_over, then},
    testing::{ENTRY, World, set_now, timers_set},
};
use AccessWidth::Dword;

const HOST: AxVCpuExitReason = AxVCpuExitReason::ExternalInterrupt { vector: 0 };
const DEVICE: u64 = 0xfed0_0000;

/// Devices that read as 0x1234_5678, keep note of each access, and do something at each write.
#[derive(Default)]
struct Devices<'a> {
    seen: RefCell<Vec<(u64, Option<u64>)>>,
    at_write: Option<&'a dyn Fn()>,
    ends: Cell<bool>,
    stays: Cell<bool>,
}

impl Devices<'_> {
    fn read(&self, addr: u64) -> Option<u64> {
        self.seen.borrow_mut().push((addr, None));
        Some(0x1234_5678)
    }

    fn write(&self, addr: u64, data: u64) -> Option<()> {
        self.seen.borrow_mut().push((addr, Some(data)));
        if let Some(act) = self.at_write {
            act();
        }
        Some(())
    }

    fn take(&self) -> Vec<(u64, Option<u64>)> {
        self.seen.take()
    }
}

impl DeviceAccess for Devices<'_> {
    type Registers = axvcpu::NoDevices;

    fn mmio_read(&self, addr: GuestPhysAddr, _: AccessWidth) -> Option<u64> {
        self.read(addr.as_u64())
    }

    fn mmio_write(&self, addr: GuestPhysAddr, _: AccessWidth, data: u64) -> Option<()> {
        self.write(addr.as_u64(), data)
    }

    fn port_read(&self, port: u16, _: AccessWidth) -> Option<u64> {
        self.read(port.into()).filter(|_| port != 0xcfc)
    }

    fn port_write(&self, port: u16, _: AccessWidth, data: u64) -> Option<()> {
        self.write(port.into(), data)
    }

    fn sys_reg_read(&self, addr: u32) -> Option<u64> {
        self.read(addr.into())
    }

    fn sys_reg_write(&self, addr: u32, value: u64) -> Option<()> {
        self.write(addr.into(), value)
    }

    fn at_host_interrupt(&self) -> AtHostInterrupt {
        if self.stays.get() {
            AtHostInterrupt::Stay
        } else {
            AtHostInterrupt::Leave
        }
    }

    fn wants_exit(&self) -> bool {
        self.ends.get()
    }
}

fn run(world: &mut World, devices: &Devices<'_>) -> AxVCpuExitReason {
    let reason = world.vcpu.run(&world.mailbox, devices).unwrap();
    assert!(is_over());
    reason
}

#[test]
fn answered_accesses_do_not_leave() {
    let (mut world, devices) = (World::new(), Devices::default());
    // wrmsr
    world.ram.put(ENTRY + 4, &[0x0f, 0x30]);
    exits(0x7b, 0x0060_0041, ENTRY + 2);
    then(|guest| {
        assert_eq!(*guest.rax(), 0x1234_5678);
        guest.exits(0x7b, 0x0061_0010, ENTRY + 4);
    });
    then(|guest| {
        guest.registers.gpr[gpr::RCX] = 0x808;
        guest.registers.gpr[gpr::RDX] = 0;
        guest.exits(0x7c, 1, ENTRY + 6);
    });
    exits(HOST_INTERRUPT, 0, 0);
    assert_eq!(run(&mut world, &devices), HOST);
    let write = 0x1234_5678;
    assert_eq!(
        devices.take(),
        [(0x60, None), (0x61, Some(0x78)), (0x808, Some(write))]
    );
}

#[test]
fn an_exchange_is_two_accesses() {
    let (mut world, devices) = (World::new(), Devices::default());
    // xchg [rbx], eax
    world.ram.put(ENTRY, &[0x87, 0x03]);
    then(|guest| {
        guest.registers.gpr[gpr::RBX] = DEVICE;
        *guest.rax() = 0x55;
        guest.exits(0x400, 1 << 32 | 6, DEVICE);
    });
    then(|guest| {
        assert_eq!(*guest.rax(), 0x1234_5678);
        guest.exits(HOST_INTERRUPT, 0, 0);
    });
    assert_eq!(run(&mut world, &devices), HOST);
    assert_eq!(devices.take(), [(DEVICE, None), (DEVICE, Some(0x55))]);
}

#[test]
fn what_is_not_answered_leaves() {
    let (mut world, devices) = (World::new(), Devices::default());
    exits(0x7b, 0x0cfc_0041, ENTRY + 2);
    let expected = AxVCpuExitReason::IoRead {
        port: 0xcfc,
        width: Dword,
    };
    assert_eq!(run(&mut world, &devices), expected);
    world.vcpu.fault_access().unwrap();
    then(|guest| {
        assert_eq!(*guest.rax(), 0xffff_ffff);
        guest.exits(HOST_INTERRUPT, 0, 0);
    });
    assert_eq!(run(&mut world, &devices), HOST);
}

#[test]
fn a_write_that_ends_the_vm_leaves_once_it_is_done() {
    let (mut world, devices) = (World::new(), Devices::default());
    devices.ends.set(true);
    exits(0x7b, 0x0064_0010, ENTRY + 2);
    assert_eq!(run(&mut world, &devices), AxVCpuExitReason::Nothing);
    assert_eq!(devices.take(), [(0x64, Some(0))]);
    devices.ends.set(false);
    exits(HOST_INTERRUPT, 0, 0);
    assert_eq!(run(&mut world, &devices), HOST);
    assert_eq!(devices.take(), []);
    assert_eq!(world.vcpu.backend.get(Register::Rip), ENTRY + 2);
}

#[test]
fn what_a_write_did_to_its_own_vcpu_takes_effect_at_once() {
    let mut world = World::new();
    let timer = world.timer.clone();
    let World { vcpu, mailbox, .. } = &mut world;
    let program = || {
        timer
            .deadline
            .store(5000, core::sync::atomic::Ordering::SeqCst);
        mailbox.raise(NOTIFY);
    };
    let devices = Devices {
        at_write: Some(&program),
        ..Devices::default()
    };
    set_now(500);
    timers_set();
    exits(0x7b, 0x0040_0010, ENTRY + 2);
    exits(HOST_INTERRUPT, 0, 0);
    assert_eq!(vcpu.run(mailbox, &devices).unwrap(), HOST);
    assert_eq!(timers_set(), [alarm(5000)]);

    let init = || mailbox.raise(INIT);
    let devices = Devices {
        at_write: Some(&init),
        ..Devices::default()
    };
    exits(0x7b, 0x0040_0010, ENTRY + 4);
    let reason = vcpu.run(mailbox, &devices).unwrap();
    assert_eq!(reason, AxVCpuExitReason::CpuDown);
}

/// Each time an instruction is served that was seen before, it is the one that is there now: the guest may change its code, its tables, its mode.
#[test]
fn what_was_seen_before_is_looked_at_again() {
    const READ: (u64, u64) = (0x400, 1 << 32 | 4);
    let (mut world, devices) = (World::new(), Devices::default());
    let loads = |world: &mut World| {
        // Twice: what the first leaves behind serves the second.
        let mut loaded = Vec::new();
        for _ in 0..2 {
            then(move |guest| {
                guest.registers.gpr[gpr::RCX] = 0;
                guest.registers.gpr[gpr::RDX] = 0;
                *guest.rip() = ENTRY;
                guest.exits(READ.0, READ.1, DEVICE);
            });
            exits(HOST_INTERRUPT, 0, 0);
            assert_eq!(run(world, &devices), HOST);
            let registers = &world.vcpu.regs.gpr;
            loaded.push((registers[gpr::RCX], registers[gpr::RDX]));
            assert_eq!(world.vcpu.backend.get(Register::Rip), ENTRY + 2);
        }
        assert_eq!(loaded[0], loaded[1]);
        loaded[0]
    };
    let (in_ecx, in_edx) = ((0x1234_5678, 0), (0, 0x1234_5678));
    // mov ecx, [rbx]
    world.ram.put(ENTRY, &[0x8b, 0x0b]);
    assert_eq!(loads(&mut world), in_ecx);
    // mov edx, [rbx]
    world.ram.put(ENTRY, &[0x8b, 0x13]);
    assert_eq!(loads(&mut world), in_edx);
    // The page is another one, with the tables where they were.
    world.ram.put(0x1_0000, &[0x8b, 0x0b]);
    world.ram.put_u64(0x2000, 0x3007);
    world.ram.put_u64(0x3000, 0x4007);
    world.ram.put_u64(0x4000 + 8 * 8, 0x1_0007);
    assert_eq!(loads(&mut world), in_ecx);
    // And one more, of which only the last level knows.
    world.ram.put(0x2_0000, &[0x8b, 0x13]);
    world.ram.put_u64(0x4000 + 8 * 8, 0x2_0007);
    assert_eq!(loads(&mut world), in_edx);
    // A page that is not there raises a fault, whatever was seen in it.
    world.ram.put_u64(0x4000 + 8 * 8, 0);
    then(|guest| {
        *guest.rip() = ENTRY;
        guest.exits(READ.0, READ.1, DEVICE);
    });
    then(|guest| {
        assert_eq!(guest.injected(), 0x8000_0b0e);
        guest.exits(HOST_INTERRUPT, 0, 0);
    });
    devices.take();
    assert_eq!(run(&mut world, &devices), HOST);
    assert_eq!(devices.take(), []);
}

/// Where the pCPU is the vCPU's own, a host interrupt is served within the loop, and what it brought takes effect.
#[test]
fn a_host_interrupt_is_served_in_the_loop() {
    let mut world = World::new();
    let timer = world.timer.clone();
    timer
        .deadline
        .store(1000, core::sync::atomic::Ordering::SeqCst);
    let World { vcpu, mailbox, .. } = &mut world;
    let init = || mailbox.raise(INIT);
    let devices = Devices {
        at_write: Some(&init),
        stays: Cell::new(true),
        ..Devices::default()
    };
    set_now(500);
    then(|guest| {
        *guest.rflags() |= 1 << 9;
        // The timer's time has come.
        set_now(1000);
        guest.exits(HOST_INTERRUPT, 0, 0);
    });
    then(|guest| {
        assert_eq!(guest.injected(), 0x8000_00ec);
        guest.exits(HOST_INTERRUPT, 0, 0);
    });
    then(|guest| {
        assert_eq!(guest.injected(), 0);
        guest.exits(0x7b, 0x0064_0010, ENTRY + 2);
    });
    let before = machine::with(|m| m.interrupts_served);
    let reason = vcpu.run(mailbox, &devices).unwrap();
    assert_eq!(reason, AxVCpuExitReason::CpuDown);
    assert_eq!(machine::with(|m| m.interrupts_served), before + 2);
}
