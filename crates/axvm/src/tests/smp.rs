//! What vCPUs ask of one another: in one thread to see each answer, in several to see that nothing
//! is lost.

mod fences;
mod power;

use alloc::{sync::Arc, vec::Vec};
use core::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use axaddrspace::GuestPhysAddr;
use axvcpu::{
    AxVCpuExitReason as Exit, Fence, HypercallError, LineLevel, Mailbox, ResetCause,
    SystemDownKind, VCpuSet, Wait, WaitKind,
};

use crate::{
    PowerState, VCpuNext,
    testing::{DEVICE, EXTERNAL, Event, RAM, TestVm, booted, peek, run_on, world},
};

const OFF: Exit = Exit::SystemDown {
    kind: SystemDownKind::PowerOff,
};
const SOFTWARE: usize = 2;

fn mask(base: usize, mask: u64) -> VCpuSet {
    VCpuSet::Mask { base, mask }
}

/// The answer to vCPU 0's `exit`.
fn answer<const W: usize>(vm: &TestVm<W>, exit: Exit) -> Result<u64, HypercallError> {
    let world = world::<W>();
    let _ = world.take_events(0);
    world.exits(0, &[exit, Exit::Halt]);
    assert_eq!(vm.run_vcpu(0), Ok(Exit::Halt));
    let mut answers = world
        .take_events(0)
        .into_iter()
        .filter_map(|event| match event {
            Event::Answer(answer) => Some(answer),
            _ => None,
        });
    let answer = answers.next().expect("an answer");
    assert_eq!(answers.next(), None, "one answer");
    answer
}

/// Makes vCPU `id` run as far as its first halt, without its thread.
fn bring_up<const W: usize>(vm: &TestVm<W>, id: usize) {
    let entry_point = GuestPhysAddr::new(RAM);
    assert_eq!(
        answer(
            vm,
            Exit::CpuUp {
                target_cpu: id,
                entry_point,
                arg: 7
            }
        ),
        Ok(0)
    );
    world::<W>().exits(id, &[Exit::Halt]);
    run_on(id + 1);
    assert!(matches!(vm.drive(id), VCpuNext::Wait { .. }));
    run_on(0);
    let _ = (world::<W>().take_events(id), world::<W>().kicked(id + 1));
}

#[test]
fn cpus_are_started_once() {
    let (vm, _) = booted::<40>(2);
    let world = world::<40>();
    world.exits(0, &[Exit::Halt]);
    assert!(matches!(vm.drive(0), VCpuNext::Wait { .. }));
    assert_eq!(vm.drive(1), VCpuNext::Off);
    let _ = vm.doors[0].unpark();
    let up = |target_cpu, entry| {
        answer(
            &vm,
            Exit::CpuUp {
                target_cpu,
                entry_point: GuestPhysAddr::new(entry),
                arg: 7,
            },
        )
    };
    let status = |target_cpu| answer(&vm, Exit::CpuStatus { target_cpu });

    assert_eq!((status(0), status(1)), (Ok(0), Ok(1)));
    for nobody in [2, 64, usize::MAX] {
        assert_eq!(up(nobody, RAM), Err(HypercallError::InvalidParam));
        assert_eq!(status(nobody), Err(HypercallError::InvalidParam));
    }
    for outside in [0, RAM - 1, RAM + 0x1_0000, DEVICE, u64::MAX] {
        assert_eq!(up(1, outside), Err(HypercallError::InvalidAddress));
    }
    assert_eq!(world.kicked(2), 0);
    assert!(!vm.vcpu_should_wake(1));

    assert_eq!(up(1, RAM + 0x40), Ok(0));
    assert_eq!(world.kicked(2), 1, "it sleeps there");
    assert!(vm.vcpu_should_wake(1));
    assert_eq!(status(1), Ok(2));
    assert_eq!(up(1, RAM), Err(HypercallError::AlreadyAvailable), "pending");

    let _ = world.take_events(1);
    world.exits(1, &[Exit::Halt]);
    assert!(matches!(vm.drive(1), VCpuNext::Wait { .. }));
    assert_eq!(world.take_events(1)[0], Event::Start(RAM + 0x40, 7));
    assert_eq!(status(1), Ok(0));
    assert_eq!(up(1, RAM), Err(HypercallError::AlreadyAvailable), "on");
    assert_eq!(up(0, RAM), Err(HypercallError::AlreadyAvailable), "itself");

    world.exits(1, &[Exit::CpuDown]);
    assert_eq!(vm.drive(1), VCpuNext::Off);
    assert_eq!(status(1), Ok(1));
    assert_eq!(up(1, RAM + 0x80), Ok(0), "and up again");
}

/// A guest that waits with a line high that it has masked is not woken by that, again and again, for nothing.
#[test]
fn a_masked_line_wakes_nobody() {
    let (vm, _) = booted::<60>(2);
    let world = world::<60>();
    bring_up(&vm, 1);
    world.link().set_line(1, EXTERNAL, LineLevel::High);
    let wait_for = |lines| {
        *world.wait.lock().unwrap() = Wait {
            lines,
            kind: WaitKind::Idle,
        };
        world.exits(1, &[Exit::Halt]);
        assert!(matches!(vm.drive(1), VCpuNext::Wait { .. }));
        vm.vcpu_should_wake(1)
    };
    assert!(!wait_for(0));
    vm.inject_interrupt_to_vcpu(1, SOFTWARE).unwrap();
    assert!(vm.vcpu_should_wake(1), "raised once");
    vm.vcpu(1).unwrap().mailbox().forget_raised(None);
    assert!(wait_for(1 << EXTERNAL));
}

#[test]
fn a_suspended_vcpu_is_seen_as_such_until_it_runs() {
    let (vm, _) = booted::<61>(2);
    let world = world::<61>();
    let status = |target_cpu| answer(&vm, Exit::CpuStatus { target_cpu });
    bring_up(&vm, 1);
    *world.wait.lock().unwrap() = Wait {
        lines: 0,
        kind: WaitKind::Suspended,
    };
    world.exits(1, &[Exit::Halt]);
    assert!(matches!(vm.drive(1), VCpuNext::Wait { .. }));
    assert_eq!(status(1), Ok(4));
    // It wakes, and waits for something else.
    *world.wait.lock().unwrap() = Wait::FOR_ANY;
    world.exits(1, &[Exit::Halt]);
    assert!(matches!(vm.drive(1), VCpuNext::Wait { .. }));
    assert_eq!(status(1), Ok(0));
}

#[test]
fn interrupts_reach_whom_they_are_for() {
    let (vm, _) = booted::<42>(4);
    let world = world::<42>();
    world.exits(0, &[Exit::Halt]);
    assert!(matches!(vm.drive(0), VCpuNext::Wait { .. }));
    let _ = vm.doors[0].unpark();
    bring_up(&vm, 1);
    bring_up(&vm, 2);
    let send = |target| {
        answer(
            &vm,
            Exit::SendIPI {
                target,
                vector: SOFTWARE,
            },
        )
    };
    let raised = || -> Vec<u64> {
        vm.vcpu_list()
            .iter()
            .map(|vcpu| vcpu.mailbox().take().edges)
            .collect()
    };
    let it = 1 << SOFTWARE;

    assert_eq!(send(mask(0, 0b010)), Ok(0));
    assert_eq!(raised(), [0, it, 0, 0]);
    assert_eq!(
        (world.kicked(2), world.kicked(3)),
        (1, 0),
        "a vCPU that waits is kicked"
    );
    assert_eq!(send(VCpuSet::All), Ok(0));
    assert_eq!(raised(), [it, it, it, 0], "vCPU 3 is off");
    assert_eq!(send(mask(1, 0b11)), Ok(0));
    assert_eq!(raised(), [0, it, it, 0]);
    assert_eq!(send(mask(usize::MAX, 0)), Ok(0), "nobody");
    let wrong = [
        mask(0, 0b1_0000),
        mask(3, 0b10),
        mask(4, 1),
        mask(usize::MAX, 0b10),
        mask(5, 1),
    ];
    for wrong in wrong {
        assert_eq!(send(wrong), Err(HypercallError::InvalidParam), "{wrong:?}");
        assert_eq!(raised(), [0; 4], "a set that is wrong reaches nobody");
    }
}

/// A task, as the host would write it: sleeps only when there is nothing to do, and only until a
/// kick.
fn task<const W: usize>(vm: Arc<TestVm<W>>, id: usize) -> SystemDownKind {
    let pcpu = id + 1;
    run_on(pcpu);
    loop {
        match vm.drive(id) {
            VCpuNext::Wait { .. } | VCpuNext::Off => {
                // A kick that comes from here on ends the sleep, as a pending interrupt ends a
                // wait-for-interrupt.
                while !vm.vcpu_should_wake(id) {
                    while world::<W>().kicks[pcpu].swap(0, Ordering::SeqCst) == 0 {
                        thread::yield_now();
                    }
                }
            }
            VCpuNext::VmDown(kind) => return kind,
            VCpuNext::VmFailed => panic!("{}", vm.stop_record().unwrap()),
        }
    }
}

/// vCPU `id` runs until it finds an interrupt: now and then it halts for it, now and then it stays
/// in its guest until a kick.
fn receive<const W: usize>(id: usize, turn: u64, mailbox: &Mailbox) -> Exit {
    mailbox.entering();
    let found = mailbox.take().edges != 0;
    let stays = turn.is_multiple_of(3);
    while !found && stays && world::<W>().kicks[id + 1].swap(0, Ordering::SeqCst) == 0 {
        thread::yield_now();
    }
    mailbox.left();
    if !found {
        world::<W>().first(id, move |mailbox| receive::<W>(id, turn, mailbox));
    }
    if found || stays {
        Exit::Nothing
    } else {
        Exit::Halt
    }
}

/// vCPU 0 and 1 play ping-pong by interrupts, some of which find the other in its guest, some
/// waiting, some in between.
#[test]
fn no_wake_up_is_lost() {
    const W: usize = 47;
    const TIMES: u64 = 3000;
    let (vm, _) = booted::<W>(2);
    let world = world::<W>();
    let entry_point = GuestPhysAddr::new(RAM);
    world.exits(
        0,
        &[Exit::CpuUp {
            target_cpu: 1,
            entry_point,
            arg: 0,
        }],
    );
    for id in 0..2 {
        for turn in 0..TIMES {
            let ping = Exit::SendIPI {
                target: mask(1 - id, 1),
                vector: SOFTWARE,
            };
            if id == 0 {
                world.exits(0, &[ping]);
            }
            world.then(id, move |mailbox| receive::<W>(id, turn, mailbox));
            if id == 1 {
                world.exits(1, &[ping]);
            }
        }
    }
    world.exits(0, &[OFF]);
    world.exits(1, &[Exit::Halt]);

    let tasks: Vec<_> = (0..2)
        .map(|id| {
            let vm = vm.clone();
            thread::spawn(move || task::<W>(vm, id))
        })
        .collect();
    for task in tasks {
        assert_eq!(task.join().unwrap(), SystemDownKind::PowerOff);
    }
    assert!(!vm.running());
    assert_eq!(vm.vcpu_power(1), Some(PowerState::On));
}

#[test]
fn devices_reach_ram_and_nothing_else() {
    let (vm, _) = booted::<35>(1);
    let link = world::<35>().link();
    let mut bytes = [0; 4];
    assert!(link.write_ram(GuestPhysAddr::new(RAM + 0x2000), b"abcd"));
    assert!(link.read_ram(GuestPhysAddr::new(RAM + 0x2000), &mut bytes));
    assert_eq!(&bytes, b"abcd");
    assert!(!link.read_ram(GuestPhysAddr::new(RAM + 0xfffe), &mut bytes));
    assert!(!link.write_ram(GuestPhysAddr::new(DEVICE), b"abcd"));
    assert_eq!(peek(&vm, RAM + 0x2000, 4), b"abcd");
}

/// Each kick takes whoever else lives on the pCPU out of its guest.
#[test]
fn a_vcpu_is_kicked_for_what_it_would_wake_for_and_once() {
    let (vm, _) = booted::<19>(3);
    let world = world::<19>();
    assert_eq!(vm.drive(1), VCpuNext::Off);
    let [_, off, parked] = &vm.doors[..] else {
        panic!("three vCPUs");
    };
    for _ in 0..5 {
        off.raise(SOFTWARE);
        off.set_line(EXTERNAL, LineLevel::High);
        off.set_line(EXTERNAL, LineLevel::Low);
    }
    assert_eq!(world.kicked(2), 0, "it is off");
    assert!(!vm.vcpu_should_wake(1));

    *world.wait.lock().unwrap() = Wait {
        lines: 1 << SOFTWARE,
        ..Wait::FOR_ANY
    };
    bring_up(&vm, 2);
    parked.set_line(EXTERNAL, LineLevel::High);
    assert_eq!(world.kicked(3), 0, "it has masked that");
    parked.raise(SOFTWARE);
    parked.raise(SOFTWARE);
    assert_eq!(world.kicked(3), 1);

    // The reason goes before the task comes to look at it: the next one is worth a kick again.
    parked.vcpu().mailbox().withdraw(SOFTWARE);
    assert!(!vm.vcpu_should_wake(2));
    parked.raise(SOFTWARE);
    assert_eq!(world.kicked(3), 1);
    assert!(vm.vcpu_should_wake(2));

    vm.shutdown(SystemDownKind::PowerOff);
    assert_eq!((world.kicked(2), world.kicked(3)), (1, 1), "all are told");
}
