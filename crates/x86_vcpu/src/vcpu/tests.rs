use core::sync::atomic::Ordering::SeqCst;

use axvcpu::AxArchPerCpu;

use super::*;
use crate::{
    HltPolicy, LocalApicHardware, Unfit, X86PerCpu, X86VCpu,
    deliver::alarm,
    forget_nested, machine,
    regs::{Segment, SegmentName},
    svm::script::{HOST_INTERRUPT, exits, is_over, then},
    testing::{ENTRY, TestHost, World, set_now, set_ticks, timers_set},
};

const HOST: AxVCpuExitReason = AxVCpuExitReason::ExternalInterrupt { vector: 0 };

/// The next entry injects this, in the manual's word.
fn injects(word: u64) {
    then(move |guest| {
        assert_eq!(guest.injected(), word);
        guest.exits(HOST_INTERRUPT, 0, 0);
    });
}

fn raise(world: &World, vectors: &[u8]) {
    world.local.raise(vectors);
}

#[test]
fn interrupts_go_in_when_the_guest_takes_them() {
    let mut world = World::new();
    raise(&world, &[0x30, 0x31]);
    then(|guest| {
        assert!(guest.injected() == 0 && guest.awaits_window());
        *guest.rflags() |= rflags::INTERRUPT;
        // The window opens.
        guest.exits(0x64, 0, 0);
    });
    then(|guest| {
        assert_eq!(guest.injected(), 0x8000_0030);
        assert!(guest.awaits_window(), "for the other one");
        *guest.rflags() &= !rflags::INTERRUPT;
        guest.exits(HOST_INTERRUPT, 0, 0);
    });
    assert_eq!(world.run(), HOST);
    then(|guest| {
        assert!(guest.injected() == 0 && guest.awaits_window());
        *guest.rflags() |= rflags::INTERRUPT;
        guest.exits(HOST_INTERRUPT, 0, 0);
    });
    assert_eq!(world.run(), HOST);
    then(|guest| {
        assert!(guest.injected() == 0x8000_0031 && !guest.awaits_window());
        guest.exits(HOST_INTERRUPT, 0, 0);
    });
    assert_eq!(world.run(), HOST);
    assert!(is_over());
}

#[test]
fn a_window_that_nothing_waits_for_is_closed() {
    let mut world = World::new();
    raise(&world, &[0x30]);
    then(|guest| {
        assert!(guest.awaits_window());
        guest.exits(HOST_INTERRUPT, 0, 0);
    });
    assert_eq!(world.run(), HOST);
    world.local.withdraw();
    then(|guest| {
        assert!(!guest.awaits_window());
        guest.exits(HOST_INTERRUPT, 0, 0);
    });
    assert_eq!(world.run(), HOST);
}

#[test]
fn nmis_come_one_at_a_time() {
    let mut world = World::new();
    world.mailbox.raise(NMI);
    injects(0x8000_0202);
    assert_eq!(world.run(), HOST);
    world.vcpu.inject_interrupt(NMI).unwrap();
    injects(0);
    assert_eq!(world.run(), HOST);
    // IRET, a step, and the next.
    exits(0x74, 0, 0);
    then(|guest| {
        assert_eq!(guest.injected(), 0);
        assert_ne!(*guest.rflags() & rflags::TRAP, 0);
        *guest.rflags() = 2;
        guest.exits(0x41, 0, 0);
    });
    injects(0x8000_0202);
    assert_eq!(world.run(), HOST);
    assert!(world.vcpu.inject_interrupt(5).is_err());
    assert!(world.vcpu.set_interrupt_line(0, LineLevel::High).is_err());
}

#[test]
fn interrupted_deliveries_go_in_again() {
    for word in [0x8000_0030, 0x8000_0202, 7 << 32 | 0x8000_0b0e] {
        let mut world = World::new();
        then(move |guest| {
            guest.interrupted(word);
            guest.exits(0x400, 1 << 32 | 6, 0x9000);
        });
        assert!(matches!(
            world.run(),
            AxVCpuExitReason::NestedPageFault { .. }
        ));
        assert!(world.vcpu.has_pending_interrupt());
        injects(word);
        assert_eq!(world.run(), HOST);
        injects(0);
        assert_eq!(world.run(), HOST);
    }
}

#[test]
fn a_devices_letter_comes_before_the_guest() {
    let mut world = World::new();
    world.mailbox.raise(axvcpu::DEVICE_LETTER);
    world.mailbox.raise(INIT);
    assert_eq!(world.run(), AxVCpuExitReason::DeviceInterrupt);
    assert_eq!(world.run(), AxVCpuExitReason::CpuDown);
}

#[test]
fn init_stops_and_a_startup_starts_in_real_mode() {
    let mut world = World::new();
    world.mailbox.raise(INIT);
    assert_eq!(world.run(), AxVCpuExitReason::CpuDown);
    world.vcpu.unbind().unwrap();
    assert!(
        world
            .vcpu
            .start_at(GuestPhysAddr::new(0x12_0000), 0)
            .is_err()
    );
    world
        .vcpu
        .start_at(GuestPhysAddr::new(0x9_f000), 0)
        .unwrap();
    let cs = world.vcpu.backend.segment(SegmentName::Cs);
    assert_eq!(
        (cs.selector, cs.base, cs.limit, cs.rights.0),
        (0x9f00, 0x9_f000, 0xffff, 0x9b)
    );
    let get = |register| world.vcpu.backend.get(register);
    assert_eq!(
        [
            Register::Rip,
            Register::Rflags,
            Register::Cr0,
            Register::Cr4,
            Register::Efer
        ]
        .map(get),
        [0, 2, 0x6000_0010, 0, 0]
    );
    assert_eq!(
        (get(Register::Dr6), get(Register::Dr7)),
        (0xffff_0ff0, 0x400)
    );
    assert_eq!(world.vcpu.regs.gpr[gpr::RDX], 0x0080_0f12);
    world.vcpu.bind().unwrap();
    injects(0);
    assert_eq!(world.run(), HOST);
}

#[test]
fn starts_are_those_of_the_boot_protocols() {
    let mut world = World::new();
    assert_eq!(world.vcpu.regs.gpr[gpr::RSI], 0x7000);
    world.vcpu.unbind().unwrap();
    // The VM starts again: as the setup says, at the entry it is given.
    let start = X86Start::Long64 {
        rip: 1,
        rsi: 2,
        cr3: 0x3000,
    };
    world.vcpu.setup(start).unwrap();
    world
        .vcpu
        .start_at(GuestPhysAddr::new(0x20_0000), 0x77)
        .unwrap();
    let get = |world: &World, register| world.vcpu.backend.get(register);
    assert_eq!(get(&world, Register::Rip), 0x20_0000);
    assert_eq!(world.vcpu.regs.gpr[gpr::RSI], 0x77);
    assert_eq!(get(&world, Register::Efer), 0x500);
    // It may be told twice before it runs. Then it starts by start-up IPIs.
    world
        .vcpu
        .start_at(GuestPhysAddr::new(0x20_0000), 0x77)
        .unwrap();
    assert_eq!(get(&world, Register::Rip), 0x20_0000);
    world.vcpu.bind().unwrap();
    injects(0);
    assert_eq!(world.run(), HOST);
    world.vcpu.unbind().unwrap();
    world.vcpu.start_at(GuestPhysAddr::new(0x1000), 0).unwrap();
    assert_eq!(get(&world, Register::Efer), 0);
    world
        .vcpu
        .setup(X86Start::Protected32 {
            eip: 5,
            ebx: 6,
            eax: 7,
        })
        .unwrap();
    assert_eq!(
        (get(&world, Register::Rip), get(&world, Register::Cr0)),
        (5, 0x31)
    );
    assert_eq!(
        (world.vcpu.regs.gpr[gpr::RBX], world.vcpu.regs.gpr[gpr::RAX]),
        (6, 7)
    );
    let flat = world.vcpu.backend.segment(SegmentName::Ss);
    assert_eq!(
        flat,
        Segment {
            selector: 0x18,
            limit: !0,
            base: 0,
            rights: crate::regs::SegmentRights(0xc093)
        }
    );
    world
        .vcpu
        .setup(X86Start::RealMode {
            cs_base: 0xffff_0000,
            ip: 0xfff0,
        })
        .unwrap();
    assert_eq!(
        world.vcpu.backend.segment(SegmentName::Cs).base,
        0xffff_0000
    );
    assert_eq!(get(&world, Register::Rip), 0xfff0);
}

#[test]
fn timers_are_run_and_the_host_told_of_the_next() {
    let mut world = World::new();
    timers_set();
    set_now(1000);
    world.timer.deadline.store(2000, SeqCst);
    assert_eq!(world.vcpu.timer_deadline(), Some(2000));
    assert_eq!(world.run(), HOST);
    assert_eq!(world.run(), HOST);
    assert_eq!(timers_set(), [alarm(2000)], "once");
    assert!(!world.vcpu.has_pending_interrupt());
    set_now(2000);
    assert!(world.vcpu.has_pending_interrupt());
    then(|guest| {
        assert!(guest.awaits_window());
        guest.exits(HOST_INTERRUPT, 0, 0);
    });
    assert_eq!(world.run(), HOST);
    assert_eq!(timers_set(), [u64::MAX]);
    assert_eq!(world.vcpu.timer_deadline(), None);
    // After others had the timer.
    world.timer.deadline.store(3000, SeqCst);
    assert_eq!(world.run(), HOST);
    world.vcpu.unbind().unwrap();
    world.vcpu.bind().unwrap();
    assert_eq!(world.run(), HOST);
    assert_eq!(timers_set(), [alarm(3000); 2]);
    set_now(1000);
}

#[test]
fn a_timer_that_is_nearly_due_runs_and_the_guest_goes_on_when_it_is_due() {
    let mut world = World::new();
    set_now(alarm(5000) - 10);
    world.timer.deadline.store(5000, SeqCst);
    then(|guest| {
        assert!(!guest.awaits_window() && TestHost::now() < 5000);
        guest.exits(HOST_INTERRUPT, 0, 0);
    });
    assert_eq!(world.run(), HOST);
    set_now(alarm(5000));
    set_ticks(7);
    then(|guest| {
        assert!(guest.awaits_window() && (5000..5050).contains(&TestHost::now()));
        guest.exits(HOST_INTERRUPT, 0, 0);
    });
    assert_eq!(world.run(), HOST);
    // Once.
    let before = TestHost::now();
    then(|guest| guest.exits(HOST_INTERRUPT, 0, 0));
    assert_eq!(world.run(), HOST);
    assert!(TestHost::now() - before < 100);
    // A clock that stands still holds nobody.
    set_ticks(0);
    world.timer.deadline.store(before + 200, SeqCst);
    then(|guest| guest.exits(HOST_INTERRUPT, 0, 0));
    assert_eq!(world.run(), HOST);
    assert_eq!(world.vcpu.timer_deadline(), None);
    set_now(1000);
}

#[test]
fn forgotten_translations_are_flushed_before_the_guest_runs() {
    let mut world = World::new();
    assert_eq!(world.run(), HOST);
    then(|guest| {
        assert!(!guest.flushes() && guest.asid() != 0);
        guest.exits(HOST_INTERRUPT, 0, 0);
    });
    assert_eq!(world.run(), HOST);
    forget_nested(TestHost::this_pcpu());
    then(|guest| {
        assert!(guest.flushes());
        guest.exits(HOST_INTERRUPT, 0, 0);
    });
    assert_eq!(world.run(), HOST);
    world.mailbox.request_translation_fence();
    then(|guest| {
        assert!(guest.flushes());
        guest.exits(HOST_INTERRUPT, 0, 0);
    });
    assert_eq!(world.run(), HOST);
    forget_nested(usize::MAX);
}

#[test]
fn what_is_not_in_the_vmcb_is_switched_with_the_vcpu() {
    for sharing in [Sharing::Dedicated, Sharing::Shared] {
        let mut world = World::with(HltPolicy::Exit, sharing);
        then(|guest| {
            machine::with(|m| {
                m.float = [7; 32];
                m.breakpoints = [1, 2, 3, 4];
            });
            guest.exits(HOST_INTERRUPT, 0, 0);
        });
        assert_eq!(world.run(), HOST);
        let saved = world.vcpu.breakpoints == [1, 2, 3, 4];
        assert_eq!(saved, sharing == Sharing::Shared);
        world.vcpu.unbind().unwrap();
        assert_eq!(world.vcpu.breakpoints, [1, 2, 3, 4]);
        machine::with(|m| {
            m.float = [9; 32];
            m.breakpoints = [0; 4];
        });
        world.vcpu.bind().unwrap();
        then(|guest| {
            let (float, breakpoints) = machine::with(|m| (m.float, m.breakpoints));
            assert_eq!((float, breakpoints), ([7; 32], [1, 2, 3, 4]));
            guest.exits(HOST_INTERRUPT, 0, 0);
        });
        assert_eq!(world.run(), HOST);
    }
}

#[test]
fn a_vcpu_runs_only_where_guests_can() {
    let mut world = World::new();
    world.vcpu.unbind().unwrap();
    let mut pcpu = X86PerCpu::<TestHost>::new(TestHost::this_pcpu()).unwrap();
    assert!(pcpu.is_enabled() && pcpu.hardware_enable().is_err());
    pcpu.hardware_disable().unwrap();
    assert!(!pcpu.is_enabled());
    world.vcpu.bind().unwrap();
    assert!(world.vcpu.run(&world.mailbox, &axvcpu::NoDevices).is_err());
    pcpu.hardware_enable().unwrap();
    assert_eq!(world.run(), HOST);
    assert!(X86PerCpu::<TestHost>::new(64).is_err());
    assert!(
        world
            .vcpu
            .set_nested_root(HostPhysAddr::new(0x123))
            .is_err()
    );
}

#[test]
fn the_record_names_every_register() {
    let mut world = World::new();
    exits(0x7f, 0, 0);
    let _ = world.run();
    let mut text = alloc::string::String::new();
    world.vcpu.dump(&mut text).unwrap();
    for word in [
        "rip 0x0000000000008000",
        "rsi 0x0000000000007000",
        "r15",
        "cr3 0x1000",
        "ldtr",
        "idtr",
        "shutdown",
    ] {
        assert!(text.contains(word), "{word}: {text}");
    }
    // It stays when the vCPU is not in the hardware any more.
    let before = text.clone();
    world.vcpu.unbind().unwrap();
    text.clear();
    world.vcpu.dump(&mut text).unwrap();
    assert_eq!(text, before);
    assert_eq!(world.vcpu.pc(), ENTRY);
}

#[test]
fn vcpus_are_made_within_limits() {
    let world = World::new();
    let config = || X86VCpuConfig {
        vcpu_count: 1,
        tsc_hz: 2_000_000_000,
        nested_mode: axaddrspace::NestedMode::Npt(axaddrspace::LargestLeaf::Size1G),
        hlt: HltPolicy::Untrapped,
        longest_turn: u64::MAX,
        sharing: Sharing::Dedicated,
        ram: Arc::from([]),
        local_hardware: LocalApicHardware::Nothing,
        local: world.local.clone(),
        timed: Arc::from([]),
        memory: world.ram.clone(),
    };
    assert!(X86VCpu::<TestHost>::new(1, 0, config()).is_ok());
    assert!(X86VCpu::<TestHost>::new(1, 1, config()).is_err());
    let ept = X86VCpuConfig {
        nested_mode: NestedMode::Ept(axaddrspace::LargestLeaf::Size1G),
        ..config()
    };
    assert!(X86VCpu::<TestHost>::new(1, 0, ept).is_err());
    let many = X86VCpuConfig {
        vcpu_count: 65,
        ..config()
    };
    assert!(X86VCpu::<TestHost>::new(1, 0, many).is_err());
    machine::with(|m| m.cpuid.clear());
    assert!(X86VCpu::<TestHost>::new(1, 0, config()).is_err());
    let unfit = Unfit::NoVirtualization;
    assert_eq!(X86PerCpu::<TestHost>::check(), Err(unfit));
    assert_eq!(X86PerCpu::<TestHost>::best_mode(), Err(unfit));
}

/// INIT, or a restart of the machine: what was cached of the guest's own tables is of another life.
#[test]
fn a_new_life_has_another_tag() {
    let mut world = World::new();
    assert_eq!(world.run(), HOST);
    let tag = alloc::format!("{:?}", world.vcpu.tag);
    let none = alloc::format!("{:?}", axaddrspace::VmidTag::default());
    assert_ne!(tag, none);
    world.vcpu.reset(crate::X86Start::Parked);
    assert_eq!(alloc::format!("{:?}", world.vcpu.tag), none);
}
