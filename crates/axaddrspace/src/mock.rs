//! A host for tests: it hands out real memory, keeps account of it, fails when told to, and plays the hardware.
//!
//! The hardware is pessimistic. It remembers every translation, of leaves and of tables, that it could have seen at any of its peeks, until
//! a flush covers it; and a frame that it remembers must not go back. Its walker is written from the specification and shares no code with ours.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::cell::RefCell;
use std::alloc::{Layout, alloc, dealloc};
use std::thread_local;

use crate::{
    AxMmHal, FrameSize, GuestPhysAddr, HostPhysAddr, HostVirtAddr, LargestLeaf, NestedMode,
    PcpuMask,
};

use stretch::Stretch;

mod stretch;

/// Host-physical and host-virtual addresses differ in this bit, so that one is no good as the other.
const LINEAR_MAP: u64 = 1 << 45;

thread_local! {
    static HOST: RefCell<Host> = RefCell::new(Host::default());
}

/// The state of one test's host.
#[derive(Default)]
pub(crate) struct Host {
    frames: BTreeMap<u64, FrameSize>,
    /// Allocations so far.
    pub(crate) allocs: usize,
    /// Frames given back so far.
    pub(crate) frees: usize,
    /// Flushes so far.
    pub(crate) flushes: usize,
    /// Whom the last of them concerned.
    pub(crate) flushed_on: Option<PcpuMask>,
    /// Which allocations fail.
    pub(crate) shortage: Shortage,
    /// The nested table that the hardware walks.
    watched: Option<(NestedMode, u64)>,
    /// The translations that it may still use.
    remembered: Vec<Stretch>,
}

/// Which allocations fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Shortage {
    #[default]
    None,
    /// The one with this number, counted from 0.
    Once(usize),
    /// The one with this number and all later ones.
    From(usize),
    /// Those larger than this.
    Above(FrameSize),
}

/// The host of the test that runs on this thread.
pub(crate) struct MockHal;

impl AxMmHal for MockHal {
    fn alloc_frame(size: FrameSize) -> Option<HostPhysAddr> {
        peek();
        with(|host| {
            let number = host.allocs;
            host.allocs += 1;
            let fails = match host.shortage {
                Shortage::None => false,
                Shortage::Once(failing) => number == failing,
                Shortage::From(first) => number >= first,
                Shortage::Above(largest) => size > largest,
            };
            if fails {
                return None;
            }
            let bytes = size.bytes() as usize;
            // SAFETY: the layout is not empty.
            let frame = unsafe { alloc(layout(size)) };
            assert!(
                !frame.is_null(),
                "the developer's machine has no {bytes:#x} bytes"
            );
            if size < FrameSize::Size1G {
                // SAFETY: these are the bytes just allocated.
                unsafe { frame.write_bytes(0xa5, bytes) };
            }
            let hpa = frame.expose_provenance() as u64 ^ LINEAR_MAP;
            host.frames.insert(hpa, size);
            Some(HostPhysAddr::new(hpa))
        })
    }

    fn dealloc_frame(frame: HostPhysAddr, size: FrameSize) {
        if std::thread::panicking() {
            return;
        }
        with(|host| {
            host.frees += 1;
            let start = frame.as_u64();
            assert_eq!(
                host.frames.remove(&start),
                Some(size),
                "no such frame: {frame}"
            );
            let freed = start..start + size.bytes();
            let reached = host.remembered.iter().find(|known| known.reaches(&freed));
            assert_eq!(reached, None, "freed {frame}, {size:?}, before the flush");
        });
        let virt = MockHal::phys_to_virt(frame).as_usize();
        // SAFETY: `alloc_frame` allocated it with this layout, and it was still on the list.
        unsafe { dealloc(core::ptr::with_exposed_provenance_mut(virt), layout(size)) };
    }

    fn phys_to_virt(addr: HostPhysAddr) -> HostVirtAddr {
        HostVirtAddr::new(addr.as_u64() ^ LINEAR_MAP)
    }

    fn virt_to_phys(addr: HostVirtAddr) -> HostPhysAddr {
        HostPhysAddr::new(addr.as_u64() ^ LINEAR_MAP)
    }

    fn flush_nested(pcpus: PcpuMask, start: GuestPhysAddr, len: u64) {
        let flushed = start.as_u64()..start.as_u64() + len;
        with(|host| {
            host.flushes += 1;
            host.flushed_on = Some(pcpus);
            let remembered = core::mem::take(&mut host.remembered);
            let left = remembered.iter().flat_map(|known| known.without(&flushed));
            host.remembered = left.collect();
        });
        peek();
    }
}

/// Reads or changes the host's state.
pub(crate) fn with<T>(f: impl FnOnce(&mut Host) -> T) -> T {
    HOST.with_borrow_mut(f)
}

/// Counts allocations from 0 again, and lets them fail as `shortage` says.
pub(crate) fn restart(shortage: Shortage) {
    with(|host| {
        host.allocs = 0;
        host.shortage = shortage;
    });
}

/// Bytes that are taken and not given back.
pub(crate) fn outstanding() -> u64 {
    with(|host| host.frames.values().map(|size| size.bytes()).sum())
}

/// Lets the hardware walk the table at `root` from now on.
pub(crate) fn watch(mode: NestedMode, root: HostPhysAddr) {
    with(|host| host.watched = Some((mode, root.as_u64())));
}

/// No hardware uses any table any more, but it still remembers.
pub(crate) fn unwatch() {
    peek();
    with(|host| host.watched = None);
}

/// The hardware looks at everything that it can reach now.
pub(crate) fn peek() {
    with(|host| {
        let Some((mode, root)) = host.watched else {
            return;
        };
        let Seen { tables, leaves } = see(mode, root);
        for seen in tables.into_iter().chain(leaves) {
            if !host.remembered.iter().any(|known| known.covers(&seen)) {
                host.remembered.retain(|known| !seen.covers(known));
                host.remembered.push(seen);
            }
        }
    });
}

/// What the hardware makes of an access to `gpa`: the host address, and the R, W and X bits.
pub(crate) fn hardware_walk(mode: NestedMode, root: HostPhysAddr, gpa: u64) -> Option<(u64, u64)> {
    let mut table = root.as_u64();
    let mut level = mode.levels() - 1;
    let mut index = gpa >> (12 + 9 * level);
    assert!(index < entries(mode, level) as u64);
    loop {
        let size = 1u64 << (12 + 9 * level);
        match read_pte(mode, table, index as usize, level) {
            Pte::Invalid => return None,
            Pte::Leaf { hpa, rwx } => return Some((hpa + gpa % size, rwx)),
            Pte::Table(next) => table = next,
        }
        level -= 1;
        index = gpa >> (12 + 9 * level) & 511;
    }
}

/// All that the hardware reaches from `root`: guest address, host address and length of each stretch that leads to one of the host's, however large
/// its leaves are.
pub(crate) fn hardware_map(mode: NestedMode, root: HostPhysAddr) -> Vec<(u64, u64, u64)> {
    let stretches = see(mode, root.as_u64()).leaves.into_iter();
    let mut map: Vec<_> = stretches
        .map(|stretch| (stretch.gpa, stretch.hpa, stretch.len()))
        .collect();
    map.dedup_by(|(gpa, hpa, len), (first_gpa, first_hpa, first_len)| {
        let goes_on = *gpa == *first_gpa + *first_len && *hpa == *first_hpa + *first_len;
        if goes_on {
            *first_len += *len;
        }
        goes_on
    });
    map
}

fn layout(size: FrameSize) -> Layout {
    let bytes = size.bytes() as usize;
    Layout::from_size_align(bytes, bytes).expect("frame sizes are powers of two")
}

fn entries(mode: NestedMode, level: usize) -> usize {
    match mode {
        // "Sv39x4" and "Sv48x4": two more bits of index at the root.
        NestedMode::Sv39x4 | NestedMode::Sv48x4 if level == mode.levels() - 1 => 2048,
        _ => 512,
    }
}

enum Pte {
    Invalid,
    Table(u64),
    Leaf { hpa: u64, rwx: u64 },
}

fn read_pte(mode: NestedMode, table: u64, index: usize, level: usize) -> Pte {
    let virt = MockHal::phys_to_virt(HostPhysAddr::new(table)).as_usize() + index * 8;
    // SAFETY: a table that the root leads to is a frame that is allocated, or the check for early frees fails first.
    let pte = unsafe { core::ptr::with_exposed_provenance::<u64>(virt).read_volatile() };
    let found = match mode {
        NestedMode::Sv39x4 | NestedMode::Sv48x4 => read_riscv(pte),
        NestedMode::Ept(_) => read_ept(pte, level),
        NestedMode::Npt(_) => read_npt(pte, level),
    };
    match found {
        Pte::Invalid => {}
        Pte::Table(_) => assert!(level > 0, "no table below the last level"),
        Pte::Leaf { hpa, .. } => {
            assert_eq!(
                hpa % (1 << (12 + 9 * level)),
                0,
                "misaligned leaf, {pte:#x}"
            );
            let largest = match mode {
                NestedMode::Ept(LargestLeaf::Size2M) | NestedMode::Npt(LargestLeaf::Size2M) => 1,
                _ => 2,
            };
            assert!(level <= largest, "no leaves that large");
        }
    }
    found
}

fn read_riscv(pte: u64) -> Pte {
    if pte & 1 == 0 {
        return Pte::Invalid;
    }
    let (rwx, u, g, a, d) = (
        pte >> 1 & 7,
        pte >> 4 & 1,
        pte >> 5 & 1,
        pte >> 6 & 1,
        pte >> 7 & 1,
    );
    assert_eq!(pte >> 54, 0, "reserved bits of {pte:#x}");
    assert_eq!(g, 0, "G of {pte:#x} must be zero at the G stage");
    let hpa = (pte >> 10 & ((1 << 44) - 1)) << 12;
    if rwx == 0 {
        assert_eq!(
            (u, a, d),
            (0, 0, 0),
            "reserved in the entry of a table, {pte:#x}"
        );
        return Pte::Table(hpa);
    }
    assert_ne!(rwx & 3, 2, "W without R is reserved, {pte:#x}");
    assert_eq!((u, a, d), (1, 1, 1), "every access would fault, {pte:#x}");
    Pte::Leaf { hpa, rwx }
}

/// SDM 3C, "EPT Translation Mechanism": the figure of the formats of the entries.
fn read_ept(pte: u64, level: usize) -> Pte {
    let rwx = pte & 7;
    if rwx == 0 {
        return Pte::Invalid;
    }
    assert_eq!(rwx & 1, 1, "W or X without R, {pte:#x}");
    let hpa = pte & 0x000f_ffff_ffff_f000;
    if level == 0 || pte >> 7 & 1 == 1 {
        let memory_type = pte >> 3 & 7;
        assert!([0, 6].contains(&memory_type), "memory type of {pte:#x}");
        return Pte::Leaf { hpa, rwx };
    }
    assert_eq!(
        pte >> 3 & 0x1f,
        0,
        "reserved in the entry of a table, {pte:#x}"
    );
    assert_eq!(rwx, 7, "only leaves restrict, {pte:#x}");
    Pte::Table(hpa)
}

/// APM 2, "Long-Mode Page Translation" and "Nested Paging": every access is a user's.
fn read_npt(pte: u64, level: usize) -> Pte {
    if pte & 1 == 0 {
        return Pte::Invalid;
    }
    let (w, u, a, d, nx) = (
        pte >> 1 & 1,
        pte >> 2 & 1,
        pte >> 5 & 1,
        pte >> 6 & 1,
        pte >> 63,
    );
    assert_eq!((u, a), (1, 1), "every access would fault, {pte:#x}");
    assert_eq!(pte >> 59 & 0xf, 0, "protection key in {pte:#x}");
    let hpa = pte & 0x000f_ffff_ffff_f000;
    if level == 0 || pte >> 7 & 1 == 1 {
        assert_eq!(d, 1, "D of {pte:#x}");
        let rwx = 1 | w << 1 | (1 - nx) << 2;
        return Pte::Leaf { hpa, rwx };
    }
    assert_eq!((w, nx, pte >> 7 & 3), (1, 0, 0), "of a table, {pte:#x}");
    Pte::Table(hpa)
}

/// What the hardware can see from a root.
#[derive(Default)]
struct Seen {
    /// For each table, what leads to it.
    tables: Vec<Stretch>,
    leaves: Vec<Stretch>,
}

fn see(mode: NestedMode, root: u64) -> Seen {
    let mut seen = Seen::default();
    seen.table(mode, root, mode.levels() - 1, 0);
    seen
}

impl Seen {
    fn table(&mut self, mode: NestedMode, table: u64, level: usize, base: u64) {
        let size = 1u64 << (12 + 9 * level);
        let entries = entries(mode, level);
        self.tables
            .push(Stretch::one(base, table, size * entries as u64));
        for index in 0..entries {
            let start = base + size * index as u64;
            match read_pte(mode, table, index, level) {
                Pte::Invalid => {}
                Pte::Leaf { hpa, .. } => self.leaf(Stretch::one(start, hpa, size)),
                Pte::Table(next) => self.table(mode, next, level - 1, start),
            }
        }
    }

    fn leaf(&mut self, leaf: Stretch) {
        let last = self.leaves.last_mut();
        if !last.is_some_and(|last| last.goes_on(&leaf)) {
            self.leaves.push(leaf);
        }
    }
}
