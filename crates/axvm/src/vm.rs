//! One VM: what it is made of, how it starts and how it ends. What its vCPUs do in between is in
//! [`crate::run`] and [`crate::drive`].

use alloc::{boxed::Box, format, string::String, sync::Arc, vec::Vec};
use core::{
    fmt,
    marker::PhantomData,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use axaddrspace::{
    AddrSpace, Fill, GuestPhysAddr, Holders, HostPhysAddr, MappingFlags, MemoryUsage,
};
use axvcpu::{AxVCpu, Statement, SystemDownKind, VCpuError};
use axvmconfig::{MapKind, MemoryRegion, PassedDevice, keys};
use spin::Mutex;

use crate::{
    AxVMConfig, AxVMHal, GuestArch, GuestDevices, GuestRange, Parts, PowerState, StopRecord,
    VmError, VmErrorCause, door::VCpuDoor, link::Link, ram_by_turns::RamByTurns,
};

/// A VM that is shared by the tasks of its vCPUs and whoever manages it.
pub type AxVMRef<H, A> = Arc<AxVM<H, A>>;

/// A vCPU that is shared by its VM and its devices.
pub type AxVCpuRef<A> = Arc<AxVCpu<A>>;

/// One VM.
///
/// Everything but the last group is made once, by [`new`](Self::new), and stays. Its memory goes
/// back to the host when it is dropped.
pub struct AxVM<H: AxVMHal, A: GuestArch> {
    pub(crate) config: AxVMConfig<A::MachineInfo>,
    pub(crate) ram: Box<[GuestRange]>,
    pub(crate) vcpus: Box<[AxVCpuRef<A>]>,
    pub(crate) doors: Arc<[VCpuDoor<A>]>,
    pub(crate) devices: GuestDevices,
    nested_root: HostPhysAddr,
    pub(crate) holders: Arc<Holders>,
    hal: PhantomData<fn() -> H>,

    pub(crate) memory: Arc<Mutex<AddrSpace<H::MmHal>>>,
    pub(crate) link: Arc<Link<H::MmHal, A>>,
    pub(crate) stopped: Mutex<Option<StopRecord>>,
    /// Whether a guest or a loader may have written to RAM.
    used: AtomicBool,
    running: AtomicBool,
    /// vCPUs whose task has not been told yet that the VM is down.
    alive: AtomicUsize,
}

impl<H, A> AxVM<H, A>
where
    H: AxVMHal<MmHal: Send + Sync>,
    A: GuestArch,
{
    /// Makes the VM: its memory, vCPUs and devices. It fails whole, and then has taken nothing from
    /// the host.
    ///
    /// # Errors
    /// [`VmErrorCause::Memory`] for its address space, [`VmErrorCause::Config`] for its RAM and its devices,
    /// [`VmErrorCause::NewVCpu`] and [`VmErrorCause::VCpu`] for its vCPUs.
    pub fn new(config: AxVMConfig<A::MachineInfo>) -> Result<AxVMRef<H, A>, VmError> {
        let name = config.vm.name.clone();
        Self::build(config)
            .map(Arc::new)
            .map_err(|cause| VmError { vm: name, cause })
    }

    fn build(config: AxVMConfig<A::MachineInfo>) -> Result<Self, VmErrorCause> {
        let mut memory = AddrSpace::new(config.machine.nested_mode)?;
        let mut ram = Vec::with_capacity(config.vm.memory.len());
        for (index, region) in config.vm.memory.iter().enumerate() {
            let wrong = |why: &dyn fmt::Display| {
                config
                    .vm
                    .error(&format!("{}[{index}]", keys::MEMORY_REGIONS), why)
            };
            let range = GuestRange::new(region.gpa, region.size);
            ram.push(range.ok_or_else(|| wrong(&"it wraps round the end of the address space"))?);
            map_ram(&mut memory, region).map_err(|why| wrong(&why))?;
        }
        for (index, device) in config.vm.passed.iter().enumerate() {
            map_device(&mut memory, device).map_err(|why| {
                let key = format!("{}[{index}]", keys::PASSTHROUGH);
                config.vm.error(&key, why)
            })?;
        }
        let nested_root = memory.nested_root();
        let holders = memory.holders().clone();
        let memory = Arc::new(Mutex::new(memory));
        let link = Arc::new(Link::new(memory.clone()));
        let Parts { devices, vcpus } = A::parts(&config, &ram, link.clone())?;
        let mut doors = Vec::with_capacity(config.vm.vcpus.len());
        for (id, (placement, arch)) in config.vm.vcpus.iter().zip(vcpus).enumerate() {
            let vcpu = AxVCpu::new(config.vm.id, id, Some(placement.pcpus.mask()), arch)
                .map_err(|error| VmErrorCause::NewVCpu { vcpu: id, error })?;
            // Where it starts is known once the images are loaded.
            let entry = ram
                .first()
                .map_or(GuestPhysAddr::new(0), |range| range.start());
            vcpu.setup(entry, nested_root, A::parked())
                .map_err(|error| VmErrorCause::VCpu { vcpu: id, error })?;
            let pcpu = placement.pcpus.iter().next().unwrap_or(0);
            doors.push(VCpuDoor::new(vcpu, pcpu, H::kick));
        }
        let doors: Arc<[_]> = doors.into();
        link.connect(&doors);
        Ok(Self {
            config,
            ram: ram.into(),
            vcpus: doors.iter().map(|door| door.vcpu().clone()).collect(),
            doors,
            devices,
            nested_root,
            holders,
            hal: PhantomData,
            memory,
            link,
            stopped: Mutex::new(None),
            used: AtomicBool::new(false),
            running: AtomicBool::new(false),
            alive: AtomicUsize::new(0),
        })
    }
}

impl<H: AxVMHal, A: GuestArch> AxVM<H, A> {
    /// Starts the VM from the beginning: RAM holds its images and nothing of a former life, devices
    /// and vCPUs are as after power-on. vCPU 0 starts; the others wait until it starts them.
    ///
    /// May be called again once every vCPU has been [driven](Self::drive) to its end.
    ///
    /// # Errors
    /// [`VmErrorCause::Running`] until every vCPU's task knows that it is down; [`VmErrorCause::Config`] for its images;
    /// [`VmErrorCause::Ram`] and [`VmErrorCause::Memory`] if its RAM cannot be cleared; [`VmErrorCause::VCpu`] for a vCPU
    /// that is busy or failed in a former life.
    pub fn boot(&self) -> Result<(), VmError> {
        if self.running.swap(true, Ordering::SeqCst) {
            return Err(self.error(VmErrorCause::Running));
        }
        self.start().map_err(|cause| {
            self.close_passed();
            self.running.store(false, Ordering::SeqCst);
            self.error(cause)
        })
    }

    fn start(&self) -> Result<(), VmErrorCause> {
        let mut ram = RamByTurns::<H>::new(&self.memory);
        if self.used.swap(true, Ordering::SeqCst) {
            self.clear_ram(&mut ram)?;
        }
        let boot = A::load(&self.config, &self.ram, &mut ram)?;
        self.devices.reset_all();
        let (entries, arg) = (boot.entries, boot.arg);
        let mut first = Some(boot.setup);
        for (id, door) in self.doors.iter().enumerate() {
            let (entry, arg, setup) = match first.take() {
                Some(setup) => (entries.bsp_entry, arg, setup),
                None => (entries.ap_entry, 0, A::parked()),
            };
            door.unblock()
                .and_then(|()| door.vcpu().reset(entry, arg, setup))
                .map_err(|error| VmErrorCause::VCpu { vcpu: id, error })?;
        }
        *self.stopped.lock() = None;
        self.link.set_up();
        self.alive.store(self.doors.len(), Ordering::SeqCst);
        for door in self.doors.iter() {
            door.switch_off();
        }
        self.open_passed()?;
        if let Some(door) = self.doors.first() {
            let off = door.start(entries.bsp_entry, arg);
            debug_assert!(off.is_ok(), "it was just switched off");
        }
        Ok(())
    }

    /// RAM as when the VM was made.
    fn clear_ram(&self, ram: &mut RamByTurns<'_, H>) -> Result<(), VmErrorCause> {
        self.memory.lock().empty_lazy();
        let ahead = |region: &&MemoryRegion| match region.kind {
            MapKind::Alloc => true,
            MapKind::Lazy => false,
        };
        // All of it is mapped, so there is nothing to be had and nothing to fail.
        let mut regions = self.config.vm.memory.iter().filter(ahead);
        regions
            .try_for_each(|region| ram.zero(region.gpa, region.size))
            .map_err(VmErrorCause::Ram)
    }

    /// Has the VM go down: each vCPU's task is told the next time that it is [driven](Self::drive).
    /// The first to say how is heeded.
    pub fn shutdown(&self, kind: SystemDownKind) {
        self.link.shut_down(kind);
    }

    /// How the VM goes, or went, down; `None` while it does not.
    #[must_use]
    pub fn shutting_down(&self) -> Option<SystemDownKind> {
        self.link.shutting_down()
    }

    /// Whether it was booted and some vCPU's task has not been told yet that it is down.
    #[must_use]
    pub fn running(&self) -> bool {
        self.running.load(Ordering::SeqCst)
    }

    /// One more vCPU's task knows that the VM is down.
    pub(crate) fn vcpu_ended(&self) {
        if self.alive.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.close_passed();
            self.running.store(false, Ordering::SeqCst);
        }
    }

    /// The VM's number.
    #[must_use]
    pub fn id(&self) -> usize {
        self.config.vm.id
    }

    /// The VM's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.config.vm.name
    }

    /// What it was made from.
    #[must_use]
    pub fn config(&self) -> &AxVMConfig<A::MachineInfo> {
        &self.config
    }

    /// The vCPU of this number.
    #[must_use]
    pub fn vcpu(&self, id: usize) -> Option<&AxVCpuRef<A>> {
        self.vcpus.get(id)
    }

    /// All vCPUs, by number.
    #[must_use]
    pub fn vcpu_list(&self) -> &[AxVCpuRef<A>] {
        &self.vcpus
    }

    /// Whether vCPU `id` is on.
    #[must_use]
    pub fn vcpu_power(&self, id: usize) -> Option<PowerState> {
        self.doors.get(id).map(VCpuDoor::power)
    }

    /// The VM's devices.
    #[must_use]
    pub fn devices(&self) -> &GuestDevices {
        &self.devices
    }

    /// The root of the VM's nested page table.
    #[must_use]
    pub fn nested_root(&self) -> HostPhysAddr {
        self.nested_root
    }

    /// The host memory that the VM holds.
    #[must_use]
    pub fn memory_usage(&self) -> MemoryUsage {
        self.memory.lock().usage()
    }

    /// Raises interrupt `vector`, numbered as in the vCPU's mailbox (0 to 60), of vCPU `id` once.
    ///
    /// # Errors
    /// [`VmErrorCause::NoSuchVCpu`]. A `vector` that there is not raises nothing.
    pub fn inject_interrupt_to_vcpu(&self, id: usize, vector: usize) -> Result<(), VmError> {
        self.door(id)?.raise(vector);
        Ok(())
    }

    /// For the owner of the console to call when there is new input, or room again.
    pub fn console_poll(&self) {
        if let Some(uart) = &self.devices.console {
            uart.poll();
        }
    }

    /// What stopped the VM, if it did not go down of its own will.
    #[must_use]
    pub fn stop_record(&self) -> Option<StopRecord> {
        self.stopped.lock().clone()
    }

    /// What the time of vCPU `id` went into so far. It is not disturbed.
    #[must_use]
    pub fn vcpu_statement(&self, id: usize) -> Option<Statement> {
        let vcpu = self.vcpus.get(id)?;
        Some(vcpu.account().statement(H::now()))
    }

    /// Writes, for each vCPU that was in its guest, how long it was there and how long in the
    /// hypervisor, and how often it left its guest and why.
    ///
    /// # Errors
    /// That of `out`.
    pub fn write_statistics(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let micros = |ticks: u64| {
            let hz = u128::from(self.config.machine.timebase_hz.max(1));
            u128::from(ticks) * 1_000_000 / hz
        };
        for id in 0..self.vcpus.len() {
            let Some(statement) = self.vcpu_statement(id) else {
                continue;
            };
            if statement.exits_in_all() == 0 {
                continue;
            }
            writeln!(
                out,
                "vCPU {id} time: {} us in the guest, {} us in the hypervisor",
                micros(statement.guest_ticks),
                micros(statement.hypervisor_ticks)
            )?;
            write!(out, "vCPU {id} exits:")?;
            let counts = statement.exits().filter(|&(_, count)| count != 0);
            for (position, (kind, count)) in counts.enumerate() {
                let separator = if position == 0 { " " } else { ", " };
                write!(out, "{separator}{kind} {count}")?;
            }
            writeln!(out)?;
        }
        Ok(())
    }

    pub(crate) fn door(&self, id: usize) -> Result<&VCpuDoor<A>, VmError> {
        self.doors
            .get(id)
            .ok_or_else(|| self.error(VmErrorCause::NoSuchVCpu(id)))
    }

    pub(crate) fn error(&self, cause: VmErrorCause) -> VmError {
        VmError {
            vm: String::from(self.name()),
            cause,
        }
    }

    pub(crate) fn vcpu_error(&self, door: &VCpuDoor<A>, error: VCpuError) -> VmError {
        self.error(VmErrorCause::VCpu {
            vcpu: door.vcpu().id(),
            error,
        })
    }
}

fn map_ram<M: axaddrspace::AxMmHal>(
    memory: &mut AddrSpace<M>,
    region: &MemoryRegion,
) -> Result<(), axaddrspace::AddrSpaceError> {
    let fill = match region.kind {
        MapKind::Alloc => Fill::Ahead,
        MapKind::Lazy => Fill::Lazy,
    };
    memory.map_alloc(region.gpa, region.size, region.flags, fill)
}

/// The registers of a device of the machine's: the guest reaches them without an exit, and never executes them.
fn map_device<M: axaddrspace::AxMmHal>(
    memory: &mut AddrSpace<M>,
    device: &PassedDevice,
) -> Result<(), axaddrspace::AddrSpaceError> {
    const FLAGS: MappingFlags = MappingFlags::READ
        .union(MappingFlags::WRITE)
        .union(MappingFlags::DEVICE);
    match device.registers {
        Some(registers) => {
            memory.map_linear(registers.guest, registers.host, registers.size, FLAGS)
        }
        None => Ok(()),
    }
}
