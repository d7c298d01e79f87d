//! What an address space asks of its host.

use crate::{GuestPhysAddr, HostPhysAddr, HostVirtAddr, PcpuMask};

/// The sizes in which frames are taken from the host; each is aligned to its own size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FrameSize {
    /// 4 KiB: a page, or a page table.
    Size4K,
    /// 16 KiB: the root of a RISC-V nested page table (privileged specification, "Two-Stage Address Translation").
    Size16K,
    /// 2 MiB.
    Size2M,
    /// 1 GiB.
    Size1G,
}

impl FrameSize {
    /// The size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Size4K => 4 << 10,
            Self::Size16K => 16 << 10,
            Self::Size2M => 2 << 20,
            Self::Size1G => 1 << 30,
        }
    }
}

/// The host's memory services.
///
/// Implementations must be sound to call from any pCPU at any time outside an interrupt handler.
pub trait AxMmHal: 'static {
    /// Takes a frame of `size`, aligned to `size`. Its content is not defined. `None`: the host has none.
    fn alloc_frame(size: FrameSize) -> Option<HostPhysAddr>;

    /// Gives back a frame that [`alloc_frame`](Self::alloc_frame) gave with the same `size`.
    fn dealloc_frame(frame: HostPhysAddr, size: FrameSize);

    /// Where the hypervisor reaches a physical address.
    fn phys_to_virt(addr: HostPhysAddr) -> HostVirtAddr;

    /// The physical address behind one of the hypervisor's linearly mapped addresses.
    fn virt_to_phys(addr: HostVirtAddr) -> HostPhysAddr;

    /// Forgets, on each of `pcpus`, all cached translations of the guest-physical range `start .. start + len`, of every VM.
    /// On return none of them can reach memory through a translation that was removed before the call. Other pCPUs are not disturbed.
    ///
    /// Tables that led to the range only may be freed next, so what is cached of entries above the leaves must go as well: on RISC-V that
    /// takes an HFENCE.GVMA without an address, for one with an address orders accesses to leaves only; on x86 an INVEPT, or the flush of
    /// all ASIDs at the next VMRUN.
    fn flush_nested(pcpus: PcpuMask, start: GuestPhysAddr, len: u64);
}
