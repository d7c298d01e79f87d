//! Tests of windows: they reach what a lookup finds, and nothing else.

use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::testing::any_width;

/// Says who it is and what it was asked for.
struct Echo(u64);

impl Device for Echo {
    fn name(&self) -> &str {
        "echo"
    }

    fn read(&self, offset: u64, width: AccessWidth) -> Result<u64, AccessFault> {
        // What a byte carries: the device, and offset and width as far as they fit.
        let answer = (self.0 << 6 ^ offset << 2 ^ width as u64) & 0xff;
        if offset == 13 {
            Err(AccessFault)
        } else {
            Ok(answer)
        }
    }

    fn write(&self, _: u64, _: AccessWidth, _: u64) -> Result<(), AccessFault> {
        Ok(())
    }

    fn reset(&self) {}
}

proptest! {
    /// Whichever access opened a window: another either meets what a lookup finds, or is told to look.
    #[test]
    fn a_port_window_reaches_what_a_lookup_finds(
        layout in prop::collection::vec((0..12u16, 1..12u32, any::<bool>()), 0..8),
        at_the_end in any::<bool>(),
        accesses in prop::collection::vec((0..200u16, any_width()), 1..100),
    ) {
        let total: u32 = layout.iter().map(|&(gap, len, _)| u32::from(gap) + len).sum();
        let base = if at_the_end { 0x1_0000 - total } else { 0 };
        let (mut builder, mut next) = (AxVmDevices::builder(), base);
        for (index, (gap, len, by_number)) in layout.into_iter().enumerate() {
            let (start, device) = (next + u32::from(gap), Arc::new(Echo(index as u64)));
            builder = if by_number {
                builder.port_by_number(start as u16, len, device)
            } else {
                builder.port(start as u16, len, device)
            };
            next = start + len;
        }
        let devices = builder.build().unwrap();
        let accesses: Vec<_> = accesses
            .into_iter()
            .map(|(port, width)| (port.wrapping_add(base as u16), width))
            .collect();
        for &(port, width) in &accesses {
            let found = devices.handle_port_read(port, width);
            let Some(window) = devices.port_window(port, width) else {
                prop_assert!(found.is_err());
                continue;
            };
            prop_assert!(window.reach(port, width).is_some());
            for &(port, width) in &accesses {
                if let Some((device, offset)) = window.reach(port, width) {
                    let reached = device.read(offset, width);
                    prop_assert_eq!(reached.ok(), devices.handle_port_read(port, width).ok());
                }
            }
        }
    }
}
