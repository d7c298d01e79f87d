//! Which of the machine's CPUs run our code.

use core::fmt;

use crate::acpi::madt::Entry;

/// One CPU that can run our code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// Its local APIC's id.
    pub apic_id: u32,
}

/// How a CPU is named to the local APICs that interrupt it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ApicIds {
    /// xAPIC: eight bits, and their last value means every CPU.
    EightBits,
    /// x2APIC.
    ThirtyTwoBits,
}

impl ApicIds {
    const fn can_name(self, apic_id: u32) -> bool {
        match self {
            Self::EightBits => apic_id < 0xff,
            Self::ThirtyTwoBits => apic_id < u32::MAX,
        }
    }
}

/// At most `N` CPUs, the boot CPU first; and those that are left out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cpus<const N: usize> {
    list: [Cpu; N],
    count: usize,
    left_out: LeftOut,
}

/// How many CPUs are left out, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LeftOut {
    /// There are more than fit.
    pub(crate) too_many: usize,
    /// Their ids have more bits than an xAPIC has, and the boot CPU has no x2APIC.
    pub(crate) unnamed: usize,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.too_many + self.unnamed;
        let plural = if all == 1 { "" } else { "s" };
        write!(f, "{all} CPU{plural} left out:")?;
        match self.too_many {
            0 => {}
            more => write!(f, " {more} more than one image serves")?,
        }
        match self.unnamed {
            0 => Ok(()),
            unnamed => write!(
                f,
                "{} {unnamed} with an APIC id above 254, which takes an x2APIC: turn it on in the firmware's setup",
                if self.too_many == 0 { "" } else { "," }
            ),
        }
    }
}

impl<const N: usize> Cpus<N> {
    /// None.
    pub(crate) const fn new() -> Self {
        Self {
            list: [Cpu { apic_id: 0 }; N],
            count: 0,
            left_out: LeftOut {
                too_many: 0,
                unnamed: 0,
            },
        }
    }

    /// The boot CPU, and of the others as many as fit, in the MADT's order. A CPU that is named twice, as local APIC and as local x2APIC, is one.
    pub(crate) fn choose(
        boot_cpu: u32,
        ids: ApicIds,
        entries: impl Iterator<Item = Entry>,
    ) -> Self {
        let mut cpus = Self::new();
        cpus.add(boot_cpu);
        for entry in entries {
            match entry {
                Entry::Cpu { apic_id } if cpus.has(apic_id) => {}
                Entry::Cpu { apic_id } if !ids.can_name(apic_id) => cpus.left_out.unnamed += 1,
                Entry::Cpu { apic_id } => cpus.add(apic_id),
                Entry::IoApic { .. }
                | Entry::Override { .. }
                | Entry::LocalNmi { .. }
                | Entry::LocalApicAddress(_) => {}
            }
        }
        cpus
    }

    fn has(&self, apic_id: u32) -> bool {
        self.as_slice().contains(&Cpu { apic_id })
    }

    fn add(&mut self, apic_id: u32) {
        match self.list.get_mut(self.count) {
            Some(slot) => {
                *slot = Cpu { apic_id };
                self.count += 1;
            }
            None => self.left_out.too_many += 1,
        }
    }

    pub(crate) fn as_slice(&self) -> &[Cpu] {
        self.list.get(..self.count).unwrap_or(&[])
    }

    /// Those that are left out, if any.
    pub(crate) fn left_out(&self) -> Option<LeftOut> {
        Some(self.left_out).filter(|left_out| *left_out != LeftOut::default())
    }
}

#[cfg(test)]
mod tests {
    use std::{string::ToString, vec::Vec};

    use super::*;

    fn choose(boot_cpu: u32, ids: ApicIds, apic_ids: &[u32]) -> Cpus<4> {
        let entries = apic_ids.iter().map(|&apic_id| Entry::Cpu { apic_id });
        Cpus::choose(boot_cpu, ids, entries)
    }

    fn ids(cpus: &Cpus<4>) -> Vec<u32> {
        cpus.as_slice().iter().map(|cpu| cpu.apic_id).collect()
    }

    #[test]
    fn the_boot_cpu_comes_first_and_each_once() {
        let cpus = choose(2, ApicIds::EightBits, &[0, 2, 4, 0]);
        assert_eq!(ids(&cpus), [2, 0, 4]);
        assert_eq!(cpus.left_out(), None);
        // Not even the boot CPU: firmware errs.
        assert_eq!(ids(&choose(2, ApicIds::EightBits, &[])), [2]);
    }

    #[test]
    fn an_x2apic_reaches_every_cpu_and_an_xapic_those_of_eight_bits() {
        let all = [0, 254, 255, 256, 0x1_0000, u32::MAX];
        let cpus = choose(0, ApicIds::EightBits, &all);
        assert_eq!(ids(&cpus), [0, 254]);
        let line = cpus.left_out().unwrap().to_string();
        assert!(
            line.starts_with("4 CPUs left out: 4 with an APIC id above 254, which takes an x2APIC")
        );
        let cpus = choose(0, ApicIds::ThirtyTwoBits, &all[1..5]);
        assert_eq!(ids(&cpus), [0, 254, 255, 256]);
        let line = cpus.left_out().unwrap().to_string();
        assert_eq!(line, "1 CPU left out: 1 more than one image serves");
    }
}
