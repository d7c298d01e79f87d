mod faults;

use axaddrspace::MappingFlags;
use axvcpu::AxArchVCpu;

use super::*;
use crate::{
    regs::rflags,
    svm::script::{HOST_INTERRUPT, exits, is_over, then},
    testing::{ENTRY, RAM_BYTES, READ_ONLY, World},
};
use AccessWidth::{Byte, Dword, Qword, Word};
use AxVCpuExitReason::{IoRead, IoWrite, MmioRead, MmioWrite};

const HOST: AxVCpuExitReason = AxVCpuExitReason::ExternalInterrupt { vector: 0 };
const NESTED: u64 = 0x400;
const READ: u64 = 1 << 32 | 4;
const WRITE: u64 = 1 << 32 | 6;
const DEVICE: u64 = 0xfed0_0000;

fn gpa(raw: u64) -> GuestPhysAddr {
    GuestPhysAddr::new(raw)
}

fn world_with(code: &[u8]) -> World {
    let world = World::new();
    world.ram.put(ENTRY, code);
    world
}

fn rip(world: &World) -> u64 {
    world.vcpu.backend.get(Register::Rip)
}

/// Ends the run after the completion of what was left.
fn settle(world: &mut World) {
    exits(HOST_INTERRUPT, 0, 0);
    assert_eq!(world.run(), HOST);
    assert!(is_over());
}

#[test]
fn ports_are_read_and_written() {
    let mut world = world_with(&[0xe4, 0x60]);
    then(|guest| {
        *guest.rax() = 0x1122_3344_5566_7788;
        guest.exits(0x7b, 0x0060_0011, ENTRY + 2);
    });
    assert_eq!(
        world.run(),
        IoRead {
            port: 0x60,
            width: Byte
        }
    );
    assert_eq!(world.vcpu.pc(), ENTRY + 2);
    world.vcpu.finish_read(0xfab).unwrap();
    then(|guest| {
        assert_eq!(*guest.rax(), 0x1122_3344_5566_77ab);
        guest.exits(0x7b, 0x0cf8_0040, ENTRY + 3);
    });
    let write = IoWrite {
        port: 0xcf8,
        width: Dword,
        data: 0x5566_77ab,
    };
    assert_eq!(world.run(), write);
    // Nobody answers: the write is lost, and a read is all ones.
    world.vcpu.fault_access().unwrap();
    exits(0x7b, 0x0cfc_0041, ENTRY + 4);
    assert_eq!(
        world.run(),
        IoRead {
            port: 0xcfc,
            width: Dword
        }
    );
    world.vcpu.fault_access().unwrap();
    settle(&mut world);
    assert_eq!(world.vcpu.regs.gpr[gpr::RAX], 0xffff_ffff);
    assert_eq!(rip(&world), ENTRY + 4);
}

#[test]
fn a_port_string_of_no_elements_touches_nothing() {
    for (code, info) in [(0x6e, 0x03f8_0014), (0x6c, 0x03f8_0015)] {
        let mut world = world_with(&[0xf3, code]);
        then(move |guest| {
            guest.registers.gpr[gpr::RSI] = 1 << 40;
            guest.registers.gpr[gpr::RDI] = 1 << 40;
            guest.registers.gpr[gpr::RCX] = 0;
            guest.exits(0x7b, info, ENTRY + 2);
        });
        // No access to a device: the guest ran on to the next interrupt.
        assert_eq!(world.run(), HOST);
        assert_eq!((rip(&world), world.vcpu.regs.gpr[gpr::RCX]), (ENTRY + 2, 0));
    }
}

#[test]
fn outs_leaves_element_by_element() {
    let mut world = world_with(&[0xf3, 0x66, 0x6f]);
    world.ram.put(0x5000, b"abcdef");
    for (left, chars) in [(2u64, "ab"), (1, "cd"), (0, "ef")] {
        then(move |guest| {
            if left == 2 {
                guest.registers.gpr[gpr::RSI] = 0x5000;
                guest.registers.gpr[gpr::RCX] = 3;
            }
            guest.exits(0x7b, 0x03f8_002c, ENTRY + 3);
        });
        let data = u64::from(u16::from_le_bytes(chars.as_bytes().try_into().unwrap()));
        assert_eq!(
            world.run(),
            IoWrite {
                port: 0x3f8,
                width: Word,
                data
            }
        );
        assert_eq!(world.vcpu.regs.gpr[gpr::RCX], left);
    }
    assert_eq!(
        (rip(&world), world.vcpu.regs.gpr[gpr::RSI]),
        (ENTRY + 3, 0x5006)
    );
}

#[test]
fn ins_writes_memory_backwards_too() {
    let mut world = world_with(&[0xf3, 0x6c]);
    for left in [1, 0] {
        then(move |guest| {
            if left == 1 {
                *guest.rflags() |= rflags::DIRECTION;
                guest.registers.gpr[gpr::RDI] = 0x5001;
                guest.registers.gpr[gpr::RCX] = 2;
            }
            guest.exits(0x7b, 0x01f0_001d, ENTRY + 2);
        });
        assert_eq!(
            world.run(),
            IoRead {
                port: 0x1f0,
                width: Byte
            }
        );
        assert_eq!(rip(&world), ENTRY);
        world.vcpu.finish_read(0x40 + left).unwrap();
        settle(&mut world);
    }
    assert_eq!(world.ram.get(0x5000), [0x40, 0x41]);
    assert_eq!((rip(&world), world.vcpu.regs.gpr[gpr::RCX]), (ENTRY + 2, 0));
    assert_eq!(world.vcpu.regs.gpr[gpr::RDI], 0x4fff);
}

#[test]
fn string_operands_fault_before_the_device_is_touched() {
    let mut world = world_with(&[0x6c]);
    then(|guest| {
        guest.registers.gpr[gpr::RDI] = (1 << 30) - 1 + 1;
        guest.exits(0x7b, 0x01f0_0015, ENTRY + 1);
    });
    then(|guest| {
        assert_eq!(
            (guest.injected(), guest.cr2()),
            (2 << 32 | 0x8000_0b0e, 1 << 30)
        );
        guest.exits(HOST_INTERRUPT, 0, 0);
    });
    assert_eq!(world.run(), HOST);
    assert_eq!(rip(&world), ENTRY);
}

/// Runs one load of `code` from the device, which says `value`.
fn load(code: &[u8], width: AccessWidth, value: u64) -> World {
    let mut world = world_with(code);
    then(|guest| {
        for register in &mut guest.registers.gpr {
            *register = 0x1111_1111_1111_1111;
        }
        *guest.rax() = 0x1111_1111_1111_1111;
        guest.exits(NESTED, READ, DEVICE);
    });
    assert_eq!(
        world.run(),
        MmioRead {
            addr: gpa(DEVICE),
            width
        }
    );
    assert_eq!(world.vcpu.pc(), ENTRY + code.len() as u64);
    world.vcpu.finish_read(value).unwrap();
    world
}

#[test]
fn loads_fill_registers_as_the_processor_does() {
    for (code, width, register, value) in [
        (&[0x8b, 0x03][..], Dword, 0, 0x89ab_cdef),
        (&[0x48, 0x8b, 0x0b], Qword, 1, 0x0123_4567_89ab_cdef),
        (&[0x66, 0x8b, 0x03], Word, 0, 0x1111_1111_1111_cdef),
        (&[0x8a, 0x23], Byte, 0, 0x1111_1111_1111_ef11),
        (&[0x0f, 0xb6, 0x03], Byte, 0, 0xef),
        (&[0x48, 0x0f, 0xbf, 0x03], Word, 0, 0xffff_ffff_ffff_cdef),
        (&[0x4c, 0x63, 0x3b], Dword, 15, 0xffff_ffff_89ab_cdef),
        (&[0x23, 0x03], Dword, 0, 0x0101_0101),
    ] {
        let mut world = load(code, width, 0x0123_4567_89ab_cdef);
        settle(&mut world);
        assert_eq!(world.vcpu.gpr(register), value, "{code:x?}");
    }
    // RSP is not with the others.
    let mut world = load(&[0x48, 0x8b, 0x23], Qword, 0x7777);
    settle(&mut world);
    assert_eq!(world.vcpu.backend.get(Register::Rsp), 0x7777);
}

#[test]
fn tests_and_comparisons_set_flags_and_write_nothing() {
    for (code, value, zero) in [
        (&[0xf6, 0x03, 0x01][..], 0, true),
        (&[0xf6, 0x03, 0x01], 1, false),
        (&[0x80, 0x3b, 0x05], 5, true),
        (&[0x38, 0x03], 0x11, true),
    ] {
        let mut world = load(code, Byte, value);
        settle(&mut world);
        let flags = world.vcpu.backend.get(Register::Rflags);
        assert_eq!(flags & rflags::ZERO != 0, zero, "{code:x?}");
    }
    let mut world = load(&[0x0f, 0xba, 0x23, 4], Dword, 0x10);
    settle(&mut world);
    assert_ne!(world.vcpu.backend.get(Register::Rflags) & rflags::CARRY, 0);
}

#[test]
fn stores_leave_with_their_value() {
    for (code, width, data) in [
        (&[0x89, 0x03][..], Dword, 0x5566_7788),
        (&[0x48, 0x89, 0x03], Qword, 0x1122_3344_5566_7788),
        (&[0x88, 0x23], Byte, 0x77),
        (&[0xc7, 0x03, 1, 0, 0, 0x80], Dword, 0x8000_0001),
        (&[0x66, 0xc7, 0x03, 0xff, 0xff], Word, 0xffff),
    ] {
        let mut world = world_with(code);
        then(|guest| {
            *guest.rax() = 0x1122_3344_5566_7788;
            guest.exits(NESTED, WRITE, DEVICE + 4);
        });
        let addr = gpa(DEVICE + 4);
        assert_eq!(world.run(), MmioWrite { addr, width, data });
        assert_eq!(world.vcpu.pc(), ENTRY + code.len() as u64);
    }
}

#[test]
fn what_reads_and_writes_does_both() {
    let addr = gpa(DEVICE);
    for (code, value, data, rax) in [
        (&[0x83, 0x0b, 0x10][..], 3, 0x13, 0x11),
        (&[0x21, 0x03], 0x31, 0x11, 0x11),
        (&[0xff, 0x03], 0xffff_ffff, 0, 0x11),
        (&[0x87, 0x03], 5, 0x11, 5),
        (&[0xf7, 0x13], 0, 0xffff_ffff, 0x11),
    ] {
        let mut world = world_with(code);
        then(|guest| {
            *guest.rax() = 0x11;
            guest.exits(NESTED, WRITE, DEVICE);
        });
        assert_eq!(world.run(), MmioRead { addr, width: Dword });
        world.vcpu.finish_read(value).unwrap();
        assert_eq!(
            world.run(),
            MmioWrite {
                addr,
                width: Dword,
                data
            },
            "{code:x?}"
        );
        settle(&mut world);
        assert_eq!(world.vcpu.regs.gpr[gpr::RAX], rax);
        assert_eq!(rip(&world), ENTRY + code.len() as u64);
    }
}

#[test]
fn memory_moves_between_ram_and_devices() {
    let addr = gpa(DEVICE);
    let mut world = world_with(&[0xa5]);
    world.ram.put(0x5000, &[1, 2, 3, 4]);
    then(|guest| {
        guest.registers.gpr[gpr::RSI] = 0x5000;
        guest.registers.gpr[gpr::RDI] = DEVICE;
        guest.exits(NESTED, WRITE, DEVICE);
    });
    assert_eq!(
        world.run(),
        MmioWrite {
            addr,
            width: Dword,
            data: 0x0403_0201
        }
    );
    let gprs = &world.vcpu.regs.gpr;
    assert_eq!(
        (gprs[gpr::RSI], gprs[gpr::RDI], rip(&world)),
        (0x5004, DEVICE + 4, ENTRY + 1)
    );
    // And back, repeated, to where two pages meet.
    world.ram.put(ENTRY, &[0xf3, 0xa5]);
    world.vcpu.backend.set(Register::Rip, ENTRY);
    then(|guest| {
        guest.registers.gpr[gpr::RSI] = DEVICE;
        guest.registers.gpr[gpr::RDI] = 0x5ffe;
        guest.registers.gpr[gpr::RCX] = 2;
        guest.exits(NESTED, READ, DEVICE);
    });
    assert_eq!(world.run(), MmioRead { addr, width: Dword });
    world.vcpu.finish_read(0x8877_6655).unwrap();
    settle(&mut world);
    assert_eq!(world.ram.get(0x5ffe), [0x55, 0x66, 0x77, 0x88]);
    assert_eq!((world.vcpu.regs.gpr[gpr::RCX], rip(&world)), (1, ENTRY));
}

#[test]
fn fills_and_fetches_use_the_accumulator() {
    let addr = gpa(DEVICE);
    let mut world = world_with(&[0xaa]);
    then(|guest| {
        *guest.rax() = 0x1234;
        guest.registers.gpr[gpr::RDI] = DEVICE;
        guest.exits(NESTED, WRITE, DEVICE);
    });
    assert_eq!(
        world.run(),
        MmioWrite {
            addr,
            width: Byte,
            data: 0x34
        }
    );
    world.ram.put(ENTRY + 1, &[0xac]);
    exits(NESTED, READ, DEVICE);
    assert_eq!(world.run(), MmioRead { addr, width: Byte });
    world.vcpu.finish_read(0x56).unwrap();
    settle(&mut world);
    assert_eq!(world.vcpu.regs.gpr[gpr::RAX], 0x1256);
    assert_eq!(rip(&world), ENTRY + 2);
}

#[test]
fn moves_from_device_to_device_end_the_vm() {
    let mut world = world_with(&[0xa5]);
    then(|guest| {
        guest.registers.gpr[gpr::RSI] = 0x2000_0000;
        guest.exits(NESTED, WRITE, DEVICE);
    });
    assert!(matches!(world.run(), AxVCpuExitReason::FailEntry { .. }));
}

#[test]
fn ram_that_is_not_there_yet_is_the_address_spaces() {
    let mut world = World::new();
    for (error, access_flags) in [
        (READ, MappingFlags::READ),
        (WRITE, MappingFlags::WRITE),
        (READ | 0x10, MappingFlags::EXECUTE),
    ] {
        exits(NESTED, error, 0x9000);
        let fault = AxVCpuExitReason::NestedPageFault {
            addr: gpa(0x9000),
            access_flags,
        };
        assert_eq!(world.run(), fault);
        assert_eq!(rip(&world), ENTRY);
    }
}

/// A store to RAM that is only for reading.
#[test]
fn ram_that_may_not_be_used_so_is_a_fault_of_the_guests() {
    let mut world = World::new();
    exits(NESTED, WRITE, 0x9000);
    assert!(matches!(
        world.run(),
        AxVCpuExitReason::NestedPageFault { .. }
    ));
    world.vcpu.fault_access().unwrap();
    then(|guest| {
        assert_eq!(guest.injected(), 0x8000_0b0d, "#GP with the code 0");
        guest.exits(HOST_INTERRUPT, 0, 0);
    });
    assert_eq!(world.run(), HOST);
    assert_eq!(rip(&world), ENTRY);
}

#[test]
fn what_cannot_go_on_says_why() {
    let end = RAM_BYTES as u64;
    for (error, interrupted, what) in [
        (1 << 33 | 6, 0, "page tables"),
        (1 << 32 | 0x14, 0, "code"),
        (WRITE, 0x8000_0030, "interrupts"),
    ] {
        let mut world = World::new();
        then(move |guest| {
            guest.interrupted(interrupted);
            guest.exits(NESTED, error, end);
        });
        let AxVCpuExitReason::FailEntry { reason } = world.run() else {
            panic!("the VM goes on");
        };
        assert!(reason.what.contains(what), "{}", reason.what);
    }
}

#[test]
fn instructions_that_are_not_known_are_undefined() {
    let mut world = world_with(&[0x0f, 0x6f, 0x03]);
    exits(NESTED, READ, DEVICE);
    then(|guest| {
        assert_eq!(guest.injected(), 0x8000_0306);
        guest.exits(HOST_INTERRUPT, 0, 0);
    });
    assert_eq!(world.run(), HOST);
    assert_eq!(rip(&world), ENTRY);
}
