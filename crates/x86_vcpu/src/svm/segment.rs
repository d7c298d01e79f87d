//! Segment registers as the VMCB has them (APM 2, "Segment State in the VMCB").

use super::vmcb::{SaveArea, VmcbSegment};
use crate::regs::{Segment, SegmentName, SegmentRights, TableName};

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

/// Declares the ways to a register's place.
macro_rules! places {
    ($place:ident, $place_mut:ident: $name:ident { $($register:ident = $field:ident,)* }) => {
        impl SaveArea {
            #[inline]
            pub(super) const fn $place(&self, name: $name) -> &VmcbSegment {
                match name {
                    $($name::$register => &self.$field,)*
                }
            }

            #[inline]
            pub(super) const fn $place_mut(&mut self, name: $name) -> &mut VmcbSegment {
                match name {
                    $($name::$register => &mut self.$field,)*
                }
            }
        }
    };
}

places! { segment, segment_mut: SegmentName {
    Es = es, Cs = cs, Ss = ss, Ds = ds, Fs = fs, Gs = gs, Ldtr = ldtr, Tr = tr,
} }
places! { table, table_mut: TableName { Gdtr = gdtr, Idtr = idtr, } }
