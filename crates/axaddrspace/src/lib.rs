//! Guest-physical address spaces.
//!
//! [`AddrSpace`] is what a VM sees as its physical memory: regions of RAM and passed-through
//! devices, behind a nested page table whose encoding the hardware chooses. [`GuestMemory`] is the one
//! bounds-checked door to the bytes in it, [`FixedRam`] the short way to those that stay where they are. Addresses of the four kinds are types of their own
//! ([`GuestPhysAddr`] …), and frames come from the host through [`AxMmHal`].

#![no_std]

extern crate alloc;

#[cfg(test)]
extern crate std;

mod addr;
mod error;
mod fixed;
mod frame;
mod guest_mem;
mod hal;
mod holders;
#[cfg(test)]
mod mock;
mod nested;
mod region;
mod shared_page;
mod space;
mod vmid;

pub use addr::{GuestPhysAddr, GuestVirtAddr, HostPhysAddr, HostVirtAddr};
pub use error::{AddrSpaceError, GuestMemoryError};
pub use fixed::{FixedRam, RamPage, RamWord};
pub use frame::{Frame, MemoryUsage};
pub use guest_mem::GuestMemory;
pub use hal::{AxMmHal, FrameSize};
pub use holders::{Holders, PcpuMask};
pub use nested::{LargestLeaf, NestedMode};
pub use region::Fill;
pub use shared_page::SharedPage;
pub use space::{AddrSpace, FaultOutcome, Translation};
pub use vmid::{VmidAllocator, VmidAssignment, VmidTag};

bitflags::bitflags! {
    /// What may be done to a piece of guest-physical memory, or what was tried.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct MappingFlags: u32 {
        /// Loads.
        const READ = 1 << 0;
        /// Stores.
        const WRITE = 1 << 1;
        /// Instruction fetches.
        const EXECUTE = 1 << 2;
        /// Device memory: uncached and strongly ordered.
        const DEVICE = 1 << 3;
    }
}
