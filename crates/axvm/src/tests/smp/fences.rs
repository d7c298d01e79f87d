//! Fences on other vCPUs: over when the others are out of their guests, and never for ever.

use super::*;

#[test]
fn fences_are_asked_for_by_kind_and_wait_for_nobody_who_is_out() {
    let (vm, _) = booted::<43>(3);
    // Each owes a fence of instructions for its new life.
    for id in 0..3 {
        let _ = vm.vcpu(id).unwrap().mailbox().take();
    }
    let fence = |target, fence| answer(&vm, Exit::RemoteFence { target, fence });
    let all = Fence::Translations {
        start: Default::default(),
        len: u64::MAX,
        asid: None,
    };
    assert_eq!(fence(mask(0, 0b010), Fence::Instructions), Ok(0));
    assert_eq!(fence(mask(0, 0b100), all), Ok(0));
    assert_eq!(
        fence(mask(0, 0b1000), all),
        Err(HypercallError::InvalidParam)
    );
    let owed = |id: usize| {
        let mail = vm.vcpu(id).unwrap().mailbox().take();
        (mail.fence_instructions, mail.fence_translations)
    };
    assert_eq!(
        (owed(0), owed(1), owed(2)),
        ((false, false), (true, false), (false, true))
    );
}

#[test]
fn a_fence_is_over_only_when_the_other_is_out_of_its_guest() {
    const W: usize = 44;
    let (vm, _) = booted::<W>(2);
    bring_up(&vm, 1);
    static INSIDE: AtomicBool = AtomicBool::new(false);
    let other = vm.clone();
    let (entered, wait_entered) = std::sync::mpsc::channel();
    world::<W>().then(1, move |mailbox| {
        mailbox.entering();
        mailbox.take();
        INSIDE.store(true, Ordering::SeqCst);
        entered.send(()).unwrap();
        while world::<W>().kicks[2].load(Ordering::SeqCst) == 0 {
            core::hint::spin_loop();
        }
        thread::sleep(std::time::Duration::from_millis(20));
        INSIDE.store(false, Ordering::SeqCst);
        mailbox.left();
        Exit::Halt
    });
    let _ = world::<W>().kicked(2);
    let task = thread::spawn(move || {
        run_on(2);
        let _ = other.doors[1].unpark();
        other.run_vcpu(1)
    });
    wait_entered.recv().unwrap();
    let exit = Exit::RemoteFence {
        target: VCpuSet::All,
        fence: Fence::Instructions,
    };
    assert_eq!(answer(&vm, exit), Ok(0));
    assert!(!INSIDE.load(Ordering::SeqCst));
    assert_eq!(task.join().unwrap(), Ok(Exit::Halt));
}

#[test]
fn a_fence_is_given_up_when_the_vm_goes_down() {
    const W: usize = 45;
    let (vm, _) = booted::<W>(2);
    // In its guest for ever, whatever it is kicked with.
    vm.vcpu(1).unwrap().mailbox().entering();
    let stopper = vm.clone();
    let task = thread::spawn(move || {
        while world::<W>().kicks[2].load(Ordering::SeqCst) == 0 {
            thread::yield_now();
        }
        stopper.shutdown(SystemDownKind::Crash);
    });
    world::<W>().exits(
        0,
        &[Exit::RemoteFence {
            target: VCpuSet::All,
            fence: Fence::Instructions,
        }],
    );
    assert_eq!(
        vm.run_vcpu(0),
        Ok(Exit::SystemDown {
            kind: SystemDownKind::Crash
        })
    );
    task.join().unwrap();
}

#[test]
fn two_vcpus_that_fence_each_other_both_go_on() {
    const W: usize = 46;
    const TIMES: usize = 2000;
    let (vm, _) = booted::<W>(2);
    bring_up(&vm, 1);
    vm.doors[1].unpark().unwrap();
    for id in 0..2 {
        for _ in 0..TIMES {
            world::<W>().then(id, |mailbox| {
                mailbox.entering();
                mailbox.take();
                mailbox.left();
                Exit::RemoteFence {
                    target: VCpuSet::All,
                    fence: Fence::Instructions,
                }
            });
        }
        world::<W>().exits(id, &[Exit::Halt]);
    }
    let tasks: Vec<_> = (0..2)
        .map(|id| {
            let vm = vm.clone();
            thread::spawn(move || {
                run_on(id + 1);
                vm.run_vcpu(id)
            })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.join().unwrap(), Ok(Exit::Halt));
    }
}
