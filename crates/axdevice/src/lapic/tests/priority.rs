//! What is delivered when, and the pins.

use super::super::{Delivery, Destination, Message, TriggerMode};
use super::*;

impl Bench {
    /// The I/O APIC sends a level to vCPU 0.
    fn level(&self, vector: u8) {
        let _ = self.bus.send(Message {
            destination: Destination::Physical(0),
            delivery: Delivery::Fixed {
                vector,
                trigger: TriggerMode::Level,
            },
        });
    }

    fn self_ipi(&self, vector: u32) {
        self.write(0, ICR, 1 << 18 | vector);
    }
}

#[test]
fn interrupts_go_from_request_to_service() {
    let bench = Bench::xapic(1);
    for vector in [0x31, 0x52, 0xff, 0x10] {
        bench.self_ipi(vector);
    }
    assert_eq!(bench.read(0, IRR + 1), 1 << 0x11);
    assert_eq!(bench.read(0, IRR + 2), 1 << 0x12);
    assert_eq!(bench.read(0, IRR + 7), 1 << 31);
    assert_eq!(bench.read(0, IRR), 1 << 0x10);
    assert_eq!(
        (bench.pending(0), bench.acknowledge(0)),
        (Some(0xff), Some(0xff))
    );
    assert_eq!(bench.read(0, IRR + 7), 0);
    assert_eq!(bench.read(0, ISR + 7), 1 << 31);
    assert_eq!(bench.read(0, PPR), 0xf0);
    assert_eq!((bench.pending(0), bench.acknowledge(0)), (None, None));
    for expected in [Some(0x52), Some(0x31), Some(0x10), None] {
        bench.write(0, EOI, 0);
        assert_eq!(bench.acknowledge(0), expected);
    }
}

#[test]
fn the_task_priority_holds_classes_back() {
    let bench = Bench::xapic(1);
    bench.self_ipi(0x51);
    for tpr in 0..=0xff {
        bench.write(0, TPR, tpr);
        let expected = (tpr >> 4 < 5).then_some(0x51);
        assert_eq!(bench.pending(0), expected, "{tpr:#x}");
        assert_eq!(bench.read(0, PPR), tpr);
        assert_eq!(u32::from(bench.apics[0].task_priority()), tpr >> 4);
    }
    for class in 0..16 {
        bench.apics[0].set_task_priority(class);
        assert_eq!(bench.read(0, TPR), u32::from(class) << 4);
        assert_eq!(bench.pending(0).is_some(), class < 5);
    }
}

#[test]
fn processor_and_arbitration_priority_follow_the_manual() {
    let bench = Bench::xapic(1);
    bench.write(0, TPR, 0x35);
    assert_eq!((bench.read(0, PPR), bench.read(0, APR)), (0x35, 0x35));
    bench.self_ipi(0x6a);
    assert_eq!((bench.read(0, PPR), bench.read(0, APR)), (0x35, 0x60));
    bench.acknowledge(0);
    assert_eq!((bench.read(0, PPR), bench.read(0, APR)), (0x60, 0x60));
    bench.write(0, TPR, 0x64);
    assert_eq!((bench.read(0, PPR), bench.read(0, APR)), (0x64, 0x60));
    bench.write(0, TPR, 0x74);
    assert_eq!((bench.read(0, PPR), bench.read(0, APR)), (0x74, 0x74));
}

#[test]
fn ends_of_levels_are_told_to_the_io_apic() {
    let bench = Bench::xapic(1);
    bench.level(0x51);
    assert_eq!(bench.read(0, TMR + 2), 1 << 0x11);
    assert_eq!(bench.acknowledge(0), Some(0x51));
    bench.self_ipi(0x62);
    assert_eq!(bench.acknowledge(0), Some(0x62));
    bench.write(0, EOI, 0);
    assert_eq!(bench.take_ended(), []);
    bench.write(0, EOI, 0);
    assert_eq!(bench.take_ended(), [0x51]);
    bench.write(0, EOI, 0);
    assert_eq!(bench.take_ended(), []);
    // The same vector, as an edge.
    bench.self_ipi(0x51);
    assert_eq!(bench.read(0, TMR + 2), 0);
}

#[test]
fn the_8259s_are_behind_lint0() {
    let bench = Bench::cold(2);
    bench.set_lint0(LineLevel::High);
    assert_eq!(bench.take_events(), [Event::Notify(0)]);
    assert_eq!(bench.pending(0), Some(0xff));
    assert_eq!(bench.pending(1), None);
    // No priority holds them back, and they are not in service.
    bench.write(0, SVR, 0x1ff);
    bench.write(0, TPR, 0xff);
    assert_eq!(bench.acknowledge(0), Some(0x33));
    assert_eq!(*bench.neighbours.acknowledged.lock(), 1);
    assert_eq!(bench.read(0, PPR), 0xff);
    bench.set_lint0(LineLevel::Low);
    assert_eq!((bench.pending(0), bench.acknowledge(0)), (None, None));
    bench.write(0, LVT_LINT0, 0x1_0700);
    bench.set_lint0(LineLevel::High);
    assert_eq!(bench.pending(0), None);
    bench.write(0, LVT_LINT0, 0x700);
    assert_eq!(bench.pending(0), Some(0xff));
    // Without a local APIC the pin is the processor's.
    bench.write(0, LVT_LINT0, 0x1_0700);
    bench.apics[0].write_msr(BASE, ADDRESS).unwrap();
    assert_eq!(bench.acknowledge(0), Some(0x33));
}

#[test]
fn an_external_interrupt_by_message_waits_once() {
    let bench = Bench::xapic(2);
    let message = Message {
        destination: Destination::Physical(1),
        delivery: Delivery::ExtInt,
    };
    let _ = bench.bus.send(message);
    assert_eq!(bench.take_events(), [Event::Notify(1)]);
    assert_eq!(bench.acknowledge(1), Some(0x33));
    assert_eq!(bench.acknowledge(1), None);
}

#[test]
fn without_8259s_nothing_is_acknowledged() {
    let bus = ApicBus::new(1, TestClock::new(HZ), Events::new());
    let apic = bus.local(0).unwrap();
    bus.set_line(0, LineLevel::High);
    assert_eq!(apic.pending(), Some(0xff));
    assert_eq!(apic.acknowledge(), None);
}

#[test]
fn lint0_may_be_an_edge_or_a_level_of_its_own() {
    let bench = Bench::xapic(1);
    bench.write(0, LVT_LINT0, 0x61);
    bench.set_lint0(LineLevel::High);
    assert_eq!(bench.acknowledge(0), Some(0x61));
    bench.write(0, EOI, 0);
    assert_eq!(bench.pending(0), None);
    // It is high already.
    bench.write(0, LVT_LINT0, 0x8062);
    assert_eq!(bench.read(0, LVT_LINT0), 0xc062);
    assert_eq!(bench.acknowledge(0), Some(0x62));
    bench.write(0, EOI, 0);
    assert_eq!(bench.acknowledge(0), Some(0x62));
    bench.set_lint0(LineLevel::Low);
    bench.write(0, EOI, 0);
    assert_eq!(bench.pending(0), None);
    assert_eq!(bench.read(0, LVT_LINT0), 0x8062);
}

#[test]
fn lint_pins_bring_nmis() {
    let bench = Bench::xapic(2);
    bench.bus.set_lint1(1, LineLevel::High);
    bench.bus.set_lint1(1, LineLevel::Low);
    assert_eq!(bench.take_events(), []);
    bench.write(1, LVT_LINT1, 0x400);
    bench.bus.set_lint1(1, LineLevel::High);
    bench.bus.set_lint1(1, LineLevel::High);
    assert_eq!(bench.take_events(), [Event::Nmi(1)]);
    bench.bus.set_lint1(1, LineLevel::Low);
    bench.write(1, LVT_LINT1, 0x500);
    bench.bus.set_lint1(1, LineLevel::High);
    assert_eq!(bench.take_events(), [Event::Init(1)]);
    bench.write(0, LVT_LINT1, 0x57);
    bench.bus.set_lint1(0, LineLevel::High);
    assert_eq!(bench.acknowledge(0), Some(0x57));
    bench.bus.set_lint1(0, LineLevel::Low);
    bench.write(0, LVT_LINT1, 0x357);
    bench.bus.set_lint1(0, LineLevel::High);
    assert_eq!(bench.pending(0), None);
}
