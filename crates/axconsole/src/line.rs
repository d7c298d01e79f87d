//! A line that is not complete yet.

use alloc::vec::Vec;

/// The longest line that is kept together.
const LONGEST: usize = 256;

/// The bytes since the last newline, at most [`LONGEST`] of them.
#[derive(Debug, Default)]
pub(crate) struct Line {
    bytes: Vec<u8>,
    sequence: Sequence,
}

/// What a byte did to a [`Line`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fed {
    /// It is part of the line.
    Kept,
    /// The line is complete, or as long as a line gets.
    Complete,
}

/// How far into a terminal's control sequence a line is (ECMA-48, "Control sequences").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Sequence {
    /// In text.
    #[default]
    Outside,
    /// After the escape character.
    Escape,
    /// After `ESC [`, before the final byte.
    Parameters,
}

impl Line {
    /// Adds a byte as it is. A newline completes the line; carriage returns are left out.
    pub(crate) fn feed(&mut self, byte: u8) -> Fed {
        match byte {
            b'\n' => return Fed::Complete,
            b'\r' => {}
            _ => self.bytes.push(byte),
        }
        self.length()
    }

    /// Adds what a terminal shows of a byte: control sequences are left out, and a backspace takes a byte back. So the line can be
    /// written once more without asking the terminal for anything.
    pub(crate) fn feed_shown(&mut self, byte: u8) -> Fed {
        const ESCAPE: u8 = 0x1b;
        const BACKSPACE: u8 = 0x08;
        self.sequence = match (self.sequence, byte) {
            (_, ESCAPE) => Sequence::Escape,
            (Sequence::Escape, b'[') => Sequence::Parameters,
            (Sequence::Parameters, 0x20..=0x3f) => Sequence::Parameters,
            // The final byte.
            (Sequence::Escape | Sequence::Parameters, _) => Sequence::Outside,
            (Sequence::Outside, _) => {
                match byte {
                    b'\n' => return Fed::Complete,
                    BACKSPACE => drop(self.bytes.pop()),
                    _ if byte < b' ' || byte == 0x7f => {}
                    _ => self.bytes.push(byte),
                }
                Sequence::Outside
            }
        };
        self.length()
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

    fn length(&self) -> Fed {
        if self.bytes.len() < LONGEST {
            Fed::Kept
        } else {
            Fed::Complete
        }
    }
}
