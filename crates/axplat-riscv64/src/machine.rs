//! What the machine is.
//!
//! It is [read](read) once, from the device tree that the firmware handed over, before there is a heap or a log; the image asks
//! for it by [`machine`](found::machine). Firmware is trusted to be well-meaning, not to be complete: what cannot be
//! done without is [refused](Unusable) in words, and nothing that must not be forgotten is dropped for lack of room.

#[cfg(target_os = "none")]
pub(crate) mod found;
mod owned;
mod read;
#[cfg(test)]
mod tests;

use core::{fmt, ops::Range};

use axplat_ranges::{MAX_RANGES, Ranges};

pub use owned::Owned;

use crate::{config::plat::MAX_CPU_NUM, uart::Width};
use owned::{ConsoleInterrupts, OwnedList};

/// One hart that can run our code.
#[derive(Clone, Copy, Debug)]
pub struct Hart {
    /// Its id, as the SBI names it.
    pub id: usize,
    /// Its supervisor context at the PLIC, if it has one.
    pub(crate) plic_context: Option<usize>,
}

/// A 16550 UART.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Uart {
    pub(crate) base: usize,
    /// Bytes from one register to the next.
    pub(crate) stride: usize,
    pub(crate) width: Width,
    /// Its source at the PLIC.
    pub(crate) irq: Option<usize>,
}

/// The machine.
#[derive(Debug)]
pub struct Machine {
    harts: [Hart; MAX_CPU_NUM],
    hart_count: usize,
    /// How many more harts there are than one image serves. They stay off.
    pub unused_harts: usize,
    /// Whole pages of RAM.
    pub(crate) ram: Ranges,
    /// Every page that holds something of the firmware or the bootloader.
    pub(crate) reserved: Ranges,
    pub(crate) mmio: Ranges,
    /// Registers that are the hypervisor's or the firmware's.
    owned: OwnedList,
    /// Those of the console, whoever drives it.
    console_interrupts: ConsoleInterrupts,
    /// The highest source number of the PLIC.
    pub plic_sources: u32,
    pub(crate) uart: Option<Uart>,
    pub(crate) plic: Option<usize>,
    pub(crate) finisher: Option<usize>,
    /// Ticks of `time` a second; not 0.
    pub timebase_hz: u64,
    /// The `riscv,isa` string of the boot hart, or "" if the firmware gives only a list.
    pub isa: &'static str,
    /// The `riscv,isa-extensions` list of the boot hart: names, each ended by a NUL.
    isa_extensions: &'static [u8],
    /// `mmu-type` of the boot hart, or "".
    pub mmu_type: &'static str,
    /// Cache block sizes in bytes of Zicbom and Zicboz, where the firmware gives them.
    pub cache_blocks: [Option<u32>; 2],
    /// Physical addresses of what the bootloader handed over beside the image.
    pub initrd: Option<Range<usize>>,
    /// The bootloader's command line.
    pub bootargs: &'static str,
    has_aia: bool,
}

/// pCPU sets are masks of 64 bits.
const _: () = assert!(MAX_CPU_NUM <= u64::BITS as usize);

impl Machine {
    /// The harts, pCPU 0 (the boot hart) first.
    #[must_use]
    pub fn harts(&self) -> &[Hart] {
        self.harts.get(..self.hart_count).unwrap_or(&[])
    }

    /// The harts of a set of pCPUs as the SBI takes them: masks, each with the hart id that its bit 0 stands for.
    pub(crate) fn hart_masks(&self, pcpus: u64) -> impl Iterator<Item = (usize, usize)> {
        let mut left = pcpus;
        core::iter::from_fn(move || {
            let harts_left = |left: u64| {
                let harts = self.harts().iter().enumerate();
                harts.filter(move |&(cpu, _)| left >> cpu & 1 == 1)
            };
            let base = harts_left(left).map(|(_, hart)| hart.id).min()?;
            let mut mask = 0;
            for (cpu, hart) in harts_left(left) {
                let bit = hart.id - base;
                if bit < usize::BITS as usize {
                    mask |= 1 << bit;
                    left &= !(1 << cpu);
                }
            }
            Some((mask, base))
        })
    }

    /// Whether the boot hart has an extension, named in lower case as the specifications do ("h", "sstc").
    #[must_use]
    pub fn has_extension(&self, name: &str) -> bool {
        self.extensions().any(|extension| extension == name)
    }

    /// The boot hart's extensions, in lower case.
    pub fn extensions(&self) -> impl Iterator<Item = &'static str> {
        let listed = self
            .isa_extensions
            .split(|&byte| byte == 0)
            .filter_map(|name| core::str::from_utf8(name).ok())
            .filter(|name| !name.is_empty());
        // "rv64imafdch_zicsr_sstc": letters one by one up to the first underscore, then names.
        let (letters, names) = match self.isa {
            isa if self.isa_extensions.is_empty() => {
                let isa = isa.strip_prefix("rv64").unwrap_or(isa);
                isa.split_at(isa.find('_').unwrap_or(isa.len()))
            }
            _ => ("", ""),
        };
        listed
            .chain((0..letters.len()).filter_map(move |i| letters.get(i..=i)))
            .chain(names.split('_').filter(|name| !name.is_empty()))
    }

    /// What this platform cannot do without and the machine does not have, if anything.
    pub(crate) fn missing(&self) -> Option<Unusable> {
        if !self.has_extension("h") {
            Some(Unusable::NoHypervisorExtension)
        } else if self.plic.is_none() && self.has_aia {
            Some(Unusable::OnlyAia)
        } else if self.plic.is_none() {
            Some(Unusable::NoPlic)
        } else {
            None
        }
    }
}

/// Why the image cannot run on a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// There is no device tree where the firmware says.
    NoDeviceTree,
    /// The device tree does not have this hart, which is the one that runs.
    NoBootHart(usize),
    /// The device tree does not say how fast `time` counts.
    NoTimebase,
    /// The device tree has no RAM.
    NoRam,
    /// More than [`MAX_RANGES`] separate ranges of what this names.
    TooManyRanges(&'static str),
    /// More devices of the firmware's than there is room for.
    TooManyDevices,
    NoHypervisorExtension,
    /// An interrupt controller that has no driver here.
    OnlyAia,
    NoPlic,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDeviceTree => f.write_str("the firmware handed over no valid device tree"),
            Self::NoBootHart(hart) => write!(
                f,
                "the device tree has no /cpus node of hart {hart}, on which the firmware started us"
            ),
            Self::NoTimebase => f.write_str(
                "the device tree does not say how fast the timer counts (/cpus: timebase-frequency)",
            ),
            Self::NoRam => f.write_str("the device tree has no RAM (device_type = \"memory\")"),
            Self::TooManyRanges(what) => write!(
                f,
                "the device tree has more than {MAX_RANGES} separate ranges of {what}, which is more than this image can keep in mind"
            ),
            Self::TooManyDevices => f.write_str(
                "the device tree has more timers, interrupt controllers, PCI hosts and flashes than this image can keep in mind",
            ),
            Self::NoHypervisorExtension => f.write_str(
                "this CPU has no H extension (hypervisor): use a CPU that has it (QEMU: -cpu rv64,h=true)",
            ),
            Self::OnlyAia => f.write_str(
                "this machine has an AIA interrupt controller and no PLIC, which is not supported yet (QEMU: -machine virt,aia=none)",
            ),
            Self::NoPlic => {
                f.write_str("this machine has no PLIC: its interrupt controller is not supported")
            }
        }
    }
}
