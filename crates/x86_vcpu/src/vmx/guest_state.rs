//! The guest's state (SDM vol. 3, 25.4): in the current VMCS while the vCPU is loaded, in memory while it is not.
//!
//! A VMCS can be read on one processor only and only while it is current there, but a vCPU's registers are set and asked for at any time. So what is
//! written in between waits in memory for the next load.

use super::{
    fields::{VmcsField, VmcsGuest16, VmcsGuest32, VmcsGuest64, VmcsGuestNW},
    vmcs,
};
use crate::regs::{DescriptorTable, Segment, SegmentName, SegmentRights, TableName};

bitflags::bitflags! {
    /// What the guest does not take for the moment (SDM vol. 3, table 25-3).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Interruptibility: u32 {
        /// The instruction after STI has not run yet.
        const STI = 1 << 0;
        /// The instruction after MOV SS or POP SS has not run yet.
        const MOV_SS = 1 << 1;
        /// In system-management mode.
        const SMI = 1 << 2;
        /// An NMI is being handled.
        const NMI = 1 << 3;
        /// The exit was in an SGX enclave.
        const ENCLAVE = 1 << 4;
        /// Either shadow of one instruction.
        const SHADOW = Self::STI.bits() | Self::MOV_SS.bits();
    }
}

/// The fields of the four entries that a CR3 of PAE paging leads to.
pub(super) const PDPTES: [VmcsGuest64; 4] = [
    VmcsGuest64::Pdpte0,
    VmcsGuest64::Pdpte1,
    VmcsGuest64::Pdpte2,
    VmcsGuest64::Pdpte3,
];

/// The guest-state area's fields.
const COUNT: usize = VmcsGuest16::ALL.len()
    + VmcsGuest64::ALL.len()
    + VmcsGuest32::ALL.len()
    + VmcsGuestNW::ALL.len();

/// Their encodings.
const ENCODINGS: [u32; COUNT] = {
    let mut all = [0; COUNT];
    let mut next = 0;
    let mut i = 0;
    while i < VmcsGuest16::ALL.len() {
        all[next] = VmcsGuest16::ALL[i] as u32;
        (next, i) = (next + 1, i + 1);
    }
    i = 0;
    while i < VmcsGuest64::ALL.len() {
        all[next] = VmcsGuest64::ALL[i] as u32;
        (next, i) = (next + 1, i + 1);
    }
    i = 0;
    while i < VmcsGuest32::ALL.len() {
        all[next] = VmcsGuest32::ALL[i] as u32;
        (next, i) = (next + 1, i + 1);
    }
    i = 0;
    while i < VmcsGuestNW::ALL.len() {
        all[next] = VmcsGuestNW::ALL[i] as u32;
        (next, i) = (next + 1, i + 1);
    }
    all
};

/// One bit for each.
const ALL_CHANGED: u64 = (1 << COUNT) - 1;
const _: () = assert!(COUNT < 64);

/// Where the truth is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    /// In memory.
    Memory,
    /// In the current VMCS.
    Vmcs,
}

/// The guest-state area.
#[derive(Debug)]
pub(crate) struct GuestState {
    home: Home,
    values: [u64; COUNT],
    /// Bit `n`: `values[n]` is newer than the VMCS.
    changed: u64,
}

/// Where the values of one encoding are. Every encoding of a guest field is in the table, so that the answer is never out of bounds.
fn place(encoding: u32) -> usize {
    ENCODINGS
        .iter()
        .position(|&other| other == encoding)
        .unwrap_or(0)
}

impl GuestState {
    /// All zero, in memory, but for the link pointer, which is of no use and must be all ones.
    pub(crate) fn new() -> Self {
        let mut state = Self {
            home: Home::Memory,
            values: [0; COUNT],
            changed: ALL_CHANGED,
        };
        state.write(VmcsGuest64::LinkPointer, u64::MAX);
        state
    }

    pub(crate) const fn home(&self) -> Home {
        self.home
    }

    #[inline(always)]
    pub(crate) fn read<F: VmcsField>(&self, field: F) -> F::Int {
        F::narrow(match self.home {
            Home::Vmcs => vmcs::read(field.encoding()),
            Home::Memory => self.values[place(field.encoding())],
        })
    }

    #[inline(always)]
    pub(crate) fn write<F: VmcsField>(&mut self, field: F, value: F::Int) {
        let value = F::widen(value);
        match self.home {
            Home::Vmcs => vmcs::write(field.encoding(), value),
            Home::Memory => {
                let place = place(field.encoding());
                self.values[place] = value;
                self.changed |= 1 << place;
            }
        }
    }

    /// The VMCS is current from now on: what was written meanwhile goes there.
    pub(crate) fn load(&mut self) {
        while self.changed != 0 {
            let place = self.changed.trailing_zeros() as usize;
            vmcs::write(ENCODINGS[place], self.values[place]);
            self.changed &= self.changed - 1;
        }
        self.home = Home::Vmcs;
    }

    /// The VMCS will not be current any more.
    pub(crate) fn save(&mut self) {
        for (value, encoding) in self.values.iter_mut().zip(ENCODINGS) {
            *value = vmcs::read(encoding);
        }
        self.home = Home::Memory;
    }

    /// What the guest does not take now.
    #[inline]
    pub(crate) fn interruptibility(&self) -> Interruptibility {
        Interruptibility::from_bits_retain(self.read(VmcsGuest32::Interruptibility))
    }

    pub(crate) fn set_interruptibility(&mut self, blocking: Interruptibility) {
        self.write(VmcsGuest32::Interruptibility, blocking.bits());
    }

    #[inline]
    pub(crate) fn segment_base(&self, name: SegmentName) -> u64 {
        self.read(SegmentFields::of(name).base)
    }

    #[inline]
    pub(crate) fn segment_rights(&self, name: SegmentName) -> SegmentRights {
        let access = self.read(SegmentFields::of(name).access);
        let absent = if access & UNUSABLE != 0 {
            SegmentRights::PRESENT
        } else {
            0
        };
        SegmentRights(access as u16 & !absent)
    }

    pub(crate) fn segment(&self, name: SegmentName) -> Segment {
        let fields = SegmentFields::of(name);
        Segment {
            selector: self.read(fields.selector),
            rights: self.segment_rights(name),
            limit: self.read(fields.limit),
            base: self.read(fields.base),
        }
    }

    pub(crate) fn set_segment(&mut self, name: SegmentName, segment: Segment) {
        let fields = SegmentFields::of(name);
        let unusable = if segment.rights.is_present() {
            0
        } else {
            UNUSABLE
        };
        self.write(fields.selector, segment.selector);
        self.write(fields.base, segment.base);
        self.write(fields.limit, segment.limit);
        self.write(fields.access, u32::from(segment.rights.0) | unusable);
    }

    pub(crate) fn table(&self, name: TableName) -> DescriptorTable {
        let (base, limit) = table_fields(name);
        DescriptorTable {
            base: self.read(base),
            limit: self.read(limit) as u16,
        }
    }

    pub(crate) fn set_table(&mut self, name: TableName, table: DescriptorTable) {
        let (base, limit) = table_fields(name);
        self.write(base, table.base);
        self.write(limit, u32::from(table.limit));
    }
}

/// The access right of a segment register that holds no segment.
const UNUSABLE: u32 = 1 << 16;

/// The fields of one segment register.
struct SegmentFields {
    selector: VmcsGuest16,
    base: VmcsGuestNW,
    limit: VmcsGuest32,
    access: VmcsGuest32,
}

impl SegmentFields {
    const fn of(name: SegmentName) -> Self {
        macro_rules! fields {
            ($selector:ident $base:ident $limit:ident $access:ident) => {
                Self {
                    selector: VmcsGuest16::$selector,
                    base: VmcsGuestNW::$base,
                    limit: VmcsGuest32::$limit,
                    access: VmcsGuest32::$access,
                }
            };
        }
        match name {
            SegmentName::Es => fields!(EsSelector EsBase EsLimit EsAccess),
            SegmentName::Cs => fields!(CsSelector CsBase CsLimit CsAccess),
            SegmentName::Ss => fields!(SsSelector SsBase SsLimit SsAccess),
            SegmentName::Ds => fields!(DsSelector DsBase DsLimit DsAccess),
            SegmentName::Fs => fields!(FsSelector FsBase FsLimit FsAccess),
            SegmentName::Gs => fields!(GsSelector GsBase GsLimit GsAccess),
            SegmentName::Ldtr => fields!(LdtrSelector LdtrBase LdtrLimit LdtrAccess),
            SegmentName::Tr => fields!(TrSelector TrBase TrLimit TrAccess),
        }
    }
}

const fn table_fields(name: TableName) -> (VmcsGuestNW, VmcsGuest32) {
    match name {
        TableName::Gdtr => (VmcsGuestNW::GdtrBase, VmcsGuest32::GdtrLimit),
        TableName::Idtr => (VmcsGuestNW::IdtrBase, VmcsGuest32::IdtrLimit),
    }
}

#[cfg(test)]
mod tests;
