//! Where a vCPU's state is, and which vCPU's state a pCPU's hardware holds.
//!
//! A vCPU's state stays in the hardware when its guest is left, and is loaded only where another's (or nobody's) is. It is never fetched from afar: a vCPU
//! whose pCPU is its own ([`Sharing::Dedicated`]) is saved when it is unbound, one that shares its pCPU after each run. So when another vCPU comes, the
//! hardware holds nothing that memory does not, and no pCPU ever reaches for another vCPU's memory, which its owner may be using elsewhere.

use core::sync::atomic::{AtomicU64, Ordering};

use axerrno::{AxResult, ax_err, ax_err_type};

/// The most pCPUs that run guests, and the most vCPUs that a VM has: one bit each in a word.
pub const MAX_CPUS: usize = 64;

/// Who else runs on a vCPU's pCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Nobody between its `bind` and `unbind`: its state stays in the hardware.
    Dedicated,
    /// Perhaps other vCPUs and the host's tasks, whenever it is not running: its state is in memory after each run.
    Shared,
}

/// What [`PcpuCell::loaded`] holds while no vCPU's state is in the hardware.
const NOBODY: u64 = 0;

/// Unused by every vCPU: ids start at 1.
static LAST_UID: AtomicU64 = AtomicU64::new(NOBODY);

/// What is known about a pCPU, wherever its vCPUs' tasks come from: whose state it holds, and `T`. Only that pCPU changes the former.
#[derive(Debug)]
pub struct PcpuCell<T> {
    /// The vCPU whose state the hardware holds, by its unique id.
    loaded: AtomicU64,
    own: T,
}

impl<T> PcpuCell<T> {
    /// Nobody's state is there yet.
    pub const fn new(own: T) -> Self {
        Self {
            loaded: AtomicU64::new(NOBODY),
            own,
        }
    }

    /// That of pCPU `id` among all.
    ///
    /// # Errors
    /// `InvalidInput`: there is none beyond the first [`MAX_CPUS`].
    pub fn of(cells: &[Self; MAX_CPUS], id: usize) -> AxResult<&Self> {
        cells
            .get(id)
            .ok_or_else(|| ax_err_type!(InvalidInput, "pCPU beyond the 64 that run guests"))
    }

    /// What else is known about it.
    #[inline(always)]
    pub const fn own(&self) -> &T {
        &self.own
    }

    /// The hardware holds no vCPU's state any more.
    pub fn release(&self) {
        self.loaded.store(NOBODY, Ordering::Relaxed);
    }
}

/// Where a vCPU's present state is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// In memory only.
    Memory,
    /// In memory, and in the hardware of the pCPU whose cell says so.
    Both,
    /// In the hardware only.
    Hardware,
}

/// Where a vCPU is: which pCPU it is bound to, and where its state is.
#[derive(Debug)]
pub struct Residence<T: 'static> {
    /// No two vCPUs that ever were have the same.
    uid: u64,
    home: Home,
    /// The pCPU that bound it last.
    cell: Option<&'static PcpuCell<T>>,
}

impl<T> Default for Residence<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Residence<T> {
    /// Of a vCPU that was never bound.
    #[must_use]
    pub fn new() -> Self {
        Self {
            uid: LAST_UID.fetch_add(1, Ordering::Relaxed) + 1,
            home: Home::Memory,
            cell: None,
        }
    }

    /// Where the state is.
    #[inline(always)]
    #[must_use]
    pub const fn home(&self) -> Home {
        self.home
    }

    /// That of the pCPU that bound it last, if any has.
    #[inline(always)]
    #[must_use]
    pub const fn cell(&self) -> Option<&'static PcpuCell<T>> {
        self.cell
    }

    /// Whether the pCPU's hardware still holds what was loaded from the vCPU.
    #[inline(always)]
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.cell
            .is_some_and(|cell| cell.loaded.load(Ordering::Relaxed) == self.uid)
    }

    /// Whether the present state is in the pCPU's hardware.
    #[inline(always)]
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        self.home != Home::Memory && self.is_held()
    }

    /// Whether the present state is there: what is in memory must not be taken for it.
    ///
    /// # Errors
    /// `BadState`: a dedicated vCPU's state is lost, for another was loaded where it was bound.
    pub fn check_not_displaced(&self) -> AxResult {
        match self.home {
            Home::Hardware if !self.is_held() => {
                ax_err!(BadState, "another vCPU ran on this vCPU's dedicated pCPU")
            }
            Home::Hardware | Home::Both | Home::Memory => Ok(()),
        }
    }

    /// `cell`'s pCPU has bound it. What another may still hold is no longer the truth.
    pub fn bind(&mut self, cell: &'static PcpuCell<T>) {
        if self.cell.is_some_and(|last| !core::ptr::eq(last, cell)) {
            self.home = Home::Memory;
        }
        self.cell = Some(cell);
    }

    /// The state is about to be loaded: the hardware holds nobody's until then. What is known about the pCPU.
    ///
    /// # Errors
    /// `BadState`: as for [`check_not_displaced`](Self::check_not_displaced), or the vCPU was never bound.
    pub fn make_room(&mut self) -> AxResult<&'static T> {
        self.check_not_displaced()?;
        let cell = self
            .cell
            .ok_or_else(|| ax_err_type!(BadState, "a vCPU runs only where it is bound"))?;
        cell.release();
        Ok(&cell.own)
    }

    /// The state was loaded.
    pub fn loaded(&mut self) {
        if let Some(cell) = self.cell {
            cell.loaded.store(self.uid, Ordering::Relaxed);
            self.home = Home::Both;
        }
    }

    /// The guest has run.
    #[inline(always)]
    pub const fn ran(&mut self) {
        self.home = Home::Hardware;
    }

    /// Memory was brought up to date with the hardware.
    pub const fn saved(&mut self) {
        self.home = Home::Both;
    }

    /// What is in memory is the truth, whatever the hardware holds: it was changed there.
    pub const fn changed(&mut self) {
        self.home = Home::Memory;
    }

    /// The hardware is others' from now on. What it alone had was saved.
    pub fn left(&mut self) {
        if let Some(cell) = self.cell
            && self.is_held()
        {
            cell.release();
        }
        self.home = Home::Memory;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static CELLS: [PcpuCell<()>; MAX_CPUS] = [const { PcpuCell::new(()) }; MAX_CPUS];

    fn cell(id: usize) -> &'static PcpuCell<()> {
        PcpuCell::of(&CELLS, id).unwrap()
    }

    #[test]
    fn there_are_64_pcpus() {
        assert!(PcpuCell::of(&CELLS, MAX_CPUS).is_err());
    }

    #[test]
    fn a_state_stays_until_another_comes() {
        let [mut first, mut second] = [Residence::new(), Residence::new()];
        assert!(first.make_room().is_err() && !first.is_loaded());
        first.bind(cell(0));
        first.make_room().unwrap();
        first.loaded();
        first.ran();
        assert!(first.is_loaded() && first.home() == Home::Hardware);
        first.saved();
        second.bind(cell(0));
        second.make_room().unwrap();
        assert!(!first.is_held());
        second.loaded();
        assert!(second.is_loaded() && !first.is_loaded());
        assert!(first.check_not_displaced().is_ok());
        // What the first leaves is not its own any more.
        first.left();
        assert!(second.is_loaded());
        second.left();
        assert!(!second.is_held());
    }

    #[test]
    fn a_lost_state_is_an_error() {
        let [mut first, mut second] = [Residence::new(), Residence::new()];
        first.bind(cell(1));
        first.loaded();
        first.ran();
        second.bind(cell(1));
        second.loaded();
        assert!(first.check_not_displaced().is_err() && first.make_room().is_err());
        assert!(second.is_loaded());
        // Unless memory has the truth anyway.
        first.changed();
        assert!(first.check_not_displaced().is_ok());
    }

    #[test]
    fn another_pcpu_knows_nothing() {
        let mut vcpu = Residence::new();
        vcpu.bind(cell(2));
        vcpu.loaded();
        vcpu.bind(cell(2));
        assert!(vcpu.is_loaded());
        vcpu.bind(cell(3));
        assert!(!vcpu.is_loaded() && vcpu.home() == Home::Memory);
        vcpu.bind(cell(2));
        assert!(vcpu.is_held() && !vcpu.is_loaded());
    }
}
