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
mod glance;
mod registers;
mod state;
#[cfg(test)]
mod tests;

use alloc::string::String;
use alloc::sync::Arc;

use axvcpu::{AccessWidth, LineLevel};
use spin::{Mutex, MutexGuard};

use crate::{AccessFault, CharBackend, Device, IrqLine};
use glance::Glance;
use registers as reg;
use state::State;

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
        let spaced = || match offset % 4 {
            0 => Ok(offset / 4),
            _ => Err(AccessFault),
        };
        match (self, width) {
            (Self::Packed, AccessWidth::Byte) => Ok(offset),
            (Self::Spaced, AccessWidth::Byte | AccessWidth::Dword) => spaced(),
            (Self::Packed, AccessWidth::Dword) => Err(AccessFault),
            (Self::Packed | Self::Spaced, AccessWidth::Word | AccessWidth::Qword) => {
                Err(AccessFault)
            }
        }
    }
}

/// A 16550A.
pub struct Uart16550 {
    name: String,
    layout: RegisterLayout,
    irq: IrqLine,
    backend: Arc<dyn CharBackend>,
    glance: Glance,
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
        let state = State::new();
        Self {
            name: name.into(),
            layout,
            irq,
            backend,
            glance: Glance::of(&state),
            state: Mutex::new(state),
        }
    }

    /// Moves what can be moved between FIFOs and backend. For the owner of the backend to call when that has new input, or room again.
    pub fn poll(&self) {
        self.with_state(|state| {
            state.drain(&*self.backend);
            state.fill(&*self.backend);
        });
    }

    /// Runs `f` on the state, then lets what others see follow it.
    fn with_state<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        self.change(&mut self.state.lock(), f)
    }

    /// Runs `f` on the state, which is locked, then lets what others see follow it.
    fn change<T>(&self, state: &mut State, f: impl FnOnce(&mut State) -> T) -> T {
        let result = f(state);
        self.glance.follow(state);
        self.drive_line(state);
        result
    }

    /// Lets the interrupt line follow the state, which is locked.
    fn drive_line(&self, state: &mut State) {
        let level = match state.interrupt() {
            Some(_) => LineLevel::High,
            None => LineLevel::Low,
        };
        if state.line != level {
            state.line = level;
            self.irq.set(level);
        }
    }
}

impl Device for Uart16550 {
    fn name(&self) -> &str {
        &self.name
    }

    fn read(&self, offset: u64, width: AccessWidth) -> Result<u64, AccessFault> {
        let register = self.layout.register(offset, width)?;
        if register == reg::LSR
            && let Some(status) = self.glance.line_status()
        {
            return Ok(status.into());
        }
        let state = self.state.lock();
        match register {
            reg::SCR => Ok(state.scratch.into()),
            _ => self.read_with_effect(state, register),
        }
    }

    fn write(&self, offset: u64, width: AccessWidth, data: u64) -> Result<(), AccessFault> {
        let register = self.layout.register(offset, width)?;
        // The registers have eight bits; the other lanes of a wider access lead nowhere.
        let value = data as u8;
        if register == reg::RBR_THR_DLL {
            return self.send(value);
        }
        let mut state = self.state.lock();
        match register {
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
            state.reset();
            state.refill(&*self.backend);
        });
    }
}

/// Apart from each other: none then saves the registers that another takes, and each ends in the next.
impl Uart16550 {
    /// A write to the transmitter, if it is one.
    #[inline(never)]
    fn send(&self, value: u8) -> Result<(), AccessFault> {
        if self.glance.is_transparent() && self.backend.put(value).is_some() {
            return Ok(());
        }
        self.write_with_effect(self.state.lock(), reg::RBR_THR_DLL, value)
    }

    /// At a glance nothing is different after it: a transmitter that it calls empty has nothing less to do.
    #[inline(never)]
    fn write_ier_dlm(&self, mut state: MutexGuard<'_, State>, value: u8) {
        state.write_ier_dlm(value);
        self.drive_line(&mut state);
    }

    #[inline(never)]
    fn read_with_effect(
        &self,
        mut state: MutexGuard<'_, State>,
        register: u64,
    ) -> Result<u64, AccessFault> {
        self.change(&mut state, |state| state.read(register, &*self.backend))
            .map(u64::from)
    }

    #[inline(never)]
    fn write_with_effect(
        &self,
        mut state: MutexGuard<'_, State>,
        register: u64,
        value: u8,
    ) -> Result<(), AccessFault> {
        self.change(&mut state, |state| {
            state.write(register, value, &*self.backend)
        })
    }
}
