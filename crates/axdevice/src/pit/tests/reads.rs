//! What reading does not do.

use super::*;

/// Whoever keeps the deadline sees to the line.
#[test]
fn reading_moves_neither_the_line_nor_the_deadline() {
    let bench = Bench::new();
    bench.program(0, 2, 1000);
    bench.program(2, 0, 1000);
    let deadline = bench.pit.deadline();
    let before = bench.lines.changes();
    bench.clock.set(deadline + 300);
    for port in [0x40, 0x40, 0x42, 0x42, 0x61] {
        bench.read(port);
    }
    assert_eq!(
        (bench.pit.deadline(), bench.lines.changes()),
        (deadline, before)
    );
    assert!(bench.pit.advance(deadline + 300) > deadline + 300);
    assert!(bench.lines.changes() > before);
}
