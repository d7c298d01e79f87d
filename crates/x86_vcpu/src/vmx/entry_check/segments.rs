//! The rules for segment registers (SDM vol. 3, 27.3.1.2).

use super::GuestSnapshot;
use crate::{cr::cr0, regs::SegmentName};

/// A segment register as the VMCS holds it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RawSegment {
    pub(crate) selector: u16,
    pub(crate) base: u64,
    pub(crate) limit: u32,
    pub(crate) access: u32,
}

/// Bits of a segment's access rights.
pub(super) mod access {
    pub(in super::super) const TYPE: u32 = 0xf;
    pub(in super::super) const ACCESSED: u32 = 1 << 0;
    pub(in super::super) const READABLE: u32 = 1 << 1;
    pub(in super::super) const CODE: u32 = 1 << 3;
    pub(in super::super) const CODE_OR_DATA: u32 = 1 << 4;
    pub(in super::super) const PRESENT: u32 = 1 << 7;
    pub(in super::super) const LONG: u32 = 1 << 13;
    pub(in super::super) const BIG: u32 = 1 << 14;
    pub(in super::super) const GRANULAR: u32 = 1 << 15;
    pub(in super::super) const UNUSABLE: u32 = 1 << 16;
    pub(in super::super) const RESERVED: u32 = 0xfffe_0f00;
    pub(in super::super) const VIRTUAL_8086: u32 = 0xf3;
}

const SELECTOR_LOCAL: u16 = 1 << 2;

impl RawSegment {
    const fn kind(self) -> u32 {
        self.access & access::TYPE
    }

    pub(super) const fn has(self, bit: u32) -> bool {
        self.access & bit != 0
    }

    pub(super) const fn dpl(self) -> u32 {
        self.access >> 5 & 0b11
    }

    const fn is_usable(self) -> bool {
        !self.has(access::UNUSABLE)
    }

    /// The limit fits the granularity: pages end in ones, bytes need no more than 20 bits.
    const fn has_consistent_limit(self) -> bool {
        if self.has(access::GRANULAR) {
            self.limit & 0xfff == 0xfff
        } else {
            self.limit >> 20 == 0
        }
    }
}

impl GuestSnapshot {
    pub(super) fn check_segments(&self) -> Result<(), &'static str> {
        use SegmentName::{Cs, Ds, Es, Fs, Gs, Ldtr, Ss, Tr};
        let (cs, ss) = (self.segment(Cs), self.segment(Ss));
        let (ldtr, tr) = (self.segment(Ldtr), self.segment(Tr));
        rule!(
            tr.selector & SELECTOR_LOCAL == 0,
            "TR's selector is of the LDT"
        );
        rule!(
            !ldtr.is_usable() || ldtr.selector & SELECTOR_LOCAL == 0,
            "LDTR's selector is of the LDT"
        );
        let usual = [Cs, Ss, Ds, Es, Fs, Gs].map(|name| self.segment(name));
        if self.is_virtual_8086() {
            rule!(
                usual.iter().all(|s| s.base == u64::from(s.selector) << 4),
                "a segment's base is not its selector times 16 in virtual-8086 mode"
            );
        }
        rule!(self.is_canonical(tr.base), "TR's base is not canonical");
        rule!(
            self.is_canonical(self.segment(Fs).base),
            "FS's base is not canonical"
        );
        rule!(
            self.is_canonical(self.segment(Gs).base),
            "GS's base is not canonical"
        );
        rule!(
            !ldtr.is_usable() || self.is_canonical(ldtr.base),
            "LDTR's base is not canonical"
        );
        rule!(cs.base >> 32 == 0, "CS's base is above 4 GiB");
        let data = [Ss, Ds, Es].map(|name| self.segment(name));
        rule!(
            data.iter().all(|s| !s.is_usable() || s.base >> 32 == 0),
            "the base of SS, DS or ES is above 4 GiB"
        );
        if self.is_virtual_8086() {
            rule!(
                usual.iter().all(|s| s.limit == 0xffff),
                "a segment's limit is not 64 KiB in virtual-8086 mode"
            );
            rule!(
                usual.iter().all(|s| s.access == access::VIRTUAL_8086),
                "a segment's access rights are not those of virtual-8086 mode"
            );
        } else {
            self.check_code(cs, ss)?;
            self.check_stack(cs, ss)?;
            for name in [Ds, Es, Fs, Gs] {
                check_data(self.segment(name))?;
            }
        }
        self.check_tr(tr)?;
        check_ldtr(ldtr)
    }

    fn check_code(&self, cs: RawSegment, ss: RawSegment) -> Result<(), &'static str> {
        match cs.kind() {
            3 => rule!(
                cs.dpl() == 0,
                "CS holds a data segment with a DPL other than 0"
            ),
            9 | 11 => rule!(cs.dpl() == ss.dpl(), "CS's DPL differs from SS's"),
            13 | 15 => rule!(
                cs.dpl() <= ss.dpl(),
                "CS is conforming with a DPL above SS's"
            ),
            _ => return Err("CS's type is not that of accessed code"),
        }
        rule!(cs.has(access::CODE_OR_DATA), "CS holds a system segment");
        rule!(cs.has(access::PRESENT), "CS is not present");
        rule!(
            cs.access & access::RESERVED == 0,
            "CS's access rights have reserved bits"
        );
        rule!(
            !(self.ia32e && cs.has(access::LONG) && cs.has(access::BIG)),
            "CS is both 64-bit and 32-bit"
        );
        rule!(
            cs.has_consistent_limit(),
            "CS's limit does not fit its granularity"
        );
        Ok(())
    }

    fn check_stack(&self, cs: RawSegment, ss: RawSegment) -> Result<(), &'static str> {
        rule!(
            ss.dpl() == 0 || cs.kind() != 3 && self.has_cr0(cr0::PE),
            "SS's DPL is not 0 in real mode"
        );
        if !ss.is_usable() {
            return Ok(());
        }
        rule!(
            matches!(ss.kind(), 3 | 7),
            "SS's type is not that of accessed writable data"
        );
        check_code_or_data(ss)
    }

    fn check_tr(&self, tr: RawSegment) -> Result<(), &'static str> {
        rule!(
            tr.kind() == 11 || tr.kind() == 3 && !self.ia32e,
            "TR's type is not that of a busy TSS"
        );
        rule!(
            !tr.has(access::CODE_OR_DATA),
            "TR does not hold a system segment"
        );
        rule!(tr.has(access::PRESENT), "TR is not present");
        rule!(
            tr.access & access::RESERVED == 0,
            "TR's access rights have reserved bits"
        );
        rule!(
            tr.has_consistent_limit(),
            "TR's limit does not fit its granularity"
        );
        rule!(tr.is_usable(), "TR is unusable");
        Ok(())
    }
}

fn check_data(segment: RawSegment) -> Result<(), &'static str> {
    if !segment.is_usable() {
        return Ok(());
    }
    rule!(
        segment.has(access::ACCESSED),
        "a data segment is not accessed"
    );
    rule!(
        !segment.has(access::CODE) || segment.has(access::READABLE),
        "a data segment register holds code that is not readable"
    );
    check_code_or_data(segment)
}

/// What holds for SS and the data segments, being usable.
fn check_code_or_data(segment: RawSegment) -> Result<(), &'static str> {
    rule!(
        segment.has(access::CODE_OR_DATA),
        "a data segment register holds a system segment"
    );
    rule!(
        segment.has(access::PRESENT),
        "a data segment is not present"
    );
    rule!(
        segment.access & access::RESERVED == 0,
        "a data segment's access rights have reserved bits"
    );
    rule!(
        segment.has_consistent_limit(),
        "a data segment's limit does not fit its granularity"
    );
    Ok(())
}

fn check_ldtr(ldtr: RawSegment) -> Result<(), &'static str> {
    if !ldtr.is_usable() {
        return Ok(());
    }
    rule!(ldtr.kind() == 2, "LDTR's type is not that of an LDT");
    rule!(
        !ldtr.has(access::CODE_OR_DATA),
        "LDTR does not hold a system segment"
    );
    rule!(ldtr.has(access::PRESENT), "LDTR is not present");
    rule!(
        ldtr.access & access::RESERVED == 0,
        "LDTR's access rights have reserved bits"
    );
    rule!(
        ldtr.has_consistent_limit(),
        "LDTR's limit does not fit its granularity"
    );
    Ok(())
}
