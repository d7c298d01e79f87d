//! A guest that does anything at all.

use proptest::prelude::*;

use super::*;
use crate::testing::any_width;

#[derive(Clone, Debug)]
enum Step {
    Read(u64, AccessWidth),
    Write(u64, AccessWidth, u64),
    Type(Vec<u8>),
    Room(usize),
    Reset,
}

fn any_offset() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0..8u64, 4 => 0..40u64, 1 => any::<u64>()]
}

fn any_step() -> impl Strategy<Value = Step> {
    let width = || prop_oneof![4 => Just(AccessWidth::Byte), 1 => any_width()];
    prop_oneof![
        8 => (any_offset(), width()).prop_map(|(offset, width)| Step::Read(offset, width)),
        8 => (any_offset(), width(), any::<u64>())
            .prop_map(|(offset, width, data)| Step::Write(offset, width, data)),
        2 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Step::Type),
        2 => (0..40usize).prop_map(Step::Room),
        1 => Just(Step::Reset),
    ]
}

/// Reads without a glance.
fn look(uart: &Uart16550, offset: u64, width: AccessWidth) -> Result<u64, AccessFault> {
    let register = uart.layout.register(offset, width)?;
    uart.read_with_effect(uart.state.lock(), register)
}

/// Writes without a glance.
fn put(uart: &Uart16550, offset: u64, width: AccessWidth, data: u64) -> Result<(), AccessFault> {
    let register = uart.layout.register(offset, width)?;
    uart.write_with_effect(uart.state.lock(), register, data as u8)
}

/// What is true whatever happened: the line says whether there is an interrupt, and nothing waits that could move.
fn check(bench: &Bench, layout: RegisterLayout) -> Result<(), TestCaseError> {
    let state = bench.uart.state.lock();
    let level = if state.interrupt().is_some() {
        LineLevel::High
    } else {
        LineLevel::Low
    };
    prop_assert_eq!(bench.line(), level);
    prop_assert!(state.received.len() <= state.mode.capacity());
    let glance = &bench.uart.glance;
    prop_assert!(
        glance.line_status().is_none() || glance.line_status() == state.quiet_line_status()
    );
    prop_assert!(!glance.is_transparent() || state.is_transparent());
    if state.modem_control & reg::MCR_LOOP == 0 && state.received.is_empty() {
        prop_assert_eq!(bench.waiting_input(), 0);
    }
    drop(state);
    let fault = bench.uart.read(layout.size(), AccessWidth::Byte);
    prop_assert_eq!(fault, Err(AccessFault));
    Ok(())
}

proptest! {
    #[test]
    fn nothing_a_guest_does_breaks_the_uart(
        layout in prop::sample::select(&[RegisterLayout::Packed, RegisterLayout::Spaced][..]),
        steps in prop::collection::vec(any_step(), 1..200),
    ) {
        let mut bench = Bench::with_room(3);
        bench.uart.layout = layout;
        for step in steps {
            match step {
                Step::Read(offset, width) => {
                    if let Ok(value) = bench.uart.read(offset, width) {
                        prop_assert!(value <= 0xff);
                    }
                }
                Step::Write(offset, width, data) => {
                    let _ = bench.uart.write(offset, width, data);
                }
                Step::Type(bytes) => bench.type_in(&bytes),
                Step::Room(room) => bench.make_room(room),
                Step::Reset => bench.uart.reset(),
            }
            check(&bench, layout)?;
        }
    }

    #[test]
    fn a_glance_shows_what_a_look_shows(
        layout in prop::sample::select(&[RegisterLayout::Packed, RegisterLayout::Spaced][..]),
        steps in prop::collection::vec(any_step(), 1..200),
    ) {
        let [mut bench, mut looking] = [(); 2].map(|()| Bench::with_room(3));
        bench.uart.layout = layout;
        looking.uart.layout = layout;
        for step in steps {
            match step {
                Step::Read(offset, width) => {
                    let expected = look(&looking.uart, offset, width);
                    prop_assert_eq!(bench.uart.read(offset, width), expected);
                }
                Step::Write(offset, width, data) => {
                    let expected = put(&looking.uart, offset, width, data);
                    prop_assert_eq!(bench.uart.write(offset, width, data), expected);
                }
                Step::Type(bytes) => [&bench, &looking].iter().for_each(|bench| bench.type_in(&bytes)),
                Step::Room(room) => [&bench, &looking].iter().for_each(|bench| bench.make_room(room)),
                Step::Reset => [&bench, &looking].iter().for_each(|bench| bench.uart.reset()),
            }
            let [shown, expected] = [&bench, &looking].map(|bench| {
                (bench.backend.output.lock().clone(), bench.waiting_input(), bench.line())
            });
            prop_assert_eq!(shown, expected);
        }
    }

    #[test]
    fn a_guest_that_minds_the_line_status_loses_no_output(
        rooms in prop::collection::vec(0..9usize, 1..100),
    ) {
        let bench = Bench::with_room(0);
        let mut sent = Vec::new();
        for room in rooms {
            while sent.len() < 1000 && bench.read(reg::LSR) & reg::LSR_TRANSMIT_EMPTY != 0 {
                for _ in 0..16 {
                    let byte = sent.len() as u8;
                    sent.push(byte);
                    bench.write(reg::RBR_THR_DLL, byte);
                }
            }
            bench.make_room(room);
        }
        bench.make_room(1000);
        prop_assert_eq!(bench.backend.take_output(), sent);
    }
}
