//! The ACPI tables of an x86 VM (ACPI 6.5): the processors and interrupt controllers (MADT), the
//! power management hardware (FADT), and the serial ports and the way off (DSDT).
//!
//! The places and numbers in them are those of the devices, which [`crate::arch::x86`] builds.

use alloc::{boxed::Box, format, vec, vec::Vec};

use acpi_tables::{
    Aml,
    aml::{Device, EISAName, IO, Interrupt, Name, Package, Path, ResourceTemplate, Scope},
    facs::FACS,
    fadt::{FADTBuilder, Flags},
    gas::{AccessSize, AddressSpace, GAS},
    rsdp::Rsdp,
    sdt::Sdt,
    xsdt::XSDT,
};
use axdevice::{AcpiPm, IoApic, IsaLines, LocalApic, NoPci};
use axvmconfig::{DeviceModel, VirtualDevice, VmConfig, X86_ACPI_PORTS};

const OEM: [u8; 6] = *b"AXHV  ";
const TABLE: [u8; 8] = *b"AXHVPC  ";
const REVISION: u32 = 1;

/// Each table begins at a multiple of this.
const ALIGN: usize = 16;
/// The root pointer has this much room.
const RSDP_ROOM: usize = 48;
/// Bytes of a table's header.
const HEADER: u32 = 36;

/// FADT: there is a PC's old hardware, but no display adapter, and no keyboard controller.
const BOOT_ARCH: u16 = LEGACY_DEVICES | NO_VGA | NO_MSI;
const LEGACY_DEVICES: u16 = 1 << 0;
const NO_VGA: u16 = 1 << 2;
const NO_MSI: u16 = 1 << 3;
/// FADT: where in the clock's memory the century is.
const CENTURY: u8 = 0x32;

/// MADT: there are 8259s as well.
const PCAT_COMPAT: u32 = 1;
/// MADT: polarity and trigger mode of an interrupt.
const ACTIVE_HIGH: u16 = 0b01;
const LEVEL: u16 = 0b11 << 2;
/// MADT: what NMIs come by, at every processor.
const ALL_PROCESSORS: u8 = 0xff;
const LINT1: u8 = 1;

/// The tables of `vm`, to be put at `at`, where the root pointer is.
pub(crate) fn tables(at: u64, vm: &VmConfig) -> Vec<u8> {
    let mut area = Area {
        start: at,
        bytes: vec![0; RSDP_ROOM],
    };
    // One to be at a multiple of 64.
    let facs = area.add(64, &bytes_of(&FACS::new()));
    let dsdt = area.add(ALIGN, &dsdt(vm));
    let fadt = area.add(ALIGN, &fadt(facs, dsdt));
    let madt = area.add(ALIGN, &madt(vm.vcpus.len()));
    let mut xsdt = XSDT::new(OEM, TABLE, REVISION);
    xsdt.add_entry(fadt);
    xsdt.add_entry(madt);
    let xsdt = area.add(ALIGN, &bytes_of(&xsdt));
    let root = bytes_of(&Rsdp::new(OEM, xsdt));
    for (place, byte) in area.bytes.iter_mut().zip(root) {
        *place = byte;
    }
    area.bytes
}

/// Tables one behind another.
struct Area {
    start: u64,
    bytes: Vec<u8>,
}

impl Area {
    /// Adds a table, and says where it is.
    fn add(&mut self, align: usize, table: &[u8]) -> u64 {
        let at = self.bytes.len().next_multiple_of(align);
        self.bytes.resize(at, 0);
        self.bytes.extend_from_slice(table);
        self.start + at as u64
    }
}

fn bytes_of(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

/// Where things are that no AML must look for.
fn fadt(facs: u64, dsdt: u64) -> Vec<u8> {
    let port = |offset: u64| (X86_ACPI_PORTS + offset) as u32;
    let (event, control) = (port(AcpiPm::PM1_EVENT), port(AcpiPm::PM1_CONTROL));
    let timer = port(AcpiPm::TIMER);
    let register = |port: u32, bits: u8, access: AccessSize| {
        GAS::new(AddressSpace::SystemIo, bits, 0, access, port.into())
    };
    let mut table = FADTBuilder::new(OEM, TABLE, REVISION);
    // Both of the DSDT's, for those who know only one.
    table.firmware_ctrl = (facs as u32).into();
    table.dsdt = (dsdt as u32).into();
    table.x_dsdt = dsdt.into();
    table.sci_int = (IsaLines::SCI as u16).into();
    table.pm1a_evt_blk = event.into();
    table.pm1_evt_len = 4;
    table.pm1a_cnt_blk = control.into();
    table.pm1_cnt_len = 2;
    table.pm_tmr_blk = timer.into();
    table.pm_tmr_len = 4;
    // No such states.
    table.p_lvl2_lat = u16::MAX.into();
    table.p_lvl3_lat = u16::MAX.into();
    table.century = CENTURY;
    table.iapc_boot_arch = BOOT_ARCH.into();
    table.reset_reg = register(NoPci::RESET_PORT.into(), 8, AccessSize::ByteAccess);
    table.reset_value = NoPci::RESET_VALUE;
    table.x_pm1a_evt_blk = register(event, 32, AccessSize::WordAccess);
    table.x_pm1a_cnt_blk = register(control, 16, AccessSize::WordAccess);
    table.x_pm_tmr_blk = register(timer, 32, AccessSize::DwordAccess);
    let table = table
        .flag(Flags::Wbinvd)
        .flag(Flags::ProcC1)
        .flag(Flags::SlpButton)
        .flag(Flags::FixRtc)
        .flag(Flags::TmrValExt)
        .flag(Flags::ResetRegSup)
        .flag(Flags::Headless);
    bytes_of(&table.finalize())
}

/// The processors and interrupt controllers.
fn madt(cpus: usize) -> Vec<u8> {
    let mut madt = Sdt::new(*b"APIC", HEADER + 8, 4, OEM, TABLE, REVISION);
    madt.write_u32(HEADER as usize, LocalApic::PAGE.as_u64() as u32);
    madt.write_u32(HEADER as usize + 4, PCAT_COMPAT);
    for cpu in 0..cpus {
        // Local APIC: type, length, processor, APIC ID, enabled.
        madt.append_slice(&[0, 8, cpu as u8, cpu as u8, 1, 0, 0, 0]);
    }
    let page = (IoApic::PAGE.as_u64() as u32).to_le_bytes();
    // I/O APIC: type, length, ID, reserved, address, first global system interrupt.
    madt.append_slice(&[1, 12, 0, 0, page[0], page[1], page[2], page[3], 0, 0, 0, 0]);
    // The lines that do not lead, as on the ISA bus, to the pin of their number as an edge.
    for (irq, flags) in [(IsaLines::TIMER, 0), (IsaLines::SCI, ACTIVE_HIGH | LEVEL)] {
        let (pin, flags) = (IsaLines::pin(irq).to_le_bytes(), flags.to_le_bytes());
        // Interrupt source override: type, length, bus, source, interrupt, flags.
        let [a, b, c, d] = pin;
        madt.append_slice(&[2, 10, 0, irq as u8, a, b, c, d, flags[0], flags[1]]);
    }
    // Local APIC NMI: type, length, processor, flags, pin.
    madt.append_slice(&[4, 6, ALL_PROCESSORS, 0, 0, LINT1]);
    madt.as_slice().to_vec()
}

/// The system's devices that software cannot find by itself, and the types of sleep.
fn dsdt(vm: &VmConfig) -> Vec<u8> {
    let mut dsdt = Sdt::new(*b"DSDT", HEADER, 2, OEM, TABLE, REVISION);
    let off = AcpiPm::S5_SLEEP_TYPE;
    let zero = 0u8;
    let states = Package::new(vec![&off, &off, &zero, &zero]);
    dsdt.append_slice(&bytes_of(&Name::new(Path::new("_S5_"), &states)));
    let ports: Vec<Box<[u8]>> = vm
        .devices
        .iter()
        .enumerate()
        .map(|(index, device)| match device.model {
            DeviceModel::Ns16550 => serial_port(index, device),
        })
        .collect();
    let ports: Vec<_> = ports.into_iter().map(Encoded).collect();
    let ports = ports.iter().map(|port| port as &dyn Aml).collect();
    dsdt.append_slice(&bytes_of(&Scope::new(Path::new("_SB_"), ports)));
    dsdt.as_slice().to_vec()
}

/// AML that is written already.
struct Encoded(Box<[u8]>);

impl Aml for Encoded {
    fn to_aml_bytes(&self, sink: &mut dyn acpi_tables::AmlSink) {
        sink.vec(&self.0);
    }
}

/// A 16550 at ports.
fn serial_port(index: usize, device: &VirtualDevice) -> Box<[u8]> {
    // The config has them within 16 and 8 bits.
    let (first, ports) = (device.addr.as_u64() as u16, device.size as u8);
    // At most 32 devices: two digits.
    let name = format!("UA{index:02}");
    let uid = index as u8;
    let kind = EISAName::new("PNP0501");
    let io = IO::new(first, first, 1, ports);
    let irq = Interrupt::new(true, true, false, false, device.irq);
    let resources = ResourceTemplate::new(vec![&io, &irq]);
    let (kind, uid, resources) = (
        Name::new(Path::new("_HID"), &kind),
        Name::new(Path::new("_UID"), &uid),
        Name::new(Path::new("_CRS"), &resources),
    );
    let port = Device::new(Path::new(&name), vec![&kind, &uid, &resources]);
    bytes_of(&port).into()
}

#[cfg(test)]
mod tests;
