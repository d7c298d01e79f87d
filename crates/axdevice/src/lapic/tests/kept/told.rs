//! When a vCPU is told to look at its local APIC, of which hardware keeps a part: a vCPU that has looked, and found nothing that it can take, looks no
//! more by itself.

use super::*;
use crate::testing::Event;

const ALL: [Keeps; 3] = [Keeps::TaskPriority, Keeps::Registers, Keeps::Everything];

impl Kept {
    fn send(&self, vector: u8) {
        let trigger = TriggerMode::Edge;
        self.bench.bus.send(Message {
            destination: Destination::Physical(0),
            delivery: Delivery::Fixed { vector, trigger },
        });
    }

    /// How often the vCPU was told something since the last call.
    fn told(&self) -> usize {
        let events = self.bench.take_events();
        assert!(events.iter().all(|event| *event == Event::Notify(0)));
        events.len()
    }
}

#[test]
fn of_what_is_more_urgent_than_what_is_held_back() {
    for keeps in ALL {
        let kept = Kept::new(keeps);
        kept.told();
        kept.put(TPR, 0x60);
        kept.send(0x51);
        assert_eq!(kept.told(), 1);
        // The vCPU halts, and will not look again.
        assert!(!kept.bench.apics[0].is_deliverable());
        kept.send(0x52);
        assert_eq!(kept.told(), 0, "it is held back as well");
        kept.send(0x93);
        assert_eq!(kept.told(), 1);
        assert!(kept.bench.apics[0].is_deliverable());
        kept.send(0x63);
        assert_eq!(kept.told(), 0);
    }
}

#[test]
fn of_a_level_at_a_pin_beside_what_is_held_back() {
    for keeps in ALL {
        let kept = Kept::new(keeps);
        kept.bench.write(0, LVT_LINT0, 0x8093);
        kept.hand_over();
        kept.put(TPR, 0x60);
        kept.send(0x51);
        kept.told();
        kept.bench.set_lint0(LineLevel::High);
        assert_eq!(kept.told(), 1);
        assert!(kept.bench.apics[0].is_deliverable());
    }
}

#[test]
fn of_an_interrupt_after_what_is_only_to_be_shown() {
    for keeps in ALL {
        let kept = Kept::new(keeps);
        kept.bench.to_x2apic(0);
        kept.told();
        assert!(kept.is_raised() && !kept.bench.apics[0].is_deliverable());
        kept.send(0x51);
        assert_eq!(kept.told(), 1);
    }
}

/// Without a page what waits can be taken: the vCPU looks, and takes the most urgent.
#[test]
fn once_if_there_is_no_page() {
    let kept = Kept::new(Keeps::Everything);
    kept.told();
    for vector in [0x51, 0x93] {
        kept.bench.bus.send(Message {
            destination: Destination::Physical(1),
            delivery: Delivery::Fixed {
                vector,
                trigger: TriggerMode::Edge,
            },
        });
    }
    assert_eq!(kept.bench.take_events(), [Event::Notify(1)]);
}

/// The upper half of a command that the guest wrote without an exit counts for a lower half that it writes with one.
#[test]
fn a_command_is_whole_however_its_lower_half_is_written() {
    for keeps in REGISTERS {
        let kept = Kept::new(keeps);
        kept.put(ICR_HIGH, 0x0100_0000);
        kept.bench.write(0, ICR, 0x51);
        assert_eq!(kept.bench.pending(1), Some(0x51));
        assert_eq!((kept.shown(ICR), kept.shown(ICR_HIGH)), (0x51, 0x0100_0000));
        // And the other way round, where the lower half is in the page alone.
        kept.put(ICR, 0x4_0052);
        kept.bench.write(0, ICR_HIGH, 0);
        assert_eq!(
            (kept.shown(ICR), kept.bench.read(0, ICR)),
            (0x4_0052, 0x4_0052)
        );
    }
}
