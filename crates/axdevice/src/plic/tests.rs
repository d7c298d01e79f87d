//! Tests of the PLIC: every register, the life of a request, and a comparison with a model that is as plain as the specification.

mod model;

use alloc::string::ToString;
use alloc::sync::Arc;

use axvcpu::{AccessWidth, LineLevel};

use super::{Plic, PlicError};
use crate::testing::{Lines, WIDTHS};
use crate::{AccessFault, Device, InterruptController};

const PENDING: u64 = 0x1000;
/// The contexts of vCPU 0 and 1, numbered as on QEMU's `virt` board.
const CPU0: u64 = 1;
const CPU1: u64 = 3;

fn enable(context: u64) -> u64 {
    0x2000 + 0x80 * context
}

fn threshold(context: u64) -> u64 {
    0x20_0000 + 0x1000 * context
}

fn claim(context: u64) -> u64 {
    threshold(context) + 4
}

/// A PLIC and the lines of the vCPUs.
struct Bench {
    plic: Plic,
    cpus: Arc<Lines>,
}

impl Bench {
    /// Two vCPUs and `sources` sources.
    fn with_sources(sources: u32) -> Self {
        let cpus = Lines::new();
        let contexts = Plic::machine_supervisor_contexts(2);
        let plic = Plic::new("plic", sources, &contexts, cpus.clone()).unwrap();
        Self { plic, cpus }
    }

    /// As [`with_sources`](Self::with_sources) with 95 sources, of which `enabled` have priority 1 and are enabled for vCPU 0.
    fn with_enabled(enabled: &[u32]) -> Self {
        let bench = Self::with_sources(95);
        for source in enabled {
            bench.write(4 * u64::from(*source), 1);
            let word = enable(CPU0) + u64::from(source / 32) * 4;
            bench.write(word, bench.read(word) | 1 << (source % 32));
        }
        bench
    }

    fn read(&self, offset: u64) -> u32 {
        let value = self.plic.read(offset, AccessWidth::Dword).unwrap();
        u32::try_from(value).unwrap()
    }

    fn write(&self, offset: u64, value: u32) {
        self.plic
            .write(offset, AccessWidth::Dword, value.into())
            .unwrap();
    }

    fn raise(&self, source: u32) {
        self.plic.set_line(source, LineLevel::High);
    }

    fn lower(&self, source: u32) {
        self.plic.set_line(source, LineLevel::Low);
    }

    fn line(&self, cpu: usize) -> LineLevel {
        self.cpus.level(cpu)
    }
}

#[test]
fn impossible_plics_are_refused() {
    let new = |sources, contexts: usize| {
        Plic::new("plic", sources, &alloc::vec![None; contexts], Lines::new()).map(|_| ())
    };
    assert_eq!(new(0, 1), Err(PlicError::Sources(0)));
    assert_eq!(new(1024, 1), Err(PlicError::Sources(1024)));
    assert_eq!(new(1, 1025), Err(PlicError::Contexts(1025)));
    assert_eq!(new(1023, 1024), Ok(()));
    assert_eq!(new(1, 0), Ok(()));
    assert_eq!(
        PlicError::Sources(0).to_string(),
        "a PLIC has 1 to 1023 interrupt sources, not 0"
    );
    assert_eq!(
        PlicError::Contexts(2000).to_string(),
        "a PLIC has at most 1024 contexts, not 2000"
    );
}

#[test]
fn contexts_are_numbered_as_on_the_virt_board() {
    assert_eq!(
        Plic::machine_supervisor_contexts(3),
        [None, Some(0), None, Some(1), None, Some(2)]
    );
}

#[test]
fn the_registers_of_every_context_are_within_the_mmio_size() {
    assert_eq!(
        claim(Plic::MAX_CONTEXTS as u64 - 1) + 0xffc,
        Plic::MMIO_SIZE
    );
    assert!(enable(Plic::MAX_CONTEXTS as u64) <= threshold(0));
}

#[test]
fn priorities_have_three_bits_and_none_for_source_0() {
    for sources in [1, 31, 32, 95, 1023] {
        let bench = Bench::with_sources(sources);
        for source in 0..1024 {
            let exists = (1..=sources).contains(&source);
            let offset = 4 * u64::from(source);
            assert_eq!(bench.read(offset), 0);
            bench.write(offset, 0xffff_fff5);
            assert_eq!(
                bench.read(offset),
                if exists { 5 } else { 0 },
                "source {source}"
            );
        }
    }
}

#[test]
fn thresholds_have_three_bits() {
    let bench = Bench::with_sources(95);
    for context in 0..6 {
        assert_eq!(bench.read(threshold(context)), 0);
        bench.write(threshold(context), 0xffff_fffe);
        assert_eq!(
            bench.read(threshold(context)),
            if context < 4 { 6 } else { 0 }
        );
    }
}

#[test]
fn enable_bits_exist_where_sources_do() {
    for sources in [1, 30, 31, 32, 33, 63, 64, 95, 1022, 1023] {
        let bench = Bench::with_sources(sources);
        for word in 0..32 {
            bench.write(enable(CPU0) + 4 * word, u32::MAX);
        }
        for source in 0..1024 {
            let exists = (1..=sources).contains(&source);
            let word = bench.read(enable(CPU0) + u64::from(source / 32) * 4);
            assert_eq!(
                word >> (source % 32) & 1 == 1,
                exists,
                "source {source} of {sources}"
            );
        }
        assert_eq!(bench.read(enable(CPU1)), 0, "contexts are apart");
        bench.write(enable(CPU0), 0);
        assert_eq!(bench.read(enable(CPU0)), 0);
    }
}

#[test]
fn what_is_reserved_reads_zero_and_ignores_writes() {
    let bench = Bench::with_sources(95);
    for offset in [
        0,
        96 * 4,
        0xffc,
        PENDING + 12,
        PENDING + 0x7c,
        PENDING + 0x80,
        0x1ffc,
        enable(0) + 12,
        enable(4),
        enable(15871) + 0x7c,
        0x1f_2000,
        0x1f_fffc,
        threshold(0) + 8,
        threshold(0) + 0xffc,
        threshold(4),
        claim(4),
        claim(15871),
        Plic::MMIO_SIZE,
        0x400_0000,
        u64::MAX - 3,
    ] {
        bench.write(offset, u32::MAX);
        assert_eq!(bench.read(offset), 0, "{offset:#x}");
    }
    assert_eq!(bench.cpus.changes(), 0);
}

#[test]
fn pending_bits_are_read_only() {
    let bench = Bench::with_enabled(&[5]);
    bench.write(PENDING, u32::MAX);
    assert_eq!(bench.read(PENDING), 0);
    bench.raise(5);
    bench.write(PENDING, 0);
    assert_eq!(bench.read(PENDING), 1 << 5);
}

#[test]
fn only_aligned_accesses_of_32_bits_are_answered() {
    let bench = Bench::with_enabled(&[1]);
    bench.raise(1);
    for base in [
        0,
        4,
        PENDING,
        enable(CPU0),
        threshold(CPU0),
        claim(CPU0),
        0x1f_2000,
    ] {
        for offset in base..base + 4 {
            for width in WIDTHS {
                if width == AccessWidth::Dword && offset == base {
                    continue;
                }
                assert_eq!(bench.plic.read(offset, width), Err(AccessFault));
                assert_eq!(bench.plic.write(offset, width, 1), Err(AccessFault));
            }
        }
    }
    assert_eq!(bench.read(claim(CPU0)), 1, "what is refused has no effect");
}

#[test]
fn a_request_lives_from_its_line_to_its_completion() {
    let bench = Bench::with_enabled(&[10]);
    bench.raise(10);
    assert_eq!(bench.read(PENDING), 1 << 10);
    assert_eq!(bench.line(0), LineLevel::High);
    assert_eq!(bench.line(1), LineLevel::Low);

    assert_eq!(bench.read(claim(CPU0)), 10);
    assert_eq!(bench.read(PENDING), 0);
    assert_eq!(bench.line(0), LineLevel::Low);
    assert_eq!(bench.read(claim(CPU0)), 0);

    bench.lower(10);
    bench.write(claim(CPU0), 10);
    assert_eq!(bench.read(PENDING), 0);
    assert_eq!(bench.line(0), LineLevel::Low);
    assert_eq!(bench.cpus.changes(), 2);
}

#[test]
fn a_line_that_stays_high_asks_again_after_completion() {
    let bench = Bench::with_enabled(&[10]);
    bench.raise(10);
    for _ in 0..3 {
        assert_eq!(bench.line(0), LineLevel::High);
        assert_eq!(bench.read(claim(CPU0)), 10);
        assert_eq!(bench.line(0), LineLevel::Low);
        bench.write(claim(CPU0), 10);
    }
    assert_eq!(bench.read(PENDING), 1 << 10);
}

#[test]
fn a_closed_gateway_looks_at_the_line_when_it_opens_only() {
    let bench = Bench::with_enabled(&[10]);
    bench.raise(10);
    bench.read(claim(CPU0));
    for _ in 0..3 {
        bench.lower(10);
        bench.raise(10);
        assert_eq!(bench.read(PENDING), 0);
    }
    bench.lower(10);
    bench.write(claim(CPU0), 10);
    assert_eq!(bench.read(PENDING), 0);
    bench.raise(10);
    assert_eq!(bench.read(PENDING), 1 << 10);
}

#[test]
fn a_request_outlives_its_line() {
    let bench = Bench::with_enabled(&[10]);
    bench.raise(10);
    bench.lower(10);
    assert_eq!(bench.line(0), LineLevel::High);
    assert_eq!(bench.read(claim(CPU0)), 10);
    bench.write(claim(CPU0), 10);
    assert_eq!(bench.read(claim(CPU0)), 0);
}

#[test]
fn claims_go_by_priority_then_by_number() {
    let bench = Bench::with_enabled(&[3, 7, 40, 64, 95]);
    bench.write(4 * 7, 5);
    bench.write(4 * 64, 5);
    bench.write(4 * 95, 7);
    for source in [95, 64, 40, 7, 3] {
        bench.raise(source);
    }
    for expected in [95, 7, 64, 3, 40, 0] {
        assert_eq!(bench.read(claim(CPU0)), expected);
    }
}

#[test]
fn priority_0_is_never() {
    let bench = Bench::with_enabled(&[10]);
    bench.write(4 * 10, 0);
    bench.raise(10);
    assert_eq!(bench.read(PENDING), 1 << 10);
    assert_eq!(bench.line(0), LineLevel::Low);
    assert_eq!(bench.read(claim(CPU0)), 0);
    bench.write(4 * 10, 1);
    assert_eq!(bench.line(0), LineLevel::High);
}

#[test]
fn the_threshold_holds_notification_back_but_not_claims() {
    let bench = Bench::with_enabled(&[10]);
    bench.write(4 * 10, 3);
    bench.raise(10);
    for value in 0..=7 {
        bench.write(threshold(CPU0), value);
        let expected = if value < 3 {
            LineLevel::High
        } else {
            LineLevel::Low
        };
        assert_eq!(bench.line(0), expected, "threshold {value}");
    }
    assert_eq!(bench.read(claim(CPU0)), 10);
}

#[test]
fn enable_bits_hold_notification_and_claims_back() {
    let bench = Bench::with_enabled(&[10]);
    bench.write(enable(CPU0), 0);
    bench.raise(10);
    assert_eq!(bench.line(0), LineLevel::Low);
    assert_eq!(bench.read(claim(CPU0)), 0);
    bench.write(enable(CPU0), 1 << 10);
    assert_eq!(bench.line(0), LineLevel::High);
    bench.write(enable(CPU0), 0);
    assert_eq!(bench.line(0), LineLevel::Low);
}

#[test]
fn one_of_several_contexts_gets_the_request() {
    let bench = Bench::with_enabled(&[10]);
    bench.write(enable(CPU1), 1 << 10);
    bench.raise(10);
    assert_eq!(
        (bench.line(0), bench.line(1)),
        (LineLevel::High, LineLevel::High)
    );
    assert_eq!(bench.read(claim(CPU1)), 10);
    assert_eq!(
        (bench.line(0), bench.line(1)),
        (LineLevel::Low, LineLevel::Low)
    );
    assert_eq!(bench.read(claim(CPU0)), 0);
}

#[test]
fn completion_is_checked_against_the_enable_bits_only() {
    let bench = Bench::with_enabled(&[10]);
    bench.raise(10);
    assert_eq!(bench.read(claim(CPU0)), 10);
    // Not a source, another source, and a context that has it not enabled.
    for (context, source) in [
        (CPU0, 0),
        (CPU0, 11),
        (CPU0, 96),
        (CPU0, u32::MAX),
        (CPU1, 10),
    ] {
        bench.write(claim(context), source);
        assert_eq!(bench.read(PENDING), 0);
    }
    // Masked while in service: the completion is lost, as it is on hardware, until it is sent again.
    bench.write(enable(CPU0), 0);
    bench.write(claim(CPU0), 10);
    bench.write(enable(CPU0), 1 << 10);
    assert_eq!(bench.read(PENDING), 0);
    // Any context that has it enabled may complete it.
    bench.write(enable(CPU1), 1 << 10);
    bench.write(claim(CPU1), 10);
    assert_eq!(bench.read(PENDING), 1 << 10);
}

#[test]
fn completing_what_was_not_claimed_changes_nothing() {
    let bench = Bench::with_enabled(&[10, 11]);
    bench.raise(10);
    bench.lower(10);
    bench.write(claim(CPU0), 10);
    bench.write(claim(CPU0), 11);
    assert_eq!(bench.read(PENDING), 1 << 10);
}

#[test]
fn a_context_without_a_cpu_has_registers_and_drives_nothing() {
    let bench = Bench::with_sources(95);
    bench.write(4 * 10, 7);
    bench.write(enable(0), 1 << 10);
    bench.raise(10);
    assert_eq!(bench.cpus.changes(), 0);
    assert_eq!(bench.read(claim(0)), 10);
    bench.write(claim(0), 10);
    assert_eq!(bench.read(PENDING), 1 << 10);
}

#[test]
fn lines_of_sources_that_do_not_exist_are_ignored() {
    let bench = Bench::with_sources(40);
    for word in 0..32 {
        bench.write(enable(CPU0) + 4 * word, u32::MAX);
    }
    for source in [0, 41, 63, 64, 1023, 1024, u32::MAX] {
        bench.raise(source);
        bench.lower(source);
    }
    for word in 0..32 {
        assert_eq!(bench.read(PENDING + 4 * word), 0);
    }
}

#[test]
fn a_cpu_is_told_of_changes_only() {
    let bench = Bench::with_enabled(&[1, 2, 3]);
    for source in [1, 2, 3] {
        bench.raise(source);
        bench.raise(source);
    }
    assert_eq!(bench.cpus.changes(), 1);
    for _ in 0..4 {
        bench.read(claim(CPU0));
    }
    assert_eq!(bench.cpus.changes(), 2);
}

#[test]
fn a_reset_forgets_everything() {
    let bench = Bench::with_enabled(&[10, 11]);
    bench.write(threshold(CPU1), 3);
    bench.raise(10);
    bench.raise(11);
    bench.read(claim(CPU0));
    assert_eq!(bench.line(0), LineLevel::High);
    bench.plic.reset();
    assert_eq!(bench.line(0), LineLevel::Low);
    for offset in [4 * 10, PENDING, enable(CPU0), threshold(CPU1), claim(CPU0)] {
        assert_eq!(bench.read(offset), 0, "{offset:#x}");
    }
    // The gateways are open again.
    bench.raise(10);
    assert_eq!(bench.read(PENDING), 1 << 10);
}
