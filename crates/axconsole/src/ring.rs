//! A queue of bytes of a fixed size.

use alloc::{boxed::Box, vec};

#[derive(Debug)]
pub(crate) struct Ring {
    bytes: Box<[u8]>,
    /// Where the oldest byte is.
    first: usize,
    count: usize,
}

impl Ring {
    /// An empty ring for `size` bytes. It never allocates again.
    pub(crate) fn new(size: usize) -> Self {
        Self {
            bytes: vec![0; size].into(),
            first: 0,
            count: 0,
        }
    }

    /// Appends a byte if there is room; says how many that were. A UART writes byte by byte.
    #[inline(always)]
    pub(crate) fn push_byte(&mut self, byte: u8) -> usize {
        let size = self.bytes.len();
        if self.count >= size {
            return 0;
        }
        let end = self.first + self.count;
        let free = if end < size { end } else { end - size };
        // There is always such a place.
        let Some(place) = self.bytes.get_mut(free) else {
            return 0;
        };
        *place = byte;
        self.count += 1;
        1
    }

    /// Appends what there is room for, from the first byte on; says how many.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> usize {
        bytes
            .iter()
            .take_while(|&&byte| self.push_byte(byte) == 1)
            .count()
    }

    /// Moves the oldest bytes to the front of `buf`; says how many.
    pub(crate) fn pop(&mut self, buf: &mut [u8]) -> usize {
        let (wrapped, oldest) = self.bytes.split_at(self.first);
        let waiting = oldest.iter().chain(wrapped).take(self.count);
        let count = buf.iter_mut().zip(waiting).fold(0, |count, (slot, &byte)| {
            *slot = byte;
            count + 1
        });
        self.count -= count;
        self.first = match self.first + count {
            end if end < self.bytes.len() => end,
            end => end - self.bytes.len(),
        };
        count
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }
}

#[cfg(test)]
mod tests {
    use super::Ring;

    #[test]
    fn bytes_come_out_in_order_however_they_lie() {
        let mut ring = Ring::new(5);
        let (mut next_in, mut next_out) = (0_u8, 0_u8);
        for round in 0..40 {
            for _ in 0..=round % 5 {
                next_in = next_in.wrapping_add(u8::try_from(ring.push_byte(next_in)).unwrap());
            }
            let mut buf = [0; 3];
            let count = ring.pop(&mut buf[..round % 4]);
            for &byte in &buf[..count] {
                assert_eq!(byte, next_out);
                next_out += 1;
            }
            assert_eq!(ring.is_empty(), next_in == next_out);
            assert!(next_in - next_out <= 5);
        }
        assert!(next_out > 30);
    }

    #[test]
    fn what_has_no_room_is_not_taken() {
        let mut ring = Ring::new(4);
        assert_eq!(ring.push(b"abcdef"), 4);
        assert_eq!((ring.push_byte(b'g'), ring.push(b"h")), (0, 0));
        let mut buf = [0; 3];
        assert_eq!((ring.pop(&mut buf), &buf), (3, b"abc"));
        assert_eq!(ring.push(b"xyz!"), 3);
        let mut buf = [0; 9];
        assert_eq!((ring.pop(&mut buf), &buf[..4]), (4, &b"dxyz"[..]));
        assert_eq!(ring.pop(&mut buf), 0);
    }

    #[test]
    fn a_ring_without_places_takes_nothing() {
        let mut ring = Ring::new(0);
        assert_eq!((ring.push_byte(1), ring.pop(&mut [0])), (0, 0));
    }
}
