//! Loopback, modem lines, and a FIFO that is overrun.

use super::*;

#[test]
fn loopback_wires_modem_outputs_to_inputs() {
    let bench = Bench::new();
    for (output, input) in [
        (reg::MCR_RTS, reg::MSR_CTS),
        (reg::MCR_DTR, reg::MSR_DSR),
        (reg::MCR_OUT1, reg::MSR_RI),
        (reg::MCR_OUT2, reg::MSR_DCD),
    ] {
        bench.write(reg::MCR, reg::MCR_LOOP);
        bench.read(reg::MSR);
        bench.write(reg::MCR, reg::MCR_LOOP | output);
        // The ring indicator reports its end, the others every change.
        let begin = if output == reg::MCR_OUT1 {
            0
        } else {
            input >> 4
        };
        assert_eq!(bench.read(reg::MSR), input | begin);
        assert_eq!(bench.read(reg::MSR), input);
        bench.write(reg::MCR, reg::MCR_LOOP);
        assert_eq!(bench.read(reg::MSR), input >> 4);
        assert_eq!(bench.read(reg::MSR), 0);
    }
    bench.write(reg::MCR, reg::MCR_RTS | reg::MCR_DTR);
    assert_eq!(bench.read(reg::MSR), 0xbb);
    assert_eq!(bench.read(reg::MSR), 0xb0);
}

#[test]
fn changes_of_modem_lines_add_up_until_they_are_read() {
    let bench = Bench::new();
    bench.write(reg::MCR, reg::MCR_LOOP);
    bench.read(reg::MSR);
    bench.write(reg::MCR, reg::MCR_LOOP | reg::MCR_RTS);
    bench.write(reg::MCR, reg::MCR_LOOP | reg::MCR_RTS | reg::MCR_OUT2);
    assert_eq!(bench.read(reg::MSR), reg::MSR_CTS | reg::MSR_DCD | 0x09);
}

#[test]
fn an_empty_transmitter_interrupts_in_loopback_too() {
    let bench = Bench::new();
    bench.write(reg::MCR, reg::MCR_LOOP);
    bench.write(reg::IER_DLM, reg::IER_TRANSMIT_EMPTY);
    bench.read(reg::IIR_FCR);
    assert_eq!(bench.line(), LineLevel::Low);
    bench.write(reg::RBR_THR_DLL, b'l');
    assert_eq!(bench.line(), LineLevel::High);
    assert_eq!(bench.read(reg::IIR_FCR), reg::IIR_TRANSMIT_EMPTY);
}

#[test]
fn loopback_is_cut_off_from_the_backend() {
    let bench = Bench::with_fifos();
    bench.write(reg::MCR, reg::MCR_LOOP);
    bench.type_in(b"typed");
    bench.write(reg::RBR_THR_DLL, b'l');
    assert_eq!(bench.read_all(), b"l");
    assert_eq!(bench.backend.take_output(), b"");
    bench.write(reg::MCR, 0);
    assert_eq!(bench.read_all(), b"typed");
}

#[test]
fn held_output_leaves_during_loopback() {
    let bench = Bench::with_room(0);
    bench.write(reg::RBR_THR_DLL, b'h');
    bench.write(reg::MCR, reg::MCR_LOOP);
    bench.write(reg::IER_DLM, reg::IER_TRANSMIT_EMPTY);
    bench.write(reg::RBR_THR_DLL, b'l');
    assert_eq!(bench.read(reg::LSR), reg::LSR_DATA_READY);
    assert_eq!(bench.line(), LineLevel::Low);
    bench.make_room(5);
    assert_eq!(bench.line(), LineLevel::High);
    assert_eq!(bench.backend.take_output(), b"h");
    assert_eq!(bench.read_all(), b"l");
}
