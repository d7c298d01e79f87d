//! The two FIFOs of the UART.

/// The depth of a 16550's FIFOs in bytes.
pub(super) const DEPTH: usize = 16;

/// A queue of at most [`DEPTH`] bytes. The bytes lie together from the front on, which a backend takes in one piece; what it costs to
/// move so few is nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct ByteFifo {
    bytes: [u8; DEPTH],
    len: usize,
}

impl ByteFifo {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn clear(&mut self) {
        self.len = 0;
    }

    /// The bytes, the oldest first.
    pub(super) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Appends a byte; a full queue drops it.
    pub(super) fn push(&mut self, byte: u8) {
        if let Some(free) = self.bytes.get_mut(self.len) {
            *free = byte;
            self.len += 1;
        }
    }

    /// Takes the oldest byte.
    pub(super) fn pop(&mut self) -> Option<u8> {
        let oldest = *self.as_slice().first()?;
        self.remove(1);
        Some(oldest)
    }

    /// Drops the oldest `count` bytes, or all if there are fewer.
    pub(super) fn remove(&mut self, count: usize) {
        let count = count.min(self.len);
        self.bytes.copy_within(count..self.len, 0);
        self.len -= count;
    }

    /// Lets `source` write to the free places up to a length of `limit`; it says how many it wrote.
    pub(super) fn fill(&mut self, limit: usize, source: impl FnOnce(&mut [u8]) -> usize) {
        let limit = limit.min(DEPTH);
        if let Some(free) = self.bytes.get_mut(self.len..limit)
            && !free.is_empty()
        {
            let room = free.len();
            self.len += source(free).min(room);
        }
    }
}
