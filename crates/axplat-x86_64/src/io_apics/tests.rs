//! Few and many.

use std::vec::Vec;

use super::*;

fn listed(count: u32) -> Result<Vec<IoApic>, TooMany> {
    let entries = (0..count).flat_map(|apic| {
        let io_apic = Entry::IoApic {
            address: 0xfec0_0000 + apic * 0x1000,
            first_gsi: apic * 24,
        };
        [Entry::Cpu { apic_id: apic }, io_apic]
    });
    IoApics::from_entries(entries).map(|all| all.as_slice().to_vec())
}

#[test]
fn none_is_forgotten() {
    assert_eq!(listed(0), Ok(Vec::new()));
    for count in [1, 8, 9, 32] {
        let all = listed(count).unwrap();
        assert_eq!(all.len(), count as usize);
        let last = IoApic {
            address: 0xfec0_0000 + (count as usize - 1) * 0x1000,
            first_gsi: (count - 1) * 24,
        };
        assert_eq!(all.last(), Some(&last));
    }
    assert_eq!(listed(33), Err(TooMany));
}
