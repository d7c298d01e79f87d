//! What depends on the guest's instruction set: where things are in a VM unless its config says otherwise.

use core::{fmt, ops::RangeInclusive};

use axaddrspace::GuestPhysAddr;

/// A range of guest-physical addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its first address.
    pub base: GuestPhysAddr,
    /// Its size in bytes.
    pub size: u64,
}

impl Window {
    /// `size` bytes at `base`.
    #[must_use]
    pub const fn new(base: u64, size: u64) -> Self {
        Self {
            base: GuestPhysAddr::new(base),
            size,
        }
    }

    /// The address just past it; `None` where that does not fit 64 bits.
    #[must_use]
    pub const fn end(self) -> Option<GuestPhysAddr> {
        self.base.checked_add(self.size)
    }

    /// Whether `addr` is inside.
    #[must_use]
    pub fn contains(self, addr: GuestPhysAddr) -> bool {
        addr.checked_sub(self.base)
            .is_some_and(|offset| offset < self.size)
    }

    /// Whether any address is in both.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        !self.is_empty()
            && !other.is_empty()
            && (self.contains(other.base) || other.contains(self.base))
    }

    /// Whether there is no address inside.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.size == 0
    }
}

impl fmt::Display for Window {
    /// First and last address: `0x80000000 to 0x8fffffff`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self
            .size
            .checked_sub(1)
            .and_then(|last| self.base.checked_add(last))
        {
            Some(last) => write!(f, "{} to {last}", self.base),
            None => write!(f, "{} and {:#x} bytes on", self.base, self.size),
        }
    }
}

/// The guest's instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Isa {
    /// 64-bit RISC-V.
    Riscv64,
    /// 64-bit x86: a PC.
    X86_64,
}

/// Where the registers of a device that a config lists are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeviceSpace {
    /// In guest-physical memory.
    Memory,
    /// At I/O ports.
    Ports,
}

impl DeviceSpace {
    /// The number of addresses in it; `None` for all of 64 bits.
    #[must_use]
    pub const fn size(self) -> Option<u64> {
        match self {
            Self::Memory => None,
            Self::Ports => Some(1 << 16),
        }
    }
}

/// Where things are in a VM unless its config says otherwise.
#[derive(Debug)]
pub struct GuestMap {
    /// The first address of RAM.
    pub ram_base: GuestPhysAddr,
    /// How far above [`ram_base`](Self::ram_base) a flat binary goes.
    pub flat_kernel_offset: u64,
    /// The interrupt controller, which every VM has. RAM that does not say where it goes lies
    /// around it.
    pub interrupt_controller: Window,
    /// What that is, in words.
    pub(crate) interrupt_controller_is: &'static str,
    /// The part of that which is taken. In the rest a guest may find devices of the machine.
    pub controller_registers: &'static [Window],
    /// The interrupts that a device may have.
    pub irqs: RangeInclusive<u32>,
    /// The interrupts that a device of the machine may have in a VM.
    pub passed_irqs: &'static [RangeInclusive<u32>],
    /// The numbers of a machine's interrupts.
    pub host_irqs: RangeInclusive<u32>,
    /// Where the devices that a config lists are.
    pub device_space: DeviceSpace,
    /// The devices in that space that every VM has, beside the interrupt controller.
    pub own_devices: &'static [Window],
    /// The first UART; every one is as large.
    pub uart: Window,
    /// The first UART's interrupt.
    pub uart_irq: u32,
    /// The fewest bits of guest-physical address that the hypervisor offers on any machine.
    pub min_phys_bits: u32,
    /// Where every VM must have RAM, because the hypervisor writes there what a guest boots with.
    pub boot_ram: &'static [Window],
}

/// RISC-V: the places of QEMU's `virt` machine, which guests are used to.
static RISCV64: GuestMap = GuestMap {
    ram_base: GuestPhysAddr::new(0x8000_0000),
    // Linux asks for 2 MiB (its text offset); the bytes below are the firmware's on real machines.
    flat_kernel_offset: 0x20_0000,
    interrupt_controller: Window::new(0x0c00_0000, 0x60_0000),
    interrupt_controller_is: "the interrupt controller, which every VM has",
    controller_registers: &[Window::new(0x0c00_0000, 0x60_0000)],
    irqs: 1..=95,
    passed_irqs: &[1..=95],
    host_irqs: 1..=1023,
    device_space: DeviceSpace::Memory,
    own_devices: &[],
    uart: Window::new(0x1000_0000, 0x100),
    uart_irq: 10,
    // Sv39x4.
    min_phys_bits: 41,
    boot_ram: &[],
};

/// x86: the places of a PC, as far as it has any choice.
static X86_64: GuestMap = GuestMap {
    ram_base: GuestPhysAddr::new(0),
    // Clear of the first MiB, and at the start of a large page.
    flat_kernel_offset: 0x20_0000,
    // The last GiB below 4 GiB, which has the I/O APIC and the local APICs in it: PCs keep it for
    // devices.
    interrupt_controller: Window::new(0xc000_0000, 0x4000_0000),
    interrupt_controller_is: "the last GiB below 4 GiB, which a PC keeps for devices",
    // One page each: the I/O APIC, and what each CPU takes for its local APIC.
    controller_registers: &[
        Window::new(0xfec0_0000, 0x1000),
        Window::new(0xfee0_0000, 0x1000),
    ],
    // What the clocks, the cascade and ACPI leave of the first 8259.
    irqs: 3..=7,
    // That, what no device of the board has of the second 8259, and the pins that only the I/O APIC has.
    passed_irqs: &[3..=7, 10..=12, 14..=23],
    host_irqs: 0..=255,
    device_space: DeviceSpace::Ports,
    own_devices: &[
        // The main board: interrupt controllers, clocks, keyboard controller.
        Window::new(0, 0x100),
        // The trigger modes of the interrupt controllers.
        Window::new(0x4d0, 2),
        // ACPI's power management.
        Window::new(X86_ACPI_PORTS, 12),
        // PCI configuration, and the reset control register.
        Window::new(0xcf8, 8),
    ],
    uart: Window::new(0x3f8, 8),
    uart_irq: 4,
    // The smallest physical address space of a CPU with nested paging.
    min_phys_bits: 36,
    boot_ram: &[
        // Boot data.
        Window::new(0x9_0000, 0x8000),
        // ACPI tables.
        Window::new(0xe_0000, 0x2_0000),
    ],
};

/// The first port of an x86 VM's ACPI power management registers.
pub const X86_ACPI_PORTS: u64 = 0x600;

impl Isa {
    /// Every instruction set there is.
    pub const ALL: [Self; 2] = [Self::Riscv64, Self::X86_64];

    /// The name, as file names and command lines spell it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Riscv64 => "riscv64",
            Self::X86_64 => "x86_64",
        }
    }

    /// Where things are in a VM of this instruction set.
    #[must_use]
    pub fn guest_map(self) -> &'static GuestMap {
        match self {
            Self::Riscv64 => &RISCV64,
            Self::X86_64 => &X86_64,
        }
    }
}
