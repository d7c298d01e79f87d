//! Sets of physical CPUs.

use core::fmt;

/// A set of physical CPUs, each by its number 0 to 63.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PcpuSet(u64);

impl PcpuSet {
    /// How many pCPUs a set can tell apart.
    pub const MAX_PCPUS: usize = 64;

    /// The set whose members are the bits that are set.
    #[must_use]
    pub const fn from_mask(mask: u64) -> Self {
        Self(mask)
    }

    /// The set of `pcpu` alone; `None` if there can be no such pCPU.
    #[must_use]
    pub fn single(pcpu: usize) -> Option<Self> {
        let shift = u32::try_from(pcpu).ok()?;
        1u64.checked_shl(shift).map(Self)
    }

    /// The pCPUs below `count`: all of a machine that has that many, the first 64 at most.
    #[must_use]
    pub fn first(count: usize) -> Self {
        match Self::single(count) {
            Some(Self(bit)) => Self(bit - 1),
            None => Self(u64::MAX),
        }
    }

    /// One bit for each member.
    #[must_use]
    pub const fn mask(self) -> u64 {
        self.0
    }

    /// Whether `pcpu` is a member.
    #[must_use]
    pub fn contains(self, pcpu: usize) -> bool {
        Self::single(pcpu).is_some_and(|one| !self.intersection(one).is_empty())
    }

    /// Whether there is no member.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many members there are.
    #[must_use]
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// The members of both.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The members of either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The members of this set that `other` does not have.
    #[must_use]
    pub const fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The members, lowest first.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..Self::MAX_PCPUS).filter(move |&pcpu| self.contains(pcpu))
    }
}

impl fmt::Display for PcpuSet {
    /// The members, lowest first: `1, 2`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, pcpu) in self.iter().enumerate() {
            let separator = if position == 0 { "" } else { ", " };
            write!(f, "{separator}{pcpu}")?;
        }
        Ok(())
    }
}
