//! Devices that are asked within the vCPU's loop.

extern crate std;

use core::cell::RefCell;

use axaddrspace::GuestPhysAddr;
use axvcpu::{AccessWidth, AxArchVCpu, LineLevel, MmioRegisters};

use proptest::prelude::*;

use super::{
    tests::{C_LW_A0, LOAD, LW_A0, SD_S1, STORE, fault, suffered},
    *,
};
use crate::{
    csr::HVIP,
    testing::{DEVICE, ENTRY, HOST_TIMER, RAM, sbi, trap, vcpu},
};

/// One register of 64 bits; a write moves the vCPU's external line, as an interrupt controller would.
#[derive(Default)]
struct Register {
    value: RefCell<u64>,
    line: Option<&'static Mailbox>,
    /// What the console took; it has room for two bytes.
    printed: RefCell<std::vec::Vec<u8>>,
}

impl MmioRegisters for Register {
    fn load(&self, offset: u64, _: AccessWidth) -> Option<u64> {
        (offset == 0).then(|| *self.value.borrow())
    }

    fn store(&self, offset: u64, _: AccessWidth, data: u64) -> Option<()> {
        (offset == 0).then(|| *self.value.borrow_mut() = data)?;
        if let Some(mailbox) = self.line {
            let level = if data == 0 {
                LineLevel::Low
            } else {
                LineLevel::High
            };
            mailbox.set_line(crate::EXTERNAL_INTERRUPT, level);
        }
        Some(())
    }
}

impl DeviceAccess for Register {
    type Registers = Self;

    fn mmio_window(&self, addr: GuestPhysAddr, width: AccessWidth) -> Option<MmioWindow<'_, Self>> {
        let [first, last] = [DEVICE, DEVICE + 0xff].map(GuestPhysAddr::new);
        MmioWindow::new(self, first, last, width).filter(|window| window.offset(addr).is_some())
    }

    fn mmio_read(&self, _: GuestPhysAddr, _: AccessWidth) -> Option<u64> {
        None
    }

    fn mmio_write(&self, _: GuestPhysAddr, _: AccessWidth, _: u64) -> Option<()> {
        None
    }

    fn console_write_byte(&self, byte: u8) -> Option<()> {
        let mut printed = self.printed.borrow_mut();
        (printed.len() < 2).then(|| printed.push(byte))
    }
}

#[test]
fn an_access_that_is_answered_does_not_leave() {
    let mut vcpu = vcpu();
    let devices = Register::default();
    trap(fault(STORE, DEVICE, SD_S1), |regs| {
        regs.guest_regs.x[9] = 0x1_8000_0001
    });
    for _ in 0..3 {
        trap(fault(LOAD, DEVICE, LW_A0), |_| {});
    }
    trap(fault(LOAD, DEVICE, C_LW_A0), |_| {});
    assert_eq!(vcpu.run(&Mailbox::new(), &devices).unwrap(), HOST_TIMER);
    assert_eq!(*devices.value.borrow(), 0x1_8000_0001);
    assert_eq!(vcpu.arg(0), 0xffff_ffff_8000_0001, "sign-extended");
    assert_eq!(vcpu.pc(), ENTRY + 4 * 4 + 2);
    assert_eq!(vcpu.account().exits_of(ExitKind::MmioRead), 4);
    assert_eq!(vcpu.account().exits_of(ExitKind::MmioWrite), 1);
}

/// What follows an instruction that was decoded before is told apart from it.
#[test]
fn each_instruction_is_decoded_as_what_it_is() {
    let mut vcpu = vcpu();
    let devices = Register::default();
    *devices.value.borrow_mut() = 0xf1;
    /// lbu a1, lb a2: transformed.
    const LBU_A1: u64 = 0x4583;
    const LB_A2: u64 = 0x0603;
    for htinst in [LBU_A1, LB_A2, LBU_A1, LBU_A1] {
        trap(fault(LOAD, DEVICE, htinst), |_| {});
    }
    // The same instruction in RAM is no access to a device.
    trap(fault(LOAD, RAM.start, LBU_A1), |_| {});
    let exit = vcpu.run(&Mailbox::new(), &devices).unwrap();
    assert!(
        matches!(exit, AxVCpuExitReason::NestedPageFault { .. }),
        "{exit:?}"
    );
    assert_eq!((vcpu.arg(1), vcpu.arg(2)), (0xf1, 0xffff_ffff_ffff_fff1));
}

#[test]
fn what_is_not_answered_leaves_and_can_be_faulted() {
    let mut vcpu = vcpu();
    vcpu.regs.vs_csrs.vstvec = 0x8050_0000;
    let devices = Register::default();
    trap(fault(LOAD, DEVICE, LW_A0), |_| {});
    trap(fault(STORE, DEVICE + 8, SD_S1), |regs| {
        regs.guest_regs.x[9] = 7
    });
    let exit = vcpu.run(&Mailbox::new(), &devices).unwrap();
    let (addr, width) = (GuestPhysAddr::new(DEVICE + 8), AccessWidth::Qword);
    assert_eq!(
        exit,
        AxVCpuExitReason::MmioWrite {
            addr,
            width,
            data: 7
        }
    );
    assert_eq!(vcpu.pc(), ENTRY + 8);
    vcpu.fault_access().unwrap();
    assert_eq!(vcpu.pc(), ENTRY + 4);
    let _ = vcpu.run(&Mailbox::new(), &devices).unwrap();
    assert_eq!(suffered().0, cause::STORE_ACCESS_FAULT);
    assert_eq!(suffered().2, ENTRY + 4);
}

/// A line that the device moves is there when the guest goes on, without a kick.
#[test]
fn a_line_that_a_device_moves_takes_effect_at_once() {
    let mut vcpu = vcpu();
    let mailbox: &'static Mailbox = std::boxed::Box::leak(std::boxed::Box::default());
    let devices = Register {
        line: Some(mailbox),
        ..Register::default()
    };
    let store = |value: u64, before: u64| {
        trap(fault(STORE, DEVICE, SD_S1), move |regs| {
            assert_eq!(HVIP.read() & interrupt::VSEIP, before);
            regs.guest_regs.x[9] = value;
        });
    };
    store(1, 0);
    store(1, interrupt::VSEIP);
    store(0, interrupt::VSEIP);
    store(0, 0);
    assert_eq!(vcpu.run(mailbox, &devices).unwrap(), HOST_TIMER);
    assert_eq!(vcpu.account().exits_of(ExitKind::MmioWrite), 4);
}

/// Every register is read and written, whether the trap stored it or not.
#[test]
fn each_register_is_loaded_and_stored() {
    let mut vcpu = vcpu();
    let devices = Register::default();
    // Twice, so that each is also found decoded.
    for _ in 0..2 {
        for number in 1..32u64 {
            let (sd, ld) = (0x3023 | number << 20, 0x3003 | number << 7);
            let register = number as usize;
            for _ in 0..2 {
                trap(fault(STORE, DEVICE, sd), move |regs| {
                    regs.guest_regs.x[register] = 1000 + number
                });
            }
            trap(fault(LOAD, DEVICE, ld), move |regs| {
                regs.guest_regs.x[register] = 0
            });
            trap(fault(LOAD, DEVICE, ld), move |regs| {
                assert_eq!(
                    core::mem::take(&mut regs.guest_regs.x[register]),
                    1000 + number
                );
            });
        }
        assert_eq!(vcpu.run(&Mailbox::new(), &devices).unwrap(), HOST_TIMER);
        assert_eq!(vcpu.registers().guest_regs.x[31], 1031);
    }
    assert_eq!(vcpu.account().exits_of(ExitKind::MmioWrite), 2 * 2 * 31);
}

/// What is not as the last access was is not taken for it: another page, which may be RAM; an address that is not aligned.
#[test]
fn a_decoded_access_is_one_of_its_place() {
    let mut vcpu = vcpu();
    vcpu.regs.vs_csrs.vstvec = 0x8050_0000;
    let devices = Register::default();
    trap(fault(LOAD, DEVICE, LW_A0), |_| {});
    trap(fault(LOAD, DEVICE + 2, LW_A0), |_| {});
    trap(fault(LOAD, DEVICE + 0x1000, LW_A0), |_| {});
    let exit = vcpu.run(&Mailbox::new(), &devices).unwrap();
    assert_eq!(suffered().0, cause::LOAD_ACCESS_FAULT, "not aligned");
    let (addr, width) = (GuestPhysAddr::new(DEVICE + 0x1000), AccessWidth::Dword);
    assert_eq!(exit, AxVCpuExitReason::MmioRead { addr, width });
}

/// A byte for the console goes there within the loop, as long as there is room.
#[test]
fn the_console_is_written_within_the_loop() {
    let mut vcpu = vcpu();
    let devices = Register::default();
    const DBCN: u64 = 0x4442_434e;
    sbi(DBCN, 2, &[u64::from(b'a') | 0x100]);
    // The legacy console.
    sbi(1, 0, &[u64::from(b'b')]);
    sbi(DBCN, 2, &[u64::from(b'c')]);
    let exit = vcpu.run(&Mailbox::new(), &devices).unwrap();
    assert_eq!(*devices.printed.borrow(), *b"ab");
    let no_room = axvcpu::ConsoleCall::WriteByte(b'c');
    assert_eq!(exit, AxVCpuExitReason::Console(no_room));
    assert_eq!(vcpu.pc(), ENTRY + 12);
    assert_eq!(vcpu.account().exits_of(ExitKind::SbiDbcn), 2);
    assert_eq!(vcpu.account().exits_of(ExitKind::SbiLegacy), 1);
}

/// What was asked of a device of [`Board`]'s: which, where, how wide, and what was stored.
type Asked = (u8, u64, AccessWidth, Option<u64>);

/// Registers that answer by what they are asked, and remember it.
struct Chip {
    number: u8,
    asked: std::rc::Rc<RefCell<std::vec::Vec<Asked>>>,
}

impl MmioRegisters for Chip {
    fn load(&self, offset: u64, width: AccessWidth) -> Option<u64> {
        self.asked
            .borrow_mut()
            .push((self.number, offset, width, None));
        (offset != 0x10).then_some(0x8182_8384_8586_8788 ^ offset << 32 | offset)
    }

    fn store(&self, offset: u64, width: AccessWidth, data: u64) -> Option<()> {
        self.asked
            .borrow_mut()
            .push((self.number, offset, width, Some(data)));
        (offset != 0x10).then_some(())
    }
}

/// Devices beside each other, and one behind which RAM begins.
struct Board([(u64, u64, Chip); 3]);

impl Board {
    fn new() -> Self {
        let asked = std::rc::Rc::default();
        let chip = |number| Chip {
            number,
            asked: std::rc::Rc::clone(&asked),
        };
        Self([
            (DEVICE, DEVICE + 0x1f, chip(0)),
            (DEVICE + 0x20, DEVICE + 0x29, chip(1)),
            (RAM.start - 8, RAM.start + 0xfff, chip(2)),
        ])
    }
}

impl DeviceAccess for Board {
    type Registers = Chip;

    fn mmio_window(&self, addr: GuestPhysAddr, width: AccessWidth) -> Option<MmioWindow<'_, Chip>> {
        let mut windows = self.0.iter().filter_map(|(first, last, chip)| {
            let [first, last] = [*first, *last].map(GuestPhysAddr::new);
            MmioWindow::new(chip, first, last, width)
        });
        windows.find(|window| window.offset(addr).is_some())
    }

    fn mmio_read(&self, _: GuestPhysAddr, _: AccessWidth) -> Option<u64> {
        None
    }

    fn mmio_write(&self, _: GuestPhysAddr, _: AccessWidth, _: u64) -> Option<()> {
        None
    }
}

/// Whether a vCPU remembers what the last access was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Memory {
    Kept,
    /// It leaves its loop after each, which forgets the devices, and has nothing decoded.
    Forgotten,
}

/// What a guest with these traps meets: the exits, what devices are asked, the registers and the program counter in the end.
fn met(
    traps: &[(u64, u64, u64)],
    memory: Memory,
) -> (
    std::vec::Vec<AxVCpuExitReason>,
    std::vec::Vec<Asked>,
    [u64; 32],
    u64,
) {
    let (mut vcpu, board, mailbox) = (vcpu(), Board::new(), Mailbox::new());
    let mut exits = std::vec::Vec::new();
    for number in 1..32 {
        vcpu.regs.guest_regs.x[number] = 0x0101_0101_0101_0101 * number as u64;
    }
    let mut go = |vcpu: &mut crate::testing::TestCpu| loop {
        match vcpu.run(&mailbox, &board).unwrap() {
            HOST_TIMER => break,
            exit => exits.push(exit),
        }
    };
    for &(cause, address, htinst) in traps {
        trap(fault(cause, address, htinst), |_| {});
        if memory == Memory::Forgotten {
            go(&mut vcpu);
            vcpu.load = Decoded::<insn::Load>::NONE;
            vcpu.store = Decoded::<insn::Store>::NONE;
        }
    }
    go(&mut vcpu);
    let asked = board.0[0].2.asked.take();
    (exits, asked, vcpu.regs.guest_regs.x, vcpu.pc())
}

/// In devices, at their ends, in RAM, and elsewhere.
fn any_address() -> impl Strategy<Value = u64> {
    prop_oneof![
        6 => (0..0x40u64).prop_map(|offset| DEVICE - 8 + offset),
        4 => (0..0x20u64).prop_map(|offset| RAM.start - 16 + offset),
        1 => any::<u64>().prop_map(|address| address >> 8),
    ]
}

/// A cause, and what the hardware says of the instruction.
fn any_instruction() -> impl Strategy<Value = (u64, u64)> {
    // Transformed loads and stores of few registers, as they are and compressed; and what is none.
    let word = |opcode: u64, shift: u32| {
        (
            0..8u64,
            0..4usize,
            prop::sample::select(&[0b11u64, 0b01][..]),
        )
            .prop_map(move |(funct3, register, low)| {
                opcode & !0b11 | low | funct3 << 12 | [0, 9, 10, 11][register] << shift
            })
    };
    prop_oneof![
        4 => (Just(LOAD), word(0x03, 7)),
        4 => (Just(STORE), word(0x23, 20)),
        1 => (prop::sample::select(&[LOAD, STORE][..]), word(0x03, 7)),
        1 => (
            prop::sample::select(&[LOAD, STORE][..]),
            // Not all bits set: no hardware says that, and the vCPU relies on it.
            prop::sample::select(
                &[0u64, 0x2000, 0x3000, 0x3020, 0x0000_202f, 0x1_0000_2003, u64::MAX - 1][..],
            ),
        ),
    ]
}

proptest! {
    /// Accesses that are known again end as they would if each were the first.
    #[test]
    fn what_is_remembered_is_what_would_be_found(
        // Few of each, again and again.
        instructions in prop::collection::vec(any_instruction(), 1..4),
        addresses in prop::collection::vec(any_address(), 1..6),
        order in prop::collection::vec(any::<[prop::sample::Index; 2]>(), 1..60),
    ) {
        let traps: std::vec::Vec<_> = order
            .iter()
            .map(|[instruction, address]| {
                let (cause, htinst) = *instruction.get(&instructions);
                (cause, *address.get(&addresses), htinst)
            })
            .collect();
        prop_assert_eq!(met(&traps, Memory::Kept), met(&traps, Memory::Forgotten));
    }
}
