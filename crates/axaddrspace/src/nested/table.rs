//! One table of a nested page table, and everything about it that the compiler cannot check.
//!
//! A table that is linked belongs to the entry that links it, up to the [`OwnedTable`] of the root, and so do the frames that leaves say are owned.
//! The handles borrow from that root: [`Table`] looks, [`TableMut`] changes, and while a handle of a lower table lives, nobody frees it.
//! The hardware reads along at any time; entries are therefore atomic words, and what one leads to is written before it is.

use core::marker::PhantomData;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use super::entry::{Entry, Leaf, LeafSize, Target};
use super::mode::{NestedMode, span};
use crate::{AxMmHal, Frame, FrameSize, GuestPhysAddr, HostPhysAddr, MappingFlags, MemoryUsage};

/// What a leaf shall map.
pub(crate) enum Memory<H: AxMmHal> {
    /// Memory that someone else looks after.
    Host(HostPhysAddr),
    /// A frame, which the table owns from then on.
    Owned(Frame<H>),
}

/// A table that no entry links: the root, or one that is being built.
pub(super) struct OwnedTable<H: AxMmHal> {
    frame: Frame<H>,
    mode: NestedMode,
    level: usize,
}

impl<H: AxMmHal> OwnedTable<H> {
    /// An empty table for `level`. `None`: the host has no frame.
    pub(super) fn new(mode: NestedMode, level: usize) -> Option<Self> {
        Some(Self {
            frame: Frame::alloc(mode.table_size(level))?,
            mode,
            level,
        })
    }

    pub(super) fn start(&self) -> HostPhysAddr {
        self.frame.start()
    }

    pub(super) fn size(&self) -> FrameSize {
        self.frame.size()
    }

    pub(super) fn as_table(&self) -> Table<'_, H> {
        Table {
            base: self.start(),
            mode: self.mode,
            level: self.level,
            borrow: PhantomData,
        }
    }

    pub(super) fn as_mut(&mut self) -> TableMut<'_, H> {
        TableMut(self.as_table())
    }
}

/// A look into a table.
pub(super) struct Table<'a, H: AxMmHal> {
    base: HostPhysAddr,
    mode: NestedMode,
    level: usize,
    borrow: PhantomData<&'a OwnedTable<H>>,
}

impl<H: AxMmHal> Clone for Table<'_, H> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<H: AxMmHal> Copy for Table<'_, H> {}

impl<'a, H: AxMmHal> Table<'a, H> {
    pub(super) const fn level(self) -> usize {
        self.level
    }

    pub(super) const fn mode(self) -> NestedMode {
        self.mode
    }

    /// The entry that `gpa` falls in.
    pub(super) const fn index(self, gpa: GuestPhysAddr) -> usize {
        self.mode.index(self.level, gpa)
    }

    pub(super) fn entry(self, index: usize) -> Entry {
        self.mode.decode(self.slot(index).load(Ordering::Relaxed))
    }

    /// The table that entry `index` links, condemned or not.
    pub(super) fn child(self, index: usize) -> Option<Self> {
        match self.entry(index) {
            Entry::Live(Target::Table(base)) | Entry::Condemned(Target::Table(base)) => {
                Some(Self {
                    base,
                    level: self.level.checked_sub(1)?,
                    ..self
                })
            }
            Entry::Empty | Entry::Live(Target::Leaf(_)) | Entry::Condemned(Target::Leaf(_)) => None,
        }
    }

    /// Whether the hardware finds nothing here.
    pub(super) fn is_dead(self) -> bool {
        (0..self.entries()).all(|index| match self.entry(index) {
            Entry::Empty | Entry::Condemned(_) => true,
            Entry::Live(_) => false,
        })
    }

    /// Whether an entry here or below maps a piece of an owned frame of `size`.
    fn holds_piece(self, size: LeafSize) -> bool {
        (0..self.entries()).any(|index| match self.entry(index) {
            Entry::Empty => false,
            Entry::Live(Target::Leaf(leaf)) | Entry::Condemned(Target::Leaf(leaf)) => {
                leaf.frame == Some(size)
            }
            Entry::Live(Target::Table(_)) | Entry::Condemned(Target::Table(_)) => self
                .child(index)
                .is_some_and(|child| child.holds_piece(size)),
        })
    }

    const fn entries(self) -> usize {
        self.mode.entries(self.level)
    }

    fn slot(self, index: usize) -> &'a AtomicU64 {
        assert!(
            index < self.entries(),
            "an index is reduced to the table's size before it is used"
        );
        let table = H::phys_to_virt(self.base).as_usize();
        // SAFETY: `base` is the start of a table at `level`, from an `OwnedTable` or an entry that was linked from one: a zeroed frame
        // of `entries` words, reached at `phys_to_virt`, aligned. It is not freed during 'a, which borrows from its root; and it is
        // only ever accessed as atomic words, by us and by the hardware.
        unsafe { &*core::ptr::with_exposed_provenance::<AtomicU64>(table).add(index) }
    }
}

/// A hand in a table.
pub(super) struct TableMut<'a, H: AxMmHal>(Table<'a, H>);

impl<H: AxMmHal> TableMut<'_, H> {
    pub(super) fn look(&self) -> Table<'_, H> {
        self.0
    }

    /// The table that entry `index` links, condemned or not.
    pub(super) fn child(&mut self, index: usize) -> Option<TableMut<'_, H>> {
        self.0.child(index).map(TableMut)
    }

    /// Maps `memory`, of the size of an entry here, at the empty entry `index`.
    pub(super) fn map(&mut self, index: usize, memory: Memory<H>, flags: MappingFlags) {
        let (hpa, frame) = match memory {
            Memory::Host(hpa) => (hpa, None),
            Memory::Owned(frame) => {
                assert_eq!(
                    frame.size().bytes(),
                    span(self.0.level),
                    "an owned frame fills its leaf"
                );
                (frame.into_raw(), Some(LeafSize::at_most(self.0.level)))
            }
        };
        self.fill(index, Target::Leaf(Leaf { hpa, flags, frame }));
    }

    /// Links `table` at the empty entry `index`.
    pub(super) fn link(&mut self, index: usize, table: OwnedTable<H>) {
        assert_eq!(
            table.level + 1,
            self.0.level,
            "a table links tables of the next level"
        );
        self.fill(index, Target::Table(table.frame.into_raw()));
    }

    /// Replaces the leaf at `index` by `table`, which is empty, with leaves that together say the same. The hardware sees one or the other.
    pub(super) fn split(&mut self, index: usize, mut table: OwnedTable<H>) {
        let Entry::Live(Target::Leaf(leaf)) = self.0.entry(index) else {
            return;
        };
        let mut hpa = leaf.hpa.as_u64();
        let mut pieces = table.as_mut();
        for piece in 0..pieces.0.entries() {
            pieces.fill(
                piece,
                Target::Leaf(Leaf {
                    hpa: HostPhysAddr::new(hpa),
                    ..leaf
                }),
            );
            hpa += span(pieces.0.level);
        }
        self.set(index, Entry::Live(Target::Table(table.frame.into_raw())));
    }

    /// Takes entry `index` out of the hardware's sight, and keeps what it leads to until [`sweep`](Self::sweep).
    pub(super) fn condemn(&mut self, index: usize) {
        match self.0.entry(index) {
            Entry::Live(target) => self.set(index, Entry::Condemned(target)),
            Entry::Empty | Entry::Condemned(_) => {}
        }
    }

    /// Frees what is condemned in `range`, which lies within this table, and takes it off `usage`. The hardware has forgotten it.
    ///
    /// The answer: the frame, larger than all that this table stands for, of which pieces were swept. There is at most one: this table
    /// came in the place of the leaf that mapped it, and no other such leaf fits there while a piece is left.
    pub(super) fn sweep(
        &mut self,
        range: Range<u64>,
        usage: &mut MemoryUsage,
    ) -> Option<BrokenFrame> {
        let mut larger = None;
        for part in parts(self.0.level, range) {
            let index = self.0.index(GuestPhysAddr::new(part.start));
            let entry = self.0.entry(index);
            let broken = match entry {
                Entry::Empty | Entry::Live(Target::Leaf(_)) => None,
                Entry::Live(Target::Table(_)) | Entry::Condemned(Target::Table(_)) => self
                    .child(index)
                    .and_then(|mut child| child.sweep(part, usage)),
                Entry::Condemned(Target::Leaf(leaf)) => {
                    self.set(index, Entry::Empty);
                    leaf.frame.map(|size| BrokenFrame {
                        size,
                        piece: leaf.hpa,
                    })
                }
            };
            match broken {
                Some(frame) if frame.size.level() > self.0.level => larger = Some(frame),
                Some(frame) => self.release(index, frame, usage),
                None => {}
            }
            if let Entry::Condemned(Target::Table(base)) = entry {
                self.set(index, Entry::Empty);
                let size = self.0.mode.table_size(self.0.level - 1);
                usage.table_bytes -= size.bytes();
                // SAFETY: the entry, now empty, was the only way to the table, whose frame `link` or `split` had handed over; everything
                // in it was condemned too and has just been swept; and the hardware has forgotten both.
                drop(unsafe { Frame::<H>::from_raw(base, size) });
            }
        }
        larger
    }

    /// Frees `frame`, which filled entry `index`, if none of its pieces is left there.
    fn release(&mut self, index: usize, frame: BrokenFrame, usage: &mut MemoryUsage) {
        let BrokenFrame { size, piece } = frame;
        if self
            .0
            .child(index)
            .is_some_and(|child| child.holds_piece(size))
        {
            return;
        }
        usage.ram_bytes -= size.bytes();
        // SAFETY: `map` had handed over a frame of `size`, aligned to it, in a leaf that filled this entry; the last piece of it has just
        // been swept, so that this is reached once, and the hardware has forgotten it.
        drop(unsafe { Frame::<H>::from_raw(piece.align_down(size.bytes()), size.frame_size()) });
    }

    fn fill(&mut self, index: usize, target: Target) {
        assert_eq!(
            self.0.entry(index),
            Entry::Empty,
            "what is mapped is not overwritten"
        );
        self.set(index, Entry::Live(target));
    }

    fn set(&mut self, index: usize, entry: Entry) {
        // Release: a new table's entries and a new frame's zeroes are there before the hardware finds the way to them.
        self.0
            .slot(index)
            .store(self.0.mode.encode(self.0.level, entry), Ordering::Release);
    }
}

/// An owned frame of which a piece was swept.
pub(super) struct BrokenFrame {
    size: LeafSize,
    piece: HostPhysAddr,
}

/// `range`, cut where the entries of a table at `level` end.
pub(super) fn parts(level: usize, range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let mut start = range.start;
    core::iter::from_fn(move || {
        if start >= range.end {
            return None;
        }
        let end = range.end.min((start | (span(level) - 1)) + 1);
        Some(core::mem::replace(&mut start, end)..end)
    })
}
