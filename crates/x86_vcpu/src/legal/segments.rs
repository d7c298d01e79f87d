//! The rules for segment registers (SDM vol. 3, 27.3.1.2). One that is not present holds no segment: VMX calls it unusable.

use super::GuestState;
use crate::{
    cr::cr0,
    regs::{Segment, SegmentName, SegmentRights},
};

const SELECTOR_LOCAL: u16 = 1 << 2;
/// All of the access rights in virtual-8086 mode.
const VIRTUAL_8086: SegmentRights = SegmentRights(0xf3);

impl Segment {
    /// The limit fits the granularity: pages end in ones, bytes need no more than 20 bits.
    const fn has_consistent_limit(&self) -> bool {
        if self.rights.has(SegmentRights::GRANULAR) {
            self.limit & 0xfff == 0xfff
        } else {
            self.limit >> 20 == 0
        }
    }
}

impl GuestState {
    pub(super) fn check_segments(&self) -> Result<(), &'static str> {
        use SegmentName::{Cs, Ds, Es, Fs, Gs, Ldtr, Ss, Tr};
        let (cs, ldtr, tr) = (self.segment(Cs), self.segment(Ldtr), self.segment(Tr));
        rule!(
            tr.selector & SELECTOR_LOCAL == 0,
            "TR's selector is of the LDT"
        );
        rule!(
            !ldtr.rights.is_present() || ldtr.selector & SELECTOR_LOCAL == 0,
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
            !ldtr.rights.is_present() || self.is_canonical(ldtr.base),
            "LDTR's base is not canonical"
        );
        rule!(cs.base >> 32 == 0, "CS's base is above 4 GiB");
        let data = [Ss, Ds, Es].map(|name| self.segment(name));
        rule!(
            data.iter()
                .all(|s| !s.rights.is_present() || s.base >> 32 == 0),
            "the base of SS, DS or ES is above 4 GiB"
        );
        if self.is_virtual_8086() {
            rule!(
                usual.iter().all(|s| s.limit == 0xffff),
                "a segment's limit is not 64 KiB in virtual-8086 mode"
            );
            rule!(
                usual.iter().all(|s| s.rights == VIRTUAL_8086),
                "a segment's access rights are not those of virtual-8086 mode"
            );
        } else {
            self.check_code(cs)?;
            self.check_stack(cs, self.segment(Ss))?;
            for name in [Ds, Es, Fs, Gs] {
                check_data(self.segment(name))?;
            }
        }
        self.check_tr(tr)?;
        check_ldtr(ldtr)
    }

    fn check_code(&self, cs: Segment) -> Result<(), &'static str> {
        let dpl = cs.rights.dpl();
        match cs.rights.kind() {
            3 => rule!(dpl == 0, "CS holds a data segment with a DPL other than 0"),
            9 | 11 => rule!(
                dpl == self.privilege,
                "CS's DPL differs from the privilege level"
            ),
            13 | 15 => rule!(
                dpl <= self.privilege,
                "CS is conforming with a DPL above the privilege level"
            ),
            _ => return Err("CS's type is not that of accessed code"),
        }
        rule!(
            cs.rights.has(SegmentRights::CODE_OR_DATA),
            "CS holds a system segment"
        );
        rule!(cs.rights.is_present(), "CS is not present");
        rule!(
            !cs.rights.has(SegmentRights::RESERVED),
            "CS's access rights have reserved bits"
        );
        rule!(
            cs.has_consistent_limit(),
            "CS's limit does not fit its granularity"
        );
        Ok(())
    }

    fn check_stack(&self, cs: Segment, ss: Segment) -> Result<(), &'static str> {
        rule!(
            ss.rights.dpl() == 0 || cs.rights.kind() != 3 && self.has_cr0(cr0::PE),
            "SS's DPL is not 0 in real mode"
        );
        if !ss.rights.is_present() {
            return Ok(());
        }
        rule!(
            matches!(ss.rights.kind(), 3 | 7),
            "SS's type is not that of accessed writable data"
        );
        check_code_or_data(ss)
    }

    fn check_tr(&self, tr: Segment) -> Result<(), &'static str> {
        let kind = tr.rights.kind();
        rule!(
            kind == 11 || kind == 3 && !self.is_long(),
            "TR's type is not that of a busy TSS"
        );
        rule!(
            !tr.rights.has(SegmentRights::CODE_OR_DATA),
            "TR does not hold a system segment"
        );
        rule!(tr.rights.is_present(), "TR is not present");
        rule!(
            !tr.rights.has(SegmentRights::RESERVED),
            "TR's access rights have reserved bits"
        );
        rule!(
            tr.has_consistent_limit(),
            "TR's limit does not fit its granularity"
        );
        Ok(())
    }
}

fn check_data(segment: Segment) -> Result<(), &'static str> {
    let rights = segment.rights;
    if !rights.is_present() {
        return Ok(());
    }
    rule!(
        rights.has(SegmentRights::ACCESSED),
        "a data segment is not accessed"
    );
    rule!(
        !rights.has(SegmentRights::CODE) || rights.has(SegmentRights::READABLE),
        "a data segment register holds code that is not readable"
    );
    check_code_or_data(segment)
}

/// What holds for SS and the data segments, being present.
fn check_code_or_data(segment: Segment) -> Result<(), &'static str> {
    rule!(
        segment.rights.has(SegmentRights::CODE_OR_DATA),
        "a data segment register holds a system segment"
    );
    rule!(
        !segment.rights.has(SegmentRights::RESERVED),
        "a data segment's access rights have reserved bits"
    );
    rule!(
        segment.has_consistent_limit(),
        "a data segment's limit does not fit its granularity"
    );
    Ok(())
}

fn check_ldtr(ldtr: Segment) -> Result<(), &'static str> {
    if !ldtr.rights.is_present() {
        return Ok(());
    }
    rule!(ldtr.rights.kind() == 2, "LDTR's type is not that of an LDT");
    rule!(
        !ldtr.rights.has(SegmentRights::CODE_OR_DATA),
        "LDTR does not hold a system segment"
    );
    rule!(
        !ldtr.rights.has(SegmentRights::RESERVED),
        "LDTR's access rights have reserved bits"
    );
    rule!(
        ldtr.has_consistent_limit(),
        "LDTR's limit does not fit its granularity"
    );
    Ok(())
}
