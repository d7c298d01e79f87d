//! What a VM is to be, as its config says: plain values, checked already.

use alloc::{string::String, vec, vec::Vec};
use core::fmt;

use axaddrspace::{GuestPhysAddr, MappingFlags};

use crate::{ConfigError, Isa, PassedDevice, PcpuSet, Sharing, Source, Window, parse};

/// One VM. Made by [`VmConfig::parse`], which applied every rule that concerns this VM alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmConfig {
    /// The VM's number, which no other VM has; fits 32 bits.
    pub id: usize,
    /// The VM's name, which no other VM has: 1 to 32 visible ASCII characters.
    pub name: String,
    /// The instruction set whose defaults were filled in.
    pub isa: Isa,
    /// The vCPUs, by number: 1 to 64.
    pub vcpus: Vec<VCpuPlacement>,
    /// What the VM boots.
    pub kernel: KernelConfig,
    /// The VM's memory, in the order of the file: at least one region, none over another.
    pub memory: Vec<MemoryRegion>,
    /// The emulated devices, in the order of the file.
    pub devices: Vec<VirtualDevice>,
    /// The machine's devices that the VM is given, in the order of the file.
    pub passed: Vec<PassedDevice>,
    /// Where these values were written.
    pub source: Source,
}

impl VmConfig {
    /// Reads the config `text` of the file `file`, for a machine of instruction set `isa`.
    ///
    /// # Errors
    /// Everything that is wrong with the config by itself.
    pub fn parse(file: &str, text: &str, isa: Isa) -> Result<Self, Vec<ConfigError>> {
        parse::parse(file, text, isa)
    }

    /// Like [`parse`](Self::parse), for the bytes of a file of which nobody knows that they are text.
    ///
    /// # Errors
    /// Bytes that are not UTF-8, at the line of the first of them; else those of [`parse`](Self::parse).
    pub fn parse_bytes(file: &str, bytes: &[u8], isa: Isa) -> Result<Self, Vec<ConfigError>> {
        match core::str::from_utf8(bytes) {
            Ok(text) => Self::parse(file, text, isa),
            Err(error) => {
                let text = bytes.get(..error.valid_up_to()).unwrap_or_default();
                Err(vec![parse::not_text(file, text)])
            }
        }
    }

    /// The error that this config's `key` (one of [`keys`](crate::keys)) breaks a rule.
    #[must_use]
    pub fn error(&self, key: &str, message: impl fmt::Display) -> ConfigError {
        self.source.error(key, message)
    }

    /// The sum of all memory regions in bytes, at most [`u64::MAX`].
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.memory
            .iter()
            .fold(0, |sum, region| sum.saturating_add(region.size))
    }
}

/// Where one vCPU runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VCpuPlacement {
    /// The vCPU's number in its VM, from 0.
    pub vcpu_id: usize,
    /// The pCPUs it may run on: at least one, and just one where it is dedicated.
    pub pcpus: PcpuSet,
    /// How the config claims them; see [`sharing_on`](Self::sharing_on).
    pub sharing: Sharing,
}

impl VCpuPlacement {
    /// How the vCPU holds its pCPUs on a machine that has `pcpus` of them: as the config says, but on a
    /// machine of one pCPU, which the host's tasks need too, always shared.
    #[must_use]
    pub const fn sharing_on(&self, pcpus: usize) -> Sharing {
        match pcpus {
            0 | 1 => Sharing::Shared,
            _ => self.sharing,
        }
    }
}

/// What a VM boots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelConfig {
    /// The kernel image's path in the bundle.
    pub path: String,
    /// What the kernel image is.
    pub format: KernelFormat,
    /// Where vCPU 0 starts; `None`: where the image says, or at its first byte.
    pub entry_point: Option<GuestPhysAddr>,
    /// Where the image goes; `None`: where its format and the instruction set put it.
    pub load_addr: Option<GuestPhysAddr>,
    /// The kernel's command line: no control characters, at most 1023 bytes.
    pub cmdline: Option<String>,
    /// The device tree that replaces the one the hypervisor would write.
    pub dtb: Option<Blob>,
    /// The initial ramdisk.
    pub ramdisk: Option<Blob>,
}

/// What a kernel image is. Any of them may be compressed with gzip.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum KernelFormat {
    /// What its first bytes say.
    #[default]
    Auto,
    /// A Linux `Image`.
    Linux,
    /// An ELF executable.
    Elf,
    /// Bytes that go to memory as they are.
    Flat,
}

/// A file of the bundle that goes into the VM's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Its path in the bundle.
    pub path: String,
    /// Where it goes; `None`: where there is room.
    pub load_addr: Option<GuestPhysAddr>,
}

/// A piece of a VM's memory. Base and size are multiples of 4 KiB, and its end fits 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryRegion {
    /// Its first address.
    pub gpa: GuestPhysAddr,
    /// Its size in bytes, not 0.
    pub size: u64,
    /// What the guest may do with it: [`READ`](MappingFlags::READ) at least, never
    /// [`DEVICE`](MappingFlags::DEVICE).
    pub flags: MappingFlags,
    /// When it is filled.
    pub kind: MapKind,
}

impl MemoryRegion {
    /// The addresses it covers.
    #[must_use]
    pub const fn window(&self) -> Window {
        Window {
            base: self.gpa,
            size: self.size,
        }
    }
}

/// When a memory region gets the host's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MapKind {
    /// Before the VM starts.
    #[default]
    Alloc,
    /// Piece by piece, when the guest first touches each.
    Lazy,
}

/// An emulated device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualDevice {
    /// Its name, which no other device of the VM has: 1 to 32 visible ASCII characters.
    pub id: String,
    /// What it is.
    pub model: DeviceModel,
    /// Where its registers are: in memory, or, on an instruction set that has I/O ports, the first
    /// port.
    pub addr: GuestPhysAddr,
    /// The number of addresses that it has there.
    pub size: u64,
    /// Its interrupt, which no other device of the VM has.
    pub irq: u32,
}

impl VirtualDevice {
    /// The addresses it covers.
    #[must_use]
    pub const fn window(&self) -> Window {
        Window {
            base: self.addr,
            size: self.size,
        }
    }
}

/// The devices that the hypervisor emulates by config.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeviceModel {
    /// A 16550A UART, eight registers of one byte each.
    Ns16550,
}

impl DeviceModel {
    /// The number of addresses that it has in a VM of instruction set `isa`.
    #[must_use]
    pub fn window_size(self, isa: Isa) -> u64 {
        match self {
            Self::Ns16550 => isa.guest_map().uart.size,
        }
    }
}
