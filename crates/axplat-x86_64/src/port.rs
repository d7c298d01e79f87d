//! I/O ports that the hypervisor does not use itself: those of devices that were given to guests.
//!
//! The functions are safe in Rust's sense: no port of a PC reads or writes memory of the hypervisor by itself. What a device does
//! that one sets in motion by its ports is for who gives it away to judge.

use x86::io::{inb, inl, inw, outb, outl, outw};

macro_rules! access {
    ($($read:ident $write:ident $type:ty: $in:ident $out:ident;)*) => {$(
        /// Reads a port.
        #[must_use]
        pub fn $read(port: u16) -> $type {
            // SAFETY: as the module says.
            unsafe { $in(port) }
        }

        /// Writes a port.
        pub fn $write(port: u16, value: $type) {
            // SAFETY: as the module says.
            unsafe { $out(port, value) }
        }
    )*};
}

access! {
    read_byte write_byte u8: inb outb;
    read_word write_word u16: inw outw;
    read_dword write_dword u32: inl outl;
}
