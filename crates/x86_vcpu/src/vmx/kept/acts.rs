//! What guests and those around them do: anything that makes sense, in any order.

extern crate std;

use alloc::vec;

use axdevice::ApicMode;
use axvcpu::LineLevel;
use proptest::prelude::*;

use super::{board::News, processor::Form};

/// Where the vCPU is when something happens elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In its guest.
    Guest,
    /// Out of it.
    Hypervisor,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    Interrupts(bool),
    Cr8(u8),
    Write(u16, u32, Form),
    Read(u16),
    Switch(ApicMode),
    Halt,
    /// One thing happens elsewhere, or two at once.
    Outside(News, Option<News>, Place),
    /// Right after the guest's STI.
    InShadow(News),
    /// The vCPU goes to a pCPU, which may be the same.
    Move,
    Fault,
    PowerOn,
}

/// Vectors that only edges have, of few classes so that they meet.
const EDGES: [u8; 7] = [0x31, 0x45, 0x46, 0x52, 0x68, 0x83, 0xf1];

fn edge() -> impl Strategy<Value = u8> {
    prop::sample::select(&EDGES[..])
}

/// Of an ICR: to itself, to one of the two, or to all, with a vector or another that must not be.
fn command() -> impl Strategy<Value = u32> {
    let vector = prop_oneof![12 => edge(), 1 => Just(0x0b)];
    let target = prop::sample::select(&[0u32, 1 << 18, 1 << 18, 2 << 18, 3 << 18][..]);
    let mode = prop_oneof![8 => Just(0u32), 1 => Just(1 << 8), 1 => Just(1 << 14)];
    let destination = prop::sample::select(&[0u32, 1 << 24][..]);
    (vector, target, mode, destination, any::<bool>()).prop_map(
        |(vector, target, mode, destination, is_level)| {
            // A level does not matter to anyone but to the processor, which leaves it to software.
            let level = if is_level { 1 << 15 } else { 0 };
            u32::from(vector) | target | mode | level | destination
        },
    )
}

fn write() -> impl Strategy<Value = (u16, u32)> {
    let priority = (0u32..16, 0u32..16).prop_map(|(class, rest)| class << 4 | rest);
    let lint0 = prop::sample::select(&[0x700u32, 0x1_0700, 0x8072, 0x1_8072, 0x73][..]);
    prop_oneof![
        5 => Just((0x0b, 0)),
        3 => priority.prop_map(|value| (0x08, value)),
        // The shorthand is in bits that are reserved beside a destination.
        4 => command().prop_map(|value| (0x30, value & 0x00ff_ffff)),
        1 => command().prop_map(|value| (0x30, value)),
        2 => prop::sample::select(&[0u32, 1 << 24, 0xff << 24][..]).prop_map(|value| (0x31, value)),
        2 => prop_oneof![3 => Just(0x1ffu32), 1 => Just(0xff)].prop_map(|value| (0x0f, value)),
        1 => lint0.prop_map(|value| (0x35, value)),
        1 => prop::sample::select(&[0x1_0000u32, 0x45, 0x05][..]).prop_map(|value| (0x37, value)),
        1 => Just((0x28, 0)),
        1 => any::<u32>().prop_map(|value| (0x02, value)),
        1 => (0u32..256).prop_map(|value| (0x0d, value << 24)),
        2 => edge().prop_map(|vector| (0x3f, vector.into())),
        1 => Just((0x3f, 0x0b)),
    ]
}

fn level() -> impl Strategy<Value = LineLevel> {
    prop_oneof![Just(LineLevel::Low), Just(LineLevel::High)]
}

fn news() -> impl Strategy<Value = News> {
    prop_oneof![
        8 => edge().prop_map(News::Edge),
        4 => (0usize..2, level()).prop_map(|(number, level)| News::Line(number, level)),
        2 => level().prop_map(News::Input),
        1 => Just(News::Nmi),
        1 => prop::bool::weighted(0.3).prop_map(|init| if init { News::Init } else { News::Nmi }),
    ]
}

pub(super) fn act() -> impl Strategy<Value = Act> {
    let form = prop_oneof![5 => Just(Form::Plain), 1 => Just(Form::Unusual)];
    let place = prop_oneof![3 => Just(Place::Guest), 1 => Just(Place::Hypervisor)];
    let mode = prop_oneof![
        3 => Just(ApicMode::X2Apic),
        2 => Just(ApicMode::XApic),
        2 => Just(ApicMode::Disabled)
    ];
    // What nobody reads by a MOV without being told of an error is left out.
    let register = (0x02u16..0x3f).prop_filter(
        "a register",
        |index| matches!(index, 0x02 | 0x03 | 0x08..=0x0b | 0x0d..=0x28 | 0x30..=0x39 | 0x3e),
    );
    prop_oneof![
        10 => prop::bool::weighted(0.8).prop_map(Act::Interrupts),
        3 => (0u8..16).prop_map(Act::Cr8),
        14 => (write(), form).prop_map(|((index, value), form)| Act::Write(index, value, form)),
        4 => register.prop_map(Act::Read),
        1 => mode.prop_map(Act::Switch),
        3 => Just(Act::Halt),
        12 => (news(), prop::option::weighted(0.2, news()), place).prop_map(both),
        1 => Just(Act::Move),
        2 => news().prop_map(Act::InShadow),
        1 => Just(Act::Fault),
        1 => prop::bool::weighted(0.1).prop_map(|off| if off { Act::PowerOn } else { Act::Fault }),
    ]
}

/// A vCPU that goes down forgets what else came.
fn both((first, second, place): (News, Option<News>, Place)) -> Act {
    Act::Outside(first, second.filter(|_| first != News::Init), place)
}
