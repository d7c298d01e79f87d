use super::*;
use crate::{
    hardware::CpuidResult,
    machine as cpu,
    vmx::machine::{self, TestHal, power_on},
};

type PerCpu = VmxPerCpuState<TestHal>;

#[test]
fn refuses_a_processor_without_vmx() {
    power_on();
    cpu::with(|m| m.cpuid.insert((1, 0), CpuidResult::default()));
    assert!(!PerCpu::is_present());
}

#[test]
fn refuses_vmx_that_is_locked_off() {
    power_on();
    cpu::with(|m| m.msrs.insert(feature_control::MSR, feature_control::LOCKED));
    assert_eq!(PerCpu::check(), Err(Unfit::VmxLockedOff));
    cpu::with(|m| m.msrs.insert(feature_control::MSR, 0b101));
    assert_eq!(PerCpu::check().ok(), Some(VPID_BITS));
}

#[test]
fn unlocks_turns_on_and_off() {
    power_on();
    assert_eq!(PerCpu::check().ok(), Some(VPID_BITS));
    let state = PerCpu::enable().ok().unwrap();
    assert_eq!(hardware::read_msr(feature_control::MSR), 0b101);
    assert_eq!(hardware::read_cr4() & cr4::VMXE, cr4::VMXE);
    assert_eq!(hardware::read_cr0() & cr0::NE, cr0::NE);
    let region = machine::with(|m| m.on).unwrap();
    assert_eq!(region, state._vmxon.start().as_u64());
    assert_eq!(machine::with(|m| m.forgotten.clone()), [Forget::Nested]);
    state.disable().unwrap();
    assert_eq!(machine::with(|m| m.on), None);
    assert_eq!(hardware::read_cr4() & cr4::VMXE, 0);
}

#[test]
fn checks_the_fixed_bits() {
    power_on();
    // Bit 40 of CR4 may not be set.
    cpu::with(|m| m.cr4 |= 1 << 40);
    assert!(PerCpu::enable().is_err());
    assert_eq!(machine::with(|m| m.on), None);
    power_on();
    cpu::with(|m| m.cr0 &= !1);
    assert!(PerCpu::enable().is_err());
}

#[test]
fn a_region_begins_with_the_revision() {
    let mut region = VmxRegion::<TestHal>::with_revision(0x1234_5678).unwrap();
    assert_eq!(region.bytes_mut()[..5], [0x78, 0x56, 0x34, 0x12, 0]);
    assert!(region.start().is_aligned(4096));
}

#[test]
fn the_hosts_selectors_are_privileged_and_global() {
    machine::with(|m| m.load(0x1000)).unwrap();
    host_state().write();
    assert_eq!(VmcsHost16::CsSelector.read(), 0x10);
    assert_eq!(VmcsHost16::TrSelector.read(), 0x40);
}
