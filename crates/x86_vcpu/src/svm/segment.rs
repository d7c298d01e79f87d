//! Segment registers as the VMCB has them (APM 2, "Segment State in the VMCB").

use super::vmcb::{SaveArea, VmcbSegment};
use crate::regs::{Segment, SegmentName, SegmentRights};

/// The descriptor's bits, closed up as the VMCB has them.
const fn pack(rights: SegmentRights) -> u16 {
    rights.0 & 0xff | rights.0 >> 4 & 0xf00
}

const fn unpack(attributes: u16) -> SegmentRights {
    SegmentRights(attributes & 0xff | (attributes & 0xf00) << 4)
}

impl VmcbSegment {
    pub(super) const fn get(&self) -> Segment {
        Segment {
            selector: self.selector,
            rights: unpack(self.attributes),
            limit: self.limit,
            base: self.base,
        }
    }

    pub(super) const fn set(&mut self, segment: Segment) {
        *self = Self {
            selector: segment.selector,
            attributes: pack(segment.rights),
            limit: segment.limit,
            base: segment.base,
        };
    }
}

impl SaveArea {
    #[inline]
    pub(super) const fn segment(&self, name: SegmentName) -> &VmcbSegment {
        match name {
            SegmentName::Es => &self.es,
            SegmentName::Cs => &self.cs,
            SegmentName::Ss => &self.ss,
            SegmentName::Ds => &self.ds,
            SegmentName::Fs => &self.fs,
            SegmentName::Gs => &self.gs,
            SegmentName::Ldtr => &self.ldtr,
            SegmentName::Tr => &self.tr,
        }
    }

    pub(super) const fn segment_mut(&mut self, name: SegmentName) -> &mut VmcbSegment {
        match name {
            SegmentName::Es => &mut self.es,
            SegmentName::Cs => &mut self.cs,
            SegmentName::Ss => &mut self.ss,
            SegmentName::Ds => &mut self.ds,
            SegmentName::Fs => &mut self.fs,
            SegmentName::Gs => &mut self.gs,
            SegmentName::Ldtr => &mut self.ldtr,
            SegmentName::Tr => &mut self.tr,
        }
    }
}
