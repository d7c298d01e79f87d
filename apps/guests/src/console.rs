//! The guest's console: `print!` and `println!` on the machine's UART.

use core::fmt::{self, Arguments, Write};

use crate::arch;

/// Writes to the machine's UART; each newline goes out as CR LF.
#[derive(Clone, Copy, Debug)]
pub struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                arch::uart::put(b'\r');
            }
            arch::uart::put(byte);
        }
        Ok(())
    }
}

/// Writes formatted text to the console.
pub fn print(text: Arguments<'_>) {
    // The console itself never fails.
    let _ = Console.write_fmt(text);
}

/// Prints to the console.
#[macro_export]
macro_rules! print {
    ($($text:tt)*) => { $crate::console::print(format_args!($($text)*)) };
}

/// Prints a line to the console.
#[macro_export]
macro_rules! println {
    ($($text:tt)*) => { $crate::print!("{}\n", format_args!($($text)*)) };
}
