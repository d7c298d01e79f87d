//! A page that is neither the guest's RAM nor the hypervisor's alone: hardware reads and writes it while a guest runs.

use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};

use crate::{AxMmHal, Frame, FrameSize, HostPhysAddr};

/// How many words it has.
const WORDS: usize = FrameSize::Size4K.bytes() as usize / size_of::<u32>();

/// A page of 32-bit words that others may change at any time: each is read and written at once, and means only what it says at that moment.
///
/// Whoever has a copy has the same page; the last one gives it back.
#[derive(Clone)]
pub struct SharedPage {
    start: HostPhysAddr,
    words: *const [AtomicU32; WORDS],
    _owner: Arc<dyn Send + Sync>,
}

// SAFETY: the words are atomic, and the owner may go anywhere.
unsafe impl Send for SharedPage {}
// SAFETY: as above.
unsafe impl Sync for SharedPage {}

/// Keeps a frame.
struct Owner<H: AxMmHal>(#[expect(dead_code, reason = "it is there to be dropped")] Frame<H>);

impl SharedPage {
    /// A page of zeros. `None`: the host has none.
    #[must_use]
    pub fn new<H: AxMmHal + 'static>() -> Option<Self> {
        let frame = Frame::<H>::alloc(FrameSize::Size4K)?;
        Some(Self {
            start: frame.start(),
            words: core::ptr::with_exposed_provenance(frame.virt().as_usize()),
            _owner: Arc::new(Owner(frame)),
        })
    }

    /// Where hardware finds it.
    #[must_use]
    pub const fn start(&self) -> HostPhysAddr {
        self.start
    }

    #[inline]
    fn words(&self) -> &[AtomicU32; WORDS] {
        // SAFETY: the frame is as large, aligned to its size, was zeroed, and is held by the owner as long as `self` lives. Nothing but atomic
        // words reaches it from here.
        unsafe { &*self.words }
    }

    /// The word at `offset` bytes, rounded down to a multiple of four; past the page it begins again.
    #[inline]
    #[must_use]
    pub fn read(&self, offset: usize) -> u32 {
        self.word(offset).load(Ordering::Relaxed)
    }

    #[inline]
    fn word(&self, offset: usize) -> &AtomicU32 {
        &self.words()[offset / size_of::<u32>() % WORDS]
    }

    /// Writes what [`read`](Self::read) reads.
    #[inline]
    pub fn write(&self, offset: usize, value: u32) {
        self.word(offset).store(value, Ordering::Relaxed);
    }
}

impl fmt::Debug for SharedPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedPage")
            .field("start", &self.start)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::{self, MockHal};

    #[test]
    fn all_copies_are_one_page_which_goes_back_with_the_last() {
        let page = SharedPage::new::<MockHal>().unwrap();
        let copy = page.clone();
        page.write(0xffc, 7);
        assert_eq!(
            (copy.read(0xffc), copy.read(0xfff), copy.read(0)),
            (7, 7, 0)
        );
        page.write(0x1000, 9);
        assert_eq!(page.read(0), 9);
        drop(page);
        assert_eq!(mock::outstanding(), FrameSize::Size4K.bytes());
        drop(copy);
        assert_eq!(mock::outstanding(), 0);
    }
}
