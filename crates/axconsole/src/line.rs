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

    /// Adds what a terminal shows of some bytes: control sequences are left out, and a backspace takes a byte back. So the line can be written once
    /// more without asking the terminal for anything. A newline, and a line as long as a line gets, begin the next.
    pub(crate) fn feed_shown(&mut self, bytes: &[u8]) {
        let mut rest = match bytes.iter().rposition(|&byte| byte == b'\n') {
            Some(newline) => {
                self.clear();
                bytes.split_at(newline + 1).1
            }
            None => bytes,
        };
        while let Some((&first, behind)) = rest.split_first() {
            match self.sequence {
                Sequence::Outside if !is_control(first) => {
                    let end = rest.iter().position(|&byte| is_control(byte));
                    let (text, behind) = rest.split_at(end.unwrap_or(rest.len()));
                    self.bytes.extend_from_slice(text);
                    let whole = self.bytes.len() / LONGEST * LONGEST;
                    self.bytes.drain(..whole);
                    rest = behind;
                }
                Sequence::Outside | Sequence::Escape | Sequence::Parameters => {
                    self.feed_control(first);
                    rest = behind;
                }
            }
        }
    }

    /// Adds a byte that is not text, but for a newline.
    fn feed_control(&mut self, byte: u8) {
        const ESCAPE: u8 = 0x1b;
        const BACKSPACE: u8 = 0x08;
        self.sequence = match (self.sequence, byte) {
            (_, ESCAPE) => Sequence::Escape,
            (Sequence::Escape, b'[') => Sequence::Parameters,
            (Sequence::Parameters, 0x20..=0x3f) => Sequence::Parameters,
            // The final byte.
            (Sequence::Escape | Sequence::Parameters, _) => Sequence::Outside,
            (Sequence::Outside, _) => {
                if byte == BACKSPACE {
                    self.bytes.pop();
                }
                Sequence::Outside
            }
        };
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.sequence = Sequence::Outside;
    }

    fn length(&self) -> Fed {
        if self.bytes.len() < LONGEST {
            Fed::Kept
        } else {
            Fed::Complete
        }
    }
}

/// Whether a terminal does something with it (ECMA-48, C0 and DEL).
const fn is_control(byte: u8) -> bool {
    byte < b' ' || byte == 0x7f
}

#[cfg(test)]
mod tests {
    extern crate std;

    use proptest::prelude::*;

    use super::{LONGEST, Line, Sequence};

    /// As [`Line::feed_shown`], a byte at a time.
    fn one_by_one(bytes: &[u8]) -> Line {
        let mut line = Line::default();
        for &byte in bytes {
            match (line.sequence, byte) {
                (_, b'\n') => line.clear(),
                (Sequence::Outside, b' '..=0x7e | 0x80..) => line.bytes.push(byte),
                _ => line.feed_control(byte),
            }
            if line.bytes.len() == LONGEST {
                line.bytes.clear();
            }
        }
        line
    }

    proptest! {
        #[test]
        fn it_does_not_matter_in_which_pieces_bytes_come(
            bytes in prop::collection::vec(
                prop_oneof![12 => 0x20..0x7fu8, 2 => prop::sample::select(&b"\x1b[\x08\r"[..]), 1 => any::<u8>()],
                0..600,
            ),
            size in 1..300usize,
        ) {
            let mut line = Line::default();
            bytes.chunks(size).for_each(|piece| line.feed_shown(piece));
            let expected = one_by_one(&bytes);
            prop_assert_eq!(line.bytes(), expected.bytes());
        }
    }
}
