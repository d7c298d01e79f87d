//! The guest: a vCPU that plays a script, and a device that answers it.

use alloc::{collections::VecDeque, sync::Arc, vec, vec::Vec};
use core::{fmt, sync::atomic::Ordering};

use axaddrspace::{FrameSize, GuestPhysAddr, HostPhysAddr};
use axdevice::{
    AccessFault, AxVmDevices, Device, HostTrigger, InterruptController, IrqLine, PassedInterrupt,
};
use axerrno::AxResult;
use axvcpu::{
    AccessWidth, Account, AxArchVCpu, AxVCpuExitReason, AxVCpuHal, DeviceAccess, HypercallError,
    LineLevel, Mailbox, Wait,
};
use axvmconfig::{ConfigError, keys};

use super::host::{Event, Failure, PCPU, TestHal, world};
use crate::{
    AxVCpuConfig, AxVMConfig, BootState, GuestArch, GuestDevices, GuestRam, GuestRange, Parts,
    RiscvMachine, VmLink,
};

pub(crate) const DEVICE: u64 = 0x1000;
/// The offset at which the device answers nothing.
pub(crate) const DEVICE_HOLE: u64 = 0x80;
/// What a read of the device's first byte answers.
pub(crate) const DEVICE_VALUE: u64 = 0xab;
/// The number of the vCPUs' external line.
pub(crate) const EXTERNAL: usize = 10;

/// A vCPU that plays a script of exits and checks that it is treated in order.
pub(crate) struct ScriptedCpu<const W: usize> {
    id: usize,
    bound_to: Option<usize>,
    account: Arc<Account>,
}

axvcpu::exit_kinds! {
    /// Why a vCPU left its guest.
    enum ExitKind {
        /// The script's steps.
        Step = "step",
    }
}

impl<const W: usize> ScriptedCpu<W> {
    fn note(&self, event: Event) {
        world::<W>().note(self.id, event);
    }
}

impl<const W: usize> Drop for ScriptedCpu<W> {
    fn drop(&mut self) {
        let fails = world::<W>().fail.lock().unwrap().len();
        assert!(
            self.bound_to.is_none() || fails > 0,
            "vCPU {} is still bound",
            self.id
        );
    }
}

impl<const W: usize> AxArchVCpu for ScriptedCpu<W> {
    type CreateConfig = ();
    type SetupConfig = ();

    fn new(_vm_id: usize, vcpu_id: usize, (): ()) -> AxResult<Self> {
        world::<W>().fails(Failure::NewVCpu(vcpu_id))?;
        Ok(Self {
            id: vcpu_id,
            bound_to: None,
            account: Arc::new(Account::new::<ExitKind>()),
        })
    }

    fn account(&self) -> &Arc<Account> {
        &self.account
    }

    fn set_entry(&mut self, _entry: GuestPhysAddr) -> AxResult {
        Ok(())
    }

    fn set_nested_root(&mut self, root: HostPhysAddr) -> AxResult {
        assert!(root.is_aligned(FrameSize::Size16K.bytes()));
        Ok(())
    }

    fn setup(&mut self, (): ()) -> AxResult {
        self.note(Event::Setup);
        Ok(())
    }

    fn start_at(&mut self, entry: GuestPhysAddr, arg: u64) -> AxResult {
        self.note(Event::Start(entry.as_u64(), arg));
        Ok(())
    }

    fn run<D: DeviceAccess>(
        &mut self,
        mailbox: &Mailbox,
        devices: &D,
    ) -> AxResult<AxVCpuExitReason> {
        assert_eq!(self.bound_to, Some(PCPU.get()), "it runs where it is bound");
        world::<W>().fails(Failure::Run)?;
        self.note(Event::Run);
        let step = world::<W>().with_script(self.id, VecDeque::pop_front);
        match step {
            Some(step) => {
                self.account.entering(TestHal::<W>::now());
                let exit = step(mailbox, devices);
                self.account.left(TestHal::<W>::now());
                self.account.count(ExitKind::Step);
                Ok(exit)
            }
            None => panic!("vCPU {} has no more script", self.id),
        }
    }

    fn bind(&mut self) -> AxResult {
        world::<W>().fails(Failure::Bind)?;
        assert_eq!(self.bound_to.replace(PCPU.get()), None);
        self.note(Event::Bind);
        Ok(())
    }

    fn unbind(&mut self) -> AxResult {
        world::<W>().fails(Failure::Unbind)?;
        assert_eq!(self.bound_to.take(), Some(PCPU.get()));
        self.note(Event::Unbind);
        Ok(())
    }

    fn inject_interrupt(&mut self, _vector: usize) -> AxResult {
        Ok(())
    }

    fn set_interrupt_line(&mut self, _vector: usize, _level: LineLevel) -> AxResult {
        Ok(())
    }

    fn set_return_value(&mut self, answer: Result<u64, HypercallError>) {
        self.note(Event::Answer(answer));
    }

    fn finish_read(&mut self, value: u64) -> AxResult {
        world::<W>().fails(Failure::FinishRead)?;
        self.note(Event::Read(value));
        Ok(())
    }

    fn fault_access(&mut self) -> AxResult {
        self.note(Event::Fault);
        Ok(())
    }

    fn has_pending_interrupt(&self) -> bool {
        world::<W>().pending.swap(false, Ordering::SeqCst)
    }

    fn wait(&self) -> Wait {
        *world::<W>().wait.lock().unwrap()
    }

    fn timer_deadline(&self) -> Option<u64> {
        Some(world::<W>().deadline.load(Ordering::SeqCst)).filter(|&deadline| deadline != u64::MAX)
    }

    fn pc(&self) -> u64 {
        0x1234
    }

    fn dump(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "registers of vCPU {}", self.id)
    }
}

impl<const W: usize> GuestArch for ScriptedCpu<W> {
    type MachineInfo = RiscvMachine;

    fn parts(
        config: &AxVMConfig<RiscvMachine>,
        _: &[GuestRange],
        link: Arc<dyn VmLink>,
    ) -> Result<Parts<()>, ConfigError> {
        let wrong = |why| config.vm.error(keys::VIRTUAL, why);
        world::<W>().fails(Failure::Devices).map_err(wrong)?;
        *world::<W>().link.lock().unwrap() = Some(Arc::downgrade(&link));
        let device = Arc::new(TestDevice::<W>);
        let bus = AxVmDevices::builder()
            .mmio(GuestPhysAddr::new(DEVICE), 0x100, device.clone())
            .port(0x60, 8, device.clone())
            .sys_reg(0x800, 8, device);
        let irqs = config.vm.passed.iter().filter_map(|device| device.irq);
        let passed = irqs.map(|irq| {
            let line = IrqLine::new(Arc::new(TestLines::<W>), irq.guest);
            let host = config.host.clone();
            Arc::new(PassedInterrupt::new(
                irq.host,
                HostTrigger::Level,
                host,
                line,
            ))
        });
        Ok(Parts {
            devices: GuestDevices {
                bus: bus.build().unwrap(),
                own_buses: Vec::new(),
                console: None,
                passed: passed.collect(),
            },
            vcpus: vec![(); config.vm.vcpus.len()],
        })
    }

    fn parked() {}

    /// Puts the kernel's file at the start of RAM, and starts there.
    fn load(
        config: &AxVMConfig<RiscvMachine>,
        ram: &[GuestRange],
        memory: &mut dyn GuestRam,
    ) -> Result<BootState<()>, ConfigError> {
        let path = &config.vm.kernel.path;
        let start = ram[0].start();
        memory
            .write(start, config.images.open(path).unwrap())
            .unwrap();
        let wrong = |why| config.vm.error(keys::KERNEL_PATH, why);
        world::<W>().fails(Failure::Load).map_err(wrong)?;
        let ap_entry = start.checked_add(0x100).unwrap();
        Ok(BootState {
            entries: AxVCpuConfig {
                bsp_entry: start,
                ap_entry,
            },
            arg: 42,
            setup: (),
        })
    }
}

struct TestDevice<const W: usize>;

impl<const W: usize> Device for TestDevice<W> {
    fn name(&self) -> &str {
        "device"
    }

    fn read(&self, offset: u64, _width: AccessWidth) -> Result<u64, AccessFault> {
        if offset == DEVICE_HOLE {
            Err(AccessFault)
        } else {
            Ok(DEVICE_VALUE + offset)
        }
    }

    fn write(&self, offset: u64, _width: AccessWidth, data: u64) -> Result<(), AccessFault> {
        if offset == DEVICE_HOLE {
            return Err(AccessFault);
        }
        world::<W>().note(0, Event::DeviceWrite(offset, data));
        Ok(())
    }

    fn reset(&self) {
        world::<W>().note(0, Event::DeviceReset);
    }
}

/// An interrupt controller that tells the world.
struct TestLines<const W: usize>;

impl<const W: usize> InterruptController for TestLines<W> {
    fn set_line(&self, source: u32, level: LineLevel) {
        world::<W>().note(0, Event::Line(source, level));
    }
}
