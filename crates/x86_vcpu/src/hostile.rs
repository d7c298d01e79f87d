//! What a guest can do is anything: any code, any exit, with any words about it. Nothing may break but the guest.

use alloc::vec::Vec;

use axvcpu::{AxArchVCpu, AxVCpuExitReason};
use proptest::prelude::*;

use crate::{
    backend::VendorVcpu,
    decode::{self, CodeMode, MAX_LENGTH},
    opcode::{Length, Opcode, length_of},
    regs::Register,
    svm::script::{HOST_INTERRUPT, forget, then},
    testing::{CR3, ENTRY, READ_ONLY, World},
};

const OPCODES: [Opcode; 10] = [
    Opcode::CPUID,
    Opcode::HLT,
    Opcode::RDMSR,
    Opcode::WRMSR,
    Opcode::VMMCALL,
    Opcode::VMCALL,
    Opcode::XSETBV,
    Opcode::INVD,
    Opcode::WBINVD,
    Opcode::PAUSE,
];

fn mode() -> impl Strategy<Value = CodeMode> {
    prop::sample::select(&[CodeMode::Bits16, CodeMode::Bits32, CodeMode::Bits64][..])
}

/// How instructions begin that are served, or that take another byte to tell.
const OPENINGS: [&[u8]; 23] = [
    &[0x0f, 0xa2],
    &[0xf4],
    &[0x0f, 0x32],
    &[0x0f, 0x30],
    &[0x0f, 0x01],
    &[0x0f, 0x20],
    &[0x0f, 0x22],
    &[0x6c],
    &[0x6f],
    &[0xa4],
    &[0xab],
    &[0xad],
    &[0x8b],
    &[0x89],
    &[0x87],
    &[0x0f, 0xb6],
    &[0x0f, 0xbe],
    &[0xa1],
    &[0xa3],
    &[0xc7],
    &[0x81],
    &[0xf6],
    &[],
];

/// Code: prefixes, an opcode that exits, and anything.
fn code() -> impl Strategy<Value = Vec<u8>> {
    let prefix = prop::sample::select(
        &[
            0x26u8, 0x36, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x40, 0x48, 0x4f,
        ][..],
    );
    let opcode = prop::sample::select(&OPENINGS[..]);
    (
        prop::collection::vec(prefix, 0..4),
        opcode,
        prop::collection::vec(any::<u8>(), 0..12),
    )
        .prop_map(|(prefixes, opcode, rest)| [&prefixes, opcode, &rest].concat())
}

/// An exit code: one of those that there are, mostly.
fn exit_code() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => prop::sample::select(&[0x72u64, 0x78, 0x7b, 0x7c, 0x81, 0x8d, 0x400][..]),
        2 => 0u64..0xa4,
        1 => any::<u64>(),
    ]
}

/// An address, or a number that is none: around what is mapped, and anywhere.
fn word() -> impl Strategy<Value = u64> {
    const NEAR: [u64; 8] = [
        0,
        CR3,
        ENTRY,
        READ_ONLY,
        READ_ONLY + 0x1000,
        0xfec0_0000,
        0xfee0_0000,
        0x8000_0000_0000,
    ];
    prop_oneof![
        4 => (prop::sample::select(&NEAR[..]), -9i64..9).prop_map(|(near, off)| near.wrapping_add_signed(off)),
        1 => (0u32..64).prop_map(|bit| 1 << bit),
        1 => any::<u64>(),
    ]
}

/// What a guest does between two entries.
#[derive(Clone, Debug)]
struct Act {
    code: Vec<u8>,
    gpr: [u64; 15],
    exit: (u64, u64, u64),
    interrupted: u64,
    rip: u64,
    rflags: u64,
    cpl: u8,
    /// What a device answers, and whether one does.
    answer: Option<u64>,
}

fn act() -> impl Strategy<Value = Act> {
    let gpr = prop::collection::vec(word(), 15);
    (
        code(),
        gpr,
        (exit_code(), word(), word()),
        prop_oneof![6 => Just(0u64), 1 => any::<u64>()],
        prop_oneof![6 => Just(ENTRY), 1 => Just(ENTRY + 0xffd), 1 => word()],
        any::<u64>(),
        prop_oneof![4 => Just(0u8), 1 => Just(3)],
        prop::option::of(any::<u64>()),
    )
        .prop_map(
            |(code, gpr, exit, interrupted, rip, rflags, cpl, answer)| Act {
                code,
                gpr: core::array::from_fn(|n| gpr[n]),
                exit,
                interrupted,
                rip,
                rflags,
                cpl,
                answer,
            },
        )
}

/// The VM's part of an exit; whether the vCPU goes on.
fn serve(world: &mut World, exit: AxVCpuExitReason, answer: Option<u64>) -> bool {
    use AxVCpuExitReason as E;
    match exit {
        E::IoRead { .. } | E::MmioRead { .. } | E::SysRegRead { .. } => match answer {
            Some(value) => world.vcpu.finish_read(value).is_ok(),
            None => world.vcpu.fault_access().is_ok(),
        },
        E::IoWrite { .. } | E::MmioWrite { .. } | E::SysRegWrite { .. } => {
            answer.is_some() || world.vcpu.fault_access().is_ok()
        }
        E::NestedPageFault { .. } => answer.is_some() || world.vcpu.fault_access().is_ok(),
        E::Hypercall { .. } => {
            world.vcpu.set_return_value(Ok(answer.unwrap_or(0)));
            true
        }
        E::FailEntry { .. } | E::Unknown(_) | E::SystemDown { .. } | E::CpuDown => false,
        _ => true,
    }
}

proptest! {
    /// Decoders take any bytes, and what they say of an instruction's length is within it and the same whatever follows.
    #[test]
    fn decoders_bear_any_bytes(bytes in code(), more in any::<[u8; 4]>(), mode in mode()) {
        let bytes = &bytes[..bytes.len().min(MAX_LENGTH)];
        let longer = [bytes, &more].concat();
        let longer = &longer[..longer.len().min(MAX_LENGTH)];
        let memory = decode::memory_instruction(bytes, mode);
        let control = decode::control_instruction(bytes, mode);
        let _ = decode::memory_operand(bytes, mode);
        let length = decode::any_length(bytes, mode);
        if let Some(length) = length {
            prop_assert!((1..=bytes.len()).contains(&usize::from(length)));
            prop_assert_eq!(decode::any_length(longer, mode), Some(length));
            prop_assert_eq!(decode::memory_instruction(longer, mode), memory);
        }
        for told in [memory.map(|found| found.length), control.map(|found| found.length)] {
            prop_assert!(told.is_none() || told == length);
        }
    }

    /// The short way to an instruction's length leads where the long one does.
    #[test]
    fn lengths_agree(bytes in code(), mode in mode()) {
        let bytes = &bytes[..bytes.len().min(MAX_LENGTH)];
        for opcode in OPCODES {
            if let Length::Known(length) = length_of(bytes, mode, &[opcode])
                && let Some(whole) = decode::any_length(bytes, mode)
            {
                prop_assert_eq!(length, whole, "{:x?}", bytes);
            }
        }
    }

    /// A vCPU takes any guest and any exit.
    #[test]
    fn a_vcpu_bears_any_guest(acts in prop::collection::vec(act(), 1..6), tables in prop::collection::vec((0u64..0x2000, any::<u64>()), 0..3)) {
        let mut world = World::new();
        for act in acts {
            world.ram.put(ENTRY, &act.code);
            world.ram.put(ENTRY + 0xffd, &act.code);
            let answer = act.answer;
            then(move |guest| {
                for (n, value) in act.gpr.into_iter().enumerate() {
                    // RAX is the VMCB's, as the stack pointer is.
                    guest.registers.gpr[n] = value;
                }
                *guest.rax() = act.gpr[0];
                *guest.rip() = act.rip;
                *guest.rflags() = act.rflags & 0x003f_7fd5 | 2;
                guest.set_cpl(act.cpl);
                guest.interrupted(act.interrupted);
                let (code, info1, info2) = act.exit;
                guest.exits(code, info1, info2);
            });
            then(|guest| guest.exits(HOST_INTERRUPT, 0, 0));
            let mut goes_on = true;
            for _ in 0..4 {
                goes_on = match world.vcpu.run(&world.mailbox, &axvcpu::NoDevices) {
                    Ok(exit) => serve(&mut world, exit, answer),
                    Err(_) => false,
                };
                if !goes_on {
                    break;
                }
            }
            forget();
            if !goes_on {
                break;
            }
            // Its tables are the guest's own, too.
            for &(at, value) in &tables {
                world.ram.put_u64((CR3 + at) & !7, value);
            }
        }
        let _ = world.vcpu.backend.get(Register::Rip);
        let mut said = alloc::string::String::new();
        let _ = world.vcpu.dump(&mut said);
    }
}
