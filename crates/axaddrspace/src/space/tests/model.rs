//! Random calls, against a model that is a map of pages.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};

use super::*;

/// What the model knows of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    Linear {
        hpa: u64,
        flags: MappingFlags,
    },
    /// RAM, its first word if it has been touched.
    Ram {
        fill: Fill,
        word: Option<u64>,
        flags: MappingFlags,
    },
}

impl Page {
    fn flags(self) -> MappingFlags {
        match self {
            Self::Linear { flags, .. } | Self::Ram { flags, .. } => flags,
        }
    }
}

#[derive(Clone, Debug)]
enum Call {
    MapLinear {
        start: u64,
        hpa: u64,
        pages: u64,
        flags: MappingFlags,
    },
    MapAlloc {
        start: u64,
        pages: u64,
        flags: MappingFlags,
        fill: Fill,
    },
    Unmap {
        start: u64,
        pages: u64,
    },
    Fault {
        page: u64,
        access: MappingFlags,
    },
    Write {
        page: u64,
        word: u64,
    },
    Shortage(FrameSize),
}

/// All that is mapped lies in one window of this many pages, around a boundary of 1 GiB at which the root's index changes too.
const WINDOW: u64 = 6 * 512;
const BASE: u64 = (512 << 30) / K4 - WINDOW / 2;

fn page() -> impl Strategy<Value = u64> {
    // Often at the edges of large leaves.
    prop_oneof![0..WINDOW, (0..WINDOW / 512).prop_map(|block| block * 512)]
        .prop_map(|page| BASE + page)
}

fn pages() -> impl Strategy<Value = u64> {
    prop_oneof![
        1..8u64,
        500..530u64,
        (1..4u64).prop_map(|blocks| blocks * 512)
    ]
}

fn flags() -> impl Strategy<Value = MappingFlags> {
    prop_oneof![Just(MappingFlags::READ), Just(RW), Just(RWX)]
}

fn access() -> impl Strategy<Value = MappingFlags> {
    prop_oneof![
        Just(MappingFlags::READ),
        Just(MappingFlags::WRITE),
        Just(MappingFlags::EXECUTE)
    ]
}

fn fill() -> impl Strategy<Value = Fill> {
    prop_oneof![Just(Fill::Ahead), Just(Fill::Lazy)]
}

fn size() -> impl Strategy<Value = FrameSize> {
    prop_oneof![Just(FrameSize::Size16K), Just(FrameSize::Size2M)]
}

fn call() -> impl Strategy<Value = Call> {
    let device = any::<bool>().prop_map(|device| {
        if device {
            MappingFlags::DEVICE
        } else {
            MappingFlags::empty()
        }
    });
    let host = prop_oneof![0..4096u64, (0..8u64).prop_map(|block| block * 512)];
    prop_oneof![
        2 => (page(), host, pages(), flags(), device).prop_map(|(start, hpa, pages, flags, device)| {
            Call::MapLinear { start, hpa: (8 << 30) + hpa * K4, pages, flags: flags | device }
        }),
        3 => (page(), pages(), flags(), fill())
            .prop_map(|(start, pages, flags, fill)| Call::MapAlloc { start, pages, flags, fill }),
        3 => (page(), pages()).prop_map(|(start, pages)| Call::Unmap { start, pages }),
        4 => (page(), access()).prop_map(|(page, access)| Call::Fault { page, access }),
        4 => (page(), 1..u64::MAX).prop_map(|(page, word)| Call::Write { page, word }),
        1 => size().prop_map(Call::Shortage),
    ]
}

/// Makes the call on both, and compares what they answer.
fn apply(space: &mut AddrSpace<MockHal>, model: &mut BTreeMap<u64, Page>, call: Call) {
    match call {
        Call::MapLinear {
            start,
            hpa: host,
            pages,
            flags,
        } => {
            let answer = space.map_linear(gpa(start * K4), hpa(host), pages * K4, flags);
            let free = model.range(start..start + pages).next().is_none();
            assert_eq!(answer.is_ok(), free, "{answer:?}");
            if free {
                let page = |n| {
                    (
                        start + n,
                        Page::Linear {
                            hpa: host + n * K4,
                            flags,
                        },
                    )
                };
                model.extend((0..pages).map(page));
            }
        }
        Call::MapAlloc {
            start,
            pages,
            flags,
            fill,
        } => {
            let answer = space.map_alloc(gpa(start * K4), pages * K4, flags, fill);
            let free = model.range(start..start + pages).next().is_none();
            assert_eq!(answer.is_ok(), free, "{answer:?}");
            if free {
                let word = match fill {
                    Fill::Ahead => Some(0),
                    Fill::Lazy => None,
                };
                model.extend((0..pages).map(|n| (start + n, Page::Ram { fill, word, flags })));
            }
        }
        Call::Unmap { start, pages } => {
            space.unmap(gpa(start * K4), pages * K4).unwrap();
            let gone: Vec<_> = model
                .range(start..start + pages)
                .map(|(&page, _)| page)
                .collect();
            for page in gone {
                model.remove(&page);
            }
        }
        Call::Fault { page, access } => {
            let expected = match model.get(&page) {
                None => FaultOutcome::NotMapped,
                Some(found) if !found.flags().contains(access) => FaultOutcome::Denied,
                Some(_) => FaultOutcome::Filled,
            };
            let outcome = match space.handle_page_fault(gpa(page * K4 + 8), access) {
                FaultOutcome::WasFilled => FaultOutcome::Filled,
                other => other,
            };
            assert_eq!(outcome, expected);
            if expected == FaultOutcome::Filled {
                touch(space, model, page);
            }
        }
        Call::Write { page, word } => {
            let ram = match model.get(&page) {
                Some(Page::Ram { flags, .. }) => flags.contains(MappingFlags::WRITE),
                // No such memory exists on the machine that runs the tests.
                Some(Page::Linear { .. }) => return,
                None => false,
            };
            assert_eq!(space.memory().write_u64(gpa(page * K4), word).is_ok(), ram);
            if ram {
                touch(space, model, page);
                if let Some(Page::Ram { word: known, .. }) = model.get_mut(&page) {
                    *known = Some(word);
                }
            }
        }
        Call::Shortage(largest) => mock::restart(Shortage::Above(largest)),
    }
}

/// The model does not know how large a frame the touch of `page` brought; whatever it was, it lies within the region and is zero.
fn touch(space: &AddrSpace<MockHal>, model: &mut BTreeMap<u64, Page>, page: u64) {
    let block = page / 512 * 512;
    for (&at, known) in model.range_mut(block..block + 512) {
        let here = at == page || space.translate(gpa(at * K4)).is_some();
        match known {
            Page::Ram {
                word: word @ None, ..
            } if here => *word = Some(0),
            Page::Ram { .. } | Page::Linear { .. } => {}
        }
    }
}

/// Compares every page of the window.
fn compare(space: &mut AddrSpace<MockHal>, model: &BTreeMap<u64, Page>) {
    let mut ram = BTreeMap::new();
    for page in BASE - 1..BASE + 2 * WINDOW {
        let found = leads(space, page * K4).map(|(hpa, _)| hpa);
        match model.get(&page) {
            None | Some(Page::Ram { word: None, .. }) => assert_eq!(found, None),
            Some(&Page::Linear { hpa, flags }) => {
                assert_eq!(found, Some(hpa));
                assert_eq!(space.translate(gpa(page * K4)).unwrap().flags, flags);
            }
            Some(&Page::Ram {
                word: Some(word),
                flags,
                ..
            }) => {
                assert_eq!(space.translate(gpa(page * K4)).unwrap().flags, flags);
                assert_eq!(
                    ram.insert(found.unwrap(), page),
                    None,
                    "two pages share a frame"
                );
                assert_eq!(space.memory().read_u64(gpa(page * K4)), Ok(word));
            }
        }
    }
    let usage = space.usage();
    assert!(usage.ram_bytes >= ram.len() as u64 * K4);
    assert_eq!(usage.total_bytes(), mock::outstanding());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn any_calls_leave_what_the_model_says(
        mode in proptest::sample::select(&MODES[..]),
        calls in proptest::collection::vec(call(), 1..40),
    ) {
        mock::restart(Shortage::Above(FrameSize::Size2M));
        let mut space = space(mode);
        let mut model = BTreeMap::new();
        for call in calls {
            apply(&mut space, &mut model, call);
            mock::peek();
            compare(&mut space, &model);
        }
        space.unmap(gpa(0), 1 << mode.gpa_bits()).unwrap();
        assert_eq!(space.usage(), MemoryUsage { ram_bytes: 0, table_bytes: root_bytes(mode) });
        end(space);
    }
}
