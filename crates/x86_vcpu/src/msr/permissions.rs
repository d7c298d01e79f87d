//! The map by which the hardware knows the accesses to MSRs that exit: two bits for each, where the vendor has them.

use super::PASS_THROUGH;

/// The places of an MSR's bits. Set, they make its reads and its writes exit.
pub(crate) struct PermissionBits {
    pub(crate) read: usize,
    pub(crate) write: usize,
}

/// Lets the accesses through that are the guest's own, and no others. Those of an MSR that has no bits always exit.
pub(crate) fn fill(map: &mut [u8], bits_of: impl Fn(u32) -> Option<PermissionBits>) {
    map.fill(u8::MAX);
    for PermissionBits { read, write } in PASS_THROUGH.into_iter().filter_map(bits_of) {
        for bit in [read, write] {
            map[bit / 8] &= !(1 << (bit % 8));
        }
    }
}
