use std::{cell::RefCell, collections::VecDeque, rc::Rc};

use super::*;

/// A UART at 8N1 and 115200 baud, as firmware leaves it, with a byte of the firmware's in either direction.
#[derive(Debug)]
struct Model {
    has_fifo: bool,
    fifo_on: bool,
    line_control: u8,
    modem_control: u8,
    interrupt_enable: u8,
    divisor: [u8; 2],
    /// In the transmitter, not yet on the line.
    sending: VecDeque<u8>,
    sent: Vec<u8>,
    arrived: VecDeque<u8>,
    /// How often the line status was read: once for each byte on the line, and more.
    looks: usize,
}

#[derive(Clone, Debug)]
struct Shared(Rc<RefCell<Model>>);

impl Shared {
    fn new(has_fifo: bool) -> Self {
        Self(Rc::new(RefCell::new(Model {
            has_fifo,
            fifo_on: false,
            line_control: 0b011,
            modem_control: 0,
            interrupt_enable: 0,
            divisor: [2, 0],
            sending: VecDeque::from([b'F']),
            sent: vec![],
            arrived: VecDeque::from([b'k']),
            looks: 0,
        })))
    }

    fn with<T>(&self, f: impl FnOnce(&mut Model) -> T) -> T {
        f(&mut self.0.borrow_mut())
    }

    /// All that was sent, once it is on the line.
    fn sent(&self) -> Vec<u8> {
        self.with(|model| {
            model.sent.extend(model.sending.drain(..));
            model.sent.clone()
        })
    }
}

impl Model {
    fn latched(&self) -> bool {
        self.line_control & DIVISOR_LATCH != 0
    }
}

impl Registers for Shared {
    fn read(&self, register: usize) -> u8 {
        self.with(|model| match register {
            DATA | INTERRUPT_ENABLE if model.latched() => model.divisor[register],
            DATA => model.arrived.pop_front().expect("nothing has arrived"),
            INTERRUPT_ENABLE => model.interrupt_enable,
            FIFO => 1 | if model.fifo_on { FIFO_IS_ON } else { 0 },
            LINE_CONTROL => model.line_control,
            MODEM_CONTROL => model.modem_control,
            LINE_STATUS => {
                model.looks += 1;
                let status = [
                    (RECEIVED, !model.arrived.is_empty()),
                    (TRANSMITTER_EMPTY, model.sending.is_empty()),
                ];
                let status = status.iter().filter(|bit| bit.1).map(|bit| bit.0).sum();
                // A byte's time goes by.
                model.sent.extend(model.sending.pop_front());
                status
            }
            _ => panic!("register {register} is not for reading"),
        })
    }

    fn write(&mut self, register: usize, value: u8) {
        self.with(|model| match register {
            DATA | INTERRUPT_ENABLE if model.latched() => model.divisor[register] = value,
            DATA => {
                let depth = if model.fifo_on { 16 } else { 1 };
                assert!(model.sending.len() < depth, "byte {value:#x} is lost");
                model.sending.push_back(value);
            }
            INTERRUPT_ENABLE => model.interrupt_enable = value,
            FIFO => {
                model.fifo_on = model.has_fifo && value & FIFO_ON != 0;
                assert_eq!(value & !FIFO_ON, 0, "a FIFO is cleared");
            }
            LINE_CONTROL => model.line_control = value,
            MODEM_CONTROL => model.modem_control = value,
            _ => panic!("register {register} is not for writing"),
        });
    }
}

#[test]
fn taking_over_keeps_line_and_bytes() {
    for divisor_latch in [0, DIVISOR_LATCH] {
        let model = Shared::new(true);
        model.with(|model| {
            model.line_control |= divisor_latch;
            model.modem_control = LOOPBACK | 0b10_0000;
        });
        let mut uart = Uart::new(model.clone());
        model.with(|model| {
            assert_eq!(model.divisor, [2, 0]);
            assert_eq!(model.line_control, 0b011);
            assert_eq!(model.modem_control, READY | 0b10_0000);
            assert_eq!(model.interrupt_enable, ON_RECEIVED);
            assert!(model.fifo_on);
        });
        assert_eq!(model.sent(), b"F");
        assert_eq!(uart.receive(), Some(b'k'));
        assert_eq!(uart.receive(), None);
    }
}

#[test]
fn output_is_neither_lost_nor_changed() {
    let text: Vec<u8> = (0..=255).cycle().take(1000).collect();
    for has_fifo in [false, true] {
        let model = Shared::new(has_fifo);
        let mut uart = Uart::new(model.clone());
        for &byte in &text {
            uart.send(byte);
        }
        assert_eq!(model.sent(), [b"F", &text[..]].concat());
    }
}

#[test]
fn a_fifo_takes_sixteen_bytes_for_one_look() {
    for (has_fifo, most) in [(true, 16), (false, 1)] {
        let model = Shared::new(has_fifo);
        model.with(|model| model.sending.clear());
        let mut uart = Uart::new(model.clone());
        for _ in 0..most {
            uart.send(b'x');
        }
        assert_eq!(model.with(|model| model.looks), 1);
        uart.send(b'x');
        assert!(model.with(|model| model.looks) > 1);
    }
}

#[test]
fn input_is_read_in_order() {
    let model = Shared::new(true);
    let mut uart = Uart::new(model.clone());
    model.with(|model| model.arrived.extend(b"eys"));
    let read: Vec<u8> = core::iter::from_fn(|| uart.receive()).collect();
    assert_eq!(read, b"keys");
}

#[test]
fn registers_in_memory_are_where_the_stride_says() {
    for (width, stride) in [
        (Width::Byte, 1),
        (Width::Byte, 2),
        (Width::Byte, 4),
        (Width::Word, 4),
        (Width::Word, 8),
    ] {
        let mut memory = [0xffff_ffff_u32; 16];
        let base = memory.as_mut_ptr().cast::<u8>();
        // SAFETY: eight registers of at most eight bytes are the array, which lives on and is reached only through `base`.
        let mut mmio = unsafe { Mmio::new(base, stride, width) };
        for register in 0..8 {
            mmio.write(register, 0xa0 + register as u8);
        }
        for register in 0..8 {
            assert_eq!(mmio.read(register), 0xa0 + register as u8);
        }
        let bytes: Vec<u8> = memory.iter().flat_map(|word| word.to_le_bytes()).collect();
        for register in 0..8 {
            let at = register * stride;
            assert_eq!(bytes[at], 0xa0 + register as u8);
            match width {
                Width::Word => assert_eq!(bytes[at + 1..at + 4], [0; 3]),
                Width::Byte if stride > 1 => assert_eq!(bytes[at + 1], 0xff),
                Width::Byte => (),
            }
        }
    }
}
