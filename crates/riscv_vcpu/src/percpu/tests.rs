extern crate std;

use super::*;
use crate::{machine, testing::Host};

type PerCpu = RISCVPerCpu<Host>;

/// hgatp's modes, as hardware keeps them: a mode that it lacks leaves bare.
fn machine_with(vmid_bits: u32, sv48x4: bool) {
    let mode = if sv48x4 { 9 << 60 } else { 8 << 60 };
    let vmids = ((1u64 << vmid_bits) - 1) << HGATP_VMID_SHIFT;
    machine::with(|m| m.writable.insert(0x680, mode | vmids | 0xfff_ffff_ffff));
}

#[test]
fn enabling_delegates_and_disabling_undoes() {
    let mut pcpu = PerCpu::new(Host::this_pcpu()).unwrap();
    assert!(!pcpu.is_enabled());
    let own = own_bit::<Host>();
    assert_eq!(enabled_pcpus() & own, 0);
    pcpu.hardware_enable().unwrap();
    assert!(pcpu.is_enabled());
    assert_eq!(enabled_pcpus() & own, own);
    assert_eq!(csr::HEDELEG.read(), 0xb1ff);
    assert_eq!(csr::HIDELEG.read(), 0x444);
    assert_eq!(csr::HCOUNTEREN.read(), 7);
    assert!(machine::with(|m| m
        .fences
        .contains(&machine::Fence::Nested)));
    pcpu.hardware_disable().unwrap();
    assert_eq!(enabled_pcpus() & own, 0);
    assert!(!pcpu.is_enabled());
    assert_eq!(
        (csr::HEDELEG.read(), csr::HIDELEG.read(), csr::HGATP.read()),
        (0, 0, 0)
    );
}

#[test]
fn without_the_extension_there_are_no_guests() {
    machine::with(|m| m.without_hypervisor = true);
    assert_eq!(PerCpu::best_mode(), None);
    assert!(crate::CpuFeatures::detect().is_empty());
    let mut pcpu = PerCpu::new(Host::this_pcpu()).unwrap();
    assert!(pcpu.hardware_enable().is_err());
    assert!(!pcpu.is_enabled());
}

#[test]
fn the_widest_mode_is_taken() {
    machine_with(7, true);
    // Bit 60 set alone would be Sv48x4's 9 without Sv39x4's 8: real hardware has both.
    assert_eq!(PerCpu::best_mode(), Some(NestedMode::Sv48x4));
    machine_with(7, false);
    assert_eq!(PerCpu::best_mode(), Some(NestedMode::Sv39x4));
    machine::with(|m| m.writable.insert(0x680, 0));
    assert_eq!(PerCpu::best_mode(), None);
}

#[test]
fn probing_leaves_hgatp_as_it_was() {
    csr::HGATP.write(8 << 60 | 3 << HGATP_VMID_SHIFT | 5);
    let before = csr::HGATP.read();
    let _ = PerCpu::best_mode();
    assert_eq!(csr::HGATP.read(), before);
}

#[test]
fn vmids_are_counted() {
    for bits in [0, 1, 7, 14] {
        machine_with(bits, false);
        assert_eq!(vmid_bits(NestedMode::Sv39x4), bits);
    }
}

#[test]
fn pcpus_beyond_the_last() {
    assert!(PerCpu::new(MAX_CPUS - 1).is_ok());
    assert!(PerCpu::new(MAX_CPUS).is_err());
}

#[test]
fn vcpus_take_vmids_in_turn_and_keep_them() {
    machine_with(1, false);
    let mut pcpu = PerCpu::new(Host::this_pcpu()).unwrap();
    pcpu.hardware_enable().unwrap();
    let (mut one, mut two) = (VmidTag::default(), VmidTag::default());
    let load = |root, tag: &mut VmidTag| {
        machine::with(|m| m.fences.clear());
        csr::VSATP.write(0x1234);
        pcpu.cell
            .own()
            .load_nested(NestedMode::Sv39x4, root, tag)
            .unwrap();
        let vmid = csr::HGATP.read() >> HGATP_VMID_SHIFT & HGATP_VMID_MASK;
        assert_eq!(csr::HGATP.read() & 0xfff_ffff_ffff, root);
        assert_eq!(csr::VSATP.read(), 0, "nothing of another guest's");
        (vmid, machine::with(|m| m.fences.len()))
    };
    // One bit: VMID 1 for one at a time, and a flush for each newcomer.
    assert_eq!(load(0x90, &mut one), (1, 2));
    assert_eq!(load(0x90, &mut one), (1, 0));
    assert_eq!(load(0xa0, &mut two), (1, 2));
    assert_eq!(load(0x90, &mut one), (1, 2));
}

#[test]
fn nothing_runs_before_it_is_enabled() {
    let pcpu = PerCpu::new(Host::this_pcpu()).unwrap();
    let loaded = pcpu
        .cell
        .own()
        .load_nested(NestedMode::Sv39x4, 0x90, &mut VmidTag::default());
    assert!(loaded.is_err());
}

#[test]
fn a_pcpu_with_vectors_of_another_length_runs_no_guests() {
    let enable = |vlenb: u64| {
        machine::with(|m| m.writable.insert(0xc22, u64::MAX));
        csr::VLENB.write(vlenb);
        let mut pcpu = RISCVPerCpu::<Host>::new(Host::this_pcpu()).unwrap();
        pcpu.hardware_enable()
    };
    enable(32).unwrap();
    assert!(enable(16).is_err());
    enable(32).unwrap();
    // Without vectors nobody asks.
    machine::with(|m| m.writable.insert(0x100, !csr::sstatus::VS));
    enable(16).unwrap();
}
