//! The exit loop: the guest runs, stops, is served, and runs again.

use axaddrspace::{AxMmHal, FaultOutcome, GuestPhysAddr, MappingFlags};
use axdevice::{AxVmDevices, BusError, CharBackend, Device};
use axvcpu::{
    ACCOUNT_CALL, AccessWidth, Account, AtHostInterrupt, AxVCpuExitReason, DeviceAccess,
    FailReason, HypercallError, MmioWindow, PortWindow, RawExit, VCpuError,
};

use crate::{AxVM, AxVMHal, GuestArch, VmError, account, console, door::VCpuDoor, link::Link, smp};

/// Why the vCPU leaves its pCPU.
enum Leave {
    /// The caller decides what follows this.
    Exit(AxVCpuExitReason),
    /// Other tasks come first; then, if there is an exit, it is served once more, else the guest
    /// runs.
    Yield(Option<AxVCpuExitReason>),
}

/// What serving an exit led to.
enum Served {
    /// The guest runs on.
    Done,
    /// The vCPU leaves its pCPU.
    Leave(Leave),
}

impl<H: AxVMHal, A: GuestArch> AxVM<H, A> {
    /// Runs vCPU `vcpu_id` on this pCPU until something happens that the VM does not decide.
    ///
    /// Accesses to devices, nested page faults, the console, interrupts of the host, and what the
    /// vCPUs ask of one another are served here and the guest goes on. Everything else is returned;
    /// so is [`SystemDown`](AxVCpuExitReason::SystemDown), before the guest runs, once the VM is
    /// [going down](Self::shutdown). On return the vCPU is bound to no pCPU, whatever happened.
    ///
    /// # Errors
    /// [`VmErrorCause::NoSuchVCpu`](crate::VmErrorCause::NoSuchVCpu), or [`VmErrorCause::VCpu`](crate::VmErrorCause::VCpu): it is not
    /// Free, another task has it, or it failed, after which it never runs again.
    pub fn run_vcpu(&self, vcpu_id: usize) -> Result<AxVCpuExitReason, VmError> {
        let door = self.door(vcpu_id)?;
        let mut unserved = None;
        loop {
            // The tick that ended the turn may have been served outside of `serve`: as another task's
            // wake-up, or while this task waited for something.
            if H::is_turn_over() {
                H::reschedule();
            }
            match self
                .run_bound(door, unserved)
                .map_err(|error| self.vcpu_error(door, error))?
            {
                Leave::Exit(exit) => return Ok(exit),
                Leave::Yield(exit) => {
                    H::reschedule();
                    unserved = exit;
                }
            }
        }
    }

    /// Binds the vCPU, lets it run, and unbinds it.
    fn run_bound(
        &self,
        door: &VCpuDoor<A>,
        unserved: Option<AxVCpuExitReason>,
    ) -> Result<Leave, VCpuError> {
        let pcpu = H::this_pcpu();
        // Before the pCPU has the root of the nested table: who changes that looks here afterwards.
        self.holders.add(pcpu);
        door.bind(pcpu)?;
        let account = door.vcpu().account();
        account.bound(H::now());
        let result = self.run_rounds(door, unserved);
        // After a failure the vCPU is invalid, which no unbinding mends: the first error is the one to report. What the hardware holds of
        // it must go all the same, before its memory does.
        let unbound = match result {
            Ok(_) => door.vcpu().unbind(),
            Err(_) => door.vcpu().abandon(),
        };
        account.unbound(H::now());
        result.and_then(|leave| unbound.map(|()| leave))
    }

    fn run_rounds(
        &self,
        door: &VCpuDoor<A>,
        mut unserved: Option<AxVCpuExitReason>,
    ) -> Result<Leave, VCpuError> {
        let devices = LoopDevices {
            bus: self.devices.bus_of(door.vcpu().id()),
            link: &self.link,
            console: &*self.config.console,
            // What a device of the machine's has for the guest is asked for at the next entry from outside the loop.
            at_host_interrupt: if H::needs_reschedule() || !self.devices.passed.is_empty() {
                AtHostInterrupt::Leave
            } else {
                AtHostInterrupt::Stay
            },
            account: door.vcpu().account(),
            now: H::now,
        };
        loop {
            if let Some(kind) = self.shutting_down() {
                return Ok(Leave::Exit(AxVCpuExitReason::SystemDown { kind }));
            }
            let exit = match unserved.take() {
                Some(exit) => exit,
                None => door.vcpu().run(&devices)?,
            };
            match self.serve(door, exit)? {
                Served::Done => match devices.at_host_interrupt {
                    AtHostInterrupt::Leave if H::is_turn_over() => {
                        return Ok(Leave::Yield(None));
                    }
                    AtHostInterrupt::Leave | AtHostInterrupt::Stay => {}
                },
                Served::Leave(leave) => return Ok(leave),
            }
        }
    }

    /// The one dispatcher of exits.
    #[inline]
    fn serve(&self, door: &VCpuDoor<A>, exit: AxVCpuExitReason) -> Result<Served, VCpuError> {
        let bus = self.devices.bus_of(door.vcpu().id());
        match exit {
            AxVCpuExitReason::Nothing => {}
            AxVCpuExitReason::ExternalInterrupt { vector } => {
                H::irq_handler(vector);
                if H::is_turn_over() {
                    return Ok(Served::Leave(Leave::Yield(None)));
                }
            }
            AxVCpuExitReason::DeviceInterrupt => self.deliver_passed(),
            AxVCpuExitReason::MmioRead { addr, width } => {
                finish_read(door, bus.handle_mmio_read(addr, width))?;
            }
            AxVCpuExitReason::MmioWrite { addr, width, data } => {
                finish_write(door, bus.handle_mmio_write(addr, width, data))?;
            }
            AxVCpuExitReason::IoRead { port, width } => {
                finish_read(door, bus.handle_port_read(port, width))?;
            }
            AxVCpuExitReason::IoWrite { port, width, data } => {
                finish_write(door, bus.handle_port_write(port, width, data))?;
            }
            AxVCpuExitReason::SysRegRead { addr } => {
                finish_read(door, bus.handle_sys_reg_read(addr))?;
            }
            AxVCpuExitReason::SysRegWrite { addr, value } => {
                finish_write(door, bus.handle_sys_reg_write(addr, value))?;
            }
            AxVCpuExitReason::NestedPageFault { addr, access_flags } => {
                return self.serve_nested_fault(door, addr, access_flags);
            }
            AxVCpuExitReason::Console(call) => {
                match console::serve(call, &*self.config.console, &self.ram, &self.memory) {
                    console::Answer::Now(answer) => set_answer(door, answer)?,
                    console::Answer::NoRoom => {
                        return Ok(Served::Leave(Leave::Yield(Some(exit))));
                    }
                }
            }
            AxVCpuExitReason::SendIPI { target, vector } => {
                set_answer(door, smp::send_ipi(&self.doors, target, vector))?;
            }
            AxVCpuExitReason::RemoteFence { target, fence } => {
                let give_up = || self.shutting_down().is_some();
                set_answer(door, smp::remote_fence(&self.doors, target, fence, give_up))?;
            }
            AxVCpuExitReason::CpuUp {
                target_cpu,
                entry_point,
                arg,
            } => {
                let answer = smp::start(&self.doors, &self.ram, target_cpu, entry_point, arg);
                set_answer(door, answer)?;
            }
            AxVCpuExitReason::CpuStatus { target_cpu } => {
                set_answer(door, smp::status(&self.doors, target_cpu))?;
            }
            AxVCpuExitReason::Hypercall { .. }
            | AxVCpuExitReason::CpuDown
            | AxVCpuExitReason::Halt
            | AxVCpuExitReason::SystemDown { .. }
            | AxVCpuExitReason::FailEntry { .. }
            | AxVCpuExitReason::Unknown(_) => return Ok(Served::Leave(Leave::Exit(exit))),
        }
        Ok(Served::Done)
    }

    #[cold]
    fn serve_nested_fault(
        &self,
        door: &VCpuDoor<A>,
        addr: GuestPhysAddr,
        access: MappingFlags,
    ) -> Result<Served, VCpuError> {
        let outcome = self.memory.lock().handle_page_fault(addr, access);
        match outcome {
            FaultOutcome::Filled => Ok(Served::Done),
            FaultOutcome::WasFilled => {
                H::forget_nested_here();
                Ok(Served::Done)
            }
            FaultOutcome::NotMapped | FaultOutcome::Denied => {
                fault_access(door)?;
                Ok(Served::Done)
            }
            FaultOutcome::OutOfMemory => {
                let pc = door.vcpu().with_arch(|arch| arch.pc())?;
                let reason = FailReason {
                    what: "the host has no memory left for RAM that is filled on first touch",
                    raw: RawExit {
                        reason: 0,
                        info1: addr.as_u64(),
                        info2: 0,
                        pc,
                    },
                };
                Ok(Served::Leave(Leave::Exit(AxVCpuExitReason::FailEntry {
                    reason,
                })))
            }
        }
    }
}

/// A VM's devices, as a vCPU reaches them in its loop.
struct LoopDevices<'a, M: AxMmHal, A> {
    bus: &'a AxVmDevices,
    link: &'a Link<M, A>,
    console: &'a dyn CharBackend,
    at_host_interrupt: AtHostInterrupt,
    account: &'a Account,
    now: fn() -> u64,
}

impl<M: AxMmHal, A> LoopDevices<'_, M, A> {
    /// Apart, so that other hypercalls need not make room for a statement.
    #[cold]
    #[inline(never)]
    fn account_call(&self, args: [u64; 6]) -> Result<u64, HypercallError> {
        account::answer(&self.account.statement((self.now)()), args)
    }
}

impl<M: AxMmHal, A: GuestArch> DeviceAccess for LoopDevices<'_, M, A> {
    type Registers = dyn Device;

    fn mmio_window(
        &self,
        addr: GuestPhysAddr,
        width: AccessWidth,
    ) -> Option<MmioWindow<'_, dyn Device>> {
        self.bus.mmio_window(addr, width)
    }

    fn port_window(&self, port: u16, width: AccessWidth) -> Option<PortWindow<'_, dyn Device>> {
        self.bus.port_window(port, width)
    }

    #[inline(always)]
    fn mmio_read(&self, addr: GuestPhysAddr, width: AccessWidth) -> Option<u64> {
        self.bus.handle_mmio_read(addr, width).ok()
    }

    #[inline(always)]
    fn mmio_write(&self, addr: GuestPhysAddr, width: AccessWidth, data: u64) -> Option<()> {
        self.bus.handle_mmio_write(addr, width, data).ok()
    }

    fn port_read(&self, port: u16, width: AccessWidth) -> Option<u64> {
        // Where there is nothing the lines of the bus float high.
        Some(self.bus.handle_port_read(port, width).unwrap_or(u64::MAX))
    }

    fn port_write(&self, port: u16, width: AccessWidth, data: u64) -> Option<()> {
        // What nobody takes is lost.
        let _ = self.bus.handle_port_write(port, width, data);
        Some(())
    }

    fn sys_reg_read(&self, addr: u32) -> Option<u64> {
        self.bus.handle_sys_reg_read(addr).ok()
    }

    fn sys_reg_write(&self, addr: u32, value: u64) -> Option<()> {
        self.bus.handle_sys_reg_write(addr, value).ok()
    }

    /// VMs are offered one.
    fn hypercall(
        &self,
        nr: u64,
        args: &dyn Fn() -> [u64; 6],
    ) -> Option<Result<u64, HypercallError>> {
        Some(match nr {
            ACCOUNT_CALL => self.account_call(args()),
            _ => Err(HypercallError::NotSupported),
        })
    }

    fn console_write_byte(&self, byte: u8) -> Option<()> {
        self.console.put(byte)
    }

    fn at_host_interrupt(&self) -> AtHostInterrupt {
        self.at_host_interrupt
    }

    fn wants_exit(&self) -> bool {
        self.link.shutting_down().is_some()
    }
}

/// Gives the guest what the device read, or the fault of an address at which nothing answers.
#[inline]
fn finish_read<A: GuestArch>(
    door: &VCpuDoor<A>,
    result: Result<u64, BusError>,
) -> Result<(), VCpuError> {
    match result {
        Ok(value) => arch_step(door, |arch| arch.finish_read(value)),
        Err(BusError::NoDevice | BusError::Fault) => fault_access(door),
    }
}

#[inline]
fn finish_write<A: GuestArch>(
    door: &VCpuDoor<A>,
    result: Result<(), BusError>,
) -> Result<(), VCpuError> {
    match result {
        Ok(()) => Ok(()),
        Err(BusError::NoDevice | BusError::Fault) => fault_access(door),
    }
}

fn fault_access<A: GuestArch>(door: &VCpuDoor<A>) -> Result<(), VCpuError> {
    arch_step(door, A::fault_access)
}

fn set_answer<A: GuestArch>(door: &VCpuDoor<A>, answer: smp::Answer) -> Result<(), VCpuError> {
    door.vcpu().with_arch(|arch| arch.set_return_value(answer))
}

/// A step between two runs. If it fails, so does the vCPU, for good.
#[inline]
fn arch_step<A: GuestArch>(
    door: &VCpuDoor<A>,
    step: impl FnOnce(&mut A) -> axerrno::AxResult,
) -> Result<(), VCpuError> {
    use axvcpu::VCpuState::Ready;
    door.vcpu().manipulate_arch_vcpu(Ready, Ready, step)
}
