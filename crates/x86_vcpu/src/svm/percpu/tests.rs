use super::*;
use crate::{
    machine,
    testing::{TestHost, power_on},
};

type Pcpu = SvmPerCpuState<TestHost>;

#[test]
fn svm_goes_on_and_off() {
    power_on();
    assert_eq!(Pcpu::check(), Ok(4));
    let state = Pcpu::enable().ok().unwrap();
    let read = |number| machine::with(|m| m.msrs.get(&number).copied().unwrap_or(0));
    assert_eq!(read(EFER) & EFER_SVME, EFER_SVME);
    assert_eq!(read(VM_HSAVE_PA), state._host_save.start().as_u64());
    state.disable().unwrap();
    assert_eq!((read(EFER) & EFER_SVME, read(VM_HSAVE_PA)), (0, 0));
}

#[test]
fn what_is_missing_is_named() {
    power_on();
    machine::with(|m| m.msrs.insert(VM_CR, VM_CR_LOCK | VM_CR_SVMDIS));
    assert_eq!(Pcpu::check(), Err(Unfit::SvmLockedOff));
    machine::with(|m| m.msrs.insert(VM_CR, VM_CR_LOCK));
    assert!(Pcpu::check().is_ok(), "locked on");
    // Off, but not locked: we turn it on.
    machine::with(|m| m.msrs.insert(VM_CR, VM_CR_SVMDIS));
    assert!(Pcpu::enable().is_ok());
    assert_eq!(machine::with(|m| m.msrs[&VM_CR]), 0);
    machine::with(|m| m.cpuid.get_mut(&(LEAF_SVM, 0)).unwrap().edx = 0);
    assert_eq!(Pcpu::check(), Err(Unfit::SvmWithoutNestedPaging));
    machine::with(|m| m.cpuid.get_mut(&(LEAF_FEATURES, 0)).unwrap().ecx = 0);
    assert!(!Pcpu::is_present());
}

#[test]
fn leaves_are_as_large_as_the_cpus_pages() {
    power_on();
    assert_eq!(Pcpu::largest_leaf(), LargestLeaf::Size1G);
    machine::with(|m| m.cpuid.get_mut(&(LEAF_FEATURES, 0)).unwrap().edx = 0);
    assert_eq!(Pcpu::largest_leaf(), LargestLeaf::Size2M);
}
