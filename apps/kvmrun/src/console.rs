//! The VM's console: lines go to the kernel's.

use alloc::vec::Vec;

use axdevice::CharBackend;
use spin::Mutex;

use crate::linux::File;

/// A line that is longer is written in pieces.
const LONGEST: usize = 512;

/// Keeps output until a line is complete. Then it is written and sent, down to the last bit of it,
/// before the guest goes on: what the kernel does for it must not disturb what the guest measures next.
#[derive(Debug)]
pub struct Console {
    line: Mutex<Vec<u8>>,
    output: File,
}

impl Console {
    /// The console that the kernel opened for the first process.
    pub fn new() -> Self {
        File::CONSOLE.make_raw();
        Self {
            line: Mutex::new(Vec::with_capacity(LONGEST)),
            output: File::CONSOLE,
        }
    }

    /// Writes and sends what there is of a line.
    pub fn flush(&self) {
        send(&mut self.line.lock(), self.output);
    }
}

impl Default for Console {
    fn default() -> Self {
        Self::new()
    }
}

fn send(line: &mut Vec<u8>, output: File) {
    output.write(line);
    output.drain();
    line.clear();
}

impl CharBackend for Console {
    fn write(&self, bytes: &[u8]) -> usize {
        let mut line = self.line.lock();
        for &byte in bytes {
            line.push(byte);
            if byte == b'\n' || line.len() == LONGEST {
                send(&mut line, self.output);
            }
        }
        bytes.len()
    }

    /// Nobody types.
    fn read(&self, _: &mut [u8]) -> usize {
        0
    }
}
