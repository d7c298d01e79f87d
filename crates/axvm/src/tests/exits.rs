//! Every exit reason, and every way out of the loop.

use alloc::{string::ToString, vec::Vec};
use core::sync::atomic::Ordering;

use axaddrspace::{GuestPhysAddr, MappingFlags};
use axvcpu::{
    AccessWidth, AxVCpuExitReason as Exit, FailReason, HypercallError, RawExit, ResetCause,
    SystemDownKind, VCpuError, VCpuState,
};

use crate::{
    VmErrorCause,
    testing::{
        DEVICE, DEVICE_HOLE, DEVICE_VALUE, Event, Failure, LAZY, RAM, booted, try_vm, world,
    },
};

const RAW: RawExit = RawExit {
    reason: 99,
    info1: 1,
    info2: 2,
    pc: 3,
};

fn at(addr: u64) -> GuestPhysAddr {
    GuestPhysAddr::new(addr)
}

fn fault(addr: u64, access_flags: MappingFlags) -> Exit {
    Exit::NestedPageFault {
        addr: at(addr),
        access_flags,
    }
}

/// What the loop does on `exit`: all between its run and the next, in which the guest powers off.
fn served<const W: usize>(exit: Exit) -> Vec<Event> {
    let (vm, _) = booted::<W>(1);
    let world = world::<W>();
    world.exits(
        0,
        &[
            exit,
            Exit::SystemDown {
                kind: SystemDownKind::PowerOff,
            },
        ],
    );
    let last = vm.run_vcpu(0).unwrap();
    assert_eq!(
        last,
        Exit::SystemDown {
            kind: SystemDownKind::PowerOff
        }
    );
    let events = world.take_events(0);
    let (first, rest) = events.split_at(2);
    assert_eq!(first, [Event::Bind, Event::Run]);
    let (between, last) = rest.split_at(rest.len() - 2);
    assert_eq!(last, [Event::Run, Event::Unbind]);
    assert_eq!(vm.vcpu(0).unwrap().state(), VCpuState::Free);
    between.to_vec()
}

#[test]
fn nothing_goes_round_again() {
    assert_eq!(served::<1>(Exit::Nothing), []);
}

#[test]
fn device_memory_goes_to_the_bus() {
    let width = AccessWidth::Byte;
    let read = |addr| Exit::MmioRead {
        addr: at(addr),
        width,
    };
    let write = |addr| Exit::MmioWrite {
        addr: at(addr),
        width,
        data: 7,
    };
    assert_eq!(
        served::<0>(read(DEVICE + 2)),
        [Event::Read(DEVICE_VALUE + 2)]
    );
    assert_eq!(served::<0>(write(DEVICE + 2)), [Event::DeviceWrite(2, 7)]);
    for nobody in [DEVICE + DEVICE_HOLE, DEVICE + 0x100, 0, u64::MAX] {
        assert_eq!(served::<0>(read(nobody)), [Event::Fault]);
        assert_eq!(served::<0>(write(nobody)), [Event::Fault]);
    }
}

#[test]
fn ports_go_to_the_bus() {
    let width = AccessWidth::Byte;
    let (read, write) = (
        |port| Exit::IoRead { port, width },
        |port| Exit::IoWrite {
            port,
            width,
            data: 7,
        },
    );
    assert_eq!(served::<2>(read(0x61)), [Event::Read(DEVICE_VALUE + 1)]);
    assert_eq!(served::<2>(write(0x61)), [Event::DeviceWrite(1, 7)]);
    for nobody in [0, 0x68, u16::MAX] {
        assert_eq!(served::<2>(read(nobody)), [Event::Fault]);
        assert_eq!(served::<2>(write(nobody)), [Event::Fault]);
    }
}

#[test]
fn system_registers_go_to_the_bus() {
    assert_eq!(
        served::<3>(Exit::SysRegRead { addr: 0x801 }),
        [Event::Read(DEVICE_VALUE + 1)]
    );
    let write = |addr| Exit::SysRegWrite { addr, value: 7 };
    assert_eq!(served::<3>(write(0x801)), [Event::DeviceWrite(1, 7)]);
    for nobody in [0, 0x808, u32::MAX] {
        assert_eq!(
            served::<3>(Exit::SysRegRead { addr: nobody }),
            [Event::Fault]
        );
        assert_eq!(served::<3>(write(nobody)), [Event::Fault]);
    }
}

#[test]
fn nested_faults_fill_lazy_ram_or_come_back_to_the_guest() {
    assert_eq!(served::<4>(fault(LAZY, MappingFlags::WRITE)), []);
    assert_eq!(
        served::<4>(fault(RAM, MappingFlags::READ)),
        [Event::ForgetNested],
        "another vCPU was faster: what this pCPU remembers goes, and no other is disturbed"
    );
    for outside in [0, LAZY + 0x1_0000, u64::MAX] {
        assert_eq!(
            served::<4>(fault(outside, MappingFlags::READ)),
            [Event::Fault]
        );
    }
    let (vm, _) = booted::<4>(1);
    let before = vm.memory_usage().ram_bytes;
    world::<4>().exits(0, &[fault(LAZY, MappingFlags::READ), Exit::Halt]);
    assert_eq!(vm.run_vcpu(0).unwrap(), Exit::Halt);
    assert_eq!(vm.memory_usage().ram_bytes, before + 0x1000);
}

#[test]
fn a_region_that_forbids_the_access_faults() {
    let text = "memory_regions = [{ gpa = 0x8000_0000, size = \"64KiB\", flags = 3 }]";
    let (vm, _) = try_vm::<5>(1, text).unwrap();
    vm.boot().unwrap();
    world::<5>().exits(0, &[fault(RAM, MappingFlags::EXECUTE), Exit::Halt]);
    let _ = world::<5>().take_events(0);
    assert_eq!(vm.run_vcpu(0).unwrap(), Exit::Halt);
    assert!(world::<5>().take_events(0).contains(&Event::Fault));
}

#[test]
fn no_memory_on_first_touch_stops_the_vm_with_a_word_why() {
    let (vm, _) = booted::<6>(1);
    let world = world::<6>();
    world.frames_left.store(0, Ordering::SeqCst);
    world.exits(0, &[fault(LAZY, MappingFlags::READ)]);
    match vm.run_vcpu(0).unwrap() {
        Exit::FailEntry { reason } => {
            assert!(reason.what.contains("no memory"), "{}", reason.what);
            assert_eq!((reason.raw.info1, reason.raw.pc), (LAZY, 0x1234));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(vm.vcpu(0).unwrap().state(), VCpuState::Free);
}

#[test]
fn host_interrupts_are_served_by_the_host() {
    assert_eq!(
        served::<7>(Exit::ExternalInterrupt { vector: 5 }),
        [Event::HostIrq(5)]
    );
}

/// Not at any interrupt: a turn that has only just begun goes on.
#[test]
fn other_tasks_run_while_the_vcpu_is_bound_nowhere() {
    let (vm, _) = booted::<8>(1);
    let world = world::<8>();
    let interrupt = Exit::ExternalInterrupt { vector: 5 };
    world.wants_reschedule.store(true, Ordering::SeqCst);
    world.exits(0, &[interrupt]);
    world.then(0, move |_| {
        world.turn_is_over.store(true, Ordering::SeqCst);
        interrupt
    });
    world.exits(0, &[Exit::Halt]);
    assert_eq!(vm.run_vcpu(0), Ok(Exit::Halt));
    assert_eq!(
        world.take_events(0),
        [
            Event::Bind,
            Event::Run,
            Event::HostIrq(5),
            Event::Run,
            Event::HostIrq(5),
            Event::Unbind,
            Event::Reschedule,
            Event::Bind,
            Event::Run,
            Event::Unbind,
        ]
    );
}

#[test]
fn what_the_vm_does_not_decide_is_returned_unbound() {
    let (vm, _) = booted::<9>(1);
    let world = world::<9>();
    let reason = FailReason {
        what: "broken",
        raw: RAW,
    };
    for exit in [
        Exit::Hypercall {
            nr: 1,
            args: [0; 6],
        },
        Exit::CpuDown,
        Exit::Halt,
        Exit::SystemDown {
            kind: SystemDownKind::Reset(ResetCause::Asked),
        },
        Exit::FailEntry { reason },
        Exit::Unknown(RAW),
    ] {
        world.exits(0, &[exit]);
        assert_eq!(vm.run_vcpu(0), Ok(exit));
        assert_eq!(
            world.take_events(0),
            [Event::Bind, Event::Run, Event::Unbind],
            "{exit:?}"
        );
    }
}

#[test]
fn a_vm_that_goes_down_runs_no_guest() {
    let (vm, _) = booted::<10>(1);
    vm.shutdown(SystemDownKind::Reset(ResetCause::Asked));
    vm.shutdown(SystemDownKind::Crash);
    assert_eq!(
        vm.shutting_down(),
        Some(SystemDownKind::Reset(ResetCause::Asked)),
        "the first word counts"
    );
    assert_eq!(
        vm.run_vcpu(0),
        Ok(Exit::SystemDown {
            kind: SystemDownKind::Reset(ResetCause::Asked)
        })
    );
    assert_eq!(world::<10>().take_events(0), [Event::Bind, Event::Unbind]);
}

#[test]
fn a_vcpu_that_does_not_exist_does_not_run() {
    let (vm, _) = booted::<11>(2);
    for id in [2, usize::MAX] {
        let error = vm.run_vcpu(id).unwrap_err();
        assert_eq!(error.cause, VmErrorCause::NoSuchVCpu(id));
        assert!(vm.inject_interrupt_to_vcpu(id, 1).is_err());
        assert!(vm.vcpu(id).is_none());
    }
    assert_eq!(
        vm.run_vcpu(7).unwrap_err().to_string(),
        "vm \"linux\": there is no vCPU 7"
    );
}

#[test]
fn a_failure_leaves_the_vcpu_invalid_and_says_what_failed() {
    for failure in [
        Failure::Bind,
        Failure::Run,
        Failure::FinishRead,
        Failure::Unbind,
    ] {
        let (vm, _) = booted::<12>(1);
        let world = world::<12>();
        world.exits(
            0,
            &[
                Exit::MmioRead {
                    addr: at(DEVICE),
                    width: AccessWidth::Byte,
                },
                Exit::Halt,
            ],
        );
        world.fail.lock().unwrap().push(failure);
        let error = vm.run_vcpu(0).unwrap_err();
        let operation = match error.cause {
            VmErrorCause::VCpu {
                vcpu: 0,
                error: VCpuError::Failed { operation, .. },
            } => operation,
            other => panic!("{other:?}"),
        };
        let expected = match failure {
            Failure::Bind => "bind",
            Failure::Run => "run",
            Failure::FinishRead => "manipulate_arch_vcpu",
            Failure::Unbind => "unbind",
            Failure::NewVCpu(_) | Failure::Devices | Failure::Load => unreachable!(),
        };
        assert_eq!(operation, expected);
        let vcpu = vm.vcpu(0).unwrap().clone();
        assert_eq!((vcpu.state(), vcpu.pcpu()), (VCpuState::Invalid, None));
        drop((vm, vcpu));
        world.fail.lock().unwrap().clear();
        world.clear_scripts();
        let left = world.take_events(0).contains(&Event::Unbind);
        let bound = matches!(failure, Failure::Run | Failure::FinishRead);
        assert_eq!(left, bound, "what was bound leaves the hardware");
    }
}

#[test]
fn a_vcpu_that_runs_elsewhere_is_busy_and_goes_on() {
    let (vm, _) = booted::<13>(1);
    let world = world::<13>();
    let inner = vm.clone();
    world.then(0, move |_| {
        let error = inner.run_vcpu(0).unwrap_err();
        assert_eq!(
            error.cause,
            VmErrorCause::VCpu {
                vcpu: 0,
                error: VCpuError::Busy
            }
        );
        Exit::Halt
    });
    assert_eq!(vm.run_vcpu(0), Ok(Exit::Halt));
    assert_eq!(vm.vcpu(0).unwrap().state(), VCpuState::Free);
}

#[test]
fn time_and_exits_are_accounted() {
    let (vm, _) = booted::<14>(2);
    let world = world::<14>();
    let mut text = std::string::String::new();
    vm.write_statistics(&mut text).unwrap();
    assert_eq!(text, "", "none has run");
    let pass = move |ticks| world.now.fetch_add(ticks, Ordering::SeqCst);
    pass(500);
    world.then(0, move |_| {
        pass(70);
        Exit::Nothing
    });
    let inner = vm.clone();
    world.then(0, move |_| {
        // Asked while it runs, from elsewhere.
        assert_eq!(inner.vcpu_statement(0).unwrap().guest_ticks, 70);
        pass(30);
        Exit::Halt
    });
    assert_eq!(vm.run_vcpu(0), Ok(Exit::Halt));
    // Waiting is neither the guest's nor the hypervisor's.
    pass(1000);
    let statement = vm.vcpu_statement(0).unwrap();
    assert_eq!(
        (statement.guest_ticks, statement.hypervisor_ticks),
        (100, 0)
    );
    assert!(vm.vcpu_statement(2).is_none());
    vm.write_statistics(&mut text).unwrap();
    // A tick of the test's machine is 100 ns.
    assert_eq!(
        text,
        "vCPU 0 time: 10 us in the guest, 0 us in the hypervisor\nvCPU 0 exits: step 2\n"
    );
}

#[test]
fn an_unknown_hypercall_is_not_supported() {
    let (vm, _) = booted::<15>(1);
    let world = world::<15>();
    world.exits(
        0,
        &[
            Exit::Hypercall {
                nr: 1,
                args: [0; 6],
            },
            Exit::CpuDown,
        ],
    );
    let _ = vm.drive(0);
    let answer = Event::Answer(Err(HypercallError::NotSupported));
    assert!(world.take_events(0).contains(&answer));
}

#[test]
fn devices_answer_within_the_loop_until_the_vm_goes_down() {
    let (vm, _) = booted::<37>(1);
    let world = world::<37>();
    world.accesses(0, |devices| {
        let (at, hole) = (at(DEVICE), at(DEVICE + DEVICE_HOLE));
        let width = AccessWidth::Byte;
        assert_eq!(devices.mmio_read(at, width), Some(DEVICE_VALUE));
        assert_eq!(devices.mmio_read(hole, width), None);
        assert_eq!(devices.mmio_write(at, width, 1), Some(()));
        assert_eq!(devices.port_read(0x61, width), Some(DEVICE_VALUE + 1));
        // Where there is nothing a port reads as all ones, and takes anything.
        assert_eq!(devices.port_read(0x70, width), Some(u64::MAX));
        assert_eq!(devices.port_write(0x70, width, 9), Some(()));
        assert_eq!(devices.port_write(0x62, width, 2), Some(()));
        assert_eq!(devices.sys_reg_read(0x803), Some(DEVICE_VALUE + 3));
        assert_eq!(devices.sys_reg_write(0x804, 3), Some(()));
        assert_eq!(devices.sys_reg_write(0x900, 3), None);
        assert!(!devices.wants_exit());
        world
            .link()
            .shut_down(SystemDownKind::Reset(ResetCause::Asked));
        assert!(devices.wants_exit());
        Exit::Nothing
    });
    let down = SystemDownKind::Reset(ResetCause::Asked);
    assert_eq!(vm.run_vcpu(0), Ok(Exit::SystemDown { kind: down }));
    let writes = world.take_events(0).into_iter();
    let writes: Vec<_> = writes
        .filter(|event| matches!(event, Event::DeviceWrite(..)))
        .collect();
    let expected = [(0, 1), (2, 2), (4, 3)].map(|(at, data)| Event::DeviceWrite(at, data));
    assert_eq!(writes, expected);
}

/// The host's interrupt came while another exit was served, or the guest's reset was.
#[test]
fn a_turn_that_is_over_ends_whatever_the_exit_was() {
    let (vm, _) = booted::<16>(1);
    let world = world::<16>();
    let read = Exit::MmioRead {
        addr: GuestPhysAddr::new(DEVICE),
        width: AccessWidth::Byte,
    };
    world.wants_reschedule.store(true, Ordering::SeqCst);
    world.then(0, move |_| {
        world.turn_is_over.store(true, Ordering::SeqCst);
        read
    });
    world.exits(0, &[Exit::Halt]);
    assert_eq!(vm.run_vcpu(0), Ok(Exit::Halt));
    let events = world.take_events(0);
    let place = |wanted: &Event| events.iter().position(|event| event == wanted);
    assert!(place(&Event::Read(DEVICE_VALUE)) < place(&Event::Unbind));
    assert!(place(&Event::Unbind) < place(&Event::Reschedule));

    world.turn_is_over.store(true, Ordering::SeqCst);
    world.exits(0, &[Exit::Halt]);
    assert_eq!(vm.run_vcpu(0), Ok(Exit::Halt));
    assert_eq!(
        world.take_events(0).first(),
        Some(&Event::Reschedule),
        "before it is bound"
    );
}
