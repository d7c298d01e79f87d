//! The PLIC against a model without bitmaps and shortcuts, and against a guest that does anything at all.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::testing::any_width;

#[derive(Clone, Default)]
struct Source {
    priority: u32,
    high: bool,
    pending: bool,
    in_service: bool,
}

impl Source {
    fn request(&mut self) {
        self.pending |= self.high && !self.in_service;
    }
}

#[derive(Clone, Default)]
struct Target {
    enabled: BTreeSet<usize>,
    threshold: u32,
}

/// Sources (with one for number 0, which is never used) and contexts.
struct Model {
    sources: Vec<Source>,
    targets: Vec<Target>,
}

impl Model {
    fn new(sources: u32, contexts: usize) -> Self {
        let count = sources as usize + 1;
        Self {
            sources: alloc::vec![Source::default(); count],
            targets: alloc::vec![Target::default(); contexts],
        }
    }

    fn exists(&self, source: usize) -> bool {
        source != 0 && source < self.sources.len()
    }

    fn bits(&self, word: usize, member: impl Fn(usize) -> bool) -> u32 {
        (0..32)
            .filter(|bit| self.exists(32 * word + bit) && member(32 * word + bit))
            .fold(0, |bits, bit| bits | 1 << bit)
    }

    fn candidates(&self, target: &Target) -> Vec<usize> {
        let sources = (1..self.sources.len()).filter(|source| {
            let Source {
                priority, pending, ..
            } = self.sources[*source];
            pending && priority > 0 && target.enabled.contains(source)
        });
        sources.collect()
    }

    fn level(&self, context: usize) -> LineLevel {
        let target = &self.targets[context];
        let candidates = self.candidates(target);
        if candidates
            .iter()
            .any(|source| self.sources[*source].priority > target.threshold)
        {
            LineLevel::High
        } else {
            LineLevel::Low
        }
    }

    fn claim(&mut self, context: usize) -> u32 {
        let mut candidates = self.candidates(&self.targets[context]);
        candidates.sort_by_key(|source| (7 - self.sources[*source].priority, *source));
        let Some(source) = candidates.first() else {
            return 0;
        };
        self.sources[*source].pending = false;
        self.sources[*source].in_service = true;
        *source as u32
    }

    fn complete(&mut self, context: usize, source: usize) {
        if self.exists(source) && self.targets[context].enabled.contains(&source) {
            self.sources[source].in_service = false;
            self.sources[source].request();
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Line(u32, LineLevel),
    Priority(usize, u32),
    Enable(usize, usize, u32),
    Threshold(usize, u32),
    Claim(usize),
    Complete(usize, u32),
    CompleteClaimed(usize),
    ReadPending(usize),
    ReadEnable(usize, usize),
}

const CONTEXTS: usize = 6;

fn any_step(sources: u32) -> impl Strategy<Value = Step> {
    // One past the last, as far as there are registers for it.
    let source = move || 0..(sources + 2).min(1024);
    let words = (sources as usize / 32 + 2).min(32);
    let level = prop::sample::select(&[LineLevel::Low, LineLevel::High, LineLevel::High][..]);
    // Mostly a few bits, so that contexts differ.
    let bits = prop_oneof![
        any::<u32>(),
        Just(u32::MAX),
        (0..32u32).prop_map(|bit| 1 << bit)
    ];
    prop_oneof![
        6 => (source(), level).prop_map(|(source, level)| Step::Line(source, level)),
        4 => (source(), 0..10u32).prop_map(|(source, value)| Step::Priority(source as usize, value)),
        4 => (0..CONTEXTS, 0..words, bits)
            .prop_map(|(context, word, bits)| Step::Enable(context, word, bits)),
        2 => (0..CONTEXTS, 0..10u32).prop_map(|(context, value)| Step::Threshold(context, value)),
        5 => (0..CONTEXTS).prop_map(Step::Claim),
        2 => (0..CONTEXTS, source()).prop_map(|(context, source)| Step::Complete(context, source)),
        4 => (0..CONTEXTS).prop_map(Step::CompleteClaimed),
        1 => (0..words).prop_map(Step::ReadPending),
        1 => (0..CONTEXTS, 0..words).prop_map(|(context, word)| Step::ReadEnable(context, word)),
    ]
}

fn any_history() -> impl Strategy<Value = (u32, Vec<Step>)> {
    prop_oneof![Just(1), Just(31), Just(32), 1..96u32, Just(1023)].prop_flat_map(|sources| {
        (
            Just(sources),
            prop::collection::vec(any_step(sources), 1..300),
        )
    })
}

proptest! {
    #[test]
    fn it_does_what_the_model_does((sources, steps) in any_history()) {
        let cpus = Lines::new();
        let contexts = Plic::machine_supervisor_contexts(CONTEXTS / 2);
        let plic = Plic::new("plic", sources, &contexts, cpus.clone()).unwrap();
        let bench = Bench { plic, cpus };
        let mut model = Model::new(sources, CONTEXTS);
        let mut last_claimed = 0;
        for step in steps {
            match step {
                Step::Line(source, level) => {
                    bench.plic.set_line(source, level);
                    if model.exists(source as usize) {
                        let source = &mut model.sources[source as usize];
                        source.high = level == LineLevel::High;
                        source.request();
                    }
                }
                Step::Priority(source, value) => {
                    bench.write(4 * source as u64, value);
                    let exists = model.exists(source);
                    if exists {
                        model.sources[source].priority = value & 7;
                    }
                    let expected = if exists { value & 7 } else { 0 };
                    prop_assert_eq!(bench.read(4 * source as u64), expected);
                }
                Step::Enable(context, word, bits) => {
                    bench.write(enable(context as u64) + 4 * word as u64, bits);
                    for bit in 0..32 {
                        let source = 32 * word + bit;
                        if bits >> bit & 1 == 1 && model.exists(source) {
                            model.targets[context].enabled.insert(source);
                        } else {
                            model.targets[context].enabled.remove(&source);
                        }
                    }
                }
                Step::Threshold(context, value) => {
                    bench.write(threshold(context as u64), value);
                    model.targets[context].threshold = value & 7;
                    prop_assert_eq!(bench.read(threshold(context as u64)), value & 7);
                }
                Step::Claim(context) => {
                    let claimed = bench.read(claim(context as u64));
                    prop_assert_eq!(claimed, model.claim(context));
                    last_claimed = claimed;
                }
                Step::Complete(context, source) => {
                    bench.write(claim(context as u64), source);
                    model.complete(context, source as usize);
                }
                Step::CompleteClaimed(context) => {
                    bench.write(claim(context as u64), last_claimed);
                    model.complete(context, last_claimed as usize);
                }
                Step::ReadPending(word) => {
                    let expected = model.bits(word, |source| model.sources[source].pending);
                    prop_assert_eq!(bench.read(PENDING + 4 * word as u64), expected);
                }
                Step::ReadEnable(context, word) => {
                    let enabled = &model.targets[context].enabled;
                    let expected = model.bits(word, |source| enabled.contains(&source));
                    let offset = enable(context as u64) + 4 * word as u64;
                    prop_assert_eq!(bench.read(offset), expected);
                }
            }
            for cpu in 0..CONTEXTS / 2 {
                prop_assert_eq!(bench.line(cpu), model.level(2 * cpu + 1));
            }
        }
    }

    #[test]
    fn nothing_a_guest_does_breaks_the_plic(
        sources in 1..=1023u32,
        contexts in prop::collection::vec(any::<bool>(), 0..8),
        accesses in prop::collection::vec(
            (
                prop_oneof![
                    any::<u64>(),
                    0..Plic::MMIO_SIZE,
                    (0..0x2000u64).prop_map(|word| word * 4),
                    (0..0x400u64).prop_map(|word| 0x2000 + word * 4),
                    (0..10u64, 0..3u64).prop_map(|(context, word)| threshold(context) + word * 4),
                ],
                prop_oneof![Just(AccessWidth::Dword), any_width()],
                any::<u64>(),
            ),
            1..300,
        ),
    ) {
        let contexts: Vec<_> =
            contexts.iter().enumerate().map(|(cpu, drives)| drives.then_some(cpu)).collect();
        let plic = Plic::new("plic", sources, &contexts, Lines::new()).unwrap();
        for (offset, width, data) in accesses {
            plic.set_line(data as u32 % 1100, if data >> 40 & 1 == 0 { LineLevel::Low } else { LineLevel::High });
            let _ = plic.write(offset, width, data);
            if let Ok(value) = plic.read(offset, width) {
                prop_assert!(value <= u32::MAX.into());
            }
        }
        plic.reset();
    }
}

/// Whatever order two pCPUs take, the last word that a vCPU hears is the truth.
#[test]
fn concurrent_changes_leave_no_stale_level() {
    extern crate std;

    let bench = Bench::with_enabled(&[1, 2]);
    std::thread::scope(|scope| {
        for source in [1, 2] {
            let bench = &bench;
            scope.spawn(move || {
                for _ in 0..2000 {
                    bench.raise(source);
                    bench.lower(source);
                    let claimed = bench.read(claim(CPU0));
                    bench.write(claim(CPU0), claimed);
                }
            });
        }
    });
    while bench.read(claim(CPU0)) != 0 {}
    assert_eq!(bench.line(0), LineLevel::Low);
    assert_eq!(bench.cpus.changes() % 2, 0);
}
