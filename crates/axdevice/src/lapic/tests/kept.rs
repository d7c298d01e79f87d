//! Local APICs whose registers hardware keeps: what it must be told, what the guest finds in the page, and what its writes there do. The
//! hardware is played by the tests, after Intel SDM volume 3, chapter 30.

mod told;

use axaddrspace::{
    AxMmHal, FrameSize, GuestPhysAddr, HostPhysAddr, HostVirtAddr, PcpuMask, SharedPage,
};

use super::*;
use crate::{ApicMode, HandOver, Keeps, Schedule, Standing, Timed};

/// A host whose physical memory is the developer's machine's; frames are never given back.
struct Host;

#[repr(align(4096))]
struct Frame(#[expect(dead_code, reason = "reached by its address")] [u8; 4096]);

impl AxMmHal for Host {
    fn alloc_frame(_: FrameSize) -> Option<HostPhysAddr> {
        let frame: *mut Frame = Box::leak(Box::new(Frame([0; 4096])));
        Some(HostPhysAddr::new(frame.expose_provenance() as u64))
    }

    fn dealloc_frame(_: HostPhysAddr, _: FrameSize) {}

    fn phys_to_virt(addr: HostPhysAddr) -> HostVirtAddr {
        HostVirtAddr::new(addr.as_u64())
    }

    fn virt_to_phys(addr: HostVirtAddr) -> HostPhysAddr {
        HostPhysAddr::new(addr.as_u64())
    }

    fn flush_nested(_: PcpuMask, _: GuestPhysAddr, _: u64) {}
}

/// vCPU 0's hardware.
struct Kept {
    bench: Bench,
    page: SharedPage,
}

impl Kept {
    /// A bench, just powered on, whose first local APIC is kept.
    fn cold(keeps: Keeps) -> Self {
        let bench = Bench::cold(2);
        let page = SharedPage::new::<Host>().unwrap();
        bench.apics[0].keep_in(page.clone(), keeps);
        Self { bench, page }
    }

    /// All are switched on by software, and nothing is left to be told.
    fn new(keeps: Keeps) -> Self {
        let kept = Self::cold(keeps);
        kept.bench.write(0, SVR, 0x1ff);
        kept.bench.write(1, SVR, 0x1ff);
        kept.hand_over();
        kept
    }

    fn hand_over(&self) -> HandOver {
        self.bench.apics[0].hand_over()
    }

    /// What the guest finds in the page.
    fn shown(&self, register: u32) -> u32 {
        self.page.read((register << 4) as usize)
    }

    /// The guest writes to the page, and the hardware does no more.
    fn put(&self, register: u32, value: u32) {
        self.page.write((register << 4) as usize, value);
    }

    /// The guest writes to the page, and exits.
    fn guest_writes(&self, register: u32, value: u32) -> Schedule {
        self.put(register, value);
        self.bench.apics[0].written((register << 4) as u16)
    }

    fn is_raised(&self) -> bool {
        self.bench.apics[0].flag().is_raised()
    }

    /// The bit of `vector` in a set of the page.
    fn has(&self, set: u32, vector: u8) -> bool {
        self.shown(set + u32::from(vector / 32)) >> (vector % 32) & 1 != 0
    }

    /// The hardware delivers or ends an interrupt.
    fn toggle(&self, set: u32, vector: u8) {
        let register = set + u32::from(vector / 32);
        self.put(register, self.shown(register) ^ 1 << (vector % 32));
    }
}

const REGISTERS: [Keeps; 2] = [Keeps::Registers, Keeps::Everything];

#[test]
fn the_page_shows_the_registers_from_the_start() {
    for keeps in REGISTERS {
        let kept = Kept::cold(keeps);
        assert!(kept.is_raised());
        let standing = Standing {
            mode: ApicMode::XApic,
            requested: 0,
            served: 0,
            levels: [0; 4],
        };
        assert_eq!(kept.hand_over(), HandOver::All(standing));
        assert!(!kept.is_raised());
        assert_eq!(kept.hand_over(), HandOver::Nothing);
        for register in [
            ID,
            VERSION,
            TPR,
            LDR,
            DFR,
            SVR,
            ESR,
            ICR,
            ICR_HIGH,
            LVT_TIMER,
            LVT_LINT0,
            LVT_LINT1,
            LVT_ERROR,
            INITIAL_COUNT,
            DIVIDE,
        ] {
            assert_eq!(
                kept.shown(register),
                kept.bench.read(0, register),
                "{register:#x}"
            );
        }
        assert_eq!(kept.shown(VERSION) & 0xff, 0x14);
    }
}

#[test]
fn a_write_has_its_effect_and_the_page_shows_what_became_of_it() {
    for keeps in REGISTERS {
        let kept = Kept::new(keeps);
        for (register, written, becomes) in [
            (ID, 0xff00_0000, 0),
            (LDR, 0x12ff_ffff, 0x1200_0000),
            (DFR, 0, 0x0fff_ffff),
            (LVT_TIMER, 0xffff_ffff, 0x0007_00ff),
            (LVT_LINT1, 0xffff_ffff, 0x0001_a7ff),
            (ESR, 0xffff_ffff, 0),
            (DIVIDE, 0xffff_ffff, 0xb),
            (SVR, 0xffff_ffff, 0x3ff),
        ] {
            kept.guest_writes(register, written);
            assert_eq!(kept.shown(register), becomes, "{register:#x}");
            assert_eq!(kept.bench.read(0, register), becomes, "{register:#x}");
        }
        // Off by software: the table is masked, also where it is shown.
        kept.guest_writes(LVT_LINT1, 0x700);
        kept.guest_writes(SVR, 0xff);
        assert_eq!(kept.shown(LVT_LINT1), 0x1_0700);
        assert!(!kept.is_raised());
    }
}

#[test]
fn a_timer_is_started_in_the_page() {
    for keeps in REGISTERS {
        let kept = Kept::new(keeps);
        kept.guest_writes(LVT_TIMER, 0x51);
        kept.guest_writes(DIVIDE, 0xb);
        assert_eq!(kept.guest_writes(INITIAL_COUNT, 100), Schedule::Changed);
        let apic = &kept.bench.apics[0];
        let deadline = apic.deadline();
        assert_eq!(kept.shown(INITIAL_COUNT), 100);
        kept.bench.clock.set(deadline);
        apic.advance(deadline);
        assert!(kept.is_raised());
        match keeps {
            Keeps::Everything => assert_eq!(kept.hand_over(), HandOver::Requests(0x51)),
            Keeps::TaskPriority | Keeps::Registers => {
                assert_eq!(kept.bench.acknowledge(0), Some(0x51));
            }
        }
    }
}

#[test]
fn an_access_to_a_part_of_a_register_changes_nothing() {
    for keeps in REGISTERS {
        let kept = Kept::new(keeps);
        kept.guest_writes(LVT_ERROR, 0x1_0033);
        kept.put(LVT_ERROR, 0xff33);
        kept.bench.apics[0].written((LVT_ERROR << 4) as u16 + 1);
        assert_eq!(kept.shown(LVT_ERROR), 0x1_0033);
        // Nowhere, and out of the page.
        for offset in [0x000, 0x2f0, 0x3f0, 0xffc, u16::MAX] {
            assert_eq!(kept.bench.apics[0].written(offset), Schedule::Kept);
        }
    }
}

/// The upper half of a command is written without an exit, and only its upper byte counts.
#[test]
fn a_command_is_in_the_page() {
    for keeps in REGISTERS {
        let kept = Kept::new(keeps);
        kept.put(ICR_HIGH, 0x0100_0000);
        // What another has changed meanwhile does not take it away.
        kept.bench.write(0, LVT_LINT0, 0x8041);
        kept.bench.set_lint0(LineLevel::High);
        kept.hand_over();
        kept.guest_writes(ICR, 0x51);
        assert_eq!(kept.bench.pending(1), Some(0x51));
        assert_eq!((kept.shown(ICR), kept.shown(ICR_HIGH)), (0x51, 0x0100_0000));
        assert_eq!(kept.bench.read(0, ICR_HIGH), 0x0100_0000);
        // It goes along into the other mode, as far as it means something there.
        kept.put(ICR, 0x4_0052);
        kept.bench.to_x2apic(0);
        assert_eq!(kept.bench.rdmsr(0, ICR), Ok(0x4_0052));
    }
}

#[test]
fn the_mode_and_what_follows_from_it_are_handed_over() {
    for keeps in REGISTERS {
        let kept = Kept::new(keeps);
        let mode = |kept: &Kept| match kept.hand_over() {
            HandOver::All(standing) => Some(standing.mode),
            HandOver::Nothing | HandOver::Requests(_) => None,
        };
        kept.bench.to_x2apic(0);
        assert!(kept.is_raised());
        assert_eq!(mode(&kept), Some(ApicMode::X2Apic));
        assert_eq!((kept.shown(ID), kept.shown(LDR)), (0, 1));
        kept.put(SELF_IPI, 3);
        kept.bench.apics[0].written(0x3f0);
        kept.bench.wrmsr(0, ESR, 0).unwrap();
        assert_eq!(kept.shown(ESR), 1 << 5, "a vector below 16");
        kept.bench.wrmsr(0, TPR, 0x20).unwrap();
        assert_eq!(kept.shown(TPR), 0x20);
        kept.bench.apics[0].write_msr(BASE, ADDRESS).unwrap();
        assert_eq!(mode(&kept), Some(ApicMode::Disabled));
        assert_eq!(kept.shown(TPR), 0);
        // There are no registers to write.
        kept.guest_writes(LVT_ERROR, 0x33);
        kept.bench.apics[0]
            .write_msr(BASE, ADDRESS | BASE_ENABLE)
            .unwrap();
        assert_eq!(mode(&kept), Some(ApicMode::XApic));
        assert_eq!(kept.shown(LVT_ERROR), 0x1_0000);
    }
}

#[test]
fn registers_show_what_software_delivers() {
    let kept = Kept::new(Keeps::Registers);
    kept.guest_writes(ICR, 0x4_0051);
    assert!(kept.is_raised() && kept.has(IRR, 0x51));
    assert_eq!(kept.hand_over(), HandOver::Nothing);
    assert_eq!(kept.bench.acknowledge(0), Some(0x51));
    assert!(!kept.has(IRR, 0x51) && kept.has(ISR, 0x51));
    assert!(!kept.is_raised());
    kept.guest_writes(ICR, 0x4_0052);
    assert!(!kept.is_raised(), "it is of the same class");
    kept.guest_writes(EOI, 0);
    assert!(!kept.has(ISR, 0x51) && kept.is_raised());
    let message = level(0x93);
    kept.bench.bus.send(message);
    assert!(kept.has(TMR, 0x93));
    assert_eq!(kept.bench.acknowledge(0), Some(0x93));
    kept.guest_writes(EOI, 7);
    assert_eq!(kept.bench.take_ended(), [0x93]);
}

fn level(vector: u8) -> Message {
    let trigger = TriggerMode::Level;
    Message {
        destination: Destination::Physical(0),
        delivery: Delivery::Fixed { vector, trigger },
    }
}

/// The guest changes its priority without a word: what that holds back is looked at before each entry, and told.
#[test]
fn the_task_priority_is_the_pages() {
    for keeps in [Keeps::TaskPriority, Keeps::Registers] {
        let kept = Kept::new(keeps);
        let apic = &kept.bench.apics[0];
        kept.put(TPR, 0x60);
        assert_eq!(
            (apic.read_msr(BASE).is_ok(), kept.bench.read(0, TPR)),
            (true, 0x60)
        );
        assert_eq!(kept.bench.read(0, PPR), 0x60);
        kept.bench.write(0, ICR, 0x4_0051);
        assert!(kept.is_raised());
        assert_eq!((apic.held_back(), apic.is_deliverable()), (Some(5), false));
        assert_eq!(kept.bench.acknowledge(0), None);
        kept.put(TPR, 0x40);
        assert_eq!((apic.held_back(), apic.is_deliverable()), (None, true));
        assert_eq!(kept.bench.acknowledge(0), Some(0x51));
        assert_eq!((kept.is_raised(), apic.held_back()), (false, None));
        // What is in service holds it back as well, until that ends.
        kept.bench.write(0, ICR, 0x4_0050);
        assert!(!kept.is_raised());
        kept.bench.write(0, EOI, 0);
        assert!(kept.is_raised());
        kept.bench.apics[0].reset();
        kept.hand_over();
        assert_eq!((kept.shown(TPR), kept.is_raised()), (0, false));
    }
}

#[test]
fn requests_are_handed_over_and_the_rest_is_the_hardwares() {
    let kept = Kept::new(Keeps::Everything);
    let apic = &kept.bench.apics[0];
    kept.bench.take_events();
    for vector in [0x51, 0x93, 0x20] {
        let trigger = TriggerMode::Edge;
        kept.bench.bus.send(Message {
            destination: Destination::Everyone,
            delivery: Delivery::Fixed { vector, trigger },
        });
    }
    let told = kept.bench.take_events();
    assert_eq!(told.len(), 3, "of the first each, and of the more urgent");
    assert_eq!((kept.bench.acknowledge(0), apic.held_back()), (None, None));
    assert!(kept.is_raised() && apic.is_deliverable() && !kept.has(IRR, 0x93));
    // Read by an access that exits, it is there already.
    assert_eq!(kept.bench.read(0, IRR + 4), 1 << (0x93 - 0x80));
    assert_eq!(kept.hand_over(), HandOver::Requests(0x93));
    assert!(!kept.is_raised() && apic.is_deliverable());
    assert!(
        [0x51, 0x93, 0x20]
            .iter()
            .all(|&vector| kept.has(IRR, vector))
    );
    kept.toggle(IRR, 0x93);
    kept.toggle(ISR, 0x93);
    assert!(!apic.is_deliverable());
    assert_eq!(
        (kept.bench.read(0, PPR), kept.bench.read(0, APR)),
        (0x90, 0x90)
    );
    assert_eq!(kept.bench.read(0, ISR + 4), 1 << (0x93 - 0x80));
    // An end that the hardware leaves to us.
    kept.bench.write(0, EOI, 0);
    assert!(kept.is_raised());
    let HandOver::All(standing) = kept.hand_over() else {
        panic!("what is in service has changed");
    };
    assert_eq!((standing.requested, standing.served), (0x51, 0));
    kept.put(TPR, 0x50);
    assert!(!apic.is_deliverable());
    kept.put(TPR, 0x40);
    assert!(apic.is_deliverable());
}

#[test]
fn ends_of_levels_are_told() {
    let kept = Kept::new(Keeps::Everything);
    kept.bench.bus.send(level(0x93));
    let HandOver::All(standing) = kept.hand_over() else {
        panic!("another vector asks by level");
    };
    assert_eq!(standing.levels, [0, 0, 1 << (0x93 - 0x80), 0]);
    assert_eq!((standing.requested, standing.served), (0x93, 0));
    assert!(kept.has(TMR, 0x93));
    kept.bench.apics[0].ended(0x93);
    assert_eq!(kept.bench.take_ended(), [0x93]);
    kept.bench.bus.send(level(0x93));
    assert_eq!(kept.hand_over(), HandOver::Requests(0x93), "this is known");
    kept.bench.write(0, ICR, 0x4_0093);
    let HandOver::All(standing) = kept.hand_over() else {
        panic!("it asks by an edge now");
    };
    assert_eq!(standing.levels, [0; 4]);
    kept.bench.apics[0].ended(0x93);
    assert_eq!(kept.bench.take_ended(), []);
}

/// By who is elsewhere while the guest runs: its page is left alone until the vCPU comes.
#[test]
fn a_reset_reaches_the_page_with_the_vcpu() {
    let kept = Kept::new(Keeps::Everything);
    kept.guest_writes(LVT_ERROR, 0x33);
    kept.put(TPR, 0x20);
    kept.bench.bus.send(level(0x93));
    kept.hand_over();
    kept.bench.write(1, ICR_HIGH, 0);
    kept.bench.write(1, ICR, 0x4500);
    assert_eq!((kept.shown(LVT_ERROR), kept.shown(TPR)), (0x33, 0x20));
    assert!(kept.is_raised() && kept.has(IRR, 0x93));
    // What comes afterwards stays.
    kept.bench.write(0, SVR, 0x1ff);
    kept.bench.bus.send(Message {
        destination: Destination::Physical(0),
        delivery: Delivery::Fixed {
            vector: 0x41,
            trigger: TriggerMode::Edge,
        },
    });
    let HandOver::All(standing) = kept.hand_over() else {
        panic!("all is new");
    };
    assert_eq!((standing.requested, standing.served), (0x41, 0));
    assert_eq!((standing.mode, standing.levels), (ApicMode::XApic, [0; 4]));
    assert_eq!((kept.shown(LVT_ERROR), kept.shown(TPR)), (0x1_0000, 0));
    assert!(!kept.has(IRR, 0x93) && !kept.has(TMR, 0x93) && kept.has(IRR, 0x41));
}

/// What an 8259 has is injected, and taken only then.
#[test]
fn an_external_interrupt_is_not_handed_over() {
    for keeps in [Keeps::TaskPriority, Keeps::Registers, Keeps::Everything] {
        let kept = Kept::new(keeps);
        kept.bench.write(0, LVT_LINT0, 0x700);
        kept.bench.set_lint0(LineLevel::High);
        kept.put(TPR, 0xf0);
        kept.hand_over();
        assert!(kept.is_raised() && kept.bench.apics[0].is_deliverable());
        assert_eq!(kept.bench.apics[0].held_back(), None);
        assert_eq!(kept.bench.acknowledge(0), Some(0x33));
        kept.bench.set_lint0(LineLevel::Low);
        assert!(!kept.is_raised());
    }
}

/// The one with the least to do is found by what the page says.
#[test]
fn the_lowest_priority_is_looked_up_in_the_page() {
    for keeps in [Keeps::TaskPriority, Keeps::Registers, Keeps::Everything] {
        let kept = Kept::new(keeps);
        kept.put(TPR, 0x10);
        let (vector, trigger) = (0x51, TriggerMode::Edge);
        kept.bench.bus.send(Message {
            destination: Destination::Everyone,
            delivery: Delivery::LowestPriority { vector, trigger },
        });
        assert_eq!(kept.bench.interrupted(), [1]);
    }
}

/// Whatever a guest leaves in its page, it only harms itself: no panic, and the registers that cannot be written stay.
#[test]
fn a_page_full_of_rubbish_is_harmless() {
    for keeps in [Keeps::TaskPriority, Keeps::Registers, Keeps::Everything] {
        let kept = Kept::new(keeps);
        let mut seed = 0x9e37_79b9_u32;
        for round in 0..20_000_u32 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let offset = (seed >> 16 & 0xfff) as u16;
            kept.page.write(offset.into(), seed.rotate_left(round));
            kept.bench.apics[0].written(offset);
            kept.bench.apics[0].ended(seed as u8);
            kept.hand_over();
            kept.bench.acknowledge(0);
            let _ = kept.bench.apics[0].held_back();
        }
        assert_eq!(kept.bench.read(0, VERSION) & 0xff, 0x14);
        assert_eq!(
            kept.bench.apics[0].read_msr(BASE),
            Ok(ADDRESS | BASE_BSP | BASE_ENABLE)
        );
    }
}
