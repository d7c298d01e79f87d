//! Made-up exits.

extern crate std;

use alloc::rc::Rc;
use core::cell::Cell;

use axaddrspace::{GuestPhysAddr, MappingFlags};
use axvcpu::{AccessWidth, AxArchVCpu, Mailbox, NoDevices};
use proptest::prelude::*;

use super::*;
use crate::{
    RISCVVCpuConfig, WfiPolicy,
    csr::{HIDELEG, VSCAUSE, VSEPC, VSSTATUS, VSTVAL, VSTVEC},
    machine,
    testing::{DEVICE, ENTRY, HOST_TIMER, RAM, TestCpu, Trap, config, run, trap, vcpu, vcpu_with},
};

pub(super) const LOAD: u64 = cause::LOAD_GUEST_PAGE_FAULT;
pub(super) const STORE: u64 = cause::STORE_GUEST_PAGE_FAULT;
const FETCH: u64 = cause::INSTRUCTION_GUEST_PAGE_FAULT;

/// lw a0, 0(a0), transformed: of 4 and of 2 bytes.
pub(super) const LW_A0: u64 = 0x2503;
pub(super) const C_LW_A0: u64 = 0x2501;
/// sd s1, transformed.
pub(super) const SD_S1: u64 = 0x0090_3023;

pub(super) fn fault(cause: u64, gpa: u64, htinst: u64) -> Trap {
    // The guest uses addresses of its own; the low twelve bits are the same.
    let stval = 0xffff_ffc0_0000_0000 | gpa & 0xfff;
    Trap {
        cause,
        stval,
        gpa,
        htinst,
    }
}

/// The exception that the guest was given: cause and value, and where its handler returns to.
pub(super) fn suffered() -> (u64, u64, u64) {
    (VSCAUSE.read(), VSTVAL.read(), VSEPC.read())
}

/// A vCPU whose guest has a trap handler.
fn with_handler() -> TestCpu {
    let mut vcpu = vcpu();
    vcpu.regs.vs_csrs.vstvec = 0x8050_0001;
    vcpu
}

fn assert_in_handler(vcpu: &TestCpu) {
    assert_eq!(vcpu.pc(), 0x8050_0000);
    assert!(vcpu.registers().guest_regs.sstatus & sstatus::SPP != 0);
}

#[test]
fn host_interrupts_leave() {
    let mut vcpu = vcpu();
    for (number, kind) in [
        (1, ExitKind::HostSoft),
        (5, ExitKind::HostTimer),
        (9, ExitKind::HostExternal),
        (12, ExitKind::HostOther),
    ] {
        let cause = interrupt::FLAG | number;
        trap(
            Trap {
                cause,
                ..Trap::default()
            },
            |_| {},
        );
        let exit = run(&mut vcpu);
        let vector = cause as usize;
        assert_eq!(exit, AxVCpuExitReason::ExternalInterrupt { vector });
        assert_eq!(vcpu.account().exits_of(kind), 1);
        assert_eq!(vcpu.pc(), ENTRY);
    }
}

#[test]
fn a_load_from_a_device() {
    let mut vcpu = vcpu();
    for (htinst, length) in [(LW_A0, 4), (C_LW_A0, 2)] {
        let before = vcpu.pc();
        trap(fault(LOAD, DEVICE + 4, htinst), |_| {});
        assert_eq!(
            run(&mut vcpu),
            AxVCpuExitReason::MmioRead {
                addr: GuestPhysAddr::new(DEVICE + 4),
                width: AccessWidth::Dword,
            }
        );
        assert_eq!(vcpu.pc(), before + length);
        vcpu.finish_read(0x8000_0001).unwrap();
        assert_eq!(vcpu.arg(0), 0xffff_ffff_8000_0001);
        assert!(vcpu.finish_read(0).is_err(), "a load is finished once");
    }
    assert_eq!(vcpu.account().exits_of(ExitKind::MmioRead), 2);
}

/// The value is in a register that reaches memory only when the loop is left.
#[test]
fn a_store_to_a_device() {
    let mut vcpu = vcpu();
    trap(fault(STORE, DEVICE + 8, SD_S1), |regs| {
        regs.guest_regs.x[9] = 0x1122_3344_5566_7788;
    });
    assert_eq!(
        run(&mut vcpu),
        AxVCpuExitReason::MmioWrite {
            addr: GuestPhysAddr::new(DEVICE + 8),
            width: AccessWidth::Qword,
            data: 0x1122_3344_5566_7788,
        }
    );
    // sb s1: nothing above the byte.
    trap(fault(STORE, DEVICE + 3, 0x0090_0023), |_| {});
    let AxVCpuExitReason::MmioWrite { addr, width, data } = run(&mut vcpu) else {
        panic!("a store leaves as one");
    };
    assert_eq!(
        (addr.as_u64(), width, data),
        (DEVICE + 3, AccessWidth::Byte, 0x88)
    );
    assert_eq!(vcpu.pc(), ENTRY + 8);
    assert!(vcpu.finish_read(0).is_err(), "a store has no value to give");
}

#[test]
fn without_htinst_the_code_is_read() {
    let mut vcpu = with_handler();
    machine::with(|m| {
        m.code.insert(ENTRY, 0xb583); // ld a1, 0(a1): low half
        m.code.insert(ENTRY + 2, 0x0005);
        m.code.insert(ENTRY + 4, 0xc188); // c.sw a0, 0(a1)
        m.code.insert(ENTRY + 6, 0x2188); // c.fld
    });
    trap(fault(LOAD, DEVICE, 0), |_| {});
    assert!(matches!(
        run(&mut vcpu),
        AxVCpuExitReason::MmioRead {
            width: AccessWidth::Qword,
            ..
        }
    ));
    assert_eq!(vcpu.pc(), ENTRY + 4);
    trap(fault(STORE, DEVICE, 0), |regs| {
        regs.guest_regs.x[10] = 0x1_0000_0005
    });
    assert!(matches!(
        run(&mut vcpu),
        AxVCpuExitReason::MmioWrite {
            width: AccessWidth::Dword,
            data: 5,
            ..
        }
    ));
    assert_eq!(vcpu.pc(), ENTRY + 6);
    // Not for a device: the guest's own fault.
    trap(fault(LOAD, DEVICE, 0), |_| {});
    assert_eq!(run(&mut vcpu), HOST_TIMER);
    let stval = 0xffff_ffc0_0000_0000;
    assert_eq!(suffered(), (cause::LOAD_ACCESS_FAULT, stval, ENTRY + 6));
    assert_in_handler(&vcpu);
}

/// Another vCPU unmapped the code between the fault and our look: the guest runs again and faults on the fetch, if it still does.
#[test]
fn code_that_is_gone_is_run_again() {
    let mut vcpu = vcpu();
    machine::with(|m| m.code.insert(ENTRY, 0xb583)); // and no second half
    trap(fault(LOAD, DEVICE, 0), |_| {});
    assert_eq!(run(&mut vcpu), HOST_TIMER);
    assert_eq!(vcpu.pc(), ENTRY);
}

#[test]
fn what_devices_do_not_answer_is_an_access_fault() {
    let cases = [
        (fault(LOAD, DEVICE, 0x1000_252f), 5),  // lr.w
        (fault(STORE, DEVICE, 0x0000_252f), 7), // amoadd.w
        (fault(LOAD, DEVICE, 0x2507), 5),       // flw
        (fault(STORE, DEVICE, 0x00a0_2027), 7), // fsw
        (fault(LOAD, DEVICE + 2, LW_A0), 5),    // misaligned
        (fault(LOAD, DEVICE + 4, 0xa503), 5),   // the second half of a misaligned one
        (fault(LOAD, DEVICE, 0x3000), 5),       // the guest's page table is no memory
        (fault(STORE, DEVICE, 0x3020), 7),
        (fault(FETCH, DEVICE, 0x3000), 1),
        (fault(FETCH, DEVICE, 0), 1),
        (fault(LOAD, DEVICE, SD_S1), 5), // contradicts itself
        (fault(STORE, DEVICE, LW_A0), 7),
    ];
    for (csrs, expected) in cases {
        let mut vcpu = with_handler();
        trap(csrs, |_| {});
        assert_eq!(run(&mut vcpu), HOST_TIMER, "htinst {:#x}", csrs.htinst);
        assert_eq!(suffered(), (expected, csrs.stval, ENTRY));
        assert_in_handler(&vcpu);
        assert_eq!(vcpu.account().exits_of(ExitKind::Exception), 1);
    }
}

#[test]
fn faults_in_ram_are_nested_page_faults() {
    let mut vcpu = vcpu();
    let inside = RAM.end - 3;
    for (csrs, addr, access_flags) in [
        (fault(LOAD, inside, LW_A0), inside, MappingFlags::READ),
        (fault(STORE, inside, 0), inside, MappingFlags::WRITE),
        (fault(FETCH, inside, 0), inside, MappingFlags::EXECUTE),
        (
            fault(STORE, inside, 0x0000_252f),
            inside,
            MappingFlags::WRITE,
        ),
        // The page table's entries have addresses of their own, not that in stval.
        (
            fault(FETCH, (RAM.end - 8) | 3, 0x3000),
            RAM.end - 8,
            MappingFlags::READ,
        ),
        (
            fault(LOAD, RAM.start | 1, 0x3020),
            RAM.start,
            MappingFlags::WRITE,
        ),
    ] {
        trap(csrs, |_| {});
        let addr = GuestPhysAddr::new(addr);
        assert_eq!(
            run(&mut vcpu),
            AxVCpuExitReason::NestedPageFault { addr, access_flags }
        );
        assert_eq!(vcpu.pc(), ENTRY);
    }
    assert_eq!(vcpu.account().exits_of(ExitKind::NestedFault), 6);
}

#[test]
fn nobody_answers() {
    for (csrs, expected) in [
        (fault(LOAD, DEVICE, LW_A0), cause::LOAD_ACCESS_FAULT),
        (fault(STORE, DEVICE, SD_S1), cause::STORE_ACCESS_FAULT),
        (fault(FETCH, RAM.start, 0), cause::INSTRUCTION_ACCESS_FAULT),
    ] {
        let mut vcpu = with_handler();
        trap(csrs, |_| {});
        let _ = run(&mut vcpu);
        vcpu.fault_access().unwrap();
        assert_eq!(vcpu.pc(), ENTRY, "as it was before the access");
        assert!(vcpu.finish_read(0).is_err());
        assert_eq!(run(&mut vcpu), HOST_TIMER);
        assert_eq!(suffered(), (expected, csrs.stval, ENTRY));
        assert_in_handler(&vcpu);
        assert!(vcpu.fault_access().is_err(), "that was no access");
    }
}

#[test]
fn an_exception_is_entered_as_by_the_hardware() {
    for (from, enabled) in [
        (sstatus::SPP, true),
        (0, true),
        (sstatus::SPP, false),
        (0, false),
    ] {
        let mut vcpu = with_handler();
        let status = if enabled { sstatus::SIE } else { sstatus::SPIE };
        vcpu.regs.vs_csrs.vsstatus |= status;
        trap(fault(FETCH, DEVICE, 0), move |_| {
            SSTATUS.clear(sstatus::SPP);
            SSTATUS.set(from);
        });
        let _ = run(&mut vcpu);
        let entered = VSSTATUS.read() & (sstatus::SIE | sstatus::SPIE | sstatus::SPP);
        let expected = if enabled { sstatus::SPIE } else { 0 };
        assert_eq!(entered, expected | from);
        assert_in_handler(&vcpu);
    }
}

fn virtual_instruction(word: u32) -> Trap {
    Trap {
        cause: cause::VIRTUAL_INSTRUCTION,
        stval: u64::from(word),
        ..Trap::default()
    }
}

#[test]
fn wfi_leaves_unless_an_interrupt_is_pending() {
    let mut vcpu = vcpu();
    trap(virtual_instruction(insn::WFI), |_| {});
    assert_eq!(run(&mut vcpu), AxVCpuExitReason::Halt);
    assert_eq!(vcpu.pc(), ENTRY + 4);
    for (pending, enabled, expected) in [
        (1 << 5, 1 << 5, HOST_TIMER),
        (1 << 5, 1 << 9, AxVCpuExitReason::Halt),
        (0, u64::MAX, AxVCpuExitReason::Halt),
    ] {
        trap(virtual_instruction(insn::WFI), move |_| {
            VSIP.write(pending);
            VSIE.write(enabled);
        });
        assert_eq!(run(&mut vcpu), expected);
    }
    assert_eq!(vcpu.account().exits_of(ExitKind::Wfi), 4);
}

#[test]
fn wfi_policy() {
    for (wfi, traps) in [(WfiPolicy::Exit, true), (WfiPolicy::Untrapped, false)] {
        let mut vcpu = vcpu_with(0, RISCVVCpuConfig { wfi, ..config() });
        trap(
            Trap {
                cause: interrupt::FLAG,
                ..Trap::default()
            },
            move |_| {
                assert_eq!(HSTATUS.read() & hstatus::VTW != 0, traps);
            },
        );
        let _ = run(&mut vcpu);
    }
}

#[test]
fn a_user_process_cannot_wait() {
    let mut vcpu = with_handler();
    trap(virtual_instruction(insn::WFI), |_| {
        SSTATUS.clear(sstatus::SPP);
    });
    assert_eq!(run(&mut vcpu), HOST_TIMER);
    assert_eq!(
        suffered(),
        (cause::ILLEGAL_INSTRUCTION, u64::from(insn::WFI), ENTRY)
    );
    assert_eq!(VSSTATUS.read() & sstatus::SPP, 0, "it came from user mode");
    assert_in_handler(&vcpu);
}

#[test]
fn a_wait_for_stores_is_short() {
    let mut vcpu = vcpu();
    trap(virtual_instruction(insn::WRS_NTO), |_| {});
    assert_eq!(run(&mut vcpu), HOST_TIMER);
    assert_eq!(vcpu.pc(), ENTRY + 4);
}

#[test]
fn hypervisor_instructions_are_illegal() {
    let csrr_hstatus = 0x6000_22f3;
    // With the bits in stval, and with the hardware not telling.
    for stval in [csrr_hstatus, 0] {
        let mut vcpu = with_handler();
        machine::with(|m| {
            m.code.insert(ENTRY, 0x22f3);
            m.code.insert(ENTRY + 2, 0x6000);
        });
        trap(virtual_instruction(stval), |_| {});
        assert_eq!(run(&mut vcpu), HOST_TIMER);
        assert_eq!(
            suffered(),
            (cause::ILLEGAL_INSTRUCTION, u64::from(csrr_hstatus), ENTRY)
        );
        assert_eq!(vcpu.account().exits_of(ExitKind::VirtualInstruction), 1);
    }
    // With the code gone: again.
    let mut vcpu = vcpu();
    machine::with(|m| m.code.clear());
    trap(virtual_instruction(0), |_| {});
    assert_eq!(run(&mut vcpu), HOST_TIMER);
    assert_eq!(vcpu.pc(), ENTRY);
}

#[test]
fn what_the_hardware_does_not_delegate_is_delivered() {
    for cause in [0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 13, 15] {
        let mut vcpu = with_handler();
        trap(
            Trap {
                cause,
                stval: 0x77,
                ..Trap::default()
            },
            |_| {},
        );
        assert_eq!(run(&mut vcpu), HOST_TIMER);
        assert_eq!(suffered(), (cause, 0x77, ENTRY));
    }
}

#[test]
fn unknown_exits_carry_the_raw_words() {
    for reason in [9, 11, 14, 16, 19, 24, 63, 64, u64::MAX >> 1] {
        let mut vcpu = vcpu();
        trap(
            Trap {
                cause: reason,
                stval: 1,
                gpa: 8,
                htinst: 0,
            },
            |_| {},
        );
        let raw = RawExit {
            reason,
            info1: 1,
            info2: 2,
            pc: ENTRY,
        };
        assert_eq!(run(&mut vcpu), AxVCpuExitReason::Unknown(raw));
        assert_eq!(vcpu.registers().trap_csrs.scause, reason);
    }
}

#[test]
#[should_panic(expected = "the hypervisor faulted")]
fn our_own_fault_is_no_exit() {
    let mut vcpu = vcpu();
    HSTATUS.clear(hstatus::SPV);
    let _ = rare(&mut vcpu, 13);
}

/// A letter that comes while the guest is entered finds the vCPU in its guest, with interrupts off until it is.
#[test]
fn the_mailbox_is_read_once_the_vcpu_is_entering() {
    let mut vcpu = vcpu();
    let mailbox = Rc::new(Mailbox::new());
    mailbox.raise(2);
    let (seen, inside) = (Rc::new(Cell::new(false)), mailbox.clone());
    let note = seen.clone();
    SSTATUS.set(sstatus::SIE);
    trap(
        Trap {
            cause: interrupt::FLAG | 1,
            ..Trap::default()
        },
        move |_| {
            assert!(inside.is_in_guest() && !inside.has_interrupt(u64::MAX));
            assert_eq!(SSTATUS.read() & sstatus::SIE, 0);
            note.set(true);
        },
    );
    let _ = vcpu.run(&mailbox, &NoDevices).unwrap();
    assert!(seen.get() && !mailbox.is_in_guest());
    assert!(SSTATUS.read() & sstatus::SIE != 0, "on again");
}

proptest! {
    /// Whatever the hardware says about a trap of the guest, something comes of it that is no panic.
    #[test]
    fn any_trap(
        traps in proptest::collection::vec(
            (any::<u64>(), 0u64..32, any::<u64>(), any::<u64>(), any::<u32>(), any::<[u64; 8]>()), 1..8),
        code in any::<[u16; 4]>(),
    ) {
        let mut vcpu = vcpu();
        machine::with(|m| {
            m.script.clear();
            for (i, half) in code.into_iter().enumerate() {
                m.code.insert(ENTRY + 2 * i as u64, half);
            }
        });
        let mut count = 0;
        for (wild, cause, stval, gpa, htinst, args) in traps {
            let cause = if wild & 3 == 0 { wild } else { cause };
            let csrs = Trap { cause, stval, gpa, htinst: u64::from(htinst) };
            trap(csrs, move |regs| regs.guest_regs.x[10..18].copy_from_slice(&args));
            count += 1;
        }
        for _ in 0..=count {
            let _ = run(&mut vcpu);
        }
        let statement = vcpu.account().statement(0);
        prop_assert!(statement.exits_in_all() >= 1);
        // The hypervisor's own settings are as they were.
        prop_assert_eq!(HIDELEG.read(), 0x444);
        prop_assert_eq!(VSTVEC.read(), 0);
    }
}
