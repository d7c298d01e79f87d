//! The keys of a VM config, spelled once: as messages name them, and as [`Source`](crate::Source) finds
//! their lines.

/// The VM's number.
pub const ID: &str = "base.id";
/// The VM's name.
pub const NAME: &str = "base.name";
/// What kind of guest AxVisor's users say this is.
pub const VM_TYPE: &str = "base.vm_type";
/// How many vCPUs.
pub const CPU_NUM: &str = "base.cpu_num";
/// One pCPU for each vCPU, which has it for itself.
pub const PHYS_CPU_IDS: &str = "base.phys_cpu_ids";
/// For each vCPU the pCPUs that it may share with others, as a bit mask.
pub const PHYS_CPU_SETS: &str = "base.phys_cpu_sets";

/// Where the guest starts.
pub const ENTRY_POINT: &str = "kernel.entry_point";
/// Where images come from.
pub const IMAGE_LOCATION: &str = "kernel.image_location";
/// The kernel image.
pub const KERNEL_PATH: &str = "kernel.kernel_path";
/// What the kernel image is.
pub const KERNEL_FORMAT: &str = "kernel.kernel_format";
/// Where the kernel image goes.
pub const KERNEL_LOAD_ADDR: &str = "kernel.kernel_load_addr";
/// The device tree that replaces the one the hypervisor would write.
pub const DTB_PATH: &str = "kernel.dtb_path";
/// Where the device tree goes.
pub const DTB_LOAD_ADDR: &str = "kernel.dtb_load_addr";
/// The initial ramdisk.
pub const RAMDISK_PATH: &str = "kernel.ramdisk_path";
/// Where the initial ramdisk goes.
pub const RAMDISK_LOAD_ADDR: &str = "kernel.ramdisk_load_addr";
/// The kernel's command line.
pub const CMDLINE: &str = "kernel.cmdline";
/// The VM's memory. Region `n` is `kernel.memory_regions[n]`.
pub const MEMORY_REGIONS: &str = "kernel.memory_regions";

/// The VM's emulated devices. Device `n` is `devices.virtual[n]`.
pub const VIRTUAL: &str = "devices.virtual";
/// The machine's devices that the VM is given. Device `n` is `devices.passthrough[n]`.
pub const PASSTHROUGH: &str = "devices.passthrough";
/// AxVisor's choice of who serves the guest's interrupts.
pub const INTERRUPT_MODE: &str = "devices.interrupt_mode";
