//! Port 0x80 of a PC, where firmware shows how far it got, and which kernels write to pass a microsecond.

use alloc::string::String;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU8, Ordering};

use axvcpu::AccessWidth;

use crate::{AccessFault, AxVmDevicesBuilder, Device};

/// A byte that is kept.
pub struct DebugPort {
    name: String,
    value: AtomicU8,
}

impl DebugPort {
    const PORT: u16 = 0x80;

    /// The port as at power-on.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            value: AtomicU8::new(0),
        }
    }

    /// Puts it at its port.
    #[must_use]
    pub fn put_on(self: &Arc<Self>, bus: AxVmDevicesBuilder) -> AxVmDevicesBuilder {
        bus.port(Self::PORT, 1, self.clone())
    }

    /// What was written last.
    #[must_use]
    pub fn last(&self) -> u8 {
        self.value.load(Ordering::Relaxed)
    }
}

impl Device for DebugPort {
    fn name(&self) -> &str {
        &self.name
    }

    fn read(&self, _offset: u64, _width: AccessWidth) -> Result<u64, AccessFault> {
        Ok(self.last().into())
    }

    fn write(&self, _offset: u64, _width: AccessWidth, data: u64) -> Result<(), AccessFault> {
        self.value.store(data as u8, Ordering::Relaxed);
        Ok(())
    }

    fn reset(&self) {
        self.value.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::WIDTHS;

    #[test]
    fn the_last_byte_is_kept() {
        let port = DebugPort::new("port80");
        for width in WIDTHS {
            port.write(0, width, 0x155).unwrap();
            assert_eq!((port.last(), port.read(0, width)), (0x55, Ok(0x55)));
            port.reset();
            assert_eq!(port.last(), 0);
        }
    }
}
