//! A queue of bytes of a fixed size.

use alloc::{collections::VecDeque, vec::Vec};

#[derive(Debug)]
pub(crate) struct Ring {
    bytes: VecDeque<u8>,
    size: usize,
}

impl Ring {
    /// An empty ring for `size` bytes. It never allocates again.
    pub(crate) fn new(size: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(size).into(),
            size,
        }
    }

    /// Appends what there is room for, from the first byte on; says how many.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.size - self.bytes.len());
        match bytes {
            // A UART writes byte by byte.
            &[byte] if count == 1 => self.bytes.push_back(byte),
            _ => self.bytes.extend(bytes.iter().take(count)),
        }
        count
    }

    /// Moves the oldest bytes to the front of `buf`; says how many.
    pub(crate) fn pop(&mut self, buf: &mut [u8]) -> usize {
        let count = buf.len().min(self.bytes.len());
        for (slot, byte) in buf.iter_mut().zip(self.bytes.drain(..count)) {
            *slot = byte;
        }
        count
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}
