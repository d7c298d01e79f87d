//! Each extension against the specification.

mod fences;
mod power;

extern crate std;

use axaddrspace::{GuestPhysAddr, GuestVirtAddr};
use axvcpu::{AxArchVCpu, ConsoleCall, Fence, ResetCause, SystemDownKind, VCpuSet, WaitKind};
use proptest::prelude::*;

use super::*;
use crate::{
    CpuFeatures, RISCVVCpuConfig, WfiPolicy,
    csr::{HVIP, Translations, VSATP, VSIE, VSIP, VSSTATUS, VSTIMECMP, interrupt, sstatus},
    machine,
    testing::{
        ENTRY, HOST_TIMER, RAM, TestCpu, config, guest_timer, run, sbi, set_now, vcpu, vcpu_with,
    },
};

const BASE: u64 = 0x10;
const TIME: u64 = 0x5449_4d45;
const IPI: u64 = 0x73_5049;
const RFENCE: u64 = 0x5246_4e43;
const HSM: u64 = 0x48_534d;
const SRST: u64 = 0x5352_5354;
const DBCN: u64 = 0x4442_434e;

const FAILED: i64 = -1;
const NOT_SUPPORTED: i64 = -2;
const INVALID_PARAM: i64 = -3;
const DENIED: i64 = -4;
const INVALID_ADDRESS: i64 = -5;
const ALREADY_AVAILABLE: i64 = -6;

const ALL_HARTS: u64 = u64::MAX;

/// What the guest finds in `a0` and `a1`.
fn result(vcpu: &TestCpu) -> (i64, u64) {
    (vcpu.arg(0) as i64, vcpu.arg(1))
}

/// Makes a call that is answered without leaving.
#[track_caller]
fn answered(vcpu: &mut TestCpu, extension: u64, function: u64, args: &[u64]) -> (i64, u64) {
    let pc = vcpu.pc();
    sbi(extension, function, args);
    assert_eq!(run(vcpu), HOST_TIMER, "{extension:#x} {function} {args:x?}");
    assert_eq!(vcpu.pc(), pc + 4);
    result(vcpu)
}

/// Makes a call that leaves.
#[track_caller]
fn left(vcpu: &mut TestCpu, extension: u64, function: u64, args: &[u64]) -> AxVCpuExitReason {
    let pc = vcpu.pc();
    sbi(extension, function, args);
    let exit = run(vcpu);
    match exit {
        AxVCpuExitReason::CpuDown | AxVCpuExitReason::SystemDown { .. } => {}
        _ => assert_eq!(vcpu.pc(), pc + 4),
    }
    exit
}

fn mask(mask: u64) -> VCpuSet {
    VCpuSet::Mask { base: 0, mask }
}

#[test]
fn base() {
    let mut vcpu = vcpu();
    for (function, value) in [(0, 2 << 24), (1, 0x4178_4856), (4, 11), (5, 12), (6, 13)] {
        assert_eq!(answered(&mut vcpu, BASE, function, &[]), (0, value));
    }
    assert_eq!(answered(&mut vcpu, BASE, 2, &[]).0, 0);
    for function in [7, 8, u64::MAX, 1 << 32] {
        assert_eq!(answered(&mut vcpu, BASE, function, &[]), (NOT_SUPPORTED, 0));
    }
}

#[test]
fn probing_tells_what_is_there() {
    let mut vcpu = vcpu();
    for present in [BASE, TIME, IPI, RFENCE, HSM, SRST, DBCN, 1, 2] {
        assert_eq!(
            answered(&mut vcpu, BASE, 3, &[present]),
            (0, 1),
            "{present:#x}"
        );
    }
    // Other legacy calls, PMU, SUSP, CPPC, NACL, STA; and BASE with a bit too many.
    let absent = [
        0,
        3,
        4,
        5,
        6,
        7,
        8,
        9,
        0x50_4d55,
        0x5355_5350,
        0x4350_5043,
        0x4e41_434c,
        0x53_5441,
    ];
    for absent in absent.into_iter().chain([1 << 32 | BASE]) {
        assert_eq!(
            answered(&mut vcpu, BASE, 3, &[absent]),
            (0, 0),
            "{absent:#x}"
        );
    }
}

#[test]
fn unknown_extensions_and_functions() {
    let mut vcpu = vcpu();
    assert_eq!(answered(&mut vcpu, 0x9999, 0, &[]), (NOT_SUPPORTED, 0));
    for (extension, function) in [
        (TIME, 1),
        (IPI, 1),
        (RFENCE, 7),
        (HSM, 4),
        (SRST, 1),
        (DBCN, 3),
    ] {
        assert_eq!(
            answered(&mut vcpu, extension, function, &[]),
            (NOT_SUPPORTED, 0)
        );
    }
    // A legacy call has one result: a1 stays.
    for legacy in [0, 3, 8, 0xf] {
        assert_eq!(
            answered(&mut vcpu, legacy, 0, &[1, 0x77]),
            (NOT_SUPPORTED, 0x77)
        );
    }
    assert_eq!(
        answered(&mut vcpu, 0x10, 99, &[1, 0x77]),
        (NOT_SUPPORTED, 0)
    );
}

#[test]
fn only_the_results_change() {
    let mut vcpu = vcpu();
    let before = core::array::from_fn::<u64, 32, _>(|n| n as u64 * 0x101);
    crate::testing::trap(
        crate::testing::Trap {
            cause: crate::exception::cause::CALL_FROM_VS,
            ..Default::default()
        },
        move |regs| {
            regs.guest_regs.x = before;
            (regs.guest_regs.x[16], regs.guest_regs.x[17]) = (0, BASE);
        },
    );
    assert_eq!(run(&mut vcpu), HOST_TIMER);
    for n in (0..32).filter(|n| !matches!(n, 10 | 11 | 16 | 17)) {
        assert_eq!(vcpu.registers().guest_regs.x[n], before[n], "x{n}");
    }
}

#[test]
fn timer_with_sstc() {
    let mut vcpu = vcpu();
    assert_eq!(answered(&mut vcpu, TIME, 0, &[12345]), (0, 0));
    assert_eq!(VSTIMECMP.read(), 12345);
}

#[test]
fn timer_without_sstc() {
    let features = CpuFeatures::all() - CpuFeatures::SSTC;
    let mut vcpu = vcpu_with(
        0,
        RISCVVCpuConfig {
            features,
            ..config()
        },
    );
    set_now(100);
    // To come.
    assert_eq!(answered(&mut vcpu, TIME, 0, &[150]), (0, 0));
    assert_eq!((guest_timer(), HVIP.read() & interrupt::VSTIP), (150, 0));
    assert_eq!(vcpu.deadline, 150);
    // There, at the next entry after the host's interrupt.
    set_now(150);
    assert_eq!(run(&mut vcpu), HOST_TIMER);
    assert!(HVIP.read() & interrupt::VSTIP != 0);
    // It stays until it is set again.
    assert_eq!(run(&mut vcpu), HOST_TIMER);
    assert!(HVIP.read() & interrupt::VSTIP != 0);
    assert_eq!(answered(&mut vcpu, TIME, 0, &[u64::MAX]), (0, 0));
    assert_eq!(
        (guest_timer(), HVIP.read() & interrupt::VSTIP),
        (u64::MAX, 0)
    );
    // At once, if it is past.
    assert_eq!(answered(&mut vcpu, TIME, 0, &[150]), (0, 0));
    assert_eq!(
        (guest_timer(), HVIP.read() & interrupt::VSTIP),
        (u64::MAX, interrupt::VSTIP)
    );
    vcpu.unbind().unwrap();
    assert_eq!(vcpu.timer_deadline(), None);
}

#[test]
fn an_ipi_to_oneself_is_there_at_once() {
    let mut vcpu = vcpu();
    assert_eq!(answered(&mut vcpu, IPI, 0, &[0b10, 0]), (0, 0));
    assert_eq!(HVIP.read() & interrupt::VSSIP, interrupt::VSSIP);
    HVIP.write(0);
    assert_eq!(answered(&mut vcpu, IPI, 0, &[1, 1]), (0, 0));
    assert_eq!(HVIP.read() & interrupt::VSSIP, interrupt::VSSIP);
    // To nobody.
    HVIP.write(0);
    assert_eq!(answered(&mut vcpu, IPI, 0, &[0, 0]), (0, 0));
    assert_eq!(HVIP.read() & interrupt::VSSIP, 0);
}

#[test]
fn an_ipi_to_others_leaves() {
    let mut vcpu = vcpu();
    for (args, others, own) in [
        ([0b0001, 0], 0b0001, false),
        ([0b1111, 0], 0b1101, true),
        ([0b101, 1], 0b1000, true),
        ([0, ALL_HARTS], 0b1101, true),
        ([u64::MAX, ALL_HARTS], 0b1101, true),
    ] {
        HVIP.write(0);
        let target = mask(others);
        let vector = 2;
        assert_eq!(
            left(&mut vcpu, IPI, 0, &args),
            AxVCpuExitReason::SendIPI { target, vector }
        );
        assert_eq!(HVIP.read() & interrupt::VSSIP != 0, own, "{args:?}");
        vcpu.set_return_value(Ok(0));
        assert_eq!(result(&vcpu), (0, 0));
    }
}

#[test]
fn masks_name_harts_that_exist() {
    let bad = [
        [0b1_0000, 0],
        [0b1_0001, 0],
        [0b1000, 1],
        [1, 4],
        [0, 4],
        [1, 63],
        [1, 64],
        [2, 63],
    ];
    let mut vcpu = vcpu();
    HVIP.write(0);
    for args in bad.into_iter().chain([[1, u64::MAX - 1], [u64::MAX, 3]]) {
        assert_eq!(
            answered(&mut vcpu, IPI, 0, &args),
            (INVALID_PARAM, 0),
            "{args:x?}"
        );
        assert_eq!(
            answered(&mut vcpu, RFENCE, 0, &args),
            (INVALID_PARAM, 0),
            "{args:x?}"
        );
    }
    assert_eq!(
        HVIP.read() & interrupt::VSSIP,
        0,
        "nothing is done by halves"
    );
    // A VM as large as they come.
    let mut vcpu = vcpu_with(
        63,
        RISCVVCpuConfig {
            vcpu_count: 64,
            ..config()
        },
    );
    assert_eq!(answered(&mut vcpu, IPI, 0, &[1, 63]), (0, 0));
    assert_eq!(answered(&mut vcpu, IPI, 0, &[2, 63]), (INVALID_PARAM, 0));
    let target = mask(u64::MAX >> 1);
    assert_eq!(
        left(&mut vcpu, IPI, 0, &[u64::MAX, 0]),
        AxVCpuExitReason::SendIPI { target, vector: 2 }
    );
}

#[test]
fn the_debug_console() {
    let mut vcpu = vcpu();
    let addr = GuestPhysAddr::new(0x8000_1000);
    for (function, args, call) in [
        (0, [5, 0x8000_1000, 0], ConsoleCall::Write { addr, len: 5 }),
        (
            1,
            [u64::MAX, 0x8000_1000, 0],
            ConsoleCall::Read {
                addr,
                len: u64::MAX,
            },
        ),
        (2, [0xff41, 0, 7], ConsoleCall::WriteByte(0x41)),
    ] {
        assert_eq!(
            left(&mut vcpu, DBCN, function, &args),
            AxVCpuExitReason::Console(call)
        );
        vcpu.set_return_value(Ok(5));
        assert_eq!(result(&vcpu), (0, 5));
    }
    for function in [0, 1] {
        let args = [5, 0x8000_1000, 1];
        assert_eq!(
            answered(&mut vcpu, DBCN, function, &args),
            (INVALID_PARAM, 0)
        );
    }
}

#[test]
fn the_legacy_console() {
    let mut vcpu = vcpu();
    let put = ConsoleCall::WriteByte(0x41);
    assert_eq!(
        left(&mut vcpu, 1, 0, &[0x1_0041, 0x77]),
        AxVCpuExitReason::Console(put)
    );
    vcpu.set_return_value(Ok(0));
    assert_eq!(result(&vcpu), (0, 0x77), "a1 stays");
    let get = AxVCpuExitReason::Console(ConsoleCall::ReadByte);
    // The function number is not looked at.
    assert_eq!(left(&mut vcpu, 2, 99, &[0, 0x77]), get);
    vcpu.set_return_value(Ok(0x42));
    assert_eq!(result(&vcpu), (0x42, 0x77));
    assert_eq!(left(&mut vcpu, 2, 0, &[0, 0x77]), get);
    vcpu.set_return_value(Err(HypercallError::Failed));
    assert_eq!(result(&vcpu), (-1, 0x77), "no byte");
}

#[test]
fn errors_have_the_specifications_numbers() {
    let mut vcpu = vcpu();
    for (error, code) in [
        (HypercallError::Failed, FAILED),
        (HypercallError::NotSupported, NOT_SUPPORTED),
        (HypercallError::InvalidParam, INVALID_PARAM),
        (HypercallError::Denied, DENIED),
        (HypercallError::InvalidAddress, INVALID_ADDRESS),
        (HypercallError::AlreadyAvailable, ALREADY_AVAILABLE),
    ] {
        let _ = left(&mut vcpu, DBCN, 2, &[1]);
        vcpu.set_return_value(Err(error));
        assert_eq!(result(&vcpu), (code, 0));
        // Once only.
        vcpu.set_return_value(Ok(7));
        assert_eq!(result(&vcpu), (code, 0));
    }
}

#[test]
fn calls_are_counted() {
    let mut vcpu = vcpu();
    for (extension, kind) in [
        (BASE, ExitKind::SbiBase),
        (TIME, ExitKind::SbiTime),
        (IPI, ExitKind::SbiIpi),
        (RFENCE, ExitKind::SbiRfence),
        (HSM, ExitKind::SbiHsm),
        (SRST, ExitKind::SbiSrst),
        (DBCN, ExitKind::SbiDbcn),
        (0x999, ExitKind::SbiOther),
    ] {
        let _ = answered(&mut vcpu, extension, 0x99, &[]);
        assert_eq!(vcpu.account().exits_of(kind), 1, "{kind:?}");
    }
    let _ = left(&mut vcpu, 1, 0, &[]);
    assert_eq!(vcpu.account().exits_of(ExitKind::SbiLegacy), 1);
}

proptest! {
    /// Any call with any arguments is answered or leaves, and the program counter is past it or where the guest wanted it.
    #[test]
    fn any_call(
        known in proptest::sample::select(alloc::vec![0, 1, 2, BASE, TIME, IPI, RFENCE, HSM, SRST, DBCN]),
        wild: u64,
        pick: bool,
        function in 0u64..8,
        args: [u64; 6],
        small in any::<[u8; 6]>(),
        which: u8,
    ) {
        let mut vcpu = vcpu();
        machine::with(|m| m.script.clear());
        let args = core::array::from_fn::<u64, 6, _>(|n| {
            if which >> n & 1 == 0 { u64::from(small[n] % 8) } else { args[n] }
        });
        sbi(if pick { known } else { wild }, function, &args);
        let exit = run(&mut vcpu);
        let resumed = vcpu.pc() == args[1];
        let ended = matches!(exit, AxVCpuExitReason::CpuDown | AxVCpuExitReason::SystemDown { .. });
        prop_assert!(vcpu.pc() == ENTRY + 4 || resumed || ended, "{:?}", exit);
        if let AxVCpuExitReason::SendIPI { target, .. } | AxVCpuExitReason::RemoteFence { target, .. } = exit {
            prop_assert!(!target.contains(1));
            prop_assert!((0..64).filter(|&id| target.contains(id)).all(|id| id < 4));
        }
    }
}
