//! The nested page table: one walker for every mode.
//!
//! [`mode`] has the shape of the tables and chooses the encoding ([`riscv`], [`x86`]); [`entry`] says what entries mean; [`table`] holds what the compiler
//! cannot check. Here is the walking: it asks the host for nothing but tables, and keeps no list of what it owns, for the entries
//! are that list. So what a guest makes it do takes no memory but the frames that are accounted to it.
//!
//! Unmapping goes in two passes with the flush between them. The first takes entries out of the hardware's sight but leaves in them
//! what they led to; the second, once the hardware has forgotten, frees that.

mod entry;
mod mode;
mod riscv;
mod table;
mod x86;

use alloc::sync::Arc;
use core::ops::Range;

use entry::{Entry, Target};
pub(crate) use entry::{Leaf, LeafSize};
use mode::span;
pub use mode::{LargestLeaf, NestedMode};
pub(crate) use table::Memory;
use table::{OwnedTable, Table, TableMut, parts};

use crate::{AxMmHal, GuestPhysAddr, Holders, HostPhysAddr, MappingFlags, MemoryUsage};

/// What the nested table says about an address.
pub(crate) enum Lookup {
    /// It is mapped: by this leaf, `offset` bytes in.
    Mapped { leaf: Leaf, size: u64, offset: u64 },
    /// It is not, and a leaf of at most this size would fit.
    Vacant(LeafSize),
}

/// Why nothing was mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MapFailure {
    /// The host has no frame for a table.
    OutOfMemory,
    /// Something else is mapped there.
    Occupied,
}

/// The host has no frame for a table that a split needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutOfMemory;

/// A nested page table, and the frames that it maps and owns.
pub(crate) struct NestedTable<H: AxMmHal> {
    mode: NestedMode,
    root: OwnedTable<H>,
    usage: MemoryUsage,
    holders: Arc<Holders>,
}

impl<H: AxMmHal> NestedTable<H> {
    /// A table that maps nothing. `None`: the host has no frame.
    pub(crate) fn new(mode: NestedMode) -> Option<Self> {
        let root = OwnedTable::new(mode, mode.root_level())?;
        let usage = MemoryUsage {
            ram_bytes: 0,
            table_bytes: root.size().bytes(),
        };
        Some(Self {
            mode,
            root,
            usage,
            holders: Arc::new(Holders::new()),
        })
    }

    pub(crate) fn mode(&self) -> NestedMode {
        self.mode
    }

    pub(crate) fn root(&self) -> HostPhysAddr {
        self.root.start()
    }

    pub(crate) fn usage(&self) -> MemoryUsage {
        self.usage
    }

    /// Whose translations a flush has to reach.
    pub(crate) fn holders(&self) -> &Arc<Holders> {
        &self.holders
    }

    /// The first guest-physical address that is too high.
    pub(crate) fn end(&self) -> GuestPhysAddr {
        GuestPhysAddr::new(1 << self.mode.gpa_bits())
    }

    /// What is mapped at `gpa`, which is below [`end`](Self::end).
    pub(crate) fn lookup(&self, gpa: GuestPhysAddr) -> Lookup {
        let mut table: Table<'_, H> = self.root.as_table();
        loop {
            let index = table.index(gpa);
            let level = table.level();
            match table.entry(index) {
                Entry::Live(Target::Leaf(leaf)) => {
                    let size = span(level);
                    return Lookup::Mapped {
                        leaf,
                        size,
                        offset: gpa.as_u64() & (size - 1),
                    };
                }
                Entry::Live(Target::Table(_)) => match table.child(index) {
                    Some(child) => table = child,
                    None => return Lookup::Vacant(self.at_most(level)),
                },
                Entry::Empty | Entry::Condemned(_) => {
                    return Lookup::Vacant(self.at_most(level));
                }
            }
        }
    }

    /// The largest leaf that a table at `level` can hold.
    fn at_most(&self, level: usize) -> LeafSize {
        LeafSize::at_most(level).min(self.mode.largest_leaf())
    }

    /// Maps the leaf of `size`, which the mode has, at `gpa`, which is aligned to it and below [`end`](Self::end). On failure nothing has changed.
    pub(crate) fn map(
        &mut self,
        gpa: GuestPhysAddr,
        size: LeafSize,
        memory: Memory<H>,
        flags: MappingFlags,
    ) -> Result<(), MapFailure> {
        let owned = match &memory {
            Memory::Host(_) => 0,
            Memory::Owned(_) => size.bytes(),
        };
        insert(
            &mut self.root.as_mut(),
            gpa,
            size,
            memory,
            flags,
            &mut self.usage,
        )?;
        self.usage.ram_bytes += owned;
        Ok(())
    }

    /// Unmaps what is mapped in `range`, in whole pages below [`end`](Self::end), and frees it after the flush. Leaves that reach out of
    /// `range` are split first; if a table for that is not to be had, everything stays mapped.
    pub(crate) fn unmap(&mut self, range: Range<GuestPhysAddr>) -> Result<(), OutOfMemory> {
        for edge in [range.start, range.end] {
            if edge < self.end() {
                split_at(&mut self.root.as_mut(), edge, &mut self.usage)?;
            }
        }
        self.clear(range);
        Ok(())
    }

    /// [`unmap`](Self::unmap) for a range that no leaf reaches out of.
    pub(crate) fn clear(&mut self, range: Range<GuestPhysAddr>) {
        match condemn(&mut self.root.as_mut(), raw(&range)) {
            Found::Nothing => {}
            Found::Entries => self.flush_and_sweep(range),
        }
    }

    /// [`clear`](Self::clear) for several ranges, in order, with one flush.
    pub(crate) fn clear_all(&mut self, ranges: impl Iterator<Item = Range<GuestPhysAddr>>) {
        let mut all: Option<Range<GuestPhysAddr>> = None;
        for range in ranges {
            match condemn(&mut self.root.as_mut(), raw(&range)) {
                Found::Nothing => {}
                Found::Entries => {
                    let start = all.map_or(range.start, |all| all.start);
                    all = Some(start..range.end);
                }
            }
        }
        if let Some(all) = all {
            self.flush_and_sweep(all);
        }
    }

    /// Frees what is condemned in `range`.
    fn flush_and_sweep(&mut self, range: Range<GuestPhysAddr>) {
        let raw = raw(&range);
        H::flush_nested(self.holders.pcpus(), range.start, raw.end - raw.start);
        let larger = self.root.as_mut().sweep(raw, &mut self.usage);
        debug_assert!(
            larger.is_none(),
            "no leaf is larger than the root's entries"
        );
    }
}

impl<H: AxMmHal> Drop for NestedTable<H> {
    fn drop(&mut self) {
        // Flushed even if nothing is mapped: the root goes as well.
        let all = GuestPhysAddr::new(0)..self.end();
        condemn(&mut self.root.as_mut(), raw(&all));
        self.flush_and_sweep(all);
    }
}

fn raw(range: &Range<GuestPhysAddr>) -> Range<u64> {
    range.start.as_u64()..range.end.as_u64()
}

/// Maps a leaf in `table` or below. A table that is missing is built in full before it is linked, so that a failure leaves no trace.
fn insert<H: AxMmHal>(
    table: &mut TableMut<'_, H>,
    gpa: GuestPhysAddr,
    size: LeafSize,
    memory: Memory<H>,
    flags: MappingFlags,
    usage: &mut MemoryUsage,
) -> Result<(), MapFailure> {
    let index = table.look().index(gpa);
    let level = table.look().level();
    match table.look().entry(index) {
        Entry::Empty if level == size.level() => {
            table.map(index, memory, flags);
            Ok(())
        }
        Entry::Empty => {
            let mut below =
                OwnedTable::new(table.look().mode(), level - 1).ok_or(MapFailure::OutOfMemory)?;
            insert(&mut below.as_mut(), gpa, size, memory, flags, usage)?;
            usage.table_bytes += below.size().bytes();
            table.link(index, below);
            Ok(())
        }
        Entry::Live(Target::Table(_)) if level > size.level() => match table.child(index) {
            Some(mut below) => insert(&mut below, gpa, size, memory, flags, usage),
            None => Err(MapFailure::Occupied),
        },
        Entry::Live(_) | Entry::Condemned(_) => Err(MapFailure::Occupied),
    }
}

/// Splits leaves in `table` and below until none lies across `edge`.
fn split_at<H: AxMmHal>(
    table: &mut TableMut<'_, H>,
    edge: GuestPhysAddr,
    usage: &mut MemoryUsage,
) -> Result<(), OutOfMemory> {
    let level = table.look().level();
    if edge.is_aligned(span(level)) {
        return Ok(());
    }
    let index = table.look().index(edge);
    if let Entry::Live(Target::Leaf(_)) = table.look().entry(index) {
        let pieces = OwnedTable::new(table.look().mode(), level - 1).ok_or(OutOfMemory)?;
        usage.table_bytes += pieces.size().bytes();
        table.split(index, pieces);
    }
    match table.child(index) {
        Some(mut below) => split_at(&mut below, edge, usage),
        None => Ok(()),
    }
}

/// What [`condemn`] came upon.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    Entries,
}

/// Condemns what `table` maps in `range`, which lies within it, and the lower tables that then map nothing.
fn condemn<H: AxMmHal>(table: &mut TableMut<'_, H>, range: Range<u64>) -> Found {
    let mut found = Found::Nothing;
    for part in parts(table.look().level(), range) {
        let index = table.look().index(GuestPhysAddr::new(part.start));
        match table.look().entry(index) {
            Entry::Empty | Entry::Condemned(_) => {}
            Entry::Live(Target::Leaf(_)) => {
                table.condemn(index);
                found = Found::Entries;
            }
            Entry::Live(Target::Table(_)) => {
                let Some(mut below) = table.child(index) else {
                    continue;
                };
                if condemn(&mut below, part) == Found::Entries {
                    found = Found::Entries;
                    if below.look().is_dead() {
                        table.condemn(index);
                    }
                }
            }
        }
    }
    found
}
