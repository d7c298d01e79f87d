//! The debug console against hostile addresses and lengths, and slow consoles.

use alloc::{vec, vec::Vec};
use core::sync::atomic::Ordering;

use axaddrspace::GuestPhysAddr;
use axvcpu::{AxVCpuExitReason as Exit, ConsoleCall, HypercallError, SystemDownKind};
use proptest::prelude::*;

use crate::testing::{DEVICE, Event, LAZY, RAM, TestVm, booted, peek, poke, try_vm, world};

fn write(addr: u64, len: u64) -> ConsoleCall {
    ConsoleCall::Write {
        addr: GuestPhysAddr::new(addr),
        len,
    }
}

fn read(addr: u64, len: u64) -> ConsoleCall {
    ConsoleCall::Read {
        addr: GuestPhysAddr::new(addr),
        len,
    }
}

fn call<const W: usize>(vm: &TestVm<W>, call: ConsoleCall) -> Result<u64, HypercallError> {
    let world = world::<W>();
    world.exits(0, &[Exit::Console(call), Exit::Halt]);
    assert_eq!(vm.run_vcpu(0), Ok(Exit::Halt));
    let answers: Vec<_> = world
        .take_events(0)
        .into_iter()
        .filter_map(|event| match event {
            Event::Answer(answer) => Some(answer),
            _ => None,
        })
        .collect();
    assert_eq!(answers.len(), 1);
    answers[0]
}

#[test]
fn bytes_go_out_whole_up_to_what_a_call_moves() {
    let (vm, console) = booted::<50>(1);
    let text: Vec<u8> = (0..10_000u32).map(|at| at as u8).collect();
    poke(&vm, RAM + 3, &text);
    for len in [0, 1, 255, 256, 257, 1000, 4096, 4097, 10_000] {
        let moved = len.min(4096);
        assert_eq!(call(&vm, write(RAM + 3, len)), Ok(moved));
        let written = core::mem::take(&mut *console.written.lock().unwrap());
        assert_eq!(written, text[..moved as usize]);
    }
    assert_eq!(call(&vm, ConsoleCall::WriteByte(b'x')), Ok(0));
    assert_eq!(*console.written.lock().unwrap(), b"x");
}

#[test]
fn a_full_console_takes_what_it_can() {
    let (vm, console) = booted::<51>(1);
    poke(&vm, RAM, &[b'a'; 1000]);
    for room in [0, 1, 256, 300, 512] {
        console.room.store(room, Ordering::SeqCst);
        assert_eq!(call(&vm, write(RAM, 1000)), Ok(room as u64));
    }
}

#[test]
fn a_byte_waits_for_room_and_lets_others_run_meanwhile() {
    let (vm, console) = booted::<52>(1);
    console.room.store(0, Ordering::SeqCst);
    let drain = {
        let console = console.clone();
        std::thread::spawn(move || {
            while !world::<52>()
                .events
                .lock()
                .unwrap()
                .contains(&(0, Event::Reschedule))
            {
                std::thread::yield_now();
            }
            console.room.store(1, Ordering::SeqCst);
        })
    };
    assert_eq!(call(&vm, ConsoleCall::WriteByte(b'x')), Ok(0));
    assert_eq!(*console.written.lock().unwrap(), b"x", "once");
    drain.join().unwrap();
    // Nor does it wait on in a VM that goes down.
    world::<52>().then(0, {
        let vm = vm.clone();
        move |_| {
            vm.shutdown(SystemDownKind::PowerOff);
            Exit::Console(ConsoleCall::WriteByte(b'y'))
        }
    });
    assert_eq!(
        vm.run_vcpu(0),
        Ok(Exit::SystemDown {
            kind: SystemDownKind::PowerOff
        })
    );
}

#[test]
fn bytes_come_in_as_many_as_there_are() {
    let (vm, console) = booted::<53>(1);
    let input: Vec<u8> = (0..600u32).map(|at| (at / 3) as u8).collect();
    assert_eq!(
        call(&vm, ConsoleCall::ReadByte),
        Err(HypercallError::Failed)
    );
    assert_eq!(call(&vm, read(RAM, 100)), Ok(0));
    console.input.lock().unwrap().extend(&input);
    assert_eq!(call(&vm, ConsoleCall::ReadByte), Ok(u64::from(input[0])));
    assert_eq!(call(&vm, read(RAM + 1, 10)), Ok(10));
    assert_eq!(call(&vm, read(RAM + 11, 10_000)), Ok(589));
    assert_eq!(peek(&vm, RAM + 1, 600), [&input[1..], &[0]].concat());
}

#[test]
fn what_is_not_all_ram_is_refused_before_a_byte_moves() {
    let (vm, console) = booted::<54>(1);
    console.input.lock().unwrap().extend([1, 2, 3]);
    for (addr, len) in [
        (0, 1),
        (DEVICE, 1),
        (RAM - 1, 1),
        (RAM - 1, 2),
        (RAM + 0xffff, 2),
        (RAM, 0x1_0001),
        (RAM, u64::MAX),
        (u64::MAX, 1),
        (u64::MAX, u64::MAX),
        (RAM + 0x1_0000, 1),
        (LAZY, 1 << 63),
    ] {
        for hostile in [write(addr, len), read(addr, len)] {
            assert_eq!(
                call(&vm, hostile),
                Err(HypercallError::InvalidParam),
                "{hostile:?}"
            );
        }
    }
    assert!(console.written.lock().unwrap().is_empty());
    assert_eq!(console.input.lock().unwrap().len(), 3, "input is not lost");
    assert_eq!(
        call(&vm, write(RAM + 0xffff, 1)),
        Ok(1),
        "the last byte is fine"
    );
    assert_eq!(
        call(&vm, write(LAZY + 5, 3)),
        Ok(3),
        "and so is RAM that is not there yet"
    );
}

#[test]
fn regions_in_a_row_are_one_piece_of_ram() {
    let text = "memory_regions = [[\"64KiB\"], { gpa = 0x8001_0000, size = \"64KiB\" }]";
    let (vm, console) = try_vm::<55>(1, text).unwrap();
    vm.boot().unwrap();
    poke(&vm, RAM + 0xfffe, b"over");
    assert_eq!(call(&vm, write(RAM + 0xfffe, 4)), Ok(4));
    assert_eq!(*console.written.lock().unwrap(), b"over");
}

#[test]
fn what_the_guest_may_only_read_is_not_written() {
    let text = "memory_regions = [[\"64KiB\"], { gpa = 0x8001_0000, size = \"64KiB\", flags = 1 }]";
    let (vm, console) = try_vm::<56>(1, text).unwrap();
    vm.boot().unwrap();
    console.input.lock().unwrap().extend(vec![b'x'; 600]);
    assert_eq!(
        call(&vm, read(RAM + 0x1_0000, 4)),
        Err(HypercallError::InvalidParam)
    );
    assert_eq!(call(&vm, write(RAM + 0x1_0000, 4)), Ok(4));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_call_reads_or_writes_outside_ram(addr in any::<u64>(), len in any::<u64>(), near in 0..0x30_0000u64) {
        let (vm, console) = booted::<57>(1);
        for addr in [addr, RAM - 0x8_0000 + near] {
            for len in [len, len % 0x2_0000] {
                console.input.lock().unwrap().extend([7; 16]);
                let end = u128::from(addr) + u128::from(len);
                let within = |start: u64| {
                    u128::from(start) <= addr.into() && end <= u128::from(start) + 0x1_0000
                };
                let ok = len == 0 || within(RAM) || within(LAZY);
                prop_assert_eq!(call(&vm, write(addr, len)).is_ok(), ok);
                prop_assert_eq!(call(&vm, read(addr, len)).is_ok(), ok);
            }
        }
    }
}
