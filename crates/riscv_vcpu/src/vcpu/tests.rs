//! How a vCPU is made, bound, switched and spoken to.

extern crate std;

use alloc::string::String;

use axvcpu::NoDevices;

use super::*;
use crate::{
    csr::{
        FCSR, HENVCFG, HGATP, SCOUNTEREN, VSATP, VSCAUSE, VSEPC, VSIE, VSSCRATCH, VSTIMECMP,
        VSTVAL, VSTVEC,
    },
    exception::cause,
    insn, machine,
    testing::{
        ENTRY, HOST_TIMER, ROOT, TestCpu, Trap, config, guest_timer, move_to_another_pcpu, run,
        set_now, trap, vcpu, vcpu_with,
    },
};

const HOST_SOFT: Trap = Trap {
    cause: 1 << 63 | 1,
    stval: 0,
    gpa: 0,
    htinst: 0,
};
const WFI: Trap = Trap {
    cause: cause::VIRTUAL_INSTRUCTION,
    stval: insn::WFI as u64,
    gpa: 0,
    htinst: 0,
};

fn shared() -> RISCVVCpuConfig {
    RISCVVCpuConfig {
        sharing: Sharing::Shared,
        ..config()
    }
}

fn without_sstc() -> RISCVVCpuConfig {
    RISCVVCpuConfig {
        features: CpuFeatures::all() - CpuFeatures::SSTC,
        ..shared()
    }
}

#[test]
fn starts_as_a_hart_does() {
    let mut vcpu = vcpu();
    trap(HOST_SOFT, |regs| {
        assert_eq!(SEPC.read(), ENTRY);
        let mut expected = [0; 32];
        expected[10] = 1; // a0: the hart
        assert_eq!(regs.guest_regs.x, expected);
        assert_eq!(
            SSTATUS.read(),
            sstatus::UXL_64 | sstatus::SPP | 1 << 13 | 1 << 9
        );
        assert_eq!(HSTATUS.read(), 2 << 32 | 1 << 21 | 1 << 8 | 1 << 7);
        assert_eq!(HENVCFG.read(), 1 << 63 | 0b1101 << 4);
        assert_eq!(csr::VSSTATUS.read(), sstatus::UXL_64);
        assert_eq!((VSATP.read(), VSIE.read(), SCOUNTEREN.read()), (0, 0, 7));
        assert_eq!(VSTIMECMP.read(), u64::MAX);
        assert_eq!(HGATP.read() & 0xfff_ffff_ffff, ROOT >> 12);
        assert_eq!(HGATP.read() >> 60, 8);
    });
    let _ = run(&mut vcpu);
}

#[test]
fn what_a_vcpu_is_not_made_from() {
    for (id, config) in [
        (4, config()),
        (
            0,
            RISCVVCpuConfig {
                vcpu_count: 0,
                ..config()
            },
        ),
        (
            0,
            RISCVVCpuConfig {
                vcpu_count: 65,
                ..config()
            },
        ),
    ] {
        assert!(TestCpu::new(0, id, config).is_err());
    }
    // No Sstc: henvcfg.STCE does not stay.
    machine::with(|m| m.writable.insert(0x60a, !(1 << 63)));
    assert!(TestCpu::new(0, 0, config()).is_err());
    assert!(TestCpu::new(0, 0, without_sstc()).is_ok());
    assert!(
        vcpu_with(0, without_sstc())
            .set_nested_root(HostPhysAddr::new(0x1000))
            .is_err()
    );
}

#[test]
fn a_vcpu_runs_only_where_it_is_bound() {
    let mut vcpu = TestCpu::new(0, 0, config()).unwrap();
    assert!(vcpu.run(&Mailbox::new(), &NoDevices).is_err());
}

/// The guest changes its CSRs; they are there after everything else used the hardware.
fn change_everything(_: &mut VmCpuRegisters) {
    VSSCRATCH.write(0x5c);
    VSATP.write(0x8000_0000_0000_1234);
    VSTVEC.write(0x7ec);
    VSEPC.write(0xe9c);
    VSCAUSE.write(0xca);
    VSTVAL.write(0x7a);
    VSTIMECMP.write(777);
    FCSR.write(3);
    machine::with(|m| m.float[31] = 0xf31);
    SSTATUS.set(sstatus::FS | sstatus::VS);
    csr::VTYPE.write(0xc1);
}

fn assert_as_changed(_: &mut VmCpuRegisters) {
    assert_eq!(VSSCRATCH.read(), 0x5c);
    assert_eq!(VSATP.read(), 0x8000_0000_0000_1234);
    assert_eq!((VSTVEC.read(), VSEPC.read()), (0x7ec, 0xe9c));
    assert_eq!((VSCAUSE.read(), VSTVAL.read()), (0xca, 0x7a));
    assert_eq!((VSTIMECMP.read(), FCSR.read()), (777, 3));
    assert_eq!(machine::with(|m| m.float[31]), 0xf31);
    assert_eq!(csr::VTYPE.read(), 0xc1);
}

fn assert_fresh(_: &mut VmCpuRegisters) {
    assert_eq!((VSSCRATCH.read(), VSATP.read(), VSTVEC.read()), (0, 0, 0));
    assert_eq!((VSTIMECMP.read(), FCSR.read()), (u64::MAX, 0));
    assert_eq!(machine::with(|m| m.float[31]), 0, "no other guest's number");
    assert_eq!(csr::VTYPE.read(), 1 << 63);
}

#[test]
fn vcpus_that_share_a_pcpu_keep_their_state() {
    let (mut one, mut two) = (vcpu_with(0, shared()), vcpu_with(1, shared()));
    for _ in 0..2 {
        trap(HOST_SOFT, change_everything);
        let _ = run(&mut one);
        trap(HOST_SOFT, assert_fresh);
        let _ = run(&mut two);
        trap(HOST_SOFT, assert_as_changed);
        let _ = run(&mut one);
        two.setup(()).unwrap();
    }
}

#[test]
fn a_vcpu_that_is_loaded_is_not_loaded_again() {
    for config in [config(), shared()] {
        let mut vcpu = vcpu_with(0, config);
        assert_eq!(run(&mut vcpu), HOST_TIMER);
        // Would be overwritten by a load.
        VSTVAL.write(0x99);
        machine::with(|m| m.fences.clear());
        trap(HOST_SOFT, |_| assert_eq!(VSTVAL.read(), 0x99));
        let _ = run(&mut vcpu);
        assert_eq!(machine::with(|m| m.fences.len()), 0);
    }
}

#[test]
fn an_unbound_vcpu_leaves_no_interrupt_behind_and_flushes_nothing() {
    for config in [config(), shared()] {
        let mut vcpu = vcpu_with(0, config);
        trap(HOST_SOFT, |_| VSIE.write(0x222));
        let _ = run(&mut vcpu);
        vcpu.unbind().unwrap();
        assert_eq!(VSIE.read(), 0);
        machine::with(|m| m.fences.clear());
        vcpu.bind().unwrap();
        trap(HOST_SOFT, |_| assert_eq!(VSIE.read(), 0x222));
        let _ = run(&mut vcpu);
        assert_eq!(
            machine::with(|m| m.fences.len()),
            0,
            "it has its VMID still"
        );
    }
}

#[test]
fn one_that_lost_the_hardware_leaves_it_alone() {
    let (mut one, mut two) = (vcpu_with(0, shared()), vcpu_with(1, shared()));
    let _ = run(&mut one);
    trap(HOST_SOFT, |_| VSIE.write(0x222));
    let _ = run(&mut two);
    one.unbind().unwrap();
    assert_eq!(VSIE.read(), 0x222, "that is the other's");
}

/// A host task's trap that returns after a guest ran must return to the host.
#[test]
fn sret_goes_to_the_host_again() {
    let mut vcpu = vcpu();
    for _ in 0..2 {
        trap(HOST_SOFT, |_| assert!(HSTATUS.read() & hstatus::SPV != 0));
        let _ = run(&mut vcpu);
        assert_eq!(HSTATUS.read() & hstatus::SPV, 0);
    }
}

#[test]
fn clean_registers_are_not_saved_again() {
    let mut vcpu = vcpu_with(0, shared());
    trap(HOST_SOFT, change_everything);
    let _ = run(&mut vcpu);
    assert_eq!(vcpu.float.f[31], 0xf31);
    trap(HOST_SOFT, |_| {
        let clean = sstatus::FS_CLEAN | sstatus::VS_CLEAN;
        assert_eq!(SSTATUS.read() & (sstatus::FS | sstatus::VS), clean);
        // Not the guest: it would make it dirty.
        machine::with(|m| m.float[31] = 0xbad);
    });
    let _ = run(&mut vcpu);
    assert_eq!(vcpu.float.f[31], 0xf31);
}

#[test]
fn a_dedicated_vcpu_is_saved_when_it_is_unbound() {
    let mut one = vcpu_with(0, config());
    trap(HOST_SOFT, change_everything);
    let _ = run(&mut one);
    assert_eq!(one.regs.vs_csrs.vsscratch, 0, "still in the hardware only");
    one.unbind().unwrap();
    let mut two = vcpu_with(1, config());
    trap(HOST_SOFT, assert_fresh);
    let _ = run(&mut two);
    two.unbind().unwrap();
    one.bind().unwrap();
    trap(HOST_SOFT, assert_as_changed);
    let _ = run(&mut one);
}

#[test]
fn a_vcpu_takes_its_state_to_another_pcpu_and_back() {
    for config in [config(), shared()] {
        let mut vcpu = vcpu_with(0, config);
        let _ = run(&mut vcpu);
        vcpu.unbind().unwrap();
        move_to_another_pcpu();
        vcpu.bind().unwrap();
        trap(HOST_SOFT, change_everything);
        let _ = run(&mut vcpu);
        vcpu.unbind().unwrap();
        // The first pCPU still names this vCPU, but holds what it was then.
        change_nothing_but_the_hardware();
        move_to_another_pcpu();
        vcpu.bind().unwrap();
        trap(HOST_SOFT, assert_as_changed);
        let _ = run(&mut vcpu);
    }
}

/// As if the other pCPU's registers were there.
fn change_nothing_but_the_hardware() {
    for register in [
        0x240, 0x280, 0x205, 0x241, 0x242, 0x243, 0x24d, 0x003, 0xc21,
    ] {
        machine::with(|m| m.write(register, 0xbad));
    }
    machine::with(|m| m.float[31] = 0xbad);
}

#[test]
fn a_dedicated_pcpu_that_was_not_its_own() {
    let mut one = vcpu_with(0, config());
    let _ = run(&mut one);
    let mut two = vcpu_with(1, config());
    let _ = run(&mut two);
    assert!(
        one.run(&Mailbox::new(), &NoDevices).is_err(),
        "its state is gone"
    );
    assert!(one.unbind().is_err());
    // A reset asks for nothing of it.
    one.setup(()).unwrap();
    trap(HOST_SOFT, assert_fresh);
    assert!(one.run(&Mailbox::new(), &NoDevices).is_ok());
}

#[test]
fn starting_again() {
    let mut vcpu = vcpu();
    trap(HOST_SOFT, |regs| {
        change_everything(regs);
        regs.guest_regs.x[9] = 9;
    });
    let _ = run(&mut vcpu);
    vcpu.unbind().unwrap();
    vcpu.start_at(GuestPhysAddr::new(0x8400_0000), 0x1234)
        .unwrap();
    vcpu.bind().unwrap();
    assert_eq!(vcpu.pc(), 0x8400_0000);
    trap(HOST_SOFT, |regs| {
        assert_fresh(regs);
        assert_eq!(SEPC.read(), 0x8400_0000);
        let mut expected = [0; 32];
        (expected[10], expected[11]) = (1, 0x1234);
        assert_eq!(regs.guest_regs.x, expected);
    });
    let _ = run(&mut vcpu);
    vcpu.setup(()).unwrap();
    assert_eq!((vcpu.pc(), vcpu.arg(1)), (ENTRY, 0));
}

#[test]
fn the_host_gets_its_status_back() {
    let mut vcpu = vcpu();
    for host in [sstatus::SIE, 0] {
        let host = host | 1 << 18;
        SSTATUS.write(host);
        trap(HOST_SOFT, |_| SSTATUS.set(sstatus::FS | sstatus::SPIE));
        let _ = run(&mut vcpu);
        assert_eq!(SSTATUS.read(), host);
        // Else a trap handler that this run came in the midst of would return to a guest.
        assert_eq!(HSTATUS.read() & hstatus::SPV, 0);
        assert!(vcpu.registers().guest_regs.sstatus & sstatus::FS == sstatus::FS);
    }
}

#[test]
fn a_devices_letter_comes_before_the_guest() {
    let (mut vcpu, mailbox) = (vcpu(), Mailbox::new());
    mailbox.raise(axvcpu::DEVICE_LETTER);
    mailbox.raise(SOFTWARE_INTERRUPT);
    let exit = vcpu.run(&mailbox, &NoDevices).unwrap();
    assert_eq!(exit, AxVCpuExitReason::DeviceInterrupt);
    assert_eq!(mailbox.take().edges, 1 << SOFTWARE_INTERRUPT);
}

#[test]
fn letters_take_effect_at_the_entry() {
    use machine::Fence::{Instructions, Translations};
    let mut vcpu = vcpu();
    let mailbox = Mailbox::new();
    let _ = vcpu.run(&mailbox, &NoDevices).unwrap();
    machine::with(|m| m.fences.clear());
    mailbox.raise(SOFTWARE_INTERRUPT);
    mailbox.raise(6); // the guest's timer is its own
    mailbox.set_line(EXTERNAL_INTERRUPT, LineLevel::High);
    mailbox.request_instruction_fence();
    mailbox.request_translation_fence();
    trap(HOST_SOFT, |_| {
        assert_eq!(HVIP.read(), interrupt::VSSIP | interrupt::VSEIP);
        // The guest takes it.
        HVIP.clear(interrupt::VSSIP);
    });
    let _ = vcpu.run(&mailbox, &NoDevices).unwrap();
    let expected = [Instructions, Translations(csr::Translations::All)];
    assert_eq!(machine::with(|m| m.fences.clone()), expected);
    // An edge is once; a line is as long as it is high.
    trap(HOST_SOFT, |_| assert_eq!(HVIP.read(), interrupt::VSEIP));
    let _ = vcpu.run(&mailbox, &NoDevices).unwrap();
    mailbox.set_line(EXTERNAL_INTERRUPT, LineLevel::Low);
    trap(HOST_SOFT, |_| assert_eq!(HVIP.read(), 0));
    let _ = vcpu.run(&mailbox, &NoDevices).unwrap();
}

#[test]
fn interrupts_from_its_own_task() {
    let mut vcpu = vcpu();
    vcpu.inject_interrupt(SOFTWARE_INTERRUPT).unwrap();
    vcpu.set_interrupt_line(EXTERNAL_INTERRUPT, LineLevel::High)
        .unwrap();
    trap(HOST_SOFT, |_| {
        assert_eq!(HVIP.read(), interrupt::VSSIP | interrupt::VSEIP)
    });
    let _ = run(&mut vcpu);
    vcpu.set_interrupt_line(EXTERNAL_INTERRUPT, LineLevel::Low)
        .unwrap();
    trap(HOST_SOFT, |_| assert_eq!(HVIP.read(), interrupt::VSSIP));
    let _ = run(&mut vcpu);
    for vector in [0, 1, 6, 10, 64, usize::MAX] {
        assert!(vcpu.inject_interrupt(vector).is_err(), "{vector}");
    }
    for vector in [0, 2, 6, 64, usize::MAX] {
        assert!(
            vcpu.set_interrupt_line(vector, LineLevel::High).is_err(),
            "{vector}"
        );
    }
}

#[test]
fn what_ends_a_wait() {
    // In vsie: software 1, timer 5, external 9.
    for (enabled, ends) in [
        (1 << 1, [true, false, false]),
        (1 << 5, [false, true, false]),
        (1 << 9, [false, false, true]),
        (0, [false; 3]),
    ] {
        for sharing in [Sharing::Dedicated, Sharing::Shared] {
            let mut vcpu = vcpu_with(
                0,
                RISCVVCpuConfig {
                    sharing,
                    ..config()
                },
            );
            set_now(100);
            trap(WFI, move |_| {
                VSIE.write(enabled);
                VSTIMECMP.write(200);
            });
            assert_eq!(run(&mut vcpu), AxVCpuExitReason::Halt);
            assert!(!vcpu.has_pending_interrupt());
            assert_eq!(vcpu.timer_deadline(), (enabled == 1 << 5).then_some(200));
            vcpu.unbind().unwrap();

            vcpu.inject_interrupt(SOFTWARE_INTERRUPT).unwrap();
            assert_eq!(vcpu.has_pending_interrupt(), ends[0]);
            vcpu.edges = 0;
            vcpu.set_interrupt_line(EXTERNAL_INTERRUPT, LineLevel::High)
                .unwrap();
            assert_eq!(vcpu.has_pending_interrupt(), ends[2]);
            vcpu.line = 0;
            set_now(200);
            assert_eq!(vcpu.has_pending_interrupt(), ends[1]);
        }
    }
}

#[test]
fn an_emulated_timer_ends_a_wait_too() {
    let mut vcpu = vcpu_with(0, without_sstc());
    set_now(10);
    crate::testing::sbi(0x5449_4d45, 0, &[50]);
    trap(WFI, |_| VSIE.write(1 << 5));
    assert_eq!(run(&mut vcpu), AxVCpuExitReason::Halt);
    assert_eq!((vcpu.timer_deadline(), guest_timer()), (Some(50), 50));
    assert!(!vcpu.has_pending_interrupt());
    set_now(50);
    assert!(vcpu.has_pending_interrupt());
    trap(HOST_SOFT, |_| assert!(HVIP.read() & interrupt::VSTIP != 0));
    let _ = run(&mut vcpu);
    assert!(
        vcpu.has_pending_interrupt(),
        "until the guest sets it again"
    );
    assert_eq!(vcpu.timer_deadline(), None);
}

#[test]
fn an_emulated_timer_goes_with_its_vcpu() {
    let (mut one, mut two) = (vcpu_with(0, without_sstc()), vcpu_with(1, without_sstc()));
    set_now(10);
    crate::testing::sbi(0x5449_4d45, 0, &[50]);
    let _ = run(&mut one);
    assert_eq!(guest_timer(), 50);
    let _ = run(&mut two);
    assert_eq!(guest_timer(), u64::MAX, "none of its own");
    let _ = run(&mut one);
    assert_eq!(guest_timer(), 50);
}

#[test]
fn the_dump_names_every_register() {
    let mut vcpu = vcpu();
    trap(
        Trap {
            cause: 24,
            stval: 0x5a5a,
            gpa: 0,
            htinst: 0,
        },
        |regs| regs.guest_regs.x[31] = 0x31_3131,
    );
    let AxVCpuExitReason::Unknown(_) = run(&mut vcpu) else {
        panic!("cause 24 is not known");
    };
    let mut out = String::new();
    vcpu.dump(&mut out).unwrap();
    for name in REGISTER_NAMES {
        assert!(out.contains(name), "{name}");
    }
    for word in [
        "VM 7 vCPU 1",
        "0x0000000000313131",
        "vsatp",
        "hvip",
        "reason 0x18, info 0x5a5a",
    ] {
        assert!(out.contains(word), "{word}");
    }
}
