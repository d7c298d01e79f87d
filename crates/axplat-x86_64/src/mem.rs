//! Physical memory for ArceOS.

use axplat::mem::{MemIf, PhysAddr, RawRange, VirtAddr, pa, va};
use axplat_ranges::{Range, Ranges};
use spin::Once;

use crate::{
    boot::MAPPED_AT_BOOT,
    config::plat::{KERNEL_ASPACE_BASE, KERNEL_ASPACE_SIZE, PHYS_VIRT_OFFSET},
    machine::{self, machine},
    paging, power,
};

/// What becomes of RAM.
struct Plan {
    /// What ArceOS may give away.
    free: Ranges,
    page_tables: Range,
}

static PLAN: Once<Plan> = Once::new();

/// BIOS, bootloader and starting CPUs have the first MiB.
const LOW_MEMORY: usize = 1 << 20;
/// ArceOS builds its heap in the first free range behind the image, however small that is, and can look after some thirty in all. What is
/// smaller than this is not worth a range.
const SMALLEST: usize = 1 << 20;

/// Divides the machine's RAM.
pub(crate) fn init() {
    PLAN.call_once(|| {
        let ram = &machine().ram;
        let mut taken = machine().reserved;
        machine::keep(&mut taken, 0, LOW_MEMORY);
        let (image, image_size) = paging::image();
        machine::keep(&mut taken, image, image_size);

        // At the end of the highest RAM that the boot tables map.
        let need = paging::bytes_needed(ram);
        let low = ram.without(&taken).below(MAPPED_AT_BOOT).at_least(need);
        let page_tables = match low.as_slice().last() {
            Some(&(start, size)) => (start + size - need, need),
            None => power::stop("there is no RAM for the page tables below 4 GiB"),
        };
        machine::keep(&mut taken, page_tables.0, page_tables.1);
        let free = ram.without(&taken).at_least(SMALLEST);
        if free.total() == 0 {
            power::stop("this machine has no RAM to spare");
        }
        Plan { free, page_tables }
    });
}

/// Where the page tables are.
pub(crate) fn page_tables() -> Range {
    PLAN.get().map_or((0, 0), |plan| plan.page_tables)
}

struct MemIfImpl;

#[impl_plat_interface]
impl MemIf for MemIfImpl {
    /// The RAM that is ArceOS's to give.
    fn phys_ram_ranges() -> &'static [RawRange] {
        PLAN.get().map_or(&[], |plan| plan.free.as_slice())
    }

    /// None of the above.
    fn reserved_phys_ram_ranges() -> &'static [RawRange] {
        &[]
    }

    /// ArceOS drives no devices: this platform maps what it needs itself.
    fn mmio_ranges() -> &'static [RawRange] {
        &[]
    }

    /// Physical memory is mapped linearly.
    fn phys_to_virt(paddr: PhysAddr) -> VirtAddr {
        va!(paddr.as_usize() + PHYS_VIRT_OFFSET)
    }

    /// The inverse of `phys_to_virt`, for addresses of the linear mapping.
    fn virt_to_phys(vaddr: VirtAddr) -> PhysAddr {
        pa!(vaddr.as_usize() - PHYS_VIRT_OFFSET)
    }

    /// The hypervisor's own half of the address space.
    fn kernel_aspace() -> (VirtAddr, usize) {
        (va!(KERNEL_ASPACE_BASE), KERNEL_ASPACE_SIZE)
    }
}
