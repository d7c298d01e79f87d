//! Which pCPU each vCPU lives on.

use alloc::{vec, vec::Vec};

use axvmconfig::{PcpuSet, VCpuPlacement};

/// How many vCPUs live on each pCPU of the machine.
#[derive(Clone, Debug)]
pub struct Homes {
    vcpus_on: Vec<usize>,
}

impl Homes {
    /// Of a machine with `pcpus` pCPUs, before any VM starts.
    #[must_use]
    pub fn new(pcpus: usize) -> Self {
        Self {
            vcpus_on: vec![0; pcpus],
        }
    }

    /// Gives each vCPU one of the pCPUs that it may use, for good: the one with the fewest vCPUs, the lowest of those. What is left of its set is that one.
    pub fn settle(&mut self, vcpus: &mut [VCpuPlacement]) {
        for vcpu in vcpus {
            let load = |pcpu: &usize| self.vcpus_on.get(*pcpu).copied().unwrap_or(0);
            if let Some(home) = vcpu.pcpus.iter().min_by_key(load) {
                vcpu.pcpus = PcpuSet::single(home).unwrap_or(vcpu.pcpus);
                if let Some(count) = self.vcpus_on.get_mut(home) {
                    *count += 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axvmconfig::Sharing;

    use super::*;

    fn vcpus(sets: &[u64]) -> Vec<VCpuPlacement> {
        let placement = |(vcpu_id, &mask)| VCpuPlacement {
            vcpu_id,
            pcpus: PcpuSet::from_mask(mask),
            sharing: Sharing::Shared,
        };
        sets.iter().enumerate().map(placement).collect()
    }

    /// The masks that `homes` leaves of `sets`.
    fn settled(homes: &mut Homes, sets: &[u64]) -> Vec<u64> {
        let mut vcpus = vcpus(sets);
        homes.settle(&mut vcpus);
        vcpus.iter().map(|vcpu| vcpu.pcpus.mask()).collect()
    }

    #[test]
    fn a_vcpu_lives_where_the_fewest_do() {
        let mut homes = Homes::new(4);
        assert_eq!(settled(&mut homes, &[0b0110, 0b0110]), [0b0010, 0b0100]);
        assert_eq!(settled(&mut homes, &[0b0010]), [0b0010]);
        assert_eq!(settled(&mut homes, &[0b0110, 0b1111]), [0b0100, 0b0001]);
    }

    #[test]
    fn a_vm_that_did_not_start_takes_no_room() {
        let mut homes = Homes::new(2);
        let mut tried = homes.clone();
        assert_eq!(settled(&mut tried, &[0b01]), [0b01]);
        // Its image was missing, so that the clone is thrown away.
        assert_eq!(settled(&mut homes, &[0b11]), [0b01]);
    }
}
