//! Who gets which message.

use super::super::{Acceptance, Delivery, Destination, DestinationMode, Message, TriggerMode};
use super::*;

const LOGICAL: u32 = 1 << 11;
const LEVEL_DEASSERT: u32 = 1 << 15;
const ASSERT: u32 = 1 << 14;
const SELF: u32 = 1 << 18;
const EVERYONE: u32 = 2 << 18;
const OTHERS: u32 = 3 << 18;
const LOWEST: u32 = 1 << 8;
const SMI: u32 = 2 << 8;
const NMI: u32 = 4 << 8;
const INIT: u32 = 5 << 8;
const STARTUP: u32 = 6 << 8;
const EXT_INT: u32 = 7 << 8;

impl Bench {
    /// vCPU `cpu` sends by its xAPIC.
    fn send(&self, cpu: usize, destination: u32, command: u32) {
        self.write(cpu, ICR_HIGH, destination << 24);
        self.write(cpu, ICR, command);
    }

    fn send_x2(&self, cpu: usize, destination: u32, command: u32) {
        self.wrmsr(cpu, ICR, u64::from(destination) << 32 | u64::from(command))
            .unwrap();
    }
}

fn fixed(destination: Destination, vector: u8) -> Message {
    Message {
        destination,
        delivery: Delivery::Fixed {
            vector,
            trigger: TriggerMode::Edge,
        },
    }
}

#[test]
fn fixed_interrupts_reach_whom_they_are_for() {
    let all = [0, 1, 2, 3].as_slice();
    for (destination, command, expected) in [
        (2, 0x40, [2].as_slice()),
        (1, 0x40, &[1]),
        (4, 0x40, &[]),
        (0xfe, 0x40, &[]),
        (0xff, 0x40, all),
        (0xff, 0x40 | LOGICAL, all),
        (2, 0x40 | SELF, &[1]),
        (2, 0x40 | EVERYONE, all),
        (2, 0x40 | OTHERS, &[0, 2, 3]),
        // The trigger mode does not count.
        (2, 0x40 | LEVEL_DEASSERT, &[2]),
        (2, 0x40 | LEVEL_DEASSERT | ASSERT, &[2]),
    ] {
        let bench = Bench::xapic(4);
        bench.send(1, destination, command);
        assert_eq!(
            bench.interrupted(),
            expected,
            "{destination:#x} {command:#x}"
        );
        for cpu in expected {
            assert_eq!(bench.pending(*cpu), Some(0x40));
            assert_eq!(bench.read(*cpu, TMR + 2), 0);
        }
        // Oneself need not be told.
        let told = expected
            .iter()
            .filter(|cpu| **cpu != 1 || command & (3 << 18) != SELF);
        let told: Vec<Event> = told.map(|cpu| Event::Notify(*cpu)).collect();
        assert_eq!(bench.take_events(), told);
        assert_eq!(bench.read(1, ICR), command);
    }
}

#[test]
fn x2apic_interrupts_reach_whom_they_are_for() {
    let all: Vec<usize> = (0..20).collect();
    let cluster_1 = 1 << 16;
    for (destination, command, expected) in [
        (17, 0x40, alloc::vec![17]),
        (20, 0x40, alloc::vec![]),
        (0xff, 0x40, alloc::vec![]),
        (0x100, 0x40, alloc::vec![]),
        (u32::MAX, 0x40, all.clone()),
        (u32::MAX, 0x40 | LOGICAL, all.clone()),
        (0b1010, 0x40 | LOGICAL, alloc::vec![1, 3]),
        (cluster_1 | 0b1001, 0x40 | LOGICAL, alloc::vec![16, 19]),
        (cluster_1 | 0xfff0, 0x40 | LOGICAL, alloc::vec![]),
        (2 << 16 | 1, 0x40 | LOGICAL, alloc::vec![]),
        (0, 0x40 | SELF, alloc::vec![5]),
        (0, 0x40 | EVERYONE, all.clone()),
        (
            0,
            0x40 | OTHERS,
            all.iter().copied().filter(|cpu| *cpu != 5).collect(),
        ),
    ] {
        let bench = Bench::x2apic(20);
        bench.send_x2(5, destination, command);
        assert_eq!(
            bench.interrupted(),
            expected,
            "{destination:#x} {command:#x}"
        );
        let icr = u64::from(destination) << 32 | u64::from(command);
        assert_eq!(bench.rdmsr(5, ICR), Ok(icr));
    }
}

#[test]
fn flat_logical_ids_match_by_any_bit() {
    let bench = Bench::xapic(4);
    for cpu in 0..4 {
        bench.write(cpu, LDR, 1 << (24 + cpu));
    }
    // In no model at all.
    bench.write(3, DFR, 0x5fff_ffff);
    bench.send(0, 0b1110, 0x40 | LOGICAL);
    assert_eq!(bench.interrupted(), [1, 2]);
    bench.write(0, LDR, 0);
    bench.send(0, 0b1, 0x41 | LOGICAL);
    assert_eq!(bench.pending(0), None);
}

#[test]
fn cluster_logical_ids_match_by_cluster_and_any_bit() {
    let bench = Bench::xapic(5);
    for (cpu, id) in [0x11, 0x12, 0x14, 0x21, 0x22].into_iter().enumerate() {
        bench.write(cpu, DFR, 0x0fff_ffff);
        bench.write(cpu, LDR, id << 24);
    }
    for (vector, destination, expected) in [
        (0x30, 0x13, [0, 1].as_slice()),
        (0x40, 0x23, &[0, 1, 3, 4]),
        (0x50, 0x1f, &[0, 1, 2, 3, 4]),
    ] {
        bench.send(4, destination, vector | LOGICAL);
        assert_eq!(bench.interrupted(), expected, "{destination:#x}");
    }
    assert_eq!(bench.pending(3), Some(0x40));
    assert_eq!(bench.pending(2), Some(0x50));
}

#[test]
fn eight_bits_reach_x2apics_of_small_numbers() {
    let bench = Bench::x2apic(20);
    let physical = |bits| Destination::of_eight_bits(bits, DestinationMode::Physical);
    let logical = |bits| Destination::of_eight_bits(bits, DestinationMode::Logical);
    assert_eq!(
        bench.bus.send(fixed(physical(19), 0x40)),
        Acceptance::Accepted
    );
    assert_eq!(bench.interrupted(), [19]);
    assert_eq!(
        bench.bus.send(fixed(logical(0x81), 0x41)),
        Acceptance::Accepted
    );
    assert_eq!(bench.interrupted(), [0, 7, 19]);
    assert_eq!(
        bench.bus.send(fixed(physical(20), 0x42)),
        Acceptance::Refused
    );
    assert_eq!(
        bench.bus.send(fixed(physical(0xff), 0x43)),
        Acceptance::Accepted
    );
    assert_eq!(bench.interrupted().len(), 20);
}

#[test]
fn the_lowest_priority_is_that_of_what_is_done_now() {
    let bench = Bench::xapic(4);
    for cpu in 0..4 {
        bench.write(cpu, LDR, 1 << (24 + cpu));
    }
    bench.write(0, TPR, 0x50);
    bench.write(1, TPR, 0x30);
    bench.write(3, SVR, 0xff);
    // vCPU 2 serves something.
    bench.send(0, 2, 0x60);
    assert_eq!(bench.acknowledge(2), Some(0x60));
    bench.send(0, 0xff, 0x90 | LOWEST | LOGICAL);
    assert_eq!(bench.interrupted(), [1]);
    bench.write(2, EOI, 0);
    bench.send(0, 0xff, 0x91 | LOWEST | LOGICAL);
    assert_eq!(bench.interrupted(), [1, 2]);
    bench.send(0, 0b0001, 0x92 | LOWEST | LOGICAL);
    assert_eq!(bench.interrupted(), [0, 1, 2]);
    bench.send(0, 0b1000, 0x93 | LOWEST | LOGICAL);
    assert_eq!(bench.pending(3), None);
}

#[test]
fn nmi_init_and_startup_are_told_to_vcpus() {
    let bench = Bench::xapic(3);
    bench.send(0, 1, NMI);
    assert_eq!(bench.take_events(), [Event::Nmi(1)]);
    bench.send(0, 0, NMI | OTHERS);
    assert_eq!(bench.take_events(), [Event::Nmi(1), Event::Nmi(2)]);
    bench.send(0, 0, NMI | SELF);
    assert_eq!(bench.take_events(), [Event::Nmi(0)]);
    bench.send(0, 1, INIT | ASSERT | LEVEL_DEASSERT);
    assert_eq!(bench.take_events(), [Event::Init(1)]);
    // The old de-assertion, to all, means nothing any more.
    bench.send(0, 1, INIT | LEVEL_DEASSERT);
    bench.send(0, 0, INIT | LEVEL_DEASSERT | EVERYONE);
    assert_eq!(bench.take_events(), []);
    bench.send(0, 1, STARTUP | 0x9a);
    assert_eq!(bench.take_events(), [Event::Startup(1, 0x9a)]);
    bench.send(0, 1, STARTUP);
    assert_eq!(bench.take_events(), [Event::Startup(1, 0)]);
    bench.send(0, 0, INIT | ASSERT | OTHERS);
    assert_eq!(bench.take_events(), [Event::Init(1), Event::Init(2)]);
    for nothing in [SMI, 3 << 8, EXT_INT] {
        bench.send(0, 1, nothing | 0x40);
    }
    assert_eq!(bench.take_events(), []);
    assert_eq!(bench.interrupted(), [0; 0]);
}

#[test]
fn init_resets_all_but_the_mode_and_the_ids() {
    let bench = Bench::x2apic(3);
    bench.wrmsr(2, TPR, 0x20).unwrap();
    bench.send_x2(0, 2, 0x40);
    bench.send_x2(0, 2, INIT | ASSERT);
    assert_eq!(bench.interrupted(), [0; 0]);
    assert_eq!(bench.rdmsr(2, ID), Ok(2));
    assert_eq!(bench.rdmsr(2, LDR), Ok(4));
    assert_eq!(bench.rdmsr(2, SVR), Ok(0xff));
    assert_eq!(bench.rdmsr(2, TPR), Ok(0));
}

#[test]
fn who_is_off_by_software_takes_no_vectors() {
    let bench = Bench::cold(2);
    assert_eq!(
        bench.bus.send(fixed(Destination::Physical(1), 0x40)),
        Acceptance::Refused
    );
    bench.send(0, 1, NMI);
    bench.send(0, 1, INIT | ASSERT);
    bench.send(0, 1, STARTUP | 1);
    assert_eq!(
        bench.take_events(),
        [Event::Nmi(1), Event::Init(1), Event::Startup(1, 1)]
    );
    bench.apics[1].write_msr(BASE, ADDRESS).unwrap();
    for command in [0x40, NMI, INIT | ASSERT, STARTUP | 1] {
        bench.send(0, 1, command);
    }
    assert_eq!(bench.take_events(), []);
}

#[test]
fn vectors_below_16_are_errors() {
    for vector in 0..16 {
        let bench = Bench::xapic(2);
        for command in [vector, vector | LOWEST, vector | SELF, vector | EVERYONE] {
            bench.send(0, 1, command);
        }
        assert_eq!(bench.interrupted(), [0; 0]);
        bench.write(0, ESR, 0);
        assert_eq!(bench.read(0, ESR), 1 << 5);
        let message = fixed(Destination::Physical(1), vector as u8);
        assert_eq!(bench.bus.send(message), Acceptance::Refused);
        bench.write(1, ESR, 0);
        assert_eq!(bench.read(1, ESR), 1 << 6);
    }
    let bench = Bench::x2apic(1);
    bench.wrmsr(0, SELF_IPI, 15).unwrap();
    bench.wrmsr(0, ESR, 0).unwrap();
    assert_eq!(bench.rdmsr(0, ESR), Ok(1 << 5));
}

#[test]
fn a_self_ipi_is_an_edge() {
    let bench = Bench::x2apic(2);
    bench.wrmsr(1, SELF_IPI, 0xf2).unwrap();
    assert_eq!(bench.interrupted(), [1]);
    assert_eq!(bench.acknowledge(1), Some(0xf2));
    bench.wrmsr(1, EOI, 0).unwrap();
    assert_eq!(bench.take_ended(), []);
    assert_eq!(bench.take_events(), []);
}

#[test]
fn vcpus_are_told_once_until_they_look() {
    let bench = Bench::xapic(2);
    bench.send(0, 1, 0x40);
    bench.send(0, 1, 0x40);
    bench.send(0, 1, 0x90);
    assert_eq!(bench.take_events(), [Event::Notify(1)]);
    assert_eq!(bench.acknowledge(1), Some(0x90));
    // Held back by what is served.
    assert_eq!(bench.pending(1), None);
    bench.send(0, 1, 0x41);
    assert_eq!(bench.take_events(), []);
    bench.send(0, 1, 0xa0);
    assert_eq!(bench.take_events(), [Event::Notify(1)]);
}

#[test]
fn there_is_nobody_behind_other_numbers() {
    let bench = Bench::xapic(2);
    assert!(bench.bus.local(2).is_none());
    assert!(bench.bus.local(usize::MAX).is_none());
    bench.bus.set_line(2, LineLevel::High);
    bench.bus.set_lint1(usize::MAX, LineLevel::High);
    let message = fixed(Destination::Physical(u32::MAX), 0x40);
    assert_eq!(bench.bus.send(message), Acceptance::Refused);
    assert_eq!(bench.take_events(), []);
}
