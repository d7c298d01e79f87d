//! The Fixed ACPI Description Table (ACPI 6.5, 5.2.9): the power management timer, the clock's century, and how to power off.

use super::{HEADER_LEN, Tables};
use crate::bytes::{Memory, u8_at, u16_at, u32_at, u64_at};

/// The power management timer (4.8.3.3), which counts at 3.579545 MHz.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PmTimer {
    pub(crate) port: u16,
    /// All ones: 24 bits or 32.
    pub(crate) mask: u32,
}

/// How to power off: the registers and values for the sleeping state S5 (4.8.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PowerOff {
    /// PM1a_CNT, and PM1b_CNT where there is one, with their `SLP_TYP`.
    pub(crate) control: [Option<(u16, u8)>; 2],
    /// The port and the command that switch the machine to ACPI mode, if it may be in another.
    pub(crate) enable: Option<(u16, u8)>,
}

/// Offsets in the table.
const DSDT: usize = 40;
const SMI_CMD: usize = 48;
const ACPI_ENABLE: usize = 52;
const PM1A_CNT: usize = 64;
const PM1B_CNT: usize = 68;
const PM_TMR: usize = 76;
const CENTURY: usize = 108;
const FLAGS: usize = 112;
const RESET_REG: usize = 116;
const X_DSDT: usize = 140;
const X_PM1A_CNT: usize = 172;
const X_PM1B_CNT: usize = 184;
const X_PM_TMR: usize = 208;

/// The port of a register block: the generic address if the table is long enough to have one and it is a port, else the old field.
fn port(fadt: &[u8], old: usize, generic: usize) -> Option<u16> {
    generic_port(fadt, generic).or_else(|| {
        let port = u16::try_from(u32_at(fadt, old)?).ok();
        port.filter(|&port| port != 0)
    })
}

/// The port that a generic address is, if it is one.
fn generic_port(fadt: &[u8], generic: usize) -> Option<u16> {
    const SYSTEM_IO: u8 = 1;
    u8_at(fadt, generic).filter(|&space| space == SYSTEM_IO)?;
    let port = u16::try_from(u64_at(fadt, generic + 4)?).ok();
    port.filter(|&port| port != 0)
}

/// The machine's power management timer.
pub(crate) fn pm_timer(fadt: &[u8]) -> Option<PmTimer> {
    /// `TMR_VAL_EXT`: the timer has 32 bits.
    const WIDE: u32 = 1 << 8;
    Some(PmTimer {
        port: port(fadt, PM_TMR, X_PM_TMR)?,
        mask: if u32_at(fadt, FLAGS)? & WIDE != 0 {
            u32::MAX
        } else {
            (1 << 24) - 1
        },
    })
}

/// The register of the real-time clock that has the century, if one has.
pub(crate) fn century(fadt: &[u8]) -> Option<u8> {
    u8_at(fadt, CENTURY).filter(|&register| register != 0)
}

/// The ports by which software powers the machine off, resets it, or calls the firmware: first and number. They are there whether or not the tables say
/// how that is done.
pub(crate) fn power_ports(fadt: &[u8]) -> [Option<(u16, u16)>; 4] {
    /// Of a register block where no length says more (4.8.3.2).
    const CONTROL_BYTES: u16 = 2;
    let control = |old, generic| Some((port(fadt, old, generic)?, CONTROL_BYTES));
    let command = u16_at(fadt, SMI_CMD).filter(|&port| port != 0);
    [
        control(PM1A_CNT, X_PM1A_CNT),
        control(PM1B_CNT, X_PM1B_CNT),
        command.map(|port| (port, 1)),
        generic_port(fadt, RESET_REG).map(|port| (port, 1)),
    ]
}

/// How this machine is powered off, if its tables say.
pub(crate) fn power_off<M: Memory>(tables: &Tables<'_, M>, fadt: &[u8]) -> Option<PowerOff> {
    let dsdt = u64_at(fadt, X_DSDT)
        .filter(|&address| address != 0)
        .or_else(|| u32_at(fadt, DSDT).map(u64::from))
        .and_then(|address| tables.at(address, b"DSDT"))?;
    let [a, b] = s5_types(dsdt.get(HEADER_LEN..)?)?;
    let command = u8_at(fadt, ACPI_ENABLE).filter(|&command| command != 0);
    Some(PowerOff {
        control: [
            Some((port(fadt, PM1A_CNT, X_PM1A_CNT)?, a)),
            port(fadt, PM1B_CNT, X_PM1B_CNT).map(|port| (port, b)),
        ],
        enable: u16_at(fadt, SMI_CMD).filter(|&port| port != 0).zip(command),
    })
}

/// `SLP_TYPa` and `SLP_TYPb` of the object `\_S5`, a package that begins with the two (7.4.2). It is found by its bytes: firmware writes it
/// as constants, and constants need no interpreter (20.2.3 to 20.2.5).
fn s5_types(aml: &[u8]) -> Option<[u8; 2]> {
    let name = b"_S5_";
    (0..aml.len()).find_map(|at| {
        let package = aml.get(at..)?.strip_prefix(name)?;
        is_definition(aml.get(..at)?)
            .then(|| package_types(package))
            .flatten()
    })
}

/// Whether what precedes a name defines it.
fn is_definition(before: &[u8]) -> bool {
    const NAME_OP: u8 = 0x08;
    let before = before.strip_suffix(b"\\").unwrap_or(before);
    before.last() == Some(&NAME_OP)
}

/// The first two elements of a package of integers.
fn package_types(package: &[u8]) -> Option<[u8; 2]> {
    const PACKAGE_OP: u8 = 0x12;
    if u8_at(package, 0)? != PACKAGE_OP {
        return None;
    }
    // The two high bits of the length's first byte say how many more there are.
    let more = usize::from(u8_at(package, 1)? >> 6);
    let count = u8_at(package, 2 + more)?;
    let elements = package.get(3 + more..)?;
    let (a, after) = integer(elements)?;
    let b = match count {
        0 | 1 => a,
        _ => integer(after)?.0,
    };
    Some([a, b])
}

/// An integer constant that fits a byte, and what follows it.
fn integer(aml: &[u8]) -> Option<(u8, &[u8])> {
    let (&op, after) = aml.split_first()?;
    let (len, value) = match op {
        // ZeroOp, OneOp
        0 | 1 => (0, op),
        // BytePrefix, WordPrefix, DWordPrefix
        0x0a => (1, u8_at(after, 0)?),
        0x0b => (2, u8_at(after, 0)?),
        0x0c => (4, u8_at(after, 0)?),
        _ => return None,
    };
    Some((value, after.get(len..)?))
}

#[cfg(test)]
pub(super) fn s5_types_of(aml: &[u8]) -> Option<[u8; 2]> {
    s5_types(aml)
}
