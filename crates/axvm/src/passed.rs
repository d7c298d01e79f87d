//! The interrupts of the machine's devices that a VM has for itself: when they may come, and how they get to the guest.
//!
//! They come while the VM runs, at the pCPU of its vCPU 0, so that a device that never rests costs nobody on another. There the host calls what
//! [`open_passed`](AxVM::open_passed) left with it, in the midst of whatever the pCPU does, and that posts a
//! [letter](axvcpu::DEVICE_LETTER), no more. The vCPU's task reads it before the guest runs on, and tells the guest's interrupt controller.

use alloc::format;

use axvcpu::DEVICE_LETTER;
use axvmconfig::keys;

use crate::{AxVM, AxVMHal, GuestArch, VmErrorCause};

impl<H: AxVMHal, A: GuestArch> AxVM<H, A> {
    /// Lets them come: the VM starts.
    pub(crate) fn open_passed(&self) -> Result<(), VmErrorCause> {
        let Some(vcpu) = self.vcpus.first() else {
            return Ok(());
        };
        let placement = self.config.vm.vcpus.first();
        let pcpu = placement.and_then(|placement| placement.pcpus.iter().next());
        for interrupt in &self.devices.passed {
            let reader = vcpu.clone();
            let tell = move || reader.mailbox().raise(DEVICE_LETTER);
            interrupt.open(pcpu.unwrap_or(0), tell).map_err(|why| {
                let devices = self.config.vm.passed.iter();
                let of = |device: &axvmconfig::PassedDevice| {
                    device.irq.is_some_and(|irq| irq.host == interrupt.irq())
                };
                let position = devices.take_while(|device| !of(device)).count();
                let key = format!("{}[{position}].irq", keys::PASSTHROUGH);
                self.config.vm.error(&key, why)
            })?;
        }
        Ok(())
    }

    /// Lets none come any more: the VM is down.
    pub(crate) fn close_passed(&self) {
        for interrupt in &self.devices.passed {
            interrupt.close();
        }
    }

    /// Tells the guest's interrupt controller of those that have come. For the task of vCPU 0.
    #[cold]
    #[inline(never)]
    pub(crate) fn deliver_passed(&self) {
        for interrupt in &self.devices.passed {
            interrupt.deliver();
        }
    }
}
