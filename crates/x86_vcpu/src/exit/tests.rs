use axvcpu::{AxArchVCpu, HypercallError};

use super::*;
use crate::{
    cr::{ControlRegisters, cr0},
    machine,
    regs::{Segment, SegmentName},
    svm::script::{HOST_INTERRUPT, exits, is_over, then},
    testing::{CR3, ENTRY, World},
};

const CPUID: u64 = 0x72;
const MSR: u64 = 0x7c;
const HOST: AxVCpuExitReason = AxVCpuExitReason::ExternalInterrupt { vector: 0 };

/// Puts code at the entry, and runs until the host's interrupt after the next exit with `code`.
fn world_with(code: &[u8]) -> World {
    let world = World::new();
    world.ram.put(ENTRY, code);
    world
}

fn rip(world: &World) -> u64 {
    world.vcpu.backend.get(Register::Rip)
}

/// The exception that the next entry injects, as the manual's word.
fn expect_injected(world: &mut World, word: u64) {
    then(move |guest| {
        assert_eq!(guest.injected(), word);
        guest.exits(HOST_INTERRUPT, 0, 0);
    });
    assert_eq!(world.run(), HOST);
    assert!(is_over());
}

const GP: u64 = 0x8000_0b0d;
const UD: u64 = 0x8000_0306;

#[test]
fn cpuid_is_answered_and_passed_whatever_its_prefixes() {
    for (code, length) in [
        (&[0x0f, 0xa2][..], 2),
        (&[0x66, 0x2e, 0x0f, 0xa2], 4),
        (&[0x66, 0x66, 0x66, 0x66, 0x66, 0x48, 0x0f, 0xa2], 8),
    ] {
        let mut world = world_with(code);
        // Twice, the second time with the code's page known.
        for _ in 0..2 {
            world.vcpu.backend.set(Register::Rip, ENTRY);
            then(|guest| {
                *guest.rax() = 0x4000_0000;
                guest.registers.gpr[gpr::RBX] = !0;
                guest.exits(CPUID, 0, 0);
            });
            assert_eq!(world.run(), HOST);
            assert_eq!(rip(&world), ENTRY + length);
            assert_eq!(
                world.vcpu.regs.gpr[gpr::RBX],
                u32::from_le_bytes(*b"AxHV").into()
            );
        }
        assert_eq!(world.vcpu.account().exits_of(ExitKind::Cpuid), 2);
    }
}

#[test]
fn code_is_read_across_pages_and_not_further() {
    let mut world = World::new();
    // Pages of 4 KiB: the code's two lie apart.
    world.ram.put_u64(0x2000, 0x3007);
    world.ram.put_u64(0x3000, 0x4007);
    world.ram.put_u64(0x4000 + 8 * 8, 0x1_0007);
    world.ram.put_u64(0x4000 + 8 * 9, 0x2_0007);
    for (start, length) in [(0x8fff, 2), (0x8ffe, 2)] {
        world.ram.put(0x1_0ffe, &[0x0f, 0x0f]);
        world
            .ram
            .put(if start == 0x8fff { 0x2_0000 } else { 0x1_0fff }, &[0xa2]);
        world.vcpu.backend.set(Register::Rip, start);
        exits(CPUID, 0, 0);
        assert_eq!(world.run(), HOST);
        assert_eq!(rip(&world), start + length);
        // Its second page is gone: what lies in the first is enough, or the fetch faults there.
        world.ram.put_u64(0x4000 + 8 * 9, 0);
    }
}

#[test]
fn changed_code_runs_instead_of_being_guessed() {
    let mut world = world_with(&[0x90, 0x90]);
    exits(CPUID, 0, 0);
    assert_eq!(world.run(), HOST);
    assert_eq!(rip(&world), ENTRY);
    assert!(is_over());
}

#[test]
fn a_fetch_that_faults_is_the_guests_page_fault() {
    let mut world = World::new();
    world.vcpu.backend.set(Register::Rip, 1 << 30);
    exits(CPUID, 0, 0);
    then(|guest| {
        assert_eq!((guest.injected(), guest.cr2()), (0x8000_0b0e, 1 << 30));
        guest.exits(HOST_INTERRUPT, 0, 0);
    });
    assert_eq!(world.run(), HOST);
    // And outside of RAM it is the end.
    world.vcpu.backend.set(Register::Rip, 0x3fff_f000);
    exits(CPUID, 0, 0);
    let AxVCpuExitReason::FailEntry { reason } = world.run() else {
        panic!("the VM goes on");
    };
    assert_eq!(reason.what, "the guest's code lies outside of its RAM");
}

#[test]
fn msrs_are_read_and_written() {
    let mut world = world_with(&[0x0f, 0x32, 0x0f, 0x30]);
    for (number, written, read) in [
        (0x2ff_u32, 0xc06_u64, 0xc06),
        (0x277, 0x0007_0406_0007_0405, 0x0007_0406_0007_0405),
        (0xc000_0082, 0xffff_8000_1234_5678, 0xffff_8000_1234_5678),
        (0xc000_0100, 0x7000, 0x7000),
        (0xc000_0101, 0x9000, 0x9000),
        (0xc000_0103, 7, 7),
        (0x1d9, 1, 0),
        (0xc000_0080, 0xd01, 0xd01),
    ] {
        world.vcpu.backend.set(Register::Rip, ENTRY + 2);
        then(move |guest| {
            guest.registers.gpr[gpr::RCX] = u64::from(number) | 5 << 32;
            guest.registers.gpr[gpr::RDX] = written >> 32;
            *guest.rax() = written & 0xffff_ffff;
            guest.exits(MSR, 1, 0);
        });
        assert_eq!(world.run(), HOST);
        assert_eq!(rip(&world), ENTRY + 4, "{number:#x}");
        world.vcpu.backend.set(Register::Rip, ENTRY);
        exits(MSR, 0, 0);
        assert_eq!(world.run(), HOST);
        let gprs = &world.vcpu.regs.gpr;
        assert_eq!(gprs[gpr::RDX] << 32 | gprs[gpr::RAX], read, "{number:#x}");
    }
    assert_eq!(machine::with(|m| m.msrs[&0xc000_0103]), 7);
    assert_eq!(machine::with(|m| m.msrs.get(&0xc000_0082).copied()), None);
}

#[test]
fn msrs_that_are_not_the_guests_fault() {
    let mut world = world_with(&[0x0f, 0x30]);
    for (number, value) in [
        (0x48_u32, 1_u64),
        (0x49, 1),
        (0xc001_0117, 0x1000),
        (0x277, 0x0202),
        (0xc000_0082, 0x8000_0000_0000),
        (0xc000_0080, 0x1000),
        (0xc000_0080, 0),
        (0x2ff, 0x1000),
        (0x179, 0),
        (0xc000_0103, 1 << 32),
    ] {
        then(move |guest| {
            guest.registers.gpr[gpr::RCX] = number.into();
            guest.registers.gpr[gpr::RDX] = value >> 32;
            *guest.rax() = value & 0xffff_ffff;
            guest.exits(MSR, 1, 0);
        });
        expect_injected(&mut world, GP);
        assert_eq!(rip(&world), ENTRY, "{number:#x}");
    }
}

#[test]
fn device_msrs_leave_and_come_back() {
    let mut world = world_with(&[0x0f, 0x32, 0x0f, 0x30]);
    then(|guest| {
        guest.registers.gpr[gpr::RCX] = 0x808;
        guest.exits(MSR, 0, 0);
    });
    assert_eq!(world.run(), AxVCpuExitReason::SysRegRead { addr: 0x808 });
    world.vcpu.finish_read(0x1_0000_0002).unwrap();
    then(|guest| {
        assert_eq!((*guest.rax(), guest.registers.gpr[gpr::RDX]), (2, 1));
        guest.exits(MSR, 1, 0);
    });
    let write = AxVCpuExitReason::SysRegWrite {
        addr: 0x808,
        value: 0x1_0000_0002,
    };
    assert_eq!(world.run(), write);
    assert_eq!(world.vcpu.pc(), ENTRY + 4);
    world.vcpu.fault_access().unwrap();
    expect_injected(&mut world, GP);
    assert_eq!(rip(&world), ENTRY + 2);
    assert!(world.vcpu.finish_read(0).is_err() && world.vcpu.fault_access().is_err());
}

#[test]
fn hlt_waits_unless_something_is_there() {
    let mut world = world_with(&[0xf4, 0xf4, 0xf4]);
    let hlt = |flags| {
        then(move |guest| {
            *guest.rflags() = 2 | flags;
            guest.exits(0x78, 0, 0);
        });
    };
    hlt(rflags::INTERRUPT);
    assert_eq!(world.run(), AxVCpuExitReason::Halt);
    assert_eq!(rip(&world), ENTRY + 1);
    assert!(!world.vcpu.has_pending_interrupt());
    // A wake-up for nothing.
    assert_eq!(world.run(), AxVCpuExitReason::Halt);
    world.local.raise(&[0x30]);
    assert!(world.vcpu.has_pending_interrupt());
    expect_injected(&mut world, 0x8000_0030);
    // One that comes meanwhile keeps it from waiting.
    let local = world.local.clone();
    then(move |guest| {
        local.raise(&[0x31]);
        guest.exits(0x78, 0, 0);
    });
    expect_injected(&mut world, 0x8000_0031);
    assert_eq!(rip(&world), ENTRY + 2);
}

#[test]
fn hlt_with_interrupts_off_ends_by_nmi_alone() {
    let mut world = world_with(&[0xf4]);
    exits(0x78, 0, 0);
    assert_eq!(world.run(), AxVCpuExitReason::Halt);
    world.local.raise(&[0x30]);
    assert!(!world.vcpu.has_pending_interrupt());
    assert_eq!(world.run(), AxVCpuExitReason::Halt);
    world.mailbox.raise(crate::NMI);
    expect_injected(&mut world, 0x8000_0202);
}

#[test]
fn hypercalls_leave_from_the_kernel_only() {
    let mut world = world_with(&[0x0f, 0x01, 0xd9]);
    let call = |cpl| {
        then(move |guest| {
            guest.set_cpl(cpl);
            *guest.rax() = 42;
            guest.registers.gpr[gpr::RBX] = 1;
            guest.registers.gpr[gpr::R8] = 6;
            guest.exits(0x81, 0, 0);
        });
    };
    call(0);
    let AxVCpuExitReason::Hypercall { nr: 42, args } = world.run() else {
        panic!("no call");
    };
    assert_eq!((args[0], args[5]), (1, 6));
    assert_eq!(world.vcpu.pc(), ENTRY + 3);
    world
        .vcpu
        .set_return_value(Err(HypercallError::NotSupported));
    assert_eq!(world.vcpu.regs.gpr[gpr::RAX], -2i64 as u64);
    world.vcpu.backend.set(Register::Rip, ENTRY);
    world.ram.put_u64(CR3, 0x2007);
    call(3);
    expect_injected(&mut world, UD);
}

#[test]
fn xsetbv_checks_before_it_reaches_the_processor() {
    let mut world = world_with(&[0x0f, 0x01, 0xd1]);
    let set = |cr4_bits: u64, index: u64, value: u64| {
        then(move |guest| {
            *guest.cr4() |= cr4_bits;
            guest.registers.gpr[gpr::RCX] = index;
            guest.registers.gpr[gpr::RDX] = 0;
            *guest.rax() = value;
            guest.exits(0x8d, 0, 0);
        });
    };
    set(0, 0, 7);
    expect_injected(&mut world, UD);
    for (index, value) in [(1, 7), (0, 5), (0, 0xe7), (0, 0)] {
        set(cr4::OSXSAVE, index, value);
        expect_injected(&mut world, GP);
        assert_eq!(machine::with(|m| m.xcr0), 1);
    }
    set(cr4::OSXSAVE, 0, 7);
    assert_eq!(world.run(), HOST);
    assert_eq!(machine::with(|m| m.xcr0), 7);
    assert_eq!(rip(&world), ENTRY + 3);
}

#[test]
fn what_has_no_effect_is_passed_and_what_is_absent_is_undefined() {
    for (exit, code, length) in [
        (0x89, &[0x0f, 0x09][..], 2),
        (0x76, &[0x0f, 0x08], 2),
        (0x77, &[0xf3, 0x90], 2),
    ] {
        let mut world = world_with(code);
        exits(exit, 0, 0);
        assert_eq!(world.run(), HOST);
        assert_eq!(rip(&world), ENTRY + length);
    }
    let mut world = World::new();
    for (exit, word) in [(0x80, UD), (0x8a, UD), (0x6f, GP)] {
        exits(exit, 0, 0);
        expect_injected(&mut world, word);
    }
}

#[test]
fn control_registers_follow_the_rules() {
    let mut world = World::new();
    // MOV CR8, RAX; MOV CR4, RAX.
    world
        .ram
        .put(ENTRY, &[0x44, 0x0f, 0x22, 0xc0, 0x0f, 0x22, 0xe0]);
    then(|guest| {
        *guest.rax() = 5;
        guest.exits(0x18, 0, 0);
    });
    then(|guest| {
        *guest.rax() = cr4::PAE | cr4::PGE;
        guest.exits(0x14, 0, 0);
    });
    then(|guest| {
        assert_eq!(*guest.cr4(), cr4::PAE | cr4::PGE);
        assert!(guest.flushes());
        *guest.rip() = ENTRY + 4;
        *guest.rax() = cr4::PGE;
        guest.exits(0x14, 0, 0);
    });
    expect_injected(&mut world, GP);
    assert_eq!(
        world
            .local
            .priority
            .load(core::sync::atomic::Ordering::SeqCst),
        5
    );
    world.vcpu.backend.set(Register::Rip, ENTRY);
    then(|guest| {
        *guest.rax() = 16;
        guest.exits(0x18, 0, 0);
    });
    expect_injected(&mut world, GP);
}

#[test]
fn pae_roots_are_read_with_the_registers_that_need_them() {
    let world = &mut World::new();
    let pae = ControlRegisters {
        cr0: cr0::PG | cr0::PE,
        cr3: 0x6000,
        cr4: cr4::PAE,
        efer: 0,
    };
    let before = ControlRegisters {
        cr0: cr0::PE,
        ..pae
    };
    world.ram.put_u64(0x6000, 0x7001);
    assert_eq!(world.vcpu.set_control_registers(before, pae), Ok(()));
    world.ram.put_u64(0x6018, 0x7007);
    assert_eq!(
        world.vcpu.set_control_registers(before, pae),
        Err(Next::Resume)
    );
    let far = ControlRegisters {
        cr3: 0xffff_f000,
        ..pae
    };
    let result = world.vcpu.set_control_registers(before, far);
    assert_eq!(result, Err(Next::Leave));
}

#[test]
fn a_single_stepping_guest_sees_emulated_steps() {
    let mut world = world_with(&[0x0f, 0xa2]);
    then(|guest| {
        *guest.rflags() |= rflags::TRAP;
        guest.exits(CPUID, 0, 0);
    });
    then(|guest| {
        assert_eq!(guest.injected(), 0x8000_0301);
        assert_eq!(guest.dr6() & dr6::SINGLE_STEP, dr6::SINGLE_STEP);
        guest.exits(HOST_INTERRUPT, 0, 0);
    });
    assert_eq!(world.run(), HOST);
    assert_eq!(rip(&world), ENTRY + 2);
}

#[test]
fn intercepted_exceptions_go_back() {
    let mut world = World::new();
    exits(0x41, 0, 0);
    expect_injected(&mut world, 0x8000_0301);
    exits(0x51, 0, 0);
    expect_injected(&mut world, 0x8000_0b11);
}

#[test]
fn the_end_of_a_guest_is_told_in_words() {
    let mut world = World::new();
    exits(0x7f, 0, 0);
    assert_eq!(world.run(), TRIPLE_FAULT);
    exits(0x7d, 0, 0);
    let AxVCpuExitReason::FailEntry { reason } = world.run() else {
        panic!()
    };
    assert!(reason.what.contains("switches tasks"));
    exits(u64::MAX, 0, 0);
    let AxVCpuExitReason::FailEntry { reason } = world.run() else {
        panic!()
    };
    assert_eq!(reason.what, crate::legal::NO_RULE);
    exits(0x402, 7, 8);
    let AxVCpuExitReason::Unknown(raw) = world.run() else {
        panic!()
    };
    assert_eq!(
        (raw.reason, raw.info1, raw.info2, raw.pc),
        (0x402, 7, 8, ENTRY)
    );
}

#[test]
fn a_guest_that_faults_while_it_faults_shuts_down() {
    let mut world = World::new();
    // A page fault in the delivery of a double fault: its stack is a device's.
    world.ram.put(ENTRY, &[0x0f, 0x30]);
    then(|guest| {
        guest.interrupted(0x8000_0b08);
        guest.registers.gpr[gpr::RCX] = 0x48;
        guest.exits(MSR, 1, 0);
    });
    assert_eq!(world.run(), TRIPLE_FAULT);
}

#[test]
fn cpuid_shows_what_the_guest_has_turned_on() {
    let mut world = world_with(&[0x0f, 0xa2]);
    then(|guest| {
        *guest.cr4() |= cr4::OSXSAVE;
        *guest.rax() = 1;
        guest.exits(CPUID, 0, 0);
    });
    assert_eq!(world.run(), HOST);
    assert_eq!(world.vcpu.regs.gpr[gpr::RCX] >> 27 & 1, 1);
    assert_eq!(world.vcpu.regs.gpr[gpr::RBX] >> 24, 1);
}

/// CR0 is written by LMSW from wherever the instruction says, on hardware that does not say it.
#[test]
fn lmsw_reads_its_operand_in_memory() {
    const CR0_WRITE: u64 = 0x10;
    const TS: u64 = 1 << 3;
    const OPERAND: u64 = 0x9010;
    for (code, length) in [
        // lmsw [rbx + 4 * rcx + 0x10]; [rip + 0x1009]; fs:[0x10]; and with 32-bit addresses, [ebx + 0x10]
        (&[0x0f, 0x01, 0x74, 0x8b, 0x10][..], 5),
        (&[0x0f, 0x01, 0x35, 0x09, 0x10, 0, 0], 7),
        (&[0x64, 0x0f, 0x01, 0x34, 0x25, 0x10, 0, 0, 0], 9),
        (&[0x67, 0x0f, 0x01, 0x73, 0x10], 5),
    ] {
        let mut world = world_with(code);
        world.ram.put(OPERAND, &(TS as u16).to_le_bytes());
        let fs = Segment {
            base: 0x9000,
            ..world.vcpu.backend.segment(SegmentName::Fs)
        };
        world.vcpu.backend.set_segment(SegmentName::Fs, fs);
        let by_32_bits = code[0] == 0x67;
        then(move |guest| {
            guest.registers.gpr[gpr::RBX] = if by_32_bits { 0xf_0000_9000 } else { 0x8ff8 };
            guest.registers.gpr[gpr::RCX] = 2;
            guest.exits(CR0_WRITE, 0, 0);
        });
        exits(HOST_INTERRUPT, 0, 0);
        assert_eq!(world.run(), HOST, "{code:x?}");
        assert_eq!(rip(&world), ENTRY + length, "{code:x?}");
        let after = world.vcpu.backend.get(Register::Cr0);
        assert_eq!(after & TS, TS, "{code:x?}");
    }
}
