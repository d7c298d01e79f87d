//! How a VM comes into being, starts, waits, ends, starts again, and goes.

use alloc::string::ToString;
use core::sync::atomic::Ordering;

use axaddrspace::PcpuMask;
use axvcpu::{
    AxVCpuExitReason as Exit, FailReason, RawExit, ResetCause, SystemDownKind, VCpuState,
};

use crate::{
    PowerState, VCpuNext, VmErrorCause,
    testing::{Event, Failure, LAZY, MEMORY, RAM, booted, peek, poke, run_on, try_vm, world},
};

const OFF: Exit = Exit::SystemDown {
    kind: SystemDownKind::PowerOff,
};
const RAW: RawExit = RawExit {
    reason: 99,
    info1: 1,
    info2: 2,
    pc: 3,
};

#[test]
fn a_vm_is_what_its_config_says() {
    let (vm, _) = try_vm::<20>(2, MEMORY).unwrap();
    assert_eq!((vm.id(), vm.name()), (1, "linux"));
    assert_eq!(vm.vcpu_list().len(), 2);
    for (id, vcpu) in vm.vcpu_list().iter().enumerate() {
        assert_eq!(
            (vcpu.vm_id(), vcpu.id(), vcpu.affinity()),
            (1, id, Some(2 << id))
        );
        assert_eq!(vcpu.state(), VCpuState::Free);
        assert_eq!(vm.vcpu_power(id), Some(PowerState::Off));
        assert_eq!(world::<20>().take_events(id), [Event::Setup]);
    }
    assert_eq!(vm.nested_root(), vm.memory.lock().nested_root());
    assert_eq!(
        vm.memory_usage().ram_bytes,
        64 << 10,
        "the lazy half is not filled"
    );
    assert!(!vm.running() && vm.shutting_down().is_none() && vm.stop_record().is_none());
    assert_eq!(vm.config().vm.name, "linux");
    assert_eq!(vm.devices().bus.iter().count(), 1);
}

#[test]
fn vcpu_0_starts_where_the_images_say_and_the_others_wait() {
    let (vm, _) = try_vm::<21>(2, MEMORY).unwrap();
    let world = world::<21>();
    vm.boot().unwrap();
    assert!(vm.running());
    assert_eq!(peek(&vm, RAM, 8), b"kernel\0\0");
    assert_eq!(
        world.take_events(0),
        [
            Event::Setup,
            Event::DeviceReset,
            Event::Setup,
            Event::Start(RAM, 42)
        ]
    );
    assert_eq!(
        world.take_events(1),
        [Event::Setup, Event::Setup, Event::Start(RAM + 0x100, 0)]
    );
    assert_eq!(
        vm.vcpu_power(0),
        Some(PowerState::StartPending {
            entry: vm.ram[0].start(),
            arg: 42
        })
    );
    assert!(vm.vcpu_should_wake(0) && !vm.vcpu_should_wake(1));
    assert_eq!(vm.drive(1), VCpuNext::Off);
    assert_eq!(vm.vcpu(1).unwrap().state(), VCpuState::Blocked);

    world.exits(0, &[Exit::Halt]);
    assert_eq!(vm.drive(0), VCpuNext::Wait { deadline: u64::MAX });
    assert_eq!(
        world.take_events(0),
        [
            Event::Start(RAM, 42),
            Event::Bind,
            Event::Run,
            Event::Unbind
        ]
    );
    assert_eq!(vm.vcpu_power(0), Some(PowerState::On));
    assert_eq!(vm.vcpu(0).unwrap().state(), VCpuState::Blocked);
}

#[test]
fn a_task_may_wait_before_its_vm_boots() {
    let (vm, _) = try_vm::<22>(1, MEMORY).unwrap();
    assert_eq!(vm.drive(0), VCpuNext::Off);
    assert!(!vm.vcpu_should_wake(0));
    let _ = world::<22>().kicked(1);
    vm.boot().unwrap();
    assert_eq!(
        world::<22>().kicked(1),
        1,
        "its task sleeps on the vCPU's pCPU"
    );
    assert!(vm.vcpu_should_wake(0));
    world::<22>().exits(0, &[OFF]);
    assert_eq!(vm.drive(0), VCpuNext::VmDown(SystemDownKind::PowerOff));
}

#[test]
fn a_wait_ends_by_interrupt_deadline_or_shutdown() {
    let (vm, _) = booted::<23>(1);
    let world = world::<23>();
    let wait = |deadline: u64| {
        world.deadline.store(deadline, Ordering::SeqCst);
        world.exits(0, &[Exit::Halt]);
        assert_eq!(vm.drive(0), VCpuNext::Wait { deadline });
        assert!(!vm.vcpu_should_wake(0));
        assert_eq!(world.kicked(1), 0);
    };
    // The vCPU runs on pCPU 0 here, which is where it is kicked from then on.
    wait(u64::MAX);
    vm.inject_interrupt_to_vcpu(0, 2).unwrap();
    assert_eq!(world.kicked(0), 1);
    assert!(vm.vcpu_should_wake(0));
    vm.vcpu(0).unwrap().mailbox().take();

    wait(100);
    world.now.store(99, Ordering::SeqCst);
    assert!(!vm.vcpu_should_wake(0));
    world.now.store(100, Ordering::SeqCst);
    assert!(vm.vcpu_should_wake(0));

    wait(200);
    vm.shutdown(SystemDownKind::Reset(ResetCause::Asked));
    assert_eq!(world.kicked(0), 1);
    assert!(vm.vcpu_should_wake(0));
    assert_eq!(
        vm.drive(0),
        VCpuNext::VmDown(SystemDownKind::Reset(ResetCause::Asked))
    );
    assert!(!vm.running());
}

#[test]
fn a_guest_does_not_wait_for_what_is_there_already() {
    let (vm, _) = booted::<24>(1);
    let world = world::<24>();
    world.exits(0, &[Exit::Halt, Exit::Halt]);
    world.pending.store(true, Ordering::SeqCst);
    assert_eq!(vm.drive(0), VCpuNext::Wait { deadline: u64::MAX });
    let runs = world
        .take_events(0)
        .into_iter()
        .filter(|event| *event == Event::Run)
        .count();
    assert_eq!(runs, 2, "only the second time did it wait");
    world.exits(0, &[Exit::Halt]);
    world.deadline.store(50, Ordering::SeqCst);
    world.now.store(50, Ordering::SeqCst);
    world.exits(0, &[OFF]);
    assert_eq!(
        vm.drive(0),
        VCpuNext::VmDown(SystemDownKind::PowerOff),
        "its timer was due"
    );
}

#[test]
fn all_vcpus_are_told_that_the_vm_goes_down() {
    let (vm, _) = booted::<25>(2);
    world::<25>().exits(0, &[OFF]);
    assert_eq!(vm.drive(1), VCpuNext::Off);
    assert_eq!(vm.drive(0), VCpuNext::VmDown(SystemDownKind::PowerOff));
    assert_eq!(world::<25>().kicked(2), 1, "vCPU 1 sleeps there");
    assert!(vm.running(), "vCPU 1 does not know yet");
    assert_eq!(vm.boot().unwrap_err().cause, VmErrorCause::Running);
    assert!(vm.vcpu_should_wake(1));
    assert_eq!(vm.drive(1), VCpuNext::VmDown(SystemDownKind::PowerOff));
    assert!(!vm.running());
}

#[test]
fn a_reboot_leaves_nothing_of_the_former_life() {
    let (vm, _) = booted::<26>(1);
    let world = world::<26>();
    poke(&vm, RAM, b"changed by the guest");
    poke(&vm, LAZY + 0x2000, b"here, too");
    vm.inject_interrupt_to_vcpu(0, 2).unwrap();
    world.exits(0, &[OFF]);
    assert_eq!(vm.drive(0), VCpuNext::VmDown(SystemDownKind::PowerOff));
    let _ = world.take_events(0);

    vm.boot().unwrap();
    assert_eq!(
        vm.memory_usage().ram_bytes,
        64 << 10,
        "lazy RAM went back to the host"
    );
    assert_eq!(peek(&vm, RAM, 20), *b"kernel\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    assert_eq!(peek(&vm, LAZY + 0x2000, 9), [0; 9]);
    assert!(!vm.vcpu(0).unwrap().mailbox().has_interrupt(u64::MAX));
    assert_eq!(
        world.take_events(0),
        [Event::DeviceReset, Event::Setup, Event::Start(RAM, 42)]
    );
    assert_eq!(vm.shutting_down(), None);
    world.exits(0, &[OFF]);
    assert_eq!(vm.drive(0), VCpuNext::VmDown(SystemDownKind::PowerOff));
}

#[test]
fn what_cannot_go_on_stops_its_vm_and_is_on_record() {
    let reason = FailReason {
        what: "broken",
        raw: RAW,
    };
    for (exit, words) in [
        (
            Exit::FailEntry { reason },
            "broken (reason 0x63, info 0x1 0x2, pc 0x3)",
        ),
        (
            Exit::Unknown(RAW),
            "unknown exit: reason 0x63, info 0x1 0x2, pc 0x3",
        ),
    ] {
        let (vm, _) = booted::<27>(2);
        world::<27>().exits(0, &[exit]);
        assert_eq!(vm.drive(0), VCpuNext::VmFailed);
        let record = vm.stop_record().unwrap();
        assert_eq!((record.vcpu, record.reason.as_str()), (0, words));
        assert_eq!(record.registers, "registers of vCPU 0");
        assert_eq!(
            record.to_string(),
            std::format!("vCPU 0: {words}\nregisters of vCPU 0")
        );
        assert_eq!(vm.drive(1), VCpuNext::VmDown(SystemDownKind::Crash));
        assert!(!vm.running());
        vm.boot().unwrap();
        assert_eq!(vm.stop_record(), None, "a new life");
    }
}

#[test]
fn a_vcpu_that_breaks_stops_its_vm_and_the_vm_does_not_boot_again() {
    let (vm, _) = booted::<28>(1);
    let world = world::<28>();
    world.fail.lock().unwrap().push(Failure::Run);
    assert_eq!(vm.drive(0), VCpuNext::VmFailed);
    let reason = vm.stop_record().unwrap().reason;
    assert!(
        reason.starts_with("vCPU 0: run failed on the way from running to ready"),
        "{reason}"
    );
    let error = vm.boot().unwrap_err();
    let words = "vm \"linux\": vCPU 0: reset needs a vCPU that is free, and this one is invalid";
    assert_eq!(error.to_string(), words);
    assert!(!vm.running());
}

#[test]
fn a_vm_whose_last_vcpu_switches_itself_off_is_off() {
    let (vm, _) = booted::<29>(2);
    world::<29>().exits(0, &[Exit::CpuDown]);
    assert_eq!(vm.drive(0), VCpuNext::VmDown(SystemDownKind::PowerOff));
}

#[test]
fn what_does_not_exist_is_not_driven() {
    let (vm, _) = booted::<30>(1);
    assert_eq!(vm.drive(1), VCpuNext::VmFailed);
    assert!(vm.running(), "and ends nothing");
}

#[test]
fn a_vm_that_cannot_be_made_takes_nothing_and_says_why() {
    let world = world::<31>();
    let refused = |failure: Failure, words: &str| {
        world.fail.lock().unwrap().push(failure);
        let error = try_vm::<31>(2, MEMORY).err().unwrap();
        assert!(error.to_string().starts_with(words), "{error}");
        assert_eq!(world.frames_out.load(Ordering::SeqCst), 0);
        world.fail.lock().unwrap().clear();
    };
    refused(Failure::NewVCpu(1), "vm \"linux\": vCPU 1 cannot be made: ");
    refused(Failure::Devices, "vm \"linux\": vms/linux.toml:");
    // Out of frames at every point on the way.
    for frames in 0..100 {
        world.frames_left.store(frames, Ordering::SeqCst);
        match try_vm::<31>(2, MEMORY) {
            Ok(_) => {
                assert!(frames > 16);
                break;
            }
            Err(error) => {
                let words = error.to_string();
                let known = words.starts_with("vm \"linux\": no memory left for")
                    || words.contains(":7: kernel.memory_regions[0]: no memory left for 0x10000");
                assert!(known, "{frames} frames: {words}");
            }
        }
        assert_eq!(
            world.frames_out.load(Ordering::SeqCst),
            0,
            "{frames} frames"
        );
    }
    world.frames_left.store(usize::MAX, Ordering::SeqCst);
    assert_eq!(
        world.frames_out.load(Ordering::SeqCst),
        0,
        "a VM that is dropped gives all back"
    );
}

#[test]
fn a_boot_that_fails_can_be_tried_again() {
    let (vm, _) = try_vm::<32>(1, MEMORY).unwrap();
    let world = world::<32>();
    world.fail.lock().unwrap().push(Failure::Load);
    let error = vm.boot().unwrap_err();
    let expected = "vm \"linux\": vms/linux.toml:6: kernel.kernel_path: ";
    assert!(error.to_string().starts_with(expected), "{error}");
    assert!(!vm.running());
    assert_eq!(vm.drive(0), VCpuNext::Off, "it did not start");
    poke(&vm, RAM + 0x100, b"left by the loader");
    world.fail.lock().unwrap().clear();
    vm.boot().unwrap();
    assert_eq!(peek(&vm, RAM + 0x100, 18), [0; 18]);
}

#[test]
fn a_regions_error_names_the_region() {
    // Past what Sv39x4 reaches, which a config alone cannot know.
    let text = "memory_regions = [[\"64KiB\"], { gpa = 0x200_0000_0000, size = \"64KiB\" }]";
    let error = try_vm::<33>(1, text).err().unwrap().to_string();
    let expected = "vm \"linux\": vms/linux.toml:7: kernel.memory_regions[1]: ";
    assert!(error.starts_with(expected), "{error}");
}

/// A guest that is started again and again leaves its shared pCPU to others in between.
#[test]
fn others_have_their_turn_while_ram_is_cleared() {
    let (vm, _) = booted::<17>(1);
    let world = world::<17>();
    world.exits(0, &[OFF]);
    assert_eq!(vm.drive(0), VCpuNext::VmDown(SystemDownKind::PowerOff));
    let _ = world.take_events(0);
    world.turn_is_over.store(true, Ordering::SeqCst);
    vm.boot().unwrap();
    let events = world.take_events(0);
    assert_eq!(events.first(), Some(&Event::Reschedule));
}

/// What a VM does to its memory interrupts no pCPU but those that ran it.
#[test]
fn a_restart_flushes_once_and_only_where_the_vm_ran() {
    let (vm, _) = booted::<18>(2);
    let world = world::<18>();
    let flushes = || core::mem::take(&mut *world.flushes.lock().unwrap());
    poke(&vm, LAZY, b"a page");
    world.exits(0, &[OFF]);
    run_on(5);
    assert_eq!(vm.drive(0), VCpuNext::VmDown(SystemDownKind::PowerOff));
    run_on(6);
    assert_eq!(vm.drive(1), VCpuNext::VmDown(SystemDownKind::PowerOff));
    run_on(0);
    let _ = flushes();
    vm.boot().unwrap();
    assert_eq!(flushes(), [PcpuMask::of(5)], "vCPU 1 never ran");
    vm.shutdown(SystemDownKind::PowerOff);
    let _ = (vm.drive(0), vm.drive(1));
    vm.boot().unwrap();
    assert_eq!(flushes(), [], "nothing was touched");
}
