//! The keyboard controller of a PC, Intel's 8042, of which there is no more than its way to reset the machine.
//!
//! What it says, "all bits set", is what software finds where there is no controller. Port 0x92 beside it, which resets faster, is
//! here, too. The address line A20 is never held down.

use alloc::string::String;
use alloc::sync::Arc;

use axvcpu::AccessWidth;
use spin::Mutex;

use crate::{AccessFault, AxVmDevicesBuilder, Device, SystemPower};

const DATA: u64 = 0x60;
const COMMAND: u64 = 0x64;
const SYSTEM_A: u64 = 0x92;

/// Commands from here on pulse the output lines whose bits are low; line 0 is the reset.
const PULSE: u8 = 0xf0;
const RESET_LINE: u8 = 1 << 0;

/// Port 0x92: resets.
const SYSTEM_A_RESET: u8 = 1 << 0;
/// Port 0x92: lets address line A20 through.
const SYSTEM_A_A20: u8 = 1 << 1;

/// The remains of an 8042, and port 0x92.
pub struct I8042 {
    name: String,
    power: Arc<dyn SystemPower>,
    system_a: Mutex<u8>,
}

impl I8042 {
    /// One that resets by `power`.
    #[must_use]
    pub fn new(name: impl Into<String>, power: Arc<dyn SystemPower>) -> Self {
        Self {
            name: name.into(),
            power,
            system_a: Mutex::new(SYSTEM_A_A20),
        }
    }

    /// Puts it at its ports.
    #[must_use]
    pub fn put_on(self: &Arc<Self>, bus: AxVmDevicesBuilder) -> AxVmDevicesBuilder {
        [DATA, COMMAND, SYSTEM_A]
            .into_iter()
            .fold(bus, |bus, port| {
                bus.port_by_number(port as u16, 1, self.clone())
            })
    }
}

impl Device for I8042 {
    fn name(&self) -> &str {
        &self.name
    }

    fn read(&self, offset: u64, _width: AccessWidth) -> Result<u64, AccessFault> {
        match offset {
            SYSTEM_A => Ok((*self.system_a.lock()).into()),
            _ => Ok(u64::MAX),
        }
    }

    fn write(&self, offset: u64, _width: AccessWidth, data: u64) -> Result<(), AccessFault> {
        let value = data as u8;
        let resets = match offset {
            COMMAND => value >= PULSE && value & RESET_LINE == 0,
            SYSTEM_A => {
                let mut system_a = self.system_a.lock();
                *system_a = value & !SYSTEM_A_RESET;
                value & SYSTEM_A_RESET != 0
            }
            _ => false,
        };
        if resets {
            self.power.reset();
        }
        Ok(())
    }

    fn reset(&self) {
        *self.system_a.lock() = SYSTEM_A_A20;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Power, WIDTHS};

    fn bench() -> (Arc<Power>, I8042) {
        let power = Power::new();
        let device = I8042::new("i8042", power.clone());
        (power, device)
    }

    #[test]
    fn nobody_is_home() {
        let (_, device) = bench();
        for port in [DATA, COMMAND] {
            for width in WIDTHS {
                let value = device.read(port, width).unwrap() & width.mask();
                assert_eq!(value, width.mask());
            }
        }
    }

    #[test]
    fn commands_with_the_reset_line_low_reset() {
        let (power, device) = bench();
        for command in 0..=0xff {
            device.write(COMMAND, AccessWidth::Byte, command).unwrap();
            device.write(DATA, AccessWidth::Byte, command).unwrap();
            let expected = u32::from(command >= 0xf0 && command % 2 == 0);
            assert_eq!(power.take(), (0, expected), "{command:#x}");
        }
    }

    #[test]
    fn port_92_resets_and_keeps_the_rest() {
        let (power, device) = bench();
        let read = || device.read(SYSTEM_A, AccessWidth::Byte).unwrap();
        assert_eq!(read(), 2);
        device.write(SYSTEM_A, AccessWidth::Byte, 0xc0).unwrap();
        assert_eq!((read(), power.take()), (0xc0, (0, 0)));
        device.write(SYSTEM_A, AccessWidth::Byte, 3).unwrap();
        assert_eq!((read(), power.take()), (2, (0, 1)));
        device.write(SYSTEM_A, AccessWidth::Byte, 0).unwrap();
        device.reset();
        assert_eq!(read(), 2);
    }
}
