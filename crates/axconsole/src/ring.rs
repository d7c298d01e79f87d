//! A queue of bytes of a fixed size, from one pCPU to another.
//!
//! One writes and one reads at a time, which the owner sees to; writer and reader need no lock between them. Each then looks whether the other has been
//! idle for want of what it did: a writer whether the ring was empty, a reader whether it is not. Each has done its part before it looks, so that
//! they do not both miss the other.

use core::{
    array,
    sync::atomic::{AtomicU8, AtomicUsize, Ordering, fence},
};

use alloc::boxed::Box;

#[derive(Debug)]
pub(crate) struct Ring<const SIZE: usize> {
    bytes: Box<[AtomicU8; SIZE]>,
    /// How many bytes were ever written, and go to the next place; it wraps.
    written: AtomicUsize,
    /// How many bytes were ever read.
    read: AtomicUsize,
}

/// What became of a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// There was no room.
    Refused,
    /// It is behind others that the reader has been told of.
    Behind,
    /// The ring was empty: the reader is to be told.
    First,
}

impl<const SIZE: usize> Ring<SIZE> {
    /// An empty ring. It never allocates again.
    pub(crate) fn new() -> Self {
        // A place is the remainder of a count that wraps.
        const { assert!(SIZE.is_power_of_two()) };
        Self {
            bytes: Box::new(array::from_fn(|_| AtomicU8::new(0))),
            written: AtomicUsize::new(0),
            read: AtomicUsize::new(0),
        }
    }

    /// Appends a byte if there is room. One caller at a time.
    #[inline(always)]
    pub(crate) fn push(&self, byte: u8) -> Pushed {
        let written = self.written.load(Ordering::Relaxed);
        // What was read there was read before it is overwritten.
        if written.wrapping_sub(self.read.load(Ordering::Acquire)) >= SIZE {
            return Pushed::Refused;
        }
        self.bytes[written % SIZE].store(byte, Ordering::Relaxed);
        self.written
            .store(written.wrapping_add(1), Ordering::Release);
        fence(Ordering::SeqCst);
        if self.read.load(Ordering::Relaxed) == written {
            Pushed::First
        } else {
            Pushed::Behind
        }
    }

    /// Moves the oldest bytes to the front of `buf`; says how many. One caller at a time.
    pub(crate) fn pop(&self, buf: &mut [u8]) -> usize {
        let read = self.read.load(Ordering::Relaxed);
        let waiting = self
            .written
            .load(Ordering::Acquire)
            .wrapping_sub(read)
            .min(SIZE);
        let count = waiting.min(buf.len());
        let (wrapped, oldest) = self.bytes.split_at(read % SIZE);
        let (front, back) = buf.split_at_mut(oldest.len().min(count));
        for (free, byte) in front.iter_mut().zip(oldest) {
            *free = byte.load(Ordering::Relaxed);
        }
        for (free, byte) in back.iter_mut().zip(wrapped).take(count - front.len()) {
            *free = byte.load(Ordering::Relaxed);
        }
        self.read.store(read.wrapping_add(count), Ordering::Release);
        count
    }

    /// Whether there is nothing to read. For the reader to ask before it sleeps: what comes later is [`First`](Pushed::First).
    pub(crate) fn is_empty(&self) -> bool {
        fence(Ordering::SeqCst);
        self.written.load(Ordering::Relaxed) == self.read.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::{thread, vec::Vec};

    use super::{Pushed, Ring};

    fn push_all<const SIZE: usize>(ring: &Ring<SIZE>, bytes: &[u8]) -> usize {
        let taken = |byte: &&u8| ring.push(**byte) != Pushed::Refused;
        bytes.iter().take_while(taken).count()
    }

    #[test]
    fn bytes_come_out_in_order_however_they_lie() {
        let ring = Ring::<4>::new();
        let (mut next_in, mut next_out) = (0_u8, 0_u8);
        for round in 0..40 {
            for _ in 0..=round % 5 {
                if ring.push(next_in) != Pushed::Refused {
                    next_in += 1;
                }
            }
            let mut buf = [0; 3];
            let count = ring.pop(&mut buf[..round % 4]);
            for &byte in &buf[..count] {
                assert_eq!(byte, next_out);
                next_out += 1;
            }
            assert_eq!(ring.is_empty(), next_in == next_out);
            assert!(next_in - next_out <= 4);
        }
        assert!(next_out > 30);
    }

    #[test]
    fn what_has_no_room_is_not_taken() {
        let ring = Ring::<4>::new();
        assert_eq!(push_all(&ring, b"abcdef"), 4);
        assert_eq!(ring.push(b'g'), Pushed::Refused);
        let mut buf = [0; 3];
        assert_eq!((ring.pop(&mut buf), &buf), (3, b"abc"));
        assert_eq!(push_all(&ring, b"xyz!"), 3);
        let mut buf = [0; 9];
        assert_eq!((ring.pop(&mut buf), &buf[..4]), (4, &b"dxyz"[..]));
        assert_eq!(ring.pop(&mut buf), 0);
    }

    #[test]
    fn the_counts_wrap() {
        let ring = Ring::<4>::new();
        for count in [&ring.written, &ring.read] {
            count.store(usize::MAX - 1, super::Ordering::Relaxed);
        }
        assert_eq!(push_all(&ring, b"abcde"), 4);
        let mut buf = [0; 9];
        assert_eq!((ring.pop(&mut buf), &buf[..4]), (4, &b"abcd"[..]));
        assert!(ring.is_empty());
    }

    #[test]
    fn the_first_of_several_is_told_apart() {
        let ring = Ring::<4>::new();
        assert_eq!(
            (ring.push(1), ring.push(2)),
            (Pushed::First, Pushed::Behind)
        );
        assert_eq!(ring.pop(&mut [0]), 1);
        assert_eq!(ring.push(3), Pushed::Behind);
        assert_eq!(ring.pop(&mut [0; 2]), 2);
        assert_eq!(ring.push(4), Pushed::First);
    }

    /// A reader that sleeps only when it found nothing is told of everything.
    #[test]
    fn a_reader_that_is_told_of_the_first_misses_nothing() {
        const BYTES: usize = 20_000;
        let ring = Ring::<64>::new();
        let (told, news) = std::sync::mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| {
                let told = told;
                for byte in (0..BYTES).map(|count| count as u8) {
                    loop {
                        match ring.push(byte) {
                            Pushed::Refused => thread::yield_now(),
                            Pushed::Behind => break,
                            Pushed::First => {
                                told.send(()).unwrap();
                                break;
                            }
                        }
                    }
                }
            });
            let mut seen = Vec::new();
            while seen.len() < BYTES {
                if ring.is_empty() {
                    news.recv().unwrap();
                }
                let mut buf = [0; 7];
                let count = ring.pop(&mut buf);
                seen.extend_from_slice(&buf[..count]);
            }
            assert!(
                seen.iter()
                    .zip(0..)
                    .all(|(&byte, count)| byte == count as u8)
            );
        });
    }
}
