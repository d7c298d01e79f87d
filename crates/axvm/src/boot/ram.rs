//! Where things go in a guest's RAM before it starts.
//!
//! [`RamMap`] knows the RAM and what is taken of it; [`GuestRam`] is the door through which the
//! loaders write. Neither trusts a number that comes out of an image.

use alloc::vec::Vec;
use core::fmt;

use axaddrspace::{GuestMemoryError, GuestPhysAddr};

/// How far above the start of RAM the things that we place may lie: what every kernel reaches early
/// in its boot.
const PLACE_LIMIT: u64 = 1 << 30;

/// A stretch of guest-physical memory that does not wrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestRange {
    start: GuestPhysAddr,
    end: GuestPhysAddr,
}

impl GuestRange {
    /// `start .. start + size`, or `None` past the end of 64 bits.
    #[must_use]
    pub const fn new(start: GuestPhysAddr, size: u64) -> Option<Self> {
        match start.checked_add(size) {
            Some(end) => Some(Self { start, end }),
            None => None,
        }
    }

    /// The first address.
    #[must_use]
    pub const fn start(self) -> GuestPhysAddr {
        self.start
    }

    /// The first address past it.
    #[must_use]
    pub const fn end(self) -> GuestPhysAddr {
        self.end
    }

    /// Bytes.
    #[must_use]
    pub const fn size(self) -> u64 {
        self.end.as_u64() - self.start.as_u64()
    }

    /// Whether all of `other` is in here.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    fn overlaps(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }
}

impl fmt::Display for GuestRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.size().checked_sub(1) {
            Some(last) => write!(f, "{} to {:#x}", self.start, self.start.as_u64() + last),
            None => write!(f, "nothing at {}", self.start),
        }
    }
}

/// Guest RAM as the loaders write it. All of it reads as zero before the first write, so what an
/// image leaves out need not be cleared.
pub trait GuestRam {
    /// Writes `bytes` at `addr`; nothing if not all of that is RAM.
    ///
    /// # Errors
    /// [`GuestMemoryError::NotRam`] unless all of it is RAM. [`GuestMemoryError::OutOfMemory`] where RAM is filled now and the
    /// host has no frame, which alone may leave a part written.
    fn write(&mut self, addr: GuestPhysAddr, bytes: &[u8]) -> Result<(), GuestMemoryError>;
}

/// Why something has no place in RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaceError {
    /// It does not lie within one region of RAM.
    OutsideRam(GuestRange),
    /// It would wrap round the end of the address space.
    Wraps(GuestPhysAddr, u64),
    /// It lies over something else.
    Overlaps(GuestRange, Thing, GuestRange),
    /// There is no room for so many bytes.
    NoRoom {
        /// What it needs.
        size: u64,
        /// The bytes of RAM where it was looked for, free or not.
        ram: u64,
    },
}

impl fmt::Display for PlaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutsideRam(range) => {
                write!(f, "{range} is not within the VM's RAM (memory_regions)")
            }
            Self::Wraps(start, size) => {
                write!(
                    f,
                    "{size:#x} bytes at {start:#x} reach past the end of the address space"
                )
            }
            Self::Overlaps(range, other, at) => write!(f, "{range} overlaps {other} at {at}"),
            Self::NoRoom { size, ram } => write!(
                f,
                "{} does not fit beside the rest in RAM of {} (memory_regions)",
                Bytes(*size),
                Bytes(*ram)
            ),
        }
    }
}

/// A number of bytes, for people.
pub(crate) struct Bytes(pub(crate) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes < 64 << 10 => write!(f, "{bytes} bytes"),
            bytes if bytes < 1 << 20 => write!(f, "{} KiB", bytes.div_ceil(1 << 10)),
            bytes if bytes % (1 << 20) == 0 => write!(f, "{} MiB", bytes >> 20),
            bytes => {
                // Rounded up, so that what does not fit never reads as what would.
                let tenths = (u128::from(bytes) * 10).div_ceil(1 << 20);
                write!(f, "{}.{} MiB", tenths / 10, tenths % 10)
            }
        }
    }
}

/// What lies in RAM when a guest starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thing {
    /// The kernel.
    Kernel,
    /// The initial RAM disk.
    Ramdisk,
    /// The device tree.
    DeviceTree,
    /// What the boot protocol hands over.
    BootData,
    /// The ACPI tables.
    AcpiTables,
}

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kernel => "the kernel",
            Self::Ramdisk => "the ramdisk",
            Self::DeviceTree => "the device tree",
            Self::BootData => "the boot data",
            Self::AcpiTables => "the ACPI tables",
        })
    }
}

/// A VM's RAM, and what is taken of it.
pub(crate) struct RamMap<'a> {
    regions: &'a [GuestRange],
    taken: Vec<(Thing, GuestRange)>,
}

impl<'a> RamMap<'a> {
    /// All free. The first region is where things go that have no address of their own.
    pub(crate) fn new(regions: &'a [GuestRange]) -> Self {
        Self {
            regions,
            taken: Vec::new(),
        }
    }

    /// The start of RAM; `None` for a VM without any.
    pub(crate) fn base(&self) -> Option<GuestPhysAddr> {
        self.regions.first().map(|region| region.start)
    }

    /// Bytes of RAM from `start` to the end of its region, taken or not; 0 outside RAM.
    pub(crate) fn room_from(&self, start: GuestPhysAddr) -> u64 {
        self.regions
            .iter()
            .find(|region| region.start <= start && start < region.end)
            .map_or(0, |region| region.end.as_u64() - start.as_u64())
    }

    /// Whether `size` bytes at `start` are free RAM, and if so, which range that is.
    pub(crate) fn check(&self, start: GuestPhysAddr, size: u64) -> Result<GuestRange, PlaceError> {
        let range = GuestRange::new(start, size).ok_or(PlaceError::Wraps(start, size))?;
        if !self.regions.iter().any(|region| region.contains(range)) {
            return Err(PlaceError::OutsideRam(range));
        }
        match self.overlap(range) {
            Some((thing, taken)) => Err(PlaceError::Overlaps(range, thing, taken)),
            None => Ok(range),
        }
    }

    /// Takes `size` bytes at `start` for `thing`.
    pub(crate) fn take(
        &mut self,
        thing: Thing,
        start: GuestPhysAddr,
        size: u64,
    ) -> Result<GuestRange, PlaceError> {
        let range = self.check(start, size)?;
        self.taken.push((thing, range));
        Ok(range)
    }

    /// Takes `size` bytes for `thing` where they are free: as high as they fit below
    /// [`PLACE_LIMIT`] in the first region, out of a growing kernel's way; aligned to `align`, a
    /// power of two.
    pub(crate) fn take_high(
        &mut self,
        thing: Thing,
        size: u64,
        align: u64,
    ) -> Result<GuestRange, PlaceError> {
        let region = self.regions.first().copied();
        let ram = region.map_or(0, GuestRange::size);
        let none = PlaceError::NoRoom { size, ram };
        let region = region.ok_or(none)?;
        let mut end = region.start.as_u64().saturating_add(ram.min(PLACE_LIMIT));
        loop {
            let start = GuestPhysAddr::new(end.checked_sub(size).ok_or(none)?).align_down(align);
            let range = GuestRange::new(start, size).ok_or(none)?;
            if !region.contains(range) {
                return Err(none);
            }
            // What is taken is finite, and each turn ends below one more piece of it.
            match self.overlap(range) {
                Some((_, taken)) => end = taken.start.as_u64(),
                None => {
                    self.taken.push((thing, range));
                    return Ok(range);
                }
            }
        }
    }

    fn overlap(&self, range: GuestRange) -> Option<(Thing, GuestRange)> {
        self.taken
            .iter()
            .copied()
            .find(|(_, taken)| taken.overlaps(range))
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use proptest::prelude::*;

    use super::*;
    use crate::boot::testing::range;

    const BASE: u64 = 0x8000_0000;

    fn at(addr: u64) -> GuestPhysAddr {
        GuestPhysAddr::new(addr)
    }

    #[test]
    fn takes_what_is_free_ram_and_nothing_else() {
        let regions = [range(BASE, 0x10_0000), range(BASE + 0x20_0000, 0x10_0000)];
        let mut map = RamMap::new(&regions);
        assert_eq!(
            map.take(Thing::Kernel, at(BASE), 0x1000),
            Ok(range(BASE, 0x1000))
        );
        assert_eq!(
            map.take(Thing::Ramdisk, at(BASE + 0xfff), 0x1000),
            Err(PlaceError::Overlaps(
                range(BASE + 0xfff, 0x1000),
                Thing::Kernel,
                range(BASE, 0x1000)
            ))
        );
        assert!(
            map.take(Thing::Ramdisk, at(BASE + 0x1000), 0x1000).is_ok(),
            "touching is free"
        );
        for (start, size) in [
            (BASE - 1, 2),
            (BASE + 0xf_ffff, 2),
            (BASE, 0x30_0000),
            (0, 1),
        ] {
            assert_eq!(
                map.take(Thing::Ramdisk, at(start), size),
                Err(PlaceError::OutsideRam(range(start, size)))
            );
        }
        assert_eq!(
            map.take(Thing::Ramdisk, at(BASE + 0x20_0000), u64::MAX),
            Err(PlaceError::Wraps(at(BASE + 0x20_0000), u64::MAX))
        );
        assert_eq!(map.room_from(at(BASE + 0xf_f000)), 0x1000);
        assert_eq!(map.room_from(at(BASE + 0x10_0000)), 0);
    }

    #[test]
    fn places_from_the_top_downwards_around_what_is_taken() {
        let regions = [range(BASE, 0x10_0000)];
        let mut map = RamMap::new(&regions);
        map.take(Thing::Kernel, at(BASE + 0xf_e000), 0x1000)
            .unwrap();
        let first = map.take_high(Thing::DeviceTree, 0x800, 0x1000).unwrap();
        assert_eq!(
            first,
            range(BASE + 0xf_f000, 0x800),
            "above the kernel, aligned"
        );
        let second = map.take_high(Thing::Ramdisk, 0x1001, 0x1000).unwrap();
        assert_eq!(
            second,
            range(BASE + 0xf_c000, 0x1001),
            "below the kernel, which is in the way"
        );
        assert_eq!(
            map.take_high(Thing::Ramdisk, 0x10_0000, 1),
            Err(PlaceError::NoRoom {
                size: 0x10_0000,
                ram: 0x10_0000
            })
        );
    }

    #[test]
    fn places_within_the_first_gib() {
        let regions = [range(BASE, 8 << 30)];
        let mut map = RamMap::new(&regions);
        let placed = map.take_high(Thing::DeviceTree, 0x1000, 0x1000).unwrap();
        assert_eq!(placed.end(), at(BASE + PLACE_LIMIT));
    }

    #[test]
    fn a_vm_without_ram_has_room_for_nothing() {
        let mut map = RamMap::new(&[]);
        assert_eq!(map.base(), None);
        assert!(map.take(Thing::Kernel, at(0), 1).is_err());
        assert!(map.take_high(Thing::Kernel, 1, 1).is_err());
    }

    #[test]
    fn sizes_are_written_for_people() {
        for (bytes, text) in [
            (100, "100 bytes"),
            (65536, "64 KiB"),
            (16 << 20, "16 MiB"),
            ((30 << 20) + (512 << 10), "30.5 MiB"),
            ((2 << 20) + 1, "2.1 MiB"),
            (u64::MAX, "17592186044416.0 MiB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn no_two_things_ever_overlap(
            base in any::<u64>(),
            size in 0..(4u64 << 30),
            wanted in prop::collection::vec((any::<bool>(), any::<u64>(), 0..(1u64 << 28), 0..22u32), 0..10),
        ) {
            let regions: Vec<_> = GuestRange::new(at(base), size).into_iter().collect();
            let mut map = RamMap::new(&regions);
            let mut placed: Vec<GuestRange> = Vec::new();
            for (high, offset, len, align) in wanted {
                let got = if high {
                    map.take_high(Thing::Ramdisk, len, 1 << align)
                } else {
                    map.take(Thing::Kernel, at(base.wrapping_add(offset % (size + 10))), len)
                };
                if let Ok(got) = got {
                    prop_assert_eq!(got.size(), len);
                    prop_assert!(regions[0].contains(got));
                    prop_assert!(placed.iter().all(|other| !other.overlaps(got)));
                    placed.push(got);
                }
            }
        }
    }
}
