//! The registers of a 16550A, and what follows from them.

use axvcpu::LineLevel;

use super::fifo::{ByteFifo, DEPTH};
use super::registers as reg;
use crate::{AccessFault, CharBackend};

/// The line status of a transmitter that has nothing to do.
const TRANSMITTER_IDLE: u8 = reg::LSR_TRANSMIT_EMPTY | reg::LSR_TRANSMITTER_IDLE;

/// Whether there are FIFOs (16550) or single registers (16450).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Single,
    Fifo { trigger: usize },
}

impl Mode {
    /// The number of received bytes that wait at most.
    pub(super) fn capacity(self) -> usize {
        match self {
            Self::Single => 1,
            Self::Fifo { .. } => DEPTH,
        }
    }
}

/// What asks for attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interrupt {
    LineStatus,
    Received,
    Timeout,
    TransmitEmpty,
    ModemStatus,
}

impl Interrupt {
    /// How the interrupt identification register names it.
    fn id(self) -> u8 {
        match self {
            Self::LineStatus => reg::IIR_LINE_STATUS,
            Self::Received => reg::IIR_RECEIVED,
            Self::Timeout => reg::IIR_TIMEOUT,
            Self::TransmitEmpty => reg::IIR_TRANSMIT_EMPTY,
            Self::ModemStatus => reg::IIR_MODEM_STATUS,
        }
    }
}

/// Where received bytes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wiring {
    Backend,
    Loopback,
}

/// The registers of a UART.
#[derive(Debug)]
pub(super) struct State {
    interrupt_enable: u8,
    line_control: u8,
    pub(super) modem_control: u8,
    pub(super) scratch: u8,
    /// The divisor latch. It sets no speed here.
    divisor_low: u8,
    divisor_high: u8,
    pub(super) mode: Mode,
    pub(super) received: ByteFifo,
    /// Output that the backend had no room for. It holds as much in single mode, whose guests write one byte at a time.
    held: ByteFifo,
    /// `LSR_OVERRUN` or nothing: the only error that can happen.
    line_errors: u8,
    /// The transmitter ran empty, and the guest was not told yet.
    transmit_empty: bool,
    /// The low half of the modem status register: which lines changed.
    modem_deltas: u8,
    /// The level of the interrupt line.
    pub(super) line: LineLevel,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            interrupt_enable: 0,
            line_control: 0,
            modem_control: 0,
            scratch: 0,
            // 9600 baud of the usual 1.8432 MHz: a guest that reads the speed back must not find a zero to divide by.
            divisor_low: 12,
            divisor_high: 0,
            mode: Mode::Single,
            received: ByteFifo::default(),
            held: ByteFifo::default(),
            line_errors: 0,
            transmit_empty: true,
            modem_deltas: 0,
            line: LineLevel::Low,
        }
    }

    /// As at power-on, but for the level of the line, which others know.
    pub(super) fn reset(&mut self) {
        *self = Self {
            line: self.line,
            ..Self::new()
        };
    }

    /// The line status, if reading it changes nothing: it reports no error, and the transmitter holds nothing for which there may be room by now.
    pub(super) const fn quiet_line_status(&self) -> Option<u8> {
        if self.held.is_empty() && self.line_errors == 0 {
            Some(self.receiver_status() | TRANSMITTER_IDLE)
        } else {
            None
        }
    }

    /// Whether a byte that the backend takes at once changes nothing here. The end of its transmission does not, where the guest is to be told of
    /// one already.
    pub(super) const fn is_transparent(&self) -> bool {
        self.transmit_empty
            && self.held.is_empty()
            && !self.addresses_divisor()
            && matches!(self.wiring(), Wiring::Backend)
    }

    pub(super) fn read(
        &mut self,
        register: u64,
        backend: &dyn CharBackend,
    ) -> Result<u8, AccessFault> {
        Ok(match register {
            reg::RBR_THR_DLL if self.addresses_divisor() => self.divisor_low,
            reg::RBR_THR_DLL => self.receive(backend),
            reg::IER_DLM if self.addresses_divisor() => self.divisor_high,
            reg::IER_DLM => self.interrupt_enable,
            reg::IIR_FCR => self.identify_interrupt(),
            reg::LCR => self.line_control,
            reg::MCR => self.modem_control,
            reg::LSR => self.line_status(backend),
            reg::MSR => self.modem_lines() | core::mem::take(&mut self.modem_deltas),
            reg::SCR => self.scratch,
            _ => return Err(AccessFault),
        })
    }

    pub(super) fn write(
        &mut self,
        register: u64,
        value: u8,
        backend: &dyn CharBackend,
    ) -> Result<(), AccessFault> {
        match register {
            reg::RBR_THR_DLL if self.addresses_divisor() => self.divisor_low = value,
            reg::RBR_THR_DLL => self.transmit(value, backend),
            reg::IER_DLM => self.write_ier_dlm(value),
            reg::IIR_FCR => self.control_fifos(value, backend),
            reg::LCR => self.line_control = value,
            reg::MCR => self.control_modem(value, backend),
            // Writes to the status registers are for the factory's tests.
            reg::LSR | reg::MSR => {}
            reg::SCR => self.scratch = value,
            _ => return Err(AccessFault),
        }
        Ok(())
    }

    const fn addresses_divisor(&self) -> bool {
        self.line_control & reg::LCR_DLAB != 0
    }

    /// The pending interrupt of the highest priority.
    pub(super) fn interrupt(&self) -> Option<Interrupt> {
        let enabled = |bit| self.interrupt_enable & bit != 0;
        if enabled(reg::IER_LINE_STATUS) && self.line_errors != 0 {
            Some(Interrupt::LineStatus)
        } else if enabled(reg::IER_RECEIVED) && !self.received.is_empty() {
            match self.mode {
                Mode::Fifo { trigger } if self.received.len() < trigger => Some(Interrupt::Timeout),
                Mode::Fifo { .. } | Mode::Single => Some(Interrupt::Received),
            }
        } else if enabled(reg::IER_TRANSMIT_EMPTY) && self.transmit_empty {
            Some(Interrupt::TransmitEmpty)
        } else if enabled(reg::IER_MODEM_STATUS) && self.modem_deltas != 0 {
            Some(Interrupt::ModemStatus)
        } else {
            None
        }
    }

    /// Reads the interrupt identification register, which answers the transmitter's interrupt.
    fn identify_interrupt(&mut self) -> u8 {
        let interrupt = self.interrupt();
        if interrupt == Some(Interrupt::TransmitEmpty) {
            self.transmit_empty = false;
        }
        let fifos = match self.mode {
            Mode::Single => 0,
            Mode::Fifo { .. } => reg::IIR_FIFOS,
        };
        fifos | interrupt.map_or(reg::IIR_NONE, Interrupt::id)
    }

    pub(super) fn write_ier_dlm(&mut self, value: u8) {
        if self.addresses_divisor() {
            self.divisor_high = value;
            return;
        }
        let newly = value & !self.interrupt_enable;
        self.interrupt_enable = value & reg::IER_ALL;
        // Enabling the transmitter's interrupt while it is empty raises it, even if it was answered before.
        if newly & reg::IER_TRANSMIT_EMPTY != 0 && self.held.is_empty() {
            self.transmit_empty = true;
        }
    }

    fn line_status(&mut self, backend: &dyn CharBackend) -> u8 {
        self.drain(backend);
        let transmitter = if self.held.is_empty() {
            TRANSMITTER_IDLE
        } else {
            0
        };
        self.receiver_status() | transmitter | core::mem::take(&mut self.line_errors)
    }

    const fn receiver_status(&self) -> u8 {
        if self.received.is_empty() {
            0
        } else {
            reg::LSR_DATA_READY
        }
    }

    fn control_fifos(&mut self, value: u8, backend: &dyn CharBackend) {
        let mode = if value & reg::FCR_ENABLE != 0 {
            let trigger = match value >> reg::FCR_TRIGGER_SHIFT {
                0 => 1,
                1 => 4,
                2 => 8,
                _ => 14,
            };
            Mode::Fifo { trigger }
        } else {
            Mode::Single
        };
        let switched = mode.capacity() != self.mode.capacity();
        let clears = |bit| switched || mode != Mode::Single && value & bit != 0;
        self.mode = mode;
        if clears(reg::FCR_CLEAR_RECEIVE) {
            self.received.clear();
        }
        if clears(reg::FCR_CLEAR_TRANSMIT) {
            self.transmit_empty |= !self.held.is_empty();
            self.held.clear();
        }
        self.refill(backend);
    }

    const fn wiring(&self) -> Wiring {
        if self.modem_control & reg::MCR_LOOP != 0 {
            Wiring::Loopback
        } else {
            Wiring::Backend
        }
    }

    fn control_modem(&mut self, value: u8, backend: &dyn CharBackend) {
        let before = self.modem_lines();
        self.modem_control = value & reg::MCR_ALL;
        let after = self.modem_lines();
        // The ring indicator reports its end only.
        let changed = (before ^ after) & !(after & reg::MSR_RI);
        self.modem_deltas |= changed >> reg::MSR_DELTA_SHIFT;
        self.refill(backend);
    }

    /// The levels of the modem lines, as in the high half of the modem status register.
    fn modem_lines(&self) -> u8 {
        match self.wiring() {
            // The far end is there and ready.
            Wiring::Backend => reg::MSR_CTS | reg::MSR_DSR | reg::MSR_DCD,
            Wiring::Loopback => [
                (reg::MCR_RTS, reg::MSR_CTS),
                (reg::MCR_DTR, reg::MSR_DSR),
                (reg::MCR_OUT1, reg::MSR_RI),
                (reg::MCR_OUT2, reg::MSR_DCD),
            ]
            .into_iter()
            .filter(|(output, _)| self.modem_control & output != 0)
            .fold(0, |lines, (_, input)| lines | input),
        }
    }

    fn transmit(&mut self, byte: u8, backend: &dyn CharBackend) {
        match self.wiring() {
            Wiring::Loopback => {
                self.loop_back(byte);
                self.transmit_empty = self.held.is_empty();
            }
            Wiring::Backend => {
                self.drain(backend);
                self.transmit_empty = false;
                // A guest that writes to a full FIFO, against the line status, loses the byte as it would on hardware.
                self.held.push(byte);
                self.drain(backend);
            }
        }
    }

    /// Receives a byte that the guest itself sent.
    fn loop_back(&mut self, byte: u8) {
        if self.received.len() < self.mode.capacity() {
            self.received.push(byte);
            return;
        }
        self.line_errors |= reg::LSR_OVERRUN;
        // The shift register overwrites a single register, but never a full FIFO.
        if self.mode == Mode::Single {
            self.received.clear();
            self.received.push(byte);
        }
    }

    /// Reads the receiver buffer; an empty one reads as zero.
    fn receive(&mut self, backend: &dyn CharBackend) -> u8 {
        let byte = self.received.pop().unwrap_or(0);
        self.refill(backend);
        byte
    }

    /// Passes held output on to the backend, as far as that has room.
    pub(super) fn drain(&mut self, backend: &dyn CharBackend) {
        if self.held.is_empty() {
            return;
        }
        self.held.remove(backend.write(self.held.as_slice()));
        self.transmit_empty |= self.held.is_empty();
    }

    /// Fetches as much input as there is room for.
    pub(super) fn fill(&mut self, backend: &dyn CharBackend) {
        match self.wiring() {
            Wiring::Backend => {
                self.received
                    .fill(self.mode.capacity(), |free| backend.read(free));
            }
            Wiring::Loopback => {}
        }
    }

    /// Fetches input if none waits.
    pub(super) fn refill(&mut self, backend: &dyn CharBackend) {
        if self.received.is_empty() {
            self.fill(backend);
        }
    }
}
