//! Exits by kind, as the hypervisor lists them when a VM has ended.

use std::{collections::BTreeMap, fmt::Write};

/// How often guests exited, by kind.
pub(crate) type Exits = BTreeMap<String, u64>;

/// Reads the lists of all vCPUs, `vCPU N exits: KIND COUNT, …`, together.
pub(crate) fn of_output(output: &str) -> Exits {
    let mut exits = Exits::new();
    for line in output.lines() {
        let Some((_, list)) = line.split_once(" exits: ") else {
            continue;
        };
        for entry in list.split(", ") {
            let Some((kind, count)) = entry.trim().rsplit_once(' ') else {
                continue;
            };
            if let Ok(count) = count.parse::<u64>() {
                *exits.entry(kind.into()).or_default() += count;
            }
        }
    }
    exits
}

/// The time in the guest and in the hypervisor by the time in the guest, of all vCPUs: `vCPU N time: G us in the guest, H us in the hypervisor`.
pub(crate) fn time_by_guest_time(output: &str) -> Option<f64> {
    let mut sums = [0, 0];
    for line in output.lines() {
        let Some((_, times)) = line.split_once(" time: ") else {
            continue;
        };
        let times = [" us in the guest", " us in the hypervisor"].map(|place| {
            let (before, _) = times.split_once(place)?;
            before.rsplit(' ').next()?.parse::<u64>().ok()
        });
        if let [Some(guest), Some(hypervisor)] = times {
            sums[0] += guest;
            sums[1] += hypervisor;
        }
    }
    let [guest, hypervisor] = sums.map(|sum| sum as f64);
    (guest > 0.0).then(|| 1.0 + hypervisor / guest)
}

/// All kinds together.
pub(crate) fn total(exits: &Exits) -> u64 {
    exits.values().sum()
}

/// A line for people, most frequent kind first; nothing if there was no boot.
pub(crate) fn describe(exits: &Exits) -> String {
    if exits.is_empty() {
        return String::new();
    }
    let mut kinds: Vec<_> = exits.iter().collect();
    kinds.sort_by_key(|&(kind, count)| (u64::MAX - count, kind));
    let mut line = format!("Exits of a Linux boot: {} in all", total(exits));
    for (kind, count) in kinds {
        // Writing to a string does not fail.
        let _ = write!(line, ", {kind} {count}");
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::{describe, of_output, time_by_guest_time, total};

    #[test]
    fn the_vcpus_times_are_added() {
        let output = "[axhv]   vCPU 0 time: 900 us in the guest, 7 us in the hypervisor\r\n\
             [axhv]   vCPU 0 exits: sbi-base 22\n\
             [axhv]   vCPU 1 time: 100 us in the guest, 3 us in the hypervisor\n";
        assert_eq!(time_by_guest_time(output), Some(1.01));
        assert_eq!(time_by_guest_time("[    1.0] time: nothing"), None);
    }

    #[test]
    fn the_vcpus_lists_are_added() {
        let exits = of_output(
            "[axhv] VM \"linux\" powered off\n\
             [axhv]   vCPU 0 time: 12 us in the guest, 3 us in the hypervisor\n\
             [axhv]   vCPU 0 exits: sbi-base 22, mmio-read 100\r\n\
             [axhv]   vCPU 1 exits: mmio-read 11, host-timer 1\n",
        );
        assert_eq!(exits["mmio-read"], 111);
        assert_eq!(exits["sbi-base"], 22);
        assert_eq!(total(&exits), 134);
        assert_eq!(
            describe(&exits),
            "Exits of a Linux boot: 134 in all, mmio-read 111, sbi-base 22, host-timer 1\n"
        );
        assert_eq!(describe(&of_output("nothing")), "");
    }
}
