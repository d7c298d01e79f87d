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

/// What a guest does in each of its turns, if there is no [`Step`] for it; also: what the entry injects.
pub(crate) type Turn = Box<dyn FnMut(&mut GuestRegisters, &mut Fields<'_>, u32)>;

impl Fields<'_> {
    pub(crate) fn get(&self, encoding: u32) -> u64 {
        self.0.get(&encoding).copied().unwrap_or(0)
    }

    pub(crate) fn set(&mut self, encoding: u32, value: u64) {
        self.0.insert(encoding, value);
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
    pub(crate) guest: Option<Turn>,
    /// Entries by VMLAUNCH and by VMRESUME.
    pub(crate) launches: usize,
    pub(crate) resumes: usize,
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
        let step = self.script.pop_front();
        let guest = self.guest.take();
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
        let injected = injected.or_default();
        let info = core::mem::replace(injected, *injected & !VALID) as u32;
        vmcs.fields
            .insert(VmcsReadOnly32::IdtVectoringInfo as u32, 0);
        let fields = &mut Fields(&mut vmcs.fields);
        self.guest = match (step, guest) {
            (Some(step), guest) => {
                step(registers, fields);
                guest
            }
            (None, Some(mut guest)) => {
                guest(registers, fields, info);
                Some(guest)
            }
            (None, None) => panic!("the guest has no script"),
        };
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

#[cfg(test)]
pub(crate) use host::{TestHal, power_on};

/// What the processor needs around it in tests.
#[cfg(test)]
mod host {
    use axaddrspace::{AxMmHal, FrameSize, GuestPhysAddr, HostPhysAddr, HostVirtAddr, PcpuMask};
    use axvcpu::AxVCpuHal;

    use super::{Box, Machine, with};
    use crate::{hardware::CpuidResult, machine as cpu};

    #[repr(align(4096))]
    struct Page(#[expect(dead_code, reason = "reached by its address")] [u8; 4096]);

    /// A host whose physical memory is the developer's machine's; frames are never given back.
    pub(crate) struct TestHal;

    impl AxMmHal for TestHal {
        fn alloc_frame(_: FrameSize) -> Option<HostPhysAddr> {
            let page: *mut Page = Box::leak(Box::new(Page([0; 4096])));
            Some(HostPhysAddr::new(page.expose_provenance() as u64))
        }

        fn dealloc_frame(_: HostPhysAddr, _: FrameSize) {}

        fn phys_to_virt(addr: HostPhysAddr) -> HostVirtAddr {
            HostVirtAddr::new(addr.as_u64())
        }

        fn virt_to_phys(addr: HostVirtAddr) -> HostPhysAddr {
            HostPhysAddr::new(addr.as_u64())
        }

        fn flush_nested(_: PcpuMask, _: GuestPhysAddr, _: u64) {}
    }

    impl AxVCpuHal for TestHal {
        type MmHal = Self;

        fn irq_fetch() -> usize {
            0
        }

        fn irq_handler(_: usize) {}

        fn this_pcpu() -> usize {
            0
        }

        fn now() -> u64 {
            0
        }

        fn set_guest_timer(_: u64) {}
    }

    /// A processor as Bochs 2.7 shows it as `corei7_skylake_x`, whose firmware left VMX unlocked.
    pub(crate) fn power_on() {
        with(|m| *m = Machine::default());
        cpu::with(|m| {
            m.cr0 = 0x8001_0011;
            m.cr4 = 0x6a0;
            let vmx = CpuidResult {
                ecx: 1 << 5,
                ..CpuidResult::default()
            };
            m.cpuid.insert((1, 0), vmx);
            m.msrs.extend([
                (0x03a, 0),
                (0x480, 0x00d8_1000_0000_002b),
                (0x486, 0x8000_0021),
                (0x487, 0xffff_ffff),
                (0x488, 0x2000),
                (0x489, 0x0037_27ff),
                (0x48b, 0x0217_7fff_0000_0000),
                (0x48c, 0x0000_0f01_0633_4141),
                (0x485, 5),
                (0x48d, 0x0000_007f_0000_0016),
                (0x48e, 0xf7f9_fffe_0400_6172),
                (0x48f, 0x007f_ffff_0003_6dfb),
                (0x490, 0x0000_ffff_0000_11fb),
            ]);
        });
    }
}
