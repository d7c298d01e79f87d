//! I/O ports.
//!
//! These functions are safe, since none of the devices that a guest drives by port writes to memory.

use core::arch::asm;

/// A value that goes through a port in one access.
pub trait Width: Copy {
    /// Reads it from a port.
    fn read(port: u16) -> Self;
    /// Writes it to a port.
    fn write(self, port: u16);
}

macro_rules! width {
    ($type:ty, $register:tt) => {
        impl Width for $type {
            fn read(port: u16) -> Self {
                let value: Self;
                // SAFETY: as the module says.
                unsafe {
                    asm!(concat!("in ", $register, ", dx"), in("dx") port, out($register) value,
                        options(nostack, preserves_flags));
                }
                value
            }

            fn write(self, port: u16) {
                // SAFETY: as the module says.
                unsafe {
                    asm!(concat!("out dx, ", $register), in("dx") port, in($register) self,
                        options(nostack, preserves_flags));
                }
            }
        }
    };
}

width!(u8, "al");
width!(u16, "ax");
width!(u32, "eax");

/// Reads a port.
pub fn read<W: Width>(port: u16) -> W {
    W::read(port)
}

/// Writes a port.
pub fn write<W: Width>(port: u16, value: W) {
    value.write(port);
}
