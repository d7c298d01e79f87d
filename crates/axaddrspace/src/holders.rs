//! The pCPUs that may remember translations of an address space.
//!
//! A pCPU remembers nothing of a nested table whose root it never had. So a flush concerns only those that had it, and no VM can have the pCPUs of
//! others interrupted by what it does to its own memory.

use core::sync::atomic::{AtomicU64, Ordering};

/// The pCPUs to which the root of an address space's nested table was ever given.
///
/// Who gives a pCPU the root [adds](Self::add) it first; who changes the table does so before it [asks](Self::pcpus). Both are sequentially consistent: so a pCPU
/// that the answer lacks finds the table as it is now.
#[derive(Debug, Default)]
pub struct Holders(AtomicU64);

impl Holders {
    /// Nobody.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// `pcpu` is about to have the root. It stays a holder for good.
    pub fn add(&self, pcpu: usize) {
        let bit = PcpuMask::of(pcpu).0;
        // It mostly is one already, which costs no atomic read-modify-write.
        if self.0.load(Ordering::SeqCst) & bit != bit {
            self.0.fetch_or(bit, Ordering::SeqCst);
        }
    }

    /// Who they are.
    #[must_use]
    pub fn pcpus(&self) -> PcpuMask {
        // Entries of tables are written with release order; none of them may be seen later than this look.
        core::sync::atomic::fence(Ordering::SeqCst);
        PcpuMask(self.0.load(Ordering::SeqCst))
    }
}

/// A set of pCPUs, in which bit `n` is pCPU `n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PcpuMask(pub u64);

impl PcpuMask {
    /// `pcpu` alone; all, for one that has no bit.
    #[must_use]
    pub const fn of(pcpu: usize) -> Self {
        if pcpu < u64::BITS as usize {
            Self(1 << pcpu)
        } else {
            Self(u64::MAX)
        }
    }

    /// Whether `pcpu` is in it.
    #[must_use]
    pub const fn contains(self, pcpu: usize) -> bool {
        self.0 & Self::of(pcpu).0 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::{Holders, PcpuMask};

    #[test]
    fn whoever_was_added_stays() {
        let holders = Holders::new();
        assert_eq!(holders.pcpus(), PcpuMask(0));
        holders.add(3);
        holders.add(63);
        holders.add(3);
        assert_eq!(holders.pcpus(), PcpuMask(1 << 63 | 1 << 3));
        assert!(holders.pcpus().contains(3) && !holders.pcpus().contains(4));
        holders.add(64);
        assert_eq!(holders.pcpus(), PcpuMask(u64::MAX), "all rather than none");
    }
}
