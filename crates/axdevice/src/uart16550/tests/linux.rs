//! What Linux's 8250 driver does to find out what it has, step by step.

use super::*;

const CONFIG_MODE_A: u8 = 0x80;
const CONFIG_MODE_B: u8 = 0xbf;

/// First steps of `autoconfig`: interrupt enables come and go, and loopback wires the modem lines.
#[test]
fn there_is_a_uart() {
    let bench = Bench::new();
    let ier = bench.read(reg::IER_DLM);
    bench.write(reg::IER_DLM, 0);
    assert_eq!(bench.read(reg::IER_DLM) & 0x0f, 0);
    bench.write(reg::IER_DLM, 0x0f);
    assert_eq!(bench.read(reg::IER_DLM) & 0x0f, 0x0f);
    bench.write(reg::IER_DLM, ier);

    let mcr = bench.read(reg::MCR);
    bench.write(reg::MCR, reg::MCR_LOOP | reg::MCR_OUT2 | reg::MCR_RTS);
    assert_eq!(bench.read(reg::MSR) & 0xf0, reg::MSR_DCD | reg::MSR_CTS);
    bench.write(reg::MCR, mcr);
}

/// The rest of `autoconfig`: it is a 16550A and none of its successors.
#[test]
fn it_is_a_16550a() {
    let bench = Bench::new();
    bench.write(reg::LCR, CONFIG_MODE_B);
    bench.write(reg::IIR_FCR, 0);
    bench.write(reg::LCR, 0);
    bench.write(reg::IIR_FCR, reg::FCR_ENABLE);
    assert_eq!(bench.read(reg::IIR_FCR) >> 6, 3, "FIFOs that work");

    bench.write(reg::LCR, CONFIG_MODE_A);
    assert_ne!(
        bench.read(reg::IIR_FCR),
        0,
        "no enhanced features as of a 16C650"
    );
    bench.write(reg::LCR, CONFIG_MODE_B);
    assert_ne!(
        bench.read(reg::IIR_FCR),
        0,
        "no enhanced features as of a 16850"
    );

    // National's fast chips mirror the loopback bit in bank 2.
    bench.write(reg::LCR, 0);
    let mcr = bench.read(reg::MCR);
    bench.write(reg::MCR, mcr ^ reg::MCR_LOOP);
    bench.write(reg::LCR, 0xe0);
    assert_eq!((bench.read(2) ^ mcr) & reg::MCR_LOOP, 0, "no bank 2");
    bench.write(reg::LCR, 0);
    bench.write(reg::MCR, mcr);

    // A 16C750 has 64 bytes, under the divisor latch only.
    for lcr in [0, CONFIG_MODE_A] {
        bench.write(reg::LCR, lcr);
        bench.write(reg::IIR_FCR, reg::FCR_ENABLE | 0x20);
        assert_eq!(bench.read(reg::IIR_FCR) & 0xe0, 0xc0, "no FIFO of 64 bytes");
        bench.write(reg::IIR_FCR, reg::FCR_ENABLE);
    }
    bench.write(reg::LCR, 0);

    // XScale's UART has an enable bit of its own.
    bench.write(reg::IER_DLM, 0x40);
    assert_eq!(bench.read(reg::IER_DLM), 0);

    // A plain 8250 has no scratch register.
    for value in [0xa5, 0x5a] {
        bench.write(reg::SCR, value);
        assert_eq!(bench.read(reg::SCR), value);
    }
}

/// `size_fifo`: 256 bytes go round in loopback, and as many come back as the FIFO has places.
#[test]
fn its_fifo_has_16_bytes() {
    let bench = Bench::new();
    bench.write(reg::LCR, 0);
    bench.write(
        reg::IIR_FCR,
        reg::FCR_ENABLE | reg::FCR_CLEAR_RECEIVE | reg::FCR_CLEAR_TRANSMIT,
    );
    bench.write(reg::MCR, reg::MCR_LOOP);
    bench.write(reg::LCR, CONFIG_MODE_A);
    bench.write(reg::RBR_THR_DLL, 1);
    bench.write(reg::IER_DLM, 0);
    bench.write(reg::LCR, 3);
    for byte in 0..=u8::MAX {
        bench.write(reg::RBR_THR_DLL, byte);
    }
    assert_eq!(bench.read_all().len(), 16);
    assert_eq!(bench.backend.take_output(), b"");
}

/// `serial8250_do_startup`: the transmitter's interrupt has neither of the two known bugs.
#[test]
fn its_transmitter_interrupt_can_be_trusted() {
    let bench = Bench::new();
    for fcr in [
        reg::FCR_ENABLE,
        reg::FCR_ENABLE | reg::FCR_CLEAR_RECEIVE | reg::FCR_CLEAR_TRANSMIT,
        0,
    ] {
        bench.write(reg::IIR_FCR, fcr);
    }
    for register in [reg::LSR, reg::RBR_THR_DLL, reg::IIR_FCR, reg::MSR] {
        bench.read(register);
    }
    assert_ne!(bench.read(reg::LSR), 0xff);

    // It is raised again whenever it is enabled (else UART_BUG_THRE).
    bench.write(reg::IER_DLM, reg::IER_TRANSMIT_EMPTY);
    assert_eq!(bench.read(reg::IIR_FCR) & reg::IIR_NONE, 0);
    bench.write(reg::IER_DLM, 0);
    bench.write(reg::IER_DLM, reg::IER_TRANSMIT_EMPTY);
    assert_eq!(bench.read(reg::IIR_FCR) & reg::IIR_NONE, 0);
    bench.write(reg::IER_DLM, 0);

    // An empty transmitter says so both ways (else UART_BUG_TXEN).
    bench.write(reg::IER_DLM, reg::IER_TRANSMIT_EMPTY);
    assert_ne!(bench.read(reg::LSR) & reg::LSR_TRANSMITTER_IDLE, 0);
    assert_eq!(bench.read(reg::IIR_FCR) & reg::IIR_NONE, 0);
    bench.write(reg::IER_DLM, 0);
    assert_eq!(bench.line(), LineLevel::Low);
}

/// A driver at work: interrupts on, 16 bytes at each transmit interrupt, all input at each receive interrupt.
#[test]
fn a_driver_moves_data_both_ways_by_interrupts_alone() {
    let bench = Bench::with_room(5);
    bench.write(reg::IIR_FCR, 0x81);
    bench.write(reg::MCR, reg::MCR_DTR | reg::MCR_RTS | reg::MCR_OUT2);
    let to_send: Vec<u8> = (0..200).collect();
    let typed: Vec<u8> = (0..77).rev().collect();
    let mut left = to_send.iter().copied();
    let mut received = Vec::new();
    bench.write(
        reg::IER_DLM,
        reg::IER_RECEIVED | reg::IER_LINE_STATUS | reg::IER_TRANSMIT_EMPTY,
    );
    bench.type_in(&typed);
    for _ in 0..1000 {
        if bench.line() == LineLevel::Low {
            bench.make_room(7);
            continue;
        }
        let iir = bench.read(reg::IIR_FCR);
        assert_eq!(iir & reg::IIR_NONE, 0, "a high line has a cause");
        let lsr = bench.read(reg::LSR);
        assert_eq!(lsr & reg::LSR_OVERRUN, 0);
        if lsr & reg::LSR_DATA_READY != 0 {
            received.extend(bench.read_all());
        }
        if lsr & reg::LSR_TRANSMIT_EMPTY != 0 {
            for byte in left.by_ref().take(16) {
                bench.write(reg::RBR_THR_DLL, byte);
            }
        }
    }
    bench.make_room(1000);
    assert_eq!(bench.backend.take_output(), to_send);
    assert_eq!(received, typed);
}
