//! Guests that do anything at all.

use proptest::prelude::*;

use super::*;
use crate::Timed;
use crate::testing::any_width;

#[derive(Clone, Debug)]
enum Step {
    Read(usize, u64, AccessWidth),
    Write(usize, u64, AccessWidth, u64),
    ReadMsr(usize, u32),
    WriteMsr(usize, u32, u64),
    Switch(usize, u64),
    Acknowledge(usize),
    Priority(usize, u8),
    Pass(usize, u64),
    Pin(usize, LineLevel),
    Reset(usize),
}

fn any_step() -> impl Strategy<Value = Step> {
    let cpu = 0usize..3;
    let msr = prop_oneof![0x800u32..0x900, Just(0x1b), Just(0x6e0), any::<u32>()];
    let offset = prop_oneof![(0u64..0x40).prop_map(|index| index << 4), 0u64..0x1000];
    let level = prop_oneof![Just(LineLevel::Low), Just(LineLevel::High)];
    let small = prop_oneof![0u64..0x1000, any::<u64>(), any::<u32>().prop_map(u64::from)];
    prop_oneof![
        2 => (cpu.clone(), offset.clone(), any_width()).prop_map(|(cpu, offset, width)| Step::Read(cpu, offset, width)),
        6 => (cpu.clone(), offset, small.clone()).prop_map(|(cpu, offset, data)| Step::Write(cpu, offset, AccessWidth::Dword, data & 0xffff_ffff)),
        2 => (cpu.clone(), msr.clone()).prop_map(|(cpu, msr)| Step::ReadMsr(cpu, msr)),
        6 => (cpu.clone(), msr, small.clone()).prop_map(|(cpu, msr, value)| Step::WriteMsr(cpu, msr, value)),
        2 => (cpu.clone(), 0u64..4).prop_map(|(cpu, bits)| Step::Switch(cpu, ADDRESS | bits << 10)),
        4 => cpu.clone().prop_map(Step::Acknowledge),
        1 => (cpu.clone(), any::<u8>()).prop_map(|(cpu, class)| Step::Priority(cpu, class)),
        2 => (cpu.clone(), small).prop_map(|(cpu, ticks)| Step::Pass(cpu, ticks >> 4)),
        2 => (cpu.clone(), level).prop_map(|(cpu, level)| Step::Pin(cpu, level)),
        1 => cpu.prop_map(Step::Reset),
    ]
}

proptest! {
    /// Nothing panics, what is said to wait is what is taken, and no vector below 16 ever is.
    #[test]
    fn nothing_breaks(steps in prop::collection::vec(any_step(), 1..300)) {
        let bench = Bench::xapic(3);
        let mut now = 0u64;
        for step in steps {
            match step {
                Step::Read(cpu, offset, width) => {
                    let value = bench.apics[cpu].read(offset, width);
                    prop_assert!(value.is_err() || value.unwrap() <= u32::MAX.into());
                }
                Step::Write(cpu, offset, width, data) => {
                    let _ = bench.apics[cpu].write(offset, width, data);
                }
                Step::ReadMsr(cpu, msr) => {
                    let _ = bench.apics[cpu].read_msr(msr);
                }
                Step::WriteMsr(cpu, msr, value) => {
                    let _ = bench.apics[cpu].write_msr(msr, value);
                }
                Step::Switch(cpu, base) => {
                    let before = bench.apics[cpu].read_msr(BASE).unwrap();
                    let after = match bench.apics[cpu].write_msr(BASE, base) {
                        Ok(_) => base | before & BASE_BSP,
                        Err(AccessFault) => before,
                    };
                    prop_assert_eq!(bench.apics[cpu].read_msr(BASE), Ok(after));
                }
                Step::Acknowledge(cpu) => {
                    let pending = bench.pending(cpu);
                    let taken = bench.acknowledge(cpu);
                    match (pending, taken) {
                        (Some(pending), Some(taken)) => {
                            prop_assert!(pending == taken || pending == 0xff && taken == 0x33);
                            prop_assert!(taken >= 16);
                        }
                        (None, None) => {}
                        _ => prop_assert!(false, "{:?} became {:?}", pending, taken),
                    }
                }
                Step::Priority(cpu, class) => {
                    bench.apics[cpu].set_task_priority(class);
                    prop_assert_eq!(bench.apics[cpu].task_priority(), class & 0xf);
                }
                Step::Pass(cpu, ticks) => {
                    now = now.saturating_add(ticks);
                    bench.clock.set(now);
                    let next = bench.apics[cpu].advance(now);
                    prop_assert_eq!(next, bench.apics[cpu].deadline());
                    prop_assert!(next > now);
                }
                Step::Pin(cpu, level) => {
                    bench.bus.set_line(cpu as u32, level);
                    bench.bus.set_lint1(cpu, level);
                }
                Step::Reset(cpu) => bench.apics[cpu].reset(),
            }
        }
    }
}
