//! Tests of the UART: every register, flow in both directions, interrupts, and what drivers do to find out what it is.

mod hostile;
mod linux;
mod loopback;

use alloc::sync::Arc;
use alloc::vec::Vec;

use axvcpu::{AccessWidth, LineLevel};

use super::registers as reg;
use super::{RegisterLayout, Uart16550};
use crate::testing::{Lines, Queues};
use crate::{AccessFault, Device};

/// A UART between a backend and an interrupt line, all of which the test holds.
struct Bench {
    uart: Uart16550,
    backend: Arc<Queues>,
    lines: Arc<Lines>,
}

impl Bench {
    /// A UART whose backend has room for `room` bytes.
    fn with_room(room: usize) -> Self {
        let backend = Queues::with_room(room);
        let lines = Lines::new();
        let uart = Uart16550::new(
            "uart0",
            RegisterLayout::Packed,
            lines.wire(10),
            backend.clone(),
        );
        Self {
            uart,
            backend,
            lines,
        }
    }

    fn new() -> Self {
        Self::with_room(usize::MAX)
    }

    /// With FIFOs and the highest trigger level.
    fn with_fifos() -> Self {
        let bench = Self::new();
        bench.write(reg::IIR_FCR, 0xc1);
        bench
    }

    fn read(&self, register: u64) -> u8 {
        let value = self.uart.read(register, AccessWidth::Byte).unwrap();
        u8::try_from(value).unwrap()
    }

    fn write(&self, register: u64, value: u8) {
        self.uart
            .write(register, AccessWidth::Byte, value.into())
            .unwrap();
    }

    /// Input arrives.
    fn type_in(&self, bytes: &[u8]) {
        self.backend.type_in(bytes);
        self.uart.poll();
    }

    /// The backend has room for `room` bytes from now on.
    fn make_room(&self, room: usize) {
        *self.backend.room.lock() = room;
        self.uart.poll();
    }

    /// Reads as a guest does that polls the line status.
    fn read_all(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.read(reg::LSR) & reg::LSR_DATA_READY != 0 {
            bytes.push(self.read(reg::RBR_THR_DLL));
        }
        bytes
    }

    fn line(&self) -> LineLevel {
        self.lines.level(10)
    }

    fn waiting_input(&self) -> usize {
        self.backend.input.lock().len()
    }
}

const IDLE: u8 = reg::LSR_TRANSMIT_EMPTY | reg::LSR_TRANSMITTER_IDLE;

#[test]
fn registers_after_reset() {
    let bench = Bench::new();
    let check = || {
        let expected = [0, 0, reg::IIR_NONE, 0, 0, IDLE, 0xb0, 0];
        for (register, expected) in (0..).zip(expected) {
            assert_eq!(bench.read(register), expected, "register {register}");
        }
        bench.write(reg::LCR, reg::LCR_DLAB);
        assert_eq!((bench.read(0), bench.read(1)), (12, 0));
        bench.write(reg::LCR, 0);
        assert_eq!(bench.line(), LineLevel::Low);
    };
    check();
    bench.write(reg::LCR, reg::LCR_DLAB);
    bench.write(0, 0x55);
    bench.write(1, 0xaa);
    bench.write(reg::LCR, 0x1f);
    bench.write(reg::IIR_FCR, 0xc1);
    bench.write(reg::IER_DLM, 0x0f);
    bench.write(reg::MCR, 0x1f);
    bench.write(reg::RBR_THR_DLL, b'l');
    bench.write(reg::SCR, 0x42);
    assert_eq!(bench.line(), LineLevel::High);
    bench.uart.reset();
    check();
}

#[test]
fn a_reset_passes_on_what_it_can() {
    let bench = Bench::with_room(0);
    for byte in *b"abc" {
        bench.write(reg::RBR_THR_DLL, byte);
    }
    *bench.backend.room.lock() = 2;
    bench.uart.reset();
    bench.make_room(100);
    assert_eq!(bench.backend.take_output(), b"ab");
    assert_eq!(bench.read(reg::LSR), IDLE);
}

#[test]
fn plain_registers_keep_the_bits_that_exist() {
    let bench = Bench::new();
    for value in 0..=u8::MAX {
        bench.write(reg::SCR, value);
        assert_eq!(bench.read(reg::SCR), value);
        bench.write(reg::LCR, value);
        assert_eq!(bench.read(reg::LCR), value);
        bench.write(reg::LCR, 0);
        bench.write(reg::IER_DLM, value);
        assert_eq!(bench.read(reg::IER_DLM), value & 0x0f);
        bench.write(reg::MCR, value);
        assert_eq!(bench.read(reg::MCR), value & 0x1f);
    }
}

#[test]
fn the_divisor_latch_hides_two_registers() {
    let bench = Bench::new();
    bench.type_in(b"x");
    bench.write(reg::IER_DLM, 0x0c);
    bench.write(reg::LCR, reg::LCR_DLAB | 3);
    bench.write(0, 0x34);
    bench.write(1, 0x12);
    assert_eq!((bench.read(0), bench.read(1)), (0x34, 0x12));
    bench.write(reg::LCR, 3);
    assert_eq!((bench.read(0), bench.read(1)), (b'x', 0x0c));
    assert_eq!(bench.backend.take_output(), b"");
}

#[test]
fn status_registers_ignore_writes() {
    let bench = Bench::new();
    bench.write(reg::LSR, 0xff);
    bench.write(reg::MSR, 0xff);
    assert_eq!((bench.read(reg::LSR), bench.read(reg::MSR)), (IDLE, 0xb0));
}

#[test]
fn packed_registers_answer_bytes_only() {
    let bench = Bench::new();
    assert_eq!(RegisterLayout::Packed.size(), 8);
    for offset in 0..16 {
        for width in [AccessWidth::Word, AccessWidth::Dword, AccessWidth::Qword] {
            assert_eq!(bench.uart.read(offset, width), Err(AccessFault));
            assert_eq!(bench.uart.write(offset, width, 0), Err(AccessFault));
        }
        let byte = bench.uart.read(offset, AccessWidth::Byte);
        assert_eq!(byte.is_ok(), offset < 8);
        assert_eq!(
            bench.uart.write(offset, AccessWidth::Byte, 0).is_ok(),
            offset < 8
        );
    }
}

#[test]
fn spaced_registers_answer_bytes_and_words_of_32_bits() {
    let backend = Queues::with_room(usize::MAX);
    let lines = Lines::new();
    let uart = Uart16550::new(
        "uart0",
        RegisterLayout::Spaced,
        lines.wire(1),
        backend.clone(),
    );
    assert_eq!(RegisterLayout::Spaced.size(), 32);
    for offset in 0..40 {
        for width in crate::testing::WIDTHS {
            let width_fits = matches!(width, AccessWidth::Byte | AccessWidth::Dword);
            let answers = width_fits && offset % 4 == 0 && offset < 32;
            assert_eq!(
                uart.read(offset, width).is_ok(),
                answers,
                "{offset} {width:?}"
            );
        }
    }
    uart.write(7 << 2, AccessWidth::Dword, 0xffff_ff5a).unwrap();
    assert_eq!(uart.read(7 << 2, AccessWidth::Dword), Ok(0x5a));
    assert_eq!(uart.read(7 << 2, AccessWidth::Byte), Ok(0x5a));
    uart.write(0, AccessWidth::Dword, b'!'.into()).unwrap();
    uart.write(0, AccessWidth::Byte, b'?'.into()).unwrap();
    assert_eq!(backend.take_output(), b"!?");
}

#[test]
fn output_is_at_the_backend_at_once() {
    let bench = Bench::new();
    for byte in 0..=u8::MAX {
        bench.write(reg::RBR_THR_DLL, byte);
        assert_eq!(bench.backend.take_output(), [byte]);
        assert_eq!(bench.read(reg::LSR), IDLE);
    }
}

#[test]
fn output_that_finds_no_room_is_held_and_not_lost() {
    let bench = Bench::with_room(2);
    bench.write(reg::IER_DLM, reg::IER_TRANSMIT_EMPTY);
    for byte in *b"abcdef" {
        bench.write(reg::RBR_THR_DLL, byte);
    }
    assert_eq!(bench.backend.take_output(), b"ab");
    assert_eq!(bench.read(reg::LSR), 0);
    assert_eq!(bench.read(reg::IIR_FCR), reg::IIR_NONE);
    assert_eq!(bench.line(), LineLevel::Low);

    bench.make_room(3);
    assert_eq!(bench.backend.take_output(), b"cde");
    assert_eq!(bench.read(reg::LSR), 0);
    assert_eq!(bench.line(), LineLevel::Low);

    bench.make_room(1);
    assert_eq!(bench.backend.take_output(), b"f");
    assert_eq!(bench.line(), LineLevel::High);
    assert_eq!(bench.read(reg::LSR), IDLE);
    assert_eq!(bench.read(reg::IIR_FCR), reg::IIR_TRANSMIT_EMPTY);
}

#[test]
fn a_guest_that_polls_the_line_status_gets_rid_of_held_output_itself() {
    let bench = Bench::with_room(0);
    bench.write(reg::RBR_THR_DLL, b'a');
    assert_eq!(bench.read(reg::LSR), 0);
    *bench.backend.room.lock() = 1;
    assert_eq!(bench.read(reg::LSR), IDLE);
    assert_eq!(bench.backend.take_output(), b"a");
}

#[test]
fn held_output_keeps_its_order_and_its_limit() {
    let bench = Bench::with_room(0);
    for byte in 0..20 {
        bench.write(reg::RBR_THR_DLL, byte);
    }
    *bench.backend.room.lock() = 1;
    bench.write(reg::RBR_THR_DLL, 100);
    bench.make_room(100);
    let expected: Vec<u8> = (0..16).chain([100]).collect();
    assert_eq!(bench.backend.take_output(), expected);
}

#[test]
fn clearing_the_transmit_fifo_drops_held_output() {
    let bench = Bench::with_room(0);
    bench.write(reg::IIR_FCR, 0x01);
    bench.write(reg::IER_DLM, reg::IER_TRANSMIT_EMPTY);
    bench.write(reg::RBR_THR_DLL, b'a');
    assert_eq!(bench.line(), LineLevel::Low);
    bench.write(reg::IIR_FCR, 0x01 | reg::FCR_CLEAR_RECEIVE);
    assert_eq!(bench.read(reg::LSR), 0);
    bench.write(reg::IIR_FCR, 0x01 | reg::FCR_CLEAR_TRANSMIT);
    assert_eq!(bench.read(reg::LSR), IDLE);
    assert_eq!(bench.line(), LineLevel::High);
    bench.make_room(1);
    assert_eq!(bench.backend.take_output(), b"");
}

#[test]
fn an_idle_line_status_does_not_disturb_the_backend() {
    let bench = Bench::new();
    bench.uart.poll();
    let before = *bench.backend.calls.lock();
    for _ in 0..10 {
        bench.read(reg::LSR);
    }
    assert_eq!(*bench.backend.calls.lock(), before);
}

#[test]
fn input_comes_in_order_and_all_of_it() {
    for fcr in [0x00, 0x01, 0xc1] {
        let bench = Bench::new();
        bench.write(reg::IIR_FCR, fcr);
        let typed: Vec<u8> = (0..100).collect();
        bench.type_in(&typed);
        let capacity = if fcr == 0 { 1 } else { 16 };
        assert_eq!(bench.waiting_input(), typed.len() - capacity);
        assert_eq!(bench.read_all(), typed);
        assert_eq!(bench.read(reg::LSR), IDLE);
        assert_eq!(bench.read(reg::RBR_THR_DLL), 0);
    }
}

#[test]
fn a_poll_tops_the_receive_fifo_up() {
    let bench = Bench::with_fifos();
    bench.type_in(&[1; 10]);
    bench.type_in(&[2; 10]);
    assert_eq!(bench.waiting_input(), 4);
    for _ in 0..3 {
        bench.read(reg::RBR_THR_DLL);
    }
    assert_eq!(bench.waiting_input(), 4);
    bench.uart.poll();
    assert_eq!(bench.waiting_input(), 1);
}

#[test]
fn clearing_the_receive_fifo_makes_way_for_what_waits() {
    let bench = Bench::with_fifos();
    bench.type_in(&(0..20).collect::<Vec<u8>>());
    bench.write(reg::IIR_FCR, 0xc1 | reg::FCR_CLEAR_TRANSMIT);
    assert_eq!(bench.waiting_input(), 4);
    bench.write(reg::IIR_FCR, 0xc1 | reg::FCR_CLEAR_RECEIVE);
    assert_eq!(bench.read_all(), [16, 17, 18, 19]);
}

#[test]
fn fifo_control_counts_only_with_the_enable_bit() {
    let bench = Bench::with_fifos();
    assert_eq!(bench.read(reg::IIR_FCR), reg::IIR_FIFOS | reg::IIR_NONE);
    bench.write(reg::IIR_FCR, 0xfe);
    assert_eq!(bench.read(reg::IIR_FCR), reg::IIR_NONE);
    // In single mode the clear bits do nothing.
    bench.type_in(b"x");
    bench.write(reg::IIR_FCR, reg::FCR_CLEAR_RECEIVE);
    assert_eq!(bench.read_all(), b"x");
}

#[test]
fn switching_the_fifos_empties_them() {
    let bench = Bench::with_fifos();
    bench.type_in(b"abc");
    bench.write(reg::IIR_FCR, 0);
    assert_eq!(bench.read(reg::LSR), IDLE);
    bench.type_in(b"d");
    bench.write(reg::IIR_FCR, reg::FCR_ENABLE);
    assert_eq!(bench.read(reg::LSR), IDLE);
}

#[test]
fn received_data_interrupts_by_trigger_level() {
    for (bits, level) in [(0x00, 1), (0x40, 4), (0x80, 8), (0xc0, 14)] {
        let bench = Bench::new();
        bench.write(reg::IIR_FCR, bits | reg::FCR_ENABLE);
        bench.write(reg::IER_DLM, reg::IER_RECEIVED);
        for count in 1..=16 {
            bench.type_in(b"x");
            let expected = if count >= level {
                reg::IIR_RECEIVED
            } else {
                reg::IIR_TIMEOUT
            };
            assert_eq!(bench.read(reg::IIR_FCR), reg::IIR_FIFOS | expected);
            assert_eq!(bench.line(), LineLevel::High);
        }
        // Reading the identification does not answer it; reading the data does.
        for left in (0..16).rev() {
            assert_eq!(bench.line(), LineLevel::High);
            bench.read(reg::RBR_THR_DLL);
            let expected = match left {
                0 => reg::IIR_NONE,
                _ if left >= level => reg::IIR_RECEIVED,
                _ => reg::IIR_TIMEOUT,
            };
            assert_eq!(bench.read(reg::IIR_FCR), reg::IIR_FIFOS | expected);
        }
        assert_eq!(bench.line(), LineLevel::Low);
        assert_eq!(bench.lines.changes(), 2);
    }
}

#[test]
fn received_data_interrupts_in_single_mode() {
    let bench = Bench::new();
    bench.write(reg::IER_DLM, reg::IER_RECEIVED);
    bench.type_in(b"xy");
    assert_eq!(bench.read(reg::IIR_FCR), reg::IIR_RECEIVED);
    assert_eq!(bench.read(reg::RBR_THR_DLL), b'x');
    assert_eq!(bench.line(), LineLevel::High);
    assert_eq!(bench.read(reg::RBR_THR_DLL), b'y');
    assert_eq!(bench.line(), LineLevel::Low);
}

#[test]
fn a_mask_holds_an_interrupt_back_and_lets_it_through_later() {
    let bench = Bench::new();
    bench.type_in(b"x");
    assert_eq!(bench.read(reg::IIR_FCR), reg::IIR_NONE);
    bench.write(reg::IER_DLM, reg::IER_RECEIVED);
    assert_eq!(bench.line(), LineLevel::High);
    bench.write(reg::IER_DLM, 0);
    assert_eq!(bench.line(), LineLevel::Low);
}

#[test]
fn an_empty_transmitter_interrupts_once() {
    let bench = Bench::new();
    bench.write(reg::IER_DLM, reg::IER_TRANSMIT_EMPTY);
    assert_eq!(bench.line(), LineLevel::High);
    assert_eq!(bench.read(reg::IIR_FCR), reg::IIR_TRANSMIT_EMPTY);
    assert_eq!(bench.line(), LineLevel::Low);
    assert_eq!(bench.read(reg::IIR_FCR), reg::IIR_NONE);
    // Enabled already: nothing new.
    bench.write(reg::IER_DLM, reg::IER_TRANSMIT_EMPTY);
    assert_eq!(bench.line(), LineLevel::Low);
    // Enabled anew: again, though nothing was sent.
    bench.write(reg::IER_DLM, 0);
    bench.write(reg::IER_DLM, reg::IER_TRANSMIT_EMPTY);
    assert_eq!(bench.line(), LineLevel::High);
    bench.read(reg::IIR_FCR);
    bench.write(reg::RBR_THR_DLL, b'a');
    assert_eq!(bench.read(reg::IIR_FCR), reg::IIR_TRANSMIT_EMPTY);
}

#[test]
fn enabling_a_busy_transmitter_waits_for_it() {
    let bench = Bench::with_room(0);
    bench.write(reg::RBR_THR_DLL, b'a');
    bench.write(reg::IER_DLM, reg::IER_TRANSMIT_EMPTY);
    assert_eq!(bench.line(), LineLevel::Low);
    bench.make_room(1);
    assert_eq!(bench.line(), LineLevel::High);
}

#[test]
fn interrupts_are_reported_by_priority_and_answered_one_by_one() {
    let bench = Bench::new();
    // In loopback: a modem line changes, two bytes overrun a single register, and the transmitter is empty.
    bench.write(reg::MCR, reg::MCR_LOOP | reg::MCR_RTS);
    bench.write(reg::RBR_THR_DLL, b'a');
    bench.write(reg::RBR_THR_DLL, b'b');
    bench.write(reg::IER_DLM, reg::IER_ALL);
    assert_eq!(bench.read(reg::IIR_FCR), reg::IIR_LINE_STATUS);
    assert_eq!(bench.read(reg::IIR_FCR), reg::IIR_LINE_STATUS);
    let ready = reg::LSR_DATA_READY | IDLE;
    assert_eq!(bench.read(reg::LSR), ready | reg::LSR_OVERRUN);
    assert_eq!(bench.read(reg::LSR), ready);
    assert_eq!(bench.read(reg::IIR_FCR), reg::IIR_RECEIVED);
    assert_eq!(bench.read(reg::RBR_THR_DLL), b'b');
    assert_eq!(bench.read(reg::IIR_FCR), reg::IIR_TRANSMIT_EMPTY);
    assert_eq!(bench.line(), LineLevel::High);
    assert_eq!(bench.read(reg::IIR_FCR), reg::IIR_MODEM_STATUS);
    assert_eq!(bench.line(), LineLevel::High);
    bench.read(reg::MSR);
    assert_eq!(bench.read(reg::IIR_FCR), reg::IIR_NONE);
    assert_eq!(bench.line(), LineLevel::Low);
    assert_eq!(bench.lines.changes(), 2);
}

#[test]
fn a_full_fifo_keeps_its_bytes_when_it_is_overrun() {
    let bench = Bench::with_fifos();
    bench.write(reg::IER_DLM, reg::IER_LINE_STATUS);
    bench.write(reg::MCR, reg::MCR_LOOP);
    for byte in 0..16 {
        bench.write(reg::RBR_THR_DLL, byte);
    }
    assert_eq!(bench.line(), LineLevel::Low);
    bench.write(reg::RBR_THR_DLL, 16);
    assert_eq!(bench.line(), LineLevel::High);
    assert_eq!(
        bench.read(reg::LSR),
        reg::LSR_DATA_READY | reg::LSR_OVERRUN | IDLE
    );
    assert_eq!(bench.line(), LineLevel::Low);
    assert_eq!(bench.read_all(), (0..16).collect::<Vec<u8>>());
}
