//! A line that is not complete yet.

use alloc::vec::Vec;

/// The longest line that is kept together.
const LONGEST: usize = 256;

/// The bytes since the last newline, at most [`LONGEST`] of them.
#[derive(Debug, Default)]
pub(crate) struct Line {
    bytes: Vec<u8>,
}

/// What a byte did to a [`Line`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fed {
    /// It is part of the line.
    Kept,
    /// The line is complete, or as long as a line gets.
    Complete,
}

impl Line {
    /// Adds a byte. A newline completes the line; carriage returns are left out.
    pub(crate) fn feed(&mut self, byte: u8) -> Fed {
        match byte {
            b'\n' => return Fed::Complete,
            b'\r' => {}
            _ => self.bytes.push(byte),
        }
        if self.bytes.len() < LONGEST {
            Fed::Kept
        } else {
            Fed::Complete
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
    }
}
