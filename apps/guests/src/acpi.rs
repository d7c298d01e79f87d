//! The few facts that a guest needs of its ACPI tables: which CPUs, I/O APIC and clock there are,
//! and how the machine is switched off.
//!
//! ACPI Specification 6.5, chapters 5.2 (tables) and 20.2 (the byte stream of definition blocks).

use crate::memory::{Memory, number};

/// The tables, in memory `M`.
#[derive(Clone, Copy, Debug)]
pub struct Acpi<M> {
    memory: M,
    root: Root,
}

/// The table that lists the others.
#[derive(Clone, Copy, Debug)]
enum Root {
    /// By addresses of 32 bits.
    Rsdt(u64),
    /// By addresses of 64 bits.
    Xsdt(u64),
}

/// An I/O APIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoApicEntry {
    /// Address of its registers.
    pub address: u32,
    /// The global system interrupt of its first input.
    pub first_gsi: u32,
}

/// How an interrupt line of the ISA bus arrives at the I/O APICs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IsaRoute {
    /// The global system interrupt.
    pub gsi: u32,
    /// Polarity in bits 1:0, trigger mode in bits 3:2; 0 is as usual on that bus.
    pub flags: u16,
}

/// A write that switches the machine off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PowerOff {
    /// The port of PM1a_CNT, 16 bits wide.
    pub port: u16,
    /// Sleep type of S5, and sleep enable.
    pub value: u16,
}

/// Bytes before the contents of every table but the RSDP.
const HEADER: usize = 36;

impl<'a, M: Memory<'a>> Acpi<M> {
    /// Looks where firmware of PCs puts the root pointer: at the start of the extended BIOS data
    /// area, and in the BIOS itself.
    pub fn find(memory: M) -> Option<Self> {
        let data_area = memory
            .u16(0x40e)
            .map_or(0, |segment| u64::from(segment) << 4);
        let places = [(data_area, 1024), (0xe_0000, 0x2_0000)];
        let pointer = places
            .into_iter()
            .flat_map(|(start, len)| (start..start + len).step_by(16))
            .find_map(|address| root_pointer(memory, address))?;
        let rsdt = u64::from(u32::from_le_bytes(number(pointer, 16)?));
        let xsdt = number(pointer, 24).map_or(0, u64::from_le_bytes);
        let root = match xsdt {
            0 => Root::Rsdt(rsdt),
            address => Root::Xsdt(address),
        };
        Some(Self { memory, root })
    }

    /// The CPUs' APIC ids, those only that can be used.
    pub fn cpus(&self) -> impl Iterator<Item = u32> + use<'a, M> {
        const ENABLED: u32 = 1;
        let cpu = |entry: &'a [u8]| {
            let word = |at| number(entry, at).map(u32::from_le_bytes);
            let (id, flags) = match entry.first()? {
                0 => (u32::from(*entry.get(3)?), word(4)?),
                9 => (word(4)?, word(8)?),
                _ => return None,
            };
            (flags & ENABLED != 0).then_some(id)
        };
        self.interrupt_entries().filter_map(cpu)
    }

    /// The first I/O APIC.
    pub fn io_apic(&self) -> Option<IoApicEntry> {
        let entry = self.interrupt_entries().find(|entry| entry[0] == 1)?;
        Some(IoApicEntry {
            address: u32::from_le_bytes(number(entry, 4)?),
            first_gsi: u32::from_le_bytes(number(entry, 8)?),
        })
    }

    /// Where a line of the ISA bus goes.
    pub fn isa_route(&self, irq: u8) -> IsaRoute {
        let moved = |entry: &'a [u8]| {
            (entry[0] == 2 && entry.get(3) == Some(&irq)).then_some(())?;
            Some(IsaRoute {
                gsi: u32::from_le_bytes(number(entry, 4)?),
                flags: u16::from_le_bytes(number(entry, 8)?),
            })
        };
        let same = IsaRoute {
            gsi: irq.into(),
            flags: 0,
        };
        self.interrupt_entries().find_map(moved).unwrap_or(same)
    }

    /// How the machine is switched off.
    pub fn power_off(&self) -> Option<PowerOff> {
        const SLEEP_ENABLE: u16 = 1 << 13;
        let fadt = self.table(b"FACP")?;
        let word = |at| number(fadt, at).map(u32::from_le_bytes);
        let wide = |at| number(fadt, at).map_or(0, u64::from_le_bytes);
        let either = |wide: u64, narrow: u32| match wide {
            0 => u64::from(narrow),
            address => address,
        };
        // The 64-bit forms are there only in longer tables, and may be zero.
        let port = either(wide(176), word(64)?);
        let dsdt = self.contents(either(wide(140), word(40)?), b"DSDT")?;
        Some(PowerOff {
            port: u16::try_from(port).ok().filter(|&port| port != 0)?,
            value: u16::from(soft_off_type(dsdt)?) << 10 | SLEEP_ENABLE,
        })
    }

    /// The port of the power management timer.
    pub fn pm_timer(&self) -> Option<u16> {
        let fadt = self.table(b"FACP")?;
        let port = number(fadt, 76).map(u32::from_le_bytes)?;
        u16::try_from(port).ok().filter(|&port| port != 0)
    }

    /// The entries of the MADT, none of them empty.
    fn interrupt_entries(&self) -> impl Iterator<Item = &'a [u8]> + use<'a, M> {
        let mut rest = self
            .table(b"APIC")
            .and_then(|madt| madt.get(HEADER + 8..))
            .unwrap_or(&[]);
        core::iter::from_fn(move || {
            let len = usize::from(*rest.get(1)?);
            let (entry, others) = rest.split_at_checked(len.max(2))?;
            rest = others;
            Some(entry)
        })
    }

    /// The first table of a kind, header included.
    fn table(&self, signature: &[u8; 4]) -> Option<&'a [u8]> {
        let (root, name, width) = match self.root {
            Root::Rsdt(address) => (address, b"RSDT", 4),
            Root::Xsdt(address) => (address, b"XSDT", 8),
        };
        let list = self.contents(root, name)?.get(HEADER..)?;
        list.chunks_exact(width).find_map(|entry| {
            let mut address = [0; 8];
            address[..width].copy_from_slice(entry);
            self.contents(u64::from_le_bytes(address), signature)
        })
    }

    /// The table at `address`, header included, if it is of that kind.
    fn contents(&self, address: u64, signature: &[u8; 4]) -> Option<&'a [u8]> {
        let header = self.memory.bytes(address, HEADER)?;
        header.starts_with(signature).then_some(())?;
        let len = u32::from_le_bytes(number(header, 4)?);
        self.memory.bytes(address, len as usize)
    }
}

/// The root pointer at `address`, if one is there: 20 bytes, or 36 since ACPI 2.0.
fn root_pointer<'a>(memory: impl Memory<'a>, address: u64) -> Option<&'a [u8]> {
    let first = memory.bytes(address, 20)?;
    let sum = first
        .iter()
        .fold(0, |sum: u8, byte| sum.wrapping_add(*byte));
    (first.starts_with(b"RSD PTR ") && sum == 0).then_some(())?;
    match first[15] {
        0 | 1 => Some(first),
        _ => memory.bytes(address, 36),
    }
}

/// SLP_TYPa of S5: the first element of the package that the DSDT names `_S5_`.
fn soft_off_type(dsdt: &[u8]) -> Option<u8> {
    const NAME: u8 = 0x08;
    const PACKAGE: u8 = 0x12;
    const BYTE: u8 = 0x0a;
    let at = dsdt.windows(4).position(|name| name == b"_S5_")?;
    let named = match dsdt.get(..at)? {
        [.., NAME] | [.., NAME, b'\\'] => dsdt.get(at + 4..)?,
        _ => return None,
    };
    let package = named.strip_prefix(&[PACKAGE])?;
    // A package's length: its two highest bits say how many bytes follow the first. Then the
    // number of elements.
    let len = 1 + usize::from(package.first()? >> 6);
    match package.get(len + 1..)? {
        [BYTE, value, ..] => Some(value & 7),
        [value @ (0 | 1), ..] => Some(*value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Acpi, IoApicEntry, IsaRoute, PowerOff, soft_off_type};
    use crate::memory::Image;

    const START: u64 = 0xf_0000;

    fn table(signature: &[u8; 4], contents: &[u8]) -> Vec<u8> {
        let mut table = signature.to_vec();
        table.extend((36 + contents.len() as u32).to_le_bytes());
        table.resize(36, 0);
        table.extend(contents);
        table
    }

    /// Tables as firmware leaves them, with a root table of 32-bit or 64-bit addresses.
    fn image(wide: bool) -> Vec<u8> {
        let mut image = vec![0; 0x100];
        let add = |image: &mut Vec<u8>, table: Vec<u8>| {
            let address = START as u32 + image.len() as u32;
            image.extend(table);
            address
        };
        let s5 = [
            0x08, b'_', b'S', b'5', b'_', 0x12, 0x06, 4, 0x0a, 5, 0, 0, 0,
        ];
        let dsdt = add(&mut image, table(b"DSDT", &s5));
        let mut fadt = vec![0; 80];
        fadt[4..8].copy_from_slice(&dsdt.to_le_bytes());
        fadt[28..32].copy_from_slice(&0x604_u32.to_le_bytes());
        fadt[40..44].copy_from_slice(&0x608_u32.to_le_bytes());
        let fadt = add(&mut image, table(b"FACP", &fadt));
        let mut madt = vec![0; 8];
        madt.extend([0, 8, 0, 3, 1, 0, 0, 0]);
        madt.extend([0, 8, 1, 4, 0, 0, 0, 0]); // cannot be used
        madt.extend([1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 16, 0, 0, 0]);
        madt.extend([2, 10, 0, 0, 2, 0, 0, 0, 5, 0]);
        madt.extend([9, 16, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        madt.extend([7]); // cut short
        let madt = add(&mut image, table(b"APIC", &madt));
        let entries = |width: usize| -> Vec<u8> {
            let entry = |address: u32| u64::from(address).to_le_bytes()[..width].to_vec();
            [fadt, madt].into_iter().flat_map(entry).collect()
        };
        let rsdt = add(&mut image, table(b"RSDT", &entries(4)));
        let xsdt = add(&mut image, table(b"XSDT", &entries(8)));
        let pointer = &mut image[0x20..0x44];
        pointer[..8].copy_from_slice(b"RSD PTR ");
        pointer[15] = if wide { 2 } else { 0 };
        pointer[16..20].copy_from_slice(&if wide { 0 } else { rsdt }.to_le_bytes());
        pointer[24..32].copy_from_slice(&u64::from(xsdt).to_le_bytes());
        let sum = pointer[..20]
            .iter()
            .fold(0, |sum: u8, n| sum.wrapping_add(*n));
        pointer[8] = sum.wrapping_neg();
        image
    }

    fn acpi(bytes: &[u8]) -> Acpi<Image<'_>> {
        let start = START;
        Acpi::find(Image { start, bytes }).unwrap()
    }

    #[test]
    fn either_root_table_leads_to_the_facts() {
        for wide in [false, true] {
            let image = image(wide);
            let acpi = acpi(&image);
            assert_eq!(acpi.cpus().collect::<Vec<_>>(), [3, 256]);
            let io_apic = IoApicEntry {
                address: 0xfec0_0000,
                first_gsi: 16,
            };
            assert_eq!(acpi.io_apic(), Some(io_apic));
            assert_eq!(acpi.isa_route(0), IsaRoute { gsi: 2, flags: 5 });
            assert_eq!(acpi.isa_route(4), IsaRoute { gsi: 4, flags: 0 });
            let off = PowerOff {
                port: 0x604,
                value: 5 << 10 | 1 << 13,
            };
            assert_eq!(acpi.power_off(), Some(off));
            assert_eq!(acpi.pm_timer(), Some(0x608));
        }
    }

    #[test]
    fn a_pointer_with_a_wrong_sum_is_none() {
        let mut bytes = image(true);
        bytes[0x28] ^= 1;
        let start = START;
        assert!(
            Acpi::find(Image {
                start,
                bytes: &bytes
            })
            .is_none()
        );
    }

    #[test]
    fn the_forms_of_the_sleep_package() {
        let block = |rest: &[u8]| [b"\x08\\_S5_\x12", rest].concat();
        assert_eq!(soft_off_type(&block(&[6, 4, 0, 0])), Some(0));
        assert_eq!(soft_off_type(&block(&[6, 4, 1, 1])), Some(1));
        assert_eq!(soft_off_type(&block(&[0x46, 0, 4, 10, 7])), Some(7));
        assert_eq!(soft_off_type(&block(&[6])), None);
        assert_eq!(soft_off_type(b"call _S5_"), None);
    }
}
