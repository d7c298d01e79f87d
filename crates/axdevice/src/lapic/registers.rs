//! Which registers there are, and where (Intel SDM volume 3, tables 12-1 and 12-6).

use super::lvt::Entry;

/// A register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Register {
    Id,
    Version,
    TaskPriority,
    ArbitrationPriority,
    ProcessorPriority,
    EndOfInterrupt,
    RemoteRead,
    LogicalDestination,
    DestinationFormat,
    SpuriousVector,
    /// ISR, 32 vectors at a time.
    InService(u8),
    /// TMR.
    TriggerMode(u8),
    /// IRR.
    Request(u8),
    ErrorStatus,
    /// In x2APIC mode, all 64 bits.
    CommandLow,
    CommandHigh,
    Lvt(Entry),
    InitialCount,
    CurrentCount,
    DivideConfiguration,
    SelfIpi,
}

impl Register {
    /// The register at 16 times `index` bytes of the xAPIC's page.
    pub(super) fn of_xapic(index: u64) -> Option<Self> {
        match Self::at(index)? {
            Self::SelfIpi => None,
            register => Some(register),
        }
    }

    /// The register at MSR 0x800 + `index`.
    pub(super) fn of_x2apic(index: u64) -> Option<Self> {
        match Self::at(index)? {
            Self::ArbitrationPriority
            | Self::RemoteRead
            | Self::DestinationFormat
            | Self::CommandHigh => None,
            register => Some(register),
        }
    }

    fn at(index: u64) -> Option<Self> {
        Some(match index {
            0x02 => Self::Id,
            0x03 => Self::Version,
            0x08 => Self::TaskPriority,
            0x09 => Self::ArbitrationPriority,
            0x0a => Self::ProcessorPriority,
            0x0b => Self::EndOfInterrupt,
            0x0c => Self::RemoteRead,
            0x0d => Self::LogicalDestination,
            0x0e => Self::DestinationFormat,
            0x0f => Self::SpuriousVector,
            0x10..=0x17 => Self::InService(index as u8 - 0x10),
            0x18..=0x1f => Self::TriggerMode(index as u8 - 0x18),
            0x20..=0x27 => Self::Request(index as u8 - 0x20),
            0x28 => Self::ErrorStatus,
            0x30 => Self::CommandLow,
            0x31 => Self::CommandHigh,
            0x32 => Self::Lvt(Entry::Timer),
            0x33 => Self::Lvt(Entry::Thermal),
            0x34 => Self::Lvt(Entry::Performance),
            0x35 => Self::Lvt(Entry::Lint0),
            0x36 => Self::Lvt(Entry::Lint1),
            0x37 => Self::Lvt(Entry::Error),
            0x38 => Self::InitialCount,
            0x39 => Self::CurrentCount,
            0x3e => Self::DivideConfiguration,
            0x3f => Self::SelfIpi,
            _ => return None,
        })
    }

    /// Where it is: the opposite of [`of_xapic`](Self::of_xapic) and [`of_x2apic`](Self::of_x2apic).
    pub(super) fn index(self) -> u16 {
        match self {
            Self::Id => 0x02,
            Self::Version => 0x03,
            Self::TaskPriority => 0x08,
            Self::ArbitrationPriority => 0x09,
            Self::ProcessorPriority => 0x0a,
            Self::EndOfInterrupt => 0x0b,
            Self::RemoteRead => 0x0c,
            Self::LogicalDestination => 0x0d,
            Self::DestinationFormat => 0x0e,
            Self::SpuriousVector => 0x0f,
            Self::InService(n) => 0x10 + u16::from(n),
            Self::TriggerMode(n) => 0x18 + u16::from(n),
            Self::Request(n) => 0x20 + u16::from(n),
            Self::ErrorStatus => 0x28,
            Self::CommandLow => 0x30,
            Self::CommandHigh => 0x31,
            Self::Lvt(Entry::Timer) => 0x32,
            Self::Lvt(Entry::Thermal) => 0x33,
            Self::Lvt(Entry::Performance) => 0x34,
            Self::Lvt(Entry::Lint0) => 0x35,
            Self::Lvt(Entry::Lint1) => 0x36,
            Self::Lvt(Entry::Error) => 0x37,
            Self::InitialCount => 0x38,
            Self::CurrentCount => 0x39,
            Self::DivideConfiguration => 0x3e,
            Self::SelfIpi => 0x3f,
        }
    }

    /// Whether RDMSR works.
    pub(super) fn is_readable_msr(self) -> bool {
        !matches!(self, Self::EndOfInterrupt | Self::SelfIpi)
    }

    /// The bits that WRMSR may set; `None` if there is no writing at all.
    pub(super) fn writable_msr_bits(self) -> Option<u64> {
        match self {
            Self::Id
            | Self::Version
            | Self::ArbitrationPriority
            | Self::ProcessorPriority
            | Self::RemoteRead
            | Self::LogicalDestination
            | Self::DestinationFormat
            | Self::InService(_)
            | Self::TriggerMode(_)
            | Self::Request(_)
            | Self::CommandHigh
            | Self::CurrentCount => None,
            Self::EndOfInterrupt | Self::ErrorStatus => Some(0),
            Self::TaskPriority | Self::SelfIpi => Some(0xff),
            Self::SpuriousVector => Some(SPURIOUS_BITS.into()),
            // The bit of the delivery status went, but software that brought it along from the xAPIC does no harm.
            Self::CommandLow => Some(0xffff_ffff_000c_dfff),
            Self::Lvt(entry) => Some(u64::from(entry.writable_bits() | entry.read_only_bits())),
            Self::InitialCount => Some(u32::MAX.into()),
            Self::DivideConfiguration => Some(DIVIDE_BITS.into()),
        }
    }
}

/// The version register: a local APIC in the processor, of six LVT entries, that cannot suppress the broadcast of an EOI.
pub(super) const VERSION: u32 = 5 << 16 | 0x14;

/// Spurious vector, software enable, and focus processor checking, which is only kept.
pub(super) const SPURIOUS_BITS: u32 = 0x3ff;
/// Software enable.
pub(super) const SPURIOUS_ENABLE: u32 = 1 << 8;

/// The divisor of the timer.
pub(super) const DIVIDE_BITS: u32 = 0b1011;

/// The part of the destination format register that is not there.
pub(super) const DESTINATION_FORMAT_ONES: u32 = 0x0fff_ffff;

/// A message with a vector below 16 was to be sent.
pub(super) const ERROR_SEND_ILLEGAL_VECTOR: u32 = 1 << 5;
/// A message with a vector below 16 arrived, or an LVT entry has one.
pub(super) const ERROR_RECEIVE_ILLEGAL_VECTOR: u32 = 1 << 6;
/// There is no register at the offset.
pub(super) const ERROR_ILLEGAL_REGISTER: u32 = 1 << 7;
