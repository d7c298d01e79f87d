//! Priorities against a model that is as plain as the manual: arrays of booleans, and a search for each question.

use proptest::prelude::*;

use super::super::{Delivery, Destination, Message, TriggerMode};
use super::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    Edge(u8),
    Level(u8),
    Acknowledge,
    End,
    TaskPriority(u8),
    Enable(bool),
}

fn any_step() -> impl Strategy<Value = Step> {
    // Few vectors, so that they meet.
    let vector = (0u8..32).prop_map(|index| index.wrapping_mul(9));
    prop_oneof![
        3 => vector.clone().prop_map(Step::Edge),
        2 => vector.prop_map(Step::Level),
        3 => Just(Step::Acknowledge),
        3 => Just(Step::End),
        1 => any::<u8>().prop_map(Step::TaskPriority),
        1 => prop::bool::weighted(0.8).prop_map(Step::Enable),
    ]
}

struct Model {
    request: [bool; 256],
    service: [bool; 256],
    level: [bool; 256],
    task: usize,
    enabled: bool,
    ended: Vec<u8>,
}

impl Model {
    fn top(set: &[bool; 256]) -> Option<usize> {
        (0..256).rev().find(|vector| set[*vector])
    }

    fn pending(&self) -> Option<usize> {
        let served = Self::top(&self.service).map_or(0, |vector| vector / 16);
        let bar = served.max(self.task / 16);
        Self::top(&self.request).filter(|vector| vector / 16 > bar)
    }

    fn take(&mut self, step: Step) -> Option<usize> {
        match step {
            Step::Edge(vector) | Step::Level(vector) => {
                if self.enabled && vector >= 16 {
                    let vector = usize::from(vector);
                    self.request[vector] = true;
                    self.level[vector] = matches!(step, Step::Level(_));
                }
                None
            }
            Step::Acknowledge => {
                let vector = self.pending()?;
                self.request[vector] = false;
                self.service[vector] = true;
                Some(vector)
            }
            Step::End => {
                let vector = Self::top(&self.service)?;
                self.service[vector] = false;
                if self.level[vector] {
                    self.ended.push(vector as u8);
                }
                None
            }
            Step::TaskPriority(priority) => {
                self.task = priority.into();
                None
            }
            Step::Enable(enabled) => {
                self.enabled = enabled;
                None
            }
        }
    }
}

fn register_of(set: &[bool; 256], index: usize) -> u32 {
    (0..32).fold(0, |word, bit| {
        word | u32::from(set[32 * index + bit]) << bit
    })
}

proptest! {
    #[test]
    fn priorities_are_those_of_the_manual(steps in prop::collection::vec(any_step(), 1..200)) {
        let bench = Bench::xapic(1);
        let mut model = Model {
            request: [false; 256],
            service: [false; 256],
            level: [false; 256],
            task: 0,
            enabled: true,
            ended: Vec::new(),
        };
        for step in steps {
            let send = |vector, trigger| {
                let destination = Destination::Physical(0);
                let delivery = Delivery::Fixed { vector, trigger };
                let _ = bench.bus.send(Message { destination, delivery });
                None
            };
            let expected = model.take(step);
            let got = match step {
                Step::Edge(vector) => send(vector, TriggerMode::Edge),
                Step::Level(vector) => send(vector, TriggerMode::Level),
                Step::Acknowledge => bench.acknowledge(0),
                Step::End => {
                    bench.write(0, EOI, 0);
                    None
                }
                Step::TaskPriority(priority) => {
                    bench.write(0, TPR, priority.into());
                    None
                }
                Step::Enable(enabled) => {
                    bench.write(0, SVR, u32::from(enabled) << 8);
                    None
                }
            };
            prop_assert_eq!(got.map(usize::from), expected);
            prop_assert_eq!(bench.pending(0).map(usize::from), model.pending());
            for index in 0..8 {
                let register = index as u32;
                prop_assert_eq!(bench.read(0, IRR + register), register_of(&model.request, index));
                prop_assert_eq!(bench.read(0, ISR + register), register_of(&model.service, index));
                prop_assert_eq!(bench.read(0, TMR + register), register_of(&model.level, index));
            }
        }
        prop_assert_eq!(bench.take_ended(), model.ended);
    }
}
