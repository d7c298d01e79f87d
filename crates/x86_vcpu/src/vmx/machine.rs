//! A processor with VMX made of memory, on hosts that are no bare machine: its VMCSs are maps of fields, its guest follows a script.
//!
//! Each thread has one of its own, so that tests do not meet. It is as strict as the hardware where that matters: no field without a
//! current VMCS, no VMLAUNCH of a launched one, no VMRESUME of a clear one.

extern crate std;

use alloc::{boxed::Box, collections::BTreeMap, collections::VecDeque, vec::Vec};
use core::cell::RefCell;

use super::{
    fields::{VmcsControl32, VmcsReadOnly32},
    vmcs::{Forget, VmFail},
};
use crate::regs::GuestRegisters;

/// A VMCS.
#[derive(Default)]
pub(crate) struct Vmcs {
    fields: BTreeMap<u32, u64>,
    launched: bool,
}

/// What a guest does until it exits: it changes its registers and the current VMCS.
pub(crate) type Step = Box<dyn FnOnce(&mut GuestRegisters, &mut Fields<'_>)>;

/// The fields of the current VMCS, for a [`Step`].
pub(crate) struct Fields<'a>(&'a mut BTreeMap<u32, u64>);

impl Fields<'_> {
    pub(crate) fn set(&mut self, encoding: u32, value: u64) {
        self.0.insert(encoding, value);
    }

    pub(crate) fn get(&self, encoding: u32) -> u64 {
        self.0.get(&encoding).copied().unwrap_or(0)
    }
}

/// The processor.
#[derive(Default)]
pub(crate) struct Machine {
    pub(crate) on: Option<u64>,
    pub(crate) current: Option<u64>,
    pub(crate) regions: BTreeMap<u64, Vmcs>,
    pub(crate) forgotten: Vec<Forget>,
    pub(crate) script: VecDeque<Step>,
    /// Entries by VMLAUNCH and by VMRESUME.
    pub(crate) launches: usize,
    pub(crate) resumes: usize,
    pub(crate) cr2: u64,
    pub(crate) dr6: u64,
    pub(crate) host_events: Vec<u8>,
}

impl Machine {
    fn vmcs(&mut self) -> &mut Vmcs {
        let current = self.current.expect("no current VMCS");
        self.regions.entry(current).or_default()
    }

    pub(crate) fn field(&mut self, encoding: u32) -> u64 {
        self.vmcs().fields.get(&encoding).copied().unwrap_or(0)
    }

    pub(crate) fn set_field(&mut self, encoding: u32, value: u64) {
        self.vmcs().fields.insert(encoding, value);
    }

    pub(crate) fn clear(&mut self, region: u64) -> Result<(), VmFail> {
        self.regions.entry(region).or_default().launched = false;
        if self.current == Some(region) {
            self.current = None;
        }
        Ok(())
    }

    pub(crate) fn load(&mut self, region: u64) -> Result<(), VmFail> {
        self.current = Some(region);
        Ok(())
    }

    pub(crate) fn turn_on(&mut self, region: u64) -> Result<(), VmFail> {
        self.on = Some(region);
        Ok(())
    }

    pub(crate) fn turn_off(&mut self) -> Result<(), VmFail> {
        self.on.take().map(|_| ()).ok_or(VmFail::Invalid)
    }

    /// Runs the script's next step.
    pub(crate) fn enter(
        &mut self,
        registers: &mut GuestRegisters,
        launched: bool,
    ) -> Result<(), VmFail> {
        const LAUNCH_OF_LAUNCHED: u32 = 4;
        const RESUME_OF_CLEAR: u32 = 5;
        const VALID: u64 = 1 << 31;
        let step = self.script.pop_front().expect("the guest has no script");
        let (launches, resumes) = if launched { (0, 1) } else { (1, 0) };
        self.launches += launches;
        self.resumes += resumes;
        let vmcs = self.vmcs();
        match (vmcs.launched, launched) {
            (true, false) => return Err(VmFail::Valid(LAUNCH_OF_LAUNCHED)),
            (false, true) => return Err(VmFail::Valid(RESUME_OF_CLEAR)),
            (true, true) | (false, false) => vmcs.launched = true,
        }
        // An exit ends what was injected, and says whether a delivery was interrupted.
        let injected = vmcs.fields.entry(VmcsControl32::EntryInterruptInfo as u32);
        injected.and_modify(|info| *info &= !VALID);
        vmcs.fields
            .insert(VmcsReadOnly32::IdtVectoringInfo as u32, 0);
        step(registers, &mut Fields(&mut vmcs.fields));
        Ok(())
    }
}

std::thread_local! {
    static MACHINE: RefCell<Machine> = RefCell::default();
}

/// Lets `f` work on this thread's processor.
pub(crate) fn with<T>(f: impl FnOnce(&mut Machine) -> T) -> T {
    MACHINE.with(|machine| f(&mut machine.borrow_mut()))
}
