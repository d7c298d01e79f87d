//! The serial port of the PC and of most boards: National Semiconductor's 16550A (PC16550D data sheet).
//!
//! There is no time in here. A byte that the guest writes is at the [backend](CharBackend) before the write is over; where the backend
//! has no room it is held, and the guest sees a transmitter that is still busy until [`Uart16550::poll`] gets rid of it: nothing is lost.
//! Input stays at the backend until the receive FIFO has room, so that only loopback can overrun it. The character timeout is
//! over at once: any input raises the interrupt, the trigger level only decides by which name.
//!
//! The receive FIFO is filled by `poll`, and by whatever leaves it empty. So an empty one means that there is no input, and a guest
//! that polls the line status disturbs the backend only while it holds bytes back.

mod fifo;
mod registers;
#[cfg(test)]
mod tests;

use alloc::string::String;
use alloc::sync::Arc;

use axvcpu::{AccessWidth, LineLevel};
use spin::{Mutex, MutexGuard};

use crate::{AccessFault, CharBackend, Device, IrqLine};
use fifo::{ByteFifo, DEPTH};
use registers as reg;

/// How the eight registers lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegisterLayout {
    /// One after the other, accessed as bytes (device tree: `reg-shift = <0>`, `reg-io-width = <1>`).
    Packed,
    /// Four bytes apart, accessed as bytes or as 32-bit words (`reg-shift = <2>`, `reg-io-width = <1>` or `<4>`).
    Spaced,
}

impl RegisterLayout {
    /// The size of the registers in bytes.
    #[must_use]
    pub const fn size(self) -> u64 {
        reg::COUNT << self.shift()
    }

    const fn shift(self) -> u32 {
        match self {
            Self::Packed => 0,
            Self::Spaced => 2,
        }
    }

    /// The number of the register that an access is for. It may be past the last.
    fn register(self, offset: u64, width: AccessWidth) -> Result<u64, AccessFault> {
        let reachable = match (self, width) {
            (Self::Packed | Self::Spaced, AccessWidth::Byte) => true,
            (Self::Spaced, AccessWidth::Dword) => true,
            (Self::Packed, AccessWidth::Dword) => false,
            (Self::Packed | Self::Spaced, AccessWidth::Word | AccessWidth::Qword) => false,
        };
        let register = offset >> self.shift();
        if reachable && register << self.shift() == offset {
            Ok(register)
        } else {
            Err(AccessFault)
        }
    }
}

/// A 16550A.
pub struct Uart16550 {
    name: String,
    layout: RegisterLayout,
    irq: IrqLine,
    backend: Arc<dyn CharBackend>,
    state: Mutex<State>,
}

impl Uart16550 {
    /// A UART as at power-on, its interrupt line low.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        layout: RegisterLayout,
        irq: IrqLine,
        backend: Arc<dyn CharBackend>,
    ) -> Self {
        Self {
            name: name.into(),
            layout,
            irq,
            backend,
            state: Mutex::new(State::new()),
        }
    }

    /// Moves what can be moved between FIFOs and backend. For the owner of the backend to call when that has new input, or room again.
    pub fn poll(&self) {
        self.with_state(|state| {
            state.drain(&*self.backend);
            state.fill(&*self.backend);
        });
    }

    /// Runs `f` on the state, then lets the interrupt line follow it.
    fn with_state<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        self.follow(&mut self.state.lock(), f)
    }

    /// Runs `f` on the state, which is locked, then lets the interrupt line follow it.
    fn follow<T>(&self, state: &mut State, f: impl FnOnce(&mut State) -> T) -> T {
        let result = f(state);
        let level = match state.interrupt() {
            Some(_) => LineLevel::High,
            None => LineLevel::Low,
        };
        if state.line != level {
            state.line = level;
            self.irq.set(level);
        }
        result
    }
}

impl Device for Uart16550 {
    fn name(&self) -> &str {
        &self.name
    }

    fn read(&self, offset: u64, width: AccessWidth) -> Result<u64, AccessFault> {
        let register = self.layout.register(offset, width)?;
        let state = self.state.lock();
        match state.peek(register) {
            Some(value) => Ok(value.into()),
            None => self.read_with_effect(state, register),
        }
    }

    fn write(&self, offset: u64, width: AccessWidth, data: u64) -> Result<(), AccessFault> {
        let register = self.layout.register(offset, width)?;
        // The registers have eight bits; the other lanes of a wider access lead nowhere.
        let value = data as u8;
        let mut state = self.state.lock();
        match register {
            reg::RBR_THR_DLL => self.send(state, value),
            reg::IER_DLM => {
                self.write_ier_dlm(state, value);
                Ok(())
            }
            reg::SCR => {
                state.scratch = value;
                Ok(())
            }
            _ => self.write_with_effect(state, register, value),
        }
    }

    /// Held output that the backend still has no room for is lost, as it would be in a UART's FIFO.
    fn reset(&self) {
        self.with_state(|state| {
            state.drain(&*self.backend);
            *state = State {
                line: state.line,
                ..State::new()
            };
            state.refill(&*self.backend);
        });
    }
}

/// Apart from each other: none then saves the registers that another takes, and each ends in the next.
impl Uart16550 {
    /// A write to the transmitter, if it is one. A byte that finds room at once, as nearly all do, changes no interrupt unless its end is to
    /// be told.
    #[inline(never)]
    fn send(&self, mut state: MutexGuard<'_, State>, value: u8) -> Result<(), AccessFault> {
        let ends_untold =
            state.transmit_empty || state.interrupt_enable & reg::IER_TRANSMIT_EMPTY == 0;
        if ends_untold
            && state.held.is_empty()
            && !state.addresses_divisor()
            && state.wiring() == Wiring::Backend
            && self.backend.write(&[value]) == 1
        {
            state.transmit_empty = true;
            return Ok(());
        }
        self.write_with_effect(state, reg::RBR_THR_DLL, value)
    }

    #[inline(never)]
    fn write_ier_dlm(&self, mut state: MutexGuard<'_, State>, value: u8) {
        self.follow(&mut state, |state| state.write_ier_dlm(value));
    }

    #[inline(never)]
    fn read_with_effect(
        &self,
        mut state: MutexGuard<'_, State>,
        register: u64,
    ) -> Result<u64, AccessFault> {
        self.follow(&mut state, |state| state.read(register, &*self.backend))
            .map(u64::from)
    }

    #[inline(never)]
    fn write_with_effect(
        &self,
        mut state: MutexGuard<'_, State>,
        register: u64,
        value: u8,
    ) -> Result<(), AccessFault> {
        self.follow(&mut state, |state| {
            state.write(register, value, &*self.backend)
        })
    }
}

/// The line status of a transmitter that has nothing to do.
const TRANSMITTER_IDLE: u8 = reg::LSR_TRANSMIT_EMPTY | reg::LSR_TRANSMITTER_IDLE;

/// Whether there are FIFOs (16550) or single registers (16450).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Single,
    Fifo { trigger: usize },
}

impl Mode {
    /// The number of received bytes that wait at most.
    fn capacity(self) -> usize {
        match self {
            Self::Single => 1,
            Self::Fifo { .. } => DEPTH,
        }
    }
}

/// What asks for attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Interrupt {
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

#[derive(Debug)]
struct State {
    interrupt_enable: u8,
    line_control: u8,
    modem_control: u8,
    scratch: u8,
    /// The divisor latch. It sets no speed here.
    divisor_low: u8,
    divisor_high: u8,
    mode: Mode,
    received: ByteFifo,
    /// Output that the backend had no room for. It holds as much in single mode, whose guests write one byte at a time.
    held: ByteFifo,
    /// `LSR_OVERRUN` or nothing: the only error that can happen.
    line_errors: u8,
    /// The transmitter ran empty, and the guest was not told yet.
    transmit_empty: bool,
    /// The low half of the modem status register: which lines changed.
    modem_deltas: u8,
    /// The level of the interrupt line.
    line: LineLevel,
}

impl State {
    fn new() -> Self {
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

    /// What a read says that changes nothing, and thus no interrupt: of the registers that drivers poll, and of the plainest.
    #[inline(always)]
    fn peek(&self, register: u64) -> Option<u8> {
        match register {
            reg::LSR if self.held.is_empty() && self.line_errors == 0 => {
                Some(self.receiver_status() | TRANSMITTER_IDLE)
            }
            reg::SCR => Some(self.scratch),
            _ => None,
        }
    }

    fn read(&mut self, register: u64, backend: &dyn CharBackend) -> Result<u8, AccessFault> {
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

    fn write(
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

    fn addresses_divisor(&self) -> bool {
        self.line_control & reg::LCR_DLAB != 0
    }

    /// The pending interrupt of the highest priority.
    fn interrupt(&self) -> Option<Interrupt> {
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

    fn write_ier_dlm(&mut self, value: u8) {
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

    fn receiver_status(&self) -> u8 {
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

    fn wiring(&self) -> Wiring {
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
    fn drain(&mut self, backend: &dyn CharBackend) {
        if self.held.is_empty() {
            return;
        }
        self.held.remove(backend.write(self.held.as_slice()));
        self.transmit_empty |= self.held.is_empty();
    }

    /// Fetches as much input as there is room for.
    fn fill(&mut self, backend: &dyn CharBackend) {
        match self.wiring() {
            Wiring::Backend => {
                self.received
                    .fill(self.mode.capacity(), |free| backend.read(free));
            }
            Wiring::Loopback => {}
        }
    }

    /// Fetches input if none waits.
    fn refill(&mut self, backend: &dyn CharBackend) {
        if self.received.is_empty() {
            self.fill(backend);
        }
    }
}
