//! vCPUs that devices stop and start, and what is raised for those that are off.

use super::*;

#[test]
fn a_line_that_rises_while_a_vcpu_is_off_is_there_when_it_starts() {
    let (vm, _) = booted::<41>(2);
    let link = world::<41>().link();
    link.set_line(1, EXTERNAL, LineLevel::High);
    bring_up(&vm, 1);
    assert_eq!(vm.vcpu(1).unwrap().mailbox().take().levels, 1 << EXTERNAL);
    link.set_line(1, EXTERNAL, LineLevel::Low);
    assert_eq!(vm.vcpu(1).unwrap().mailbox().take().levels, 0);
    link.set_line(2, EXTERNAL, LineLevel::High);
}

/// The letter by which a device stops a vCPU.
const STOP: usize = 5;

/// vCPU 1's power, and whether the letter is in its mailbox.
fn power_and_letter<const W: usize>(vm: &TestVm<W>) -> (PowerState, bool) {
    let edges = vm.vcpu(1).unwrap().mailbox().take().edges;
    (vm.vcpu_power(1).unwrap(), edges & 1 << STOP != 0)
}

#[test]
fn a_device_stops_and_starts_vcpus() {
    let (vm, _) = booted::<34>(2);
    let (world, link) = (world::<34>(), world::<34>().link());
    let page = GuestPhysAddr::new(RAM + 0x1000);
    let pending = PowerState::StartPending {
        entry: page,
        arg: 0,
    };
    link.stop(1, STOP);
    assert_eq!(
        power_and_letter(&vm),
        (PowerState::Off, false),
        "off already"
    );
    link.start(1, page);
    assert_eq!(power_and_letter(&vm), (pending, false));
    assert!(vm.vcpu_should_wake(1));
    link.stop(1, STOP);
    assert_eq!(power_and_letter(&vm), (PowerState::Off, false), "never ran");
    assert!(!vm.vcpu_should_wake(1));

    bring_up(&vm, 1);
    link.start(1, page);
    assert_eq!(power_and_letter(&vm), (PowerState::On, false), "not heard");
    link.stop(1, STOP);
    assert!(!vm.vcpu_should_wake(1), "it waits, and is off");
    link.start(1, page);
    assert!(vm.vcpu_should_wake(1));
    // The letter of its former life does not end the new one.
    let _ = world.take_events(1);
    world.then(1, |mailbox| {
        assert_eq!(mailbox.take().edges & 1 << STOP, 0);
        Exit::Halt
    });
    assert!(matches!(vm.drive(1), VCpuNext::Wait { .. }));
    assert_eq!(
        world.take_events(1)[0],
        Event::Start(page.as_u64(), 0),
        "where it was told"
    );

    // Stopped and started while it runs: it goes down, and comes up again.
    let _ = vm.doors[1].unpark();
    world.then(1, move |mailbox| {
        link.stop(1, STOP);
        link.start(1, page);
        assert_ne!(mailbox.take().edges & 1 << STOP, 0);
        Exit::CpuDown
    });
    world.exits(1, &[Exit::Halt]);
    assert!(matches!(vm.drive(1), VCpuNext::Wait { .. }));
    let starts = world.take_events(1);
    let starts = starts
        .iter()
        .filter(|event| matches!(event, Event::Start(..)));
    assert_eq!(starts.count(), 1);

    let link = world.link();
    for cpu in [2, usize::MAX] {
        link.stop(cpu, STOP);
        link.start(cpu, page);
        link.raise(cpu, STOP);
    }
    link.shut_down(SystemDownKind::Reset(ResetCause::Asked));
    link.shut_down(SystemDownKind::PowerOff);
    assert_eq!(
        vm.shutting_down(),
        Some(SystemDownKind::Reset(ResetCause::Asked))
    );
    assert_eq!(
        vm.drive(1),
        VCpuNext::VmDown(SystemDownKind::Reset(ResetCause::Asked))
    );
}

/// What is raised while a vCPU is off, as an NMI is that is sent to a CPU that waits for its start-up IPI, is nothing to it when it starts.
#[test]
fn what_is_raised_for_a_vcpu_that_is_off_is_not_for_its_next_life() {
    const LETTER: usize = 1;
    let (vm, _) = booted::<36>(2);
    let (world, link) = (world::<36>(), world::<36>().link());
    let page = GuestPhysAddr::new(RAM + 0x1000);
    let edges = || vm.vcpu(1).unwrap().mailbox().take().edges;
    link.raise(1, LETTER);
    assert!(!vm.vcpu_should_wake(1), "it is off");
    link.start(1, page);
    assert_eq!(edges(), 0, "before the first start");
    link.raise(1, LETTER);
    assert_eq!(edges(), 1 << LETTER, "between start and first run");
    link.stop(1, STOP);
    bring_up(&vm, 1);

    // Before it was stopped, and after, and by a device while it waits.
    link.raise(1, LETTER);
    link.stop(1, STOP);
    link.raise(1, LETTER);
    assert_eq!(vm.drive(1), VCpuNext::Off);
    link.raise(1, LETTER);
    link.start(1, page);
    world.then(1, |mailbox| {
        assert_eq!(mailbox.take().edges, 0);
        Exit::Halt
    });
    assert!(matches!(vm.drive(1), VCpuNext::Wait { .. }));

    // Of its own will, while it runs; and what comes after the start is kept.
    let _ = vm.doors[1].unpark();
    world.then(1, move |mailbox| {
        link.raise(1, LETTER);
        link.stop(1, STOP);
        link.start(1, page);
        assert_eq!(mailbox.take().edges, 1 << STOP);
        link.raise(1, LETTER);
        Exit::CpuDown
    });
    world.then(1, |mailbox| {
        assert_eq!(mailbox.take().edges, 1 << LETTER);
        Exit::CpuDown
    });
    assert_eq!(vm.drive(1), VCpuNext::Off);
}
