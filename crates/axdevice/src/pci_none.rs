//! The ports of PCI's configuration mechanism #1 (PCI Local Bus Specification 3.0, 3.2.2.3.2), with nothing behind them, and the reset control register among them.
//!
//! Not even the address can be read back: software finds that there is no PCI in its first few accesses.

use alloc::string::String;
use alloc::sync::Arc;

use axvcpu::AccessWidth;
use spin::Mutex;

use crate::{AccessFault, AxVmDevicesBuilder, Device, SystemPower};

const FIRST: u16 = 0xcf8;
const COUNT: u32 = 8;
const RESET: u64 = NoPci::RESET_PORT as u64;

/// Reset control: how to reset, and that it be done, once this goes from zero to one.
const RESET_NOW: u8 = 1 << 2;
/// Reset control: the bits that can be written.
const RESET_BITS: u8 = 0x0e;

/// The ports of a host bridge that is not there.
pub struct NoPci {
    name: String,
    power: Arc<dyn SystemPower>,
    reset_control: Mutex<u8>,
}

impl NoPci {
    /// The port of the reset control register, for the FADT's `RESET_REG`.
    pub const RESET_PORT: u16 = 0xcf9;

    /// What to write there to reset the machine, for the FADT's `RESET_VALUE`.
    pub const RESET_VALUE: u8 = 0x06;

    /// Ports that reset by `power`.
    #[must_use]
    pub fn new(name: impl Into<String>, power: Arc<dyn SystemPower>) -> Self {
        Self {
            name: name.into(),
            power,
            reset_control: Mutex::new(0),
        }
    }

    /// Puts it at its ports.
    #[must_use]
    pub fn put_on(self: &Arc<Self>, bus: AxVmDevicesBuilder) -> AxVmDevicesBuilder {
        bus.port_by_number(FIRST, COUNT, self.clone())
    }
}

impl Device for NoPci {
    fn name(&self) -> &str {
        &self.name
    }

    fn read(&self, offset: u64, width: AccessWidth) -> Result<u64, AccessFault> {
        match (offset, width) {
            (RESET, AccessWidth::Byte) => Ok((*self.reset_control.lock()).into()),
            _ => Ok(u64::MAX),
        }
    }

    fn write(&self, offset: u64, width: AccessWidth, data: u64) -> Result<(), AccessFault> {
        if (offset, width) != (RESET, AccessWidth::Byte) {
            return Ok(());
        }
        let value = data as u8 & RESET_BITS;
        let before = core::mem::replace(&mut *self.reset_control.lock(), value);
        if value & !before & RESET_NOW != 0 {
            self.power.reset();
        }
        Ok(())
    }

    fn reset(&self) {
        *self.reset_control.lock() = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Power, WIDTHS};

    fn bench() -> (Arc<Power>, NoPci) {
        let power = Power::new();
        let device = NoPci::new("pci", power.clone());
        (power, device)
    }

    #[test]
    fn every_probe_finds_nothing() {
        let (power, device) = bench();
        let dword = AccessWidth::Dword;
        device.write(0xcf8, dword, 0x8000_0000).unwrap();
        for port in [0xcf8, 0xcfc] {
            for width in WIDTHS {
                let value = device.read(port, width).unwrap() & width.mask();
                assert_eq!(value, width.mask(), "{port:#x} {width:?}");
            }
        }
        device.write(0xcfc, dword, 0x0606_0606).unwrap();
        assert_eq!(power.take(), (0, 0));
    }

    #[test]
    fn the_reset_control_register_resets_on_a_rising_bit() {
        let (power, device) = bench();
        let write = |value| {
            device.write(RESET, AccessWidth::Byte, value).unwrap();
            power.take()
        };
        assert_eq!(write(0x02), (0, 0));
        assert_eq!(device.read(RESET, AccessWidth::Byte), Ok(2));
        assert_eq!(write(NoPci::RESET_VALUE.into()), (0, 1));
        assert_eq!(write(0x0e), (0, 0));
        assert_eq!(write(0xf1), (0, 0));
        assert_eq!(device.read(RESET, AccessWidth::Byte), Ok(0));
        assert_eq!(write(0x04), (0, 1));
        device.reset();
        assert_eq!(write(0x04), (0, 1));
        // A wider write is one of the address.
        device.write(RESET, AccessWidth::Word, 0).unwrap();
        assert_eq!(device.read(RESET, AccessWidth::Byte), Ok(4));
    }
}
