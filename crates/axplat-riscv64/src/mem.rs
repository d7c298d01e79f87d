//! Physical memory for ArceOS.

use axplat::mem::{MemIf, PhysAddr, RawRange, VirtAddr, pa, va};

use crate::{
    config::plat::{KERNEL_ASPACE_BASE, KERNEL_ASPACE_SIZE, PHYS_VIRT_OFFSET},
    machine,
};

struct MemIfImpl;

#[impl_plat_interface]
impl MemIf for MemIfImpl {
    /// All RAM of the device tree. What lies in it and is not ours to give is in the reserved ranges.
    fn phys_ram_ranges() -> &'static [RawRange] {
        machine().ram.as_slice()
    }

    /// Firmware's reservations, the device tree itself and what the bootloader handed over.
    fn reserved_phys_ram_ranges() -> &'static [RawRange] {
        machine().reserved.as_slice()
    }

    /// The devices that this platform drives.
    fn mmio_ranges() -> &'static [RawRange] {
        machine().mmio.as_slice()
    }

    /// Physical memory is mapped linearly.
    fn phys_to_virt(paddr: PhysAddr) -> VirtAddr {
        va!(paddr.as_usize() + PHYS_VIRT_OFFSET)
    }

    /// The inverse of `phys_to_virt`, for addresses of the linear mapping.
    fn virt_to_phys(vaddr: VirtAddr) -> PhysAddr {
        pa!(vaddr.as_usize() - PHYS_VIRT_OFFSET)
    }

    /// The hypervisor's own half of Sv39.
    fn kernel_aspace() -> (VirtAddr, usize) {
        (va!(KERNEL_ASPACE_BASE), KERNEL_ASPACE_SIZE)
    }
}
