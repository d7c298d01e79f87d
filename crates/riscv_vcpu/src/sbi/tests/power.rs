//! HSM and SRST: harts that start, stop and suspend, and the system that goes down.

use super::*;

#[test]
fn starting_harts() {
    let mut vcpu = vcpu();
    let entry = RAM.start + 0x1000;
    assert_eq!(
        left(&mut vcpu, HSM, 0, &[3, entry, 0x55]),
        AxVCpuExitReason::CpuUp {
            target_cpu: 3,
            entry_point: GuestPhysAddr::new(entry),
            arg: 0x55,
        }
    );
    vcpu.set_return_value(Err(HypercallError::AlreadyAvailable));
    assert_eq!(result(&vcpu), (ALREADY_AVAILABLE, 0));
    assert_eq!(
        answered(&mut vcpu, HSM, 0, &[1, entry, 0]),
        (ALREADY_AVAILABLE, 0)
    );
    for hart in [4, 64, u64::MAX] {
        assert_eq!(
            answered(&mut vcpu, HSM, 0, &[hart, entry, 0]),
            (INVALID_PARAM, 0)
        );
    }
    for address in [0, RAM.end, RAM.start + 1, u64::MAX] {
        assert_eq!(
            answered(&mut vcpu, HSM, 0, &[2, address, 0]),
            (INVALID_ADDRESS, 0)
        );
    }
}

#[test]
fn stopping_and_asking() {
    let mut vcpu = vcpu();
    assert_eq!(answered(&mut vcpu, HSM, 2, &[1]), (0, 0));
    assert_eq!(answered(&mut vcpu, HSM, 2, &[4]), (INVALID_PARAM, 0));
    assert_eq!(
        left(&mut vcpu, HSM, 2, &[0]),
        AxVCpuExitReason::CpuStatus { target_cpu: 0 }
    );
    vcpu.set_return_value(Ok(1));
    assert_eq!(result(&vcpu), (0, 1));
    assert_eq!(left(&mut vcpu, HSM, 1, &[]), AxVCpuExitReason::CpuDown);
}

#[test]
fn suspending() {
    // Whatever WFI does, a suspended hart gives up its pCPU.
    for wfi in [WfiPolicy::Exit, WfiPolicy::Untrapped] {
        let mut vcpu = vcpu_with(2, RISCVVCpuConfig { wfi, ..config() });
        VSIP.write(0);
        VSIE.write(0);
        assert_eq!(left(&mut vcpu, HSM, 3, &[0, 0, 0]), AxVCpuExitReason::Halt);
        assert_eq!(result(&vcpu), (0, 0));
        assert_eq!(vcpu.wait().kind, WaitKind::Suspended);
        // An interrupt is pending: at once.
        vcpu.regs.vs_csrs.vsie = 2;
        sbi(HSM, 3, &[0, 0, 0]);
        VSIE.write(2);
        VSIP.write(2);
        assert_eq!(run(&mut vcpu), HOST_TIMER);
        assert_eq!(vcpu.wait().kind, WaitKind::Idle);
        VSIP.write(0);
        VSIE.write(0);
    }
}

/// A wait is ended by the lines that the guest has enabled.
#[test]
fn waiting_for_lines() {
    let mut vcpu = vcpu_with(2, config());
    let external = 1 << crate::EXTERNAL_INTERRUPT;
    for (vsie, wakes) in [(0, 0), (1 << 9, external)] {
        sbi(HSM, 3, &[0, 0, 0]);
        vcpu.regs.vs_csrs.vsie = vsie;
        VSIP.write(0);
        VSIE.write(vsie);
        assert_eq!(run(&mut vcpu), AxVCpuExitReason::Halt);
        assert_eq!(vcpu.wait().lines & external, wakes);
    }
}

#[test]
fn suspending_without_keeping_state() {
    let mut vcpu = vcpu_with(2, config());
    assert_eq!(run(&mut vcpu), HOST_TIMER);
    VSATP.write(8 << 60);
    VSSTATUS.set(sstatus::SIE);
    let resume = RAM.start + 0x2000;
    sbi(HSM, 3, &[0x8000_0000, resume, 0x99]);
    assert_eq!(run(&mut vcpu), AxVCpuExitReason::Halt);
    assert_eq!(vcpu.pc(), resume);
    assert_eq!(result(&vcpu), (2, 0x99));
    // A compiler extends 32 bits by their sign.
    sbi(HSM, 3, &[0xffff_ffff_8000_0000, resume, 0x98]);
    assert_eq!(run(&mut vcpu), AxVCpuExitReason::Halt);
    assert_eq!(result(&vcpu), (2, 0x98));
    assert_eq!((VSATP.read(), VSSTATUS.read() & sstatus::SIE), (0, 0));
    assert_eq!(
        answered(&mut vcpu, HSM, 3, &[0x8000_0000, RAM.end, 0]),
        (INVALID_ADDRESS, 0)
    );
}

#[test]
fn suspend_types_that_are_not_there() {
    let mut vcpu = vcpu();
    let resume = RAM.start;
    for kind in [
        1,
        0x0fff_ffff,
        0x1000_0000,
        0x7fff_ffff,
        0x8000_0001,
        0x8fff_ffff,
        0x9000_0000,
        0xffff_ffff,
        u64::MAX,
    ] {
        assert_eq!(
            answered(&mut vcpu, HSM, 3, &[kind, resume, 0]),
            (INVALID_PARAM, 0)
        );
    }
}

#[test]
fn going_down() {
    use SystemDownKind::{Crash, PowerOff, Reset};
    let reset = Reset(ResetCause::Asked);
    let mut vcpu = vcpu();
    for (args, kind) in [
        ([0, 0], PowerOff),
        ([0, 1], Crash),
        ([1, 0], reset),
        ([1, 1], reset),
        ([2, 0], reset),
        ([2, 1], reset),
    ] {
        assert_eq!(
            left(&mut vcpu, SRST, 0, &args),
            AxVCpuExitReason::SystemDown { kind }
        );
    }
    for args in [
        [3, 0],
        [0xefff_ffff, 0],
        [0xf000_0000, 0],
        [u64::from(u32::MAX), 0],
        [0, 2],
        [0, 0xdfff_ffff],
        [0, 0xe000_0000],
        [0, 0xf000_0000],
    ] {
        assert_eq!(
            answered(&mut vcpu, SRST, 0, &args),
            (INVALID_PARAM, 0),
            "{args:x?}"
        );
    }
}
