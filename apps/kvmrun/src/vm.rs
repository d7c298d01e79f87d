//! A VM: what it is made of, and how its vCPUs run.

use alloc::{boxed::Box, format, string::String, sync::Arc, vec::Vec};

use axaddrspace::GuestPhysAddr;
use axdevice::{AxVmDevices, CharBackend};
use axvcpu::AccessWidth;
use axvmconfig::VCpuPlacement;
use syscalls::Errno;

use crate::{
    arch, bundle,
    console::Console,
    devices::{self, Power},
    exit::{Direction, Exit, MMIO_DATA, SBI_RET, SystemEvent},
    kvm::{Kvm, Vcpu},
    linux,
    ram::Ram,
};

/// What all vCPUs share.
pub struct Board {
    /// The devices that KVM has not.
    pub bus: AxVmDevices,
    /// Whether the machine is off.
    pub power: Arc<Power>,
    /// Where the guest's output goes.
    pub console: Arc<Console>,
    /// The guest's memory.
    pub ram: Ram,
}

/// Runs the VM of `bundle` until it is off.
///
/// # Errors
/// In words: the bundle, KVM or the machine is not fit for it, or the guest came to another end.
pub fn run(bundle: &'static [u8]) -> Result<(), String> {
    let (mut config, images) = bundle::vm(bundle, arch::ISA)?;
    let kvm = Kvm::open()?;
    let vm = kvm.create_vm()?;
    arch::create_controllers(vm)?;
    let mut ram = Ram::new(&config)?;
    for (slot, region) in (0..).zip(ram.regions()) {
        vm.add_memory(slot, region)?;
    }
    let vcpus: Result<Vec<_>, _> = (0..config.vcpus.len())
        .map(|id| vm.create_vcpu(id))
        .collect();
    let mut vcpus = vcpus?;
    bundle::tell(&mut config, &arch::place_controllers(vm, vcpus.len())?);

    let (console, power) = (Arc::new(Console::new()), Arc::new(Power::default()));
    let output: Arc<dyn CharBackend> = console.clone();
    let bus = arch::devices(vm, &vcpus, &config, &output, &power)?;
    let placements = config.vcpus.clone();
    arch::start(kvm, &vcpus, config, images, output, &mut ram)?;
    let board: &'static Board = Box::leak(Box::new(Board {
        bus: devices::build(bus)?,
        power,
        console,
        ram,
    }));

    let cpus = linux::cpus();
    for (id, (placement, vcpu)) in placements.iter().zip(vcpus.drain(..)).enumerate().rev() {
        let seat = Seat {
            vcpu,
            cpu: cpu_of(placement, cpus),
            board,
        };
        match id {
            0 => return seat.drive(),
            _ => {
                let seat = Box::into_raw(Box::new(seat));
                linux::spawn(thread, seat.expose_provenance())?;
            }
        }
    }
    Err("the VM has no vCPU".into())
}

/// The CPU of the machine that a vCPU runs on: the first that its config names, where there is one.
fn cpu_of(placement: &VCpuPlacement, cpus: usize) -> usize {
    placement.pcpus.iter().find(|&cpu| cpu < cpus).unwrap_or(0)
}

/// The thread of a vCPU but the first.
extern "C" fn thread(seat: usize) -> ! {
    let seat = core::ptr::with_exposed_provenance_mut::<Seat>(seat);
    // SAFETY: it was a box when the thread was started, and is this thread's.
    let seat = unsafe { Box::from_raw(seat) };
    end(&seat.board.console.clone(), seat.drive())
}

/// Says how it went, in the line that whoever started the machine looks for, and ends the machine.
pub fn end(console: &Console, result: Result<(), String>) -> ! {
    let text = match result {
        Ok(()) => String::from("kvmrun: the guest powered off\r\n"),
        Err(why) => format!("kvmrun: error: {why}\r\n"),
    };
    console.flush();
    console.write(text.as_bytes());
    linux::power_off()
}

/// A vCPU and where it runs.
struct Seat {
    vcpu: Vcpu,
    cpu: usize,
    board: &'static Board,
}

impl Seat {
    /// Runs the vCPU until the machine is off.
    fn drive(mut self) -> Result<(), String> {
        linux::pin_to(self.cpu)?;
        while !self.board.power.is_off() {
            match self.vcpu.run() {
                Ok(exit) => self.serve(exit)?,
                // A vCPU that waits to be started has been; or somebody wanted its attention.
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(errno) => return Err(format!("running a vCPU: {errno}")),
            }
        }
        Ok(())
    }

    /// Does what an exit asks for.
    fn serve(&mut self, exit: Exit) -> Result<(), String> {
        match exit {
            Exit::Port {
                direction,
                width,
                port,
                count,
                offset,
            } => {
                for n in 0..count as usize {
                    let at = offset.saturating_add(n.saturating_mul(width.bytes()));
                    self.port(direction, port, width, at)
                        .ok_or("KVM names a place outside the shared page")?;
                }
            }
            Exit::MmioRead { addr, width } => {
                let value = self
                    .board
                    .bus
                    .handle_mmio_read(GuestPhysAddr::new(addr), width);
                let value = value.unwrap_or(devices::nothing(width));
                self.vcpu.answer().put(MMIO_DATA, &value.to_le_bytes());
            }
            Exit::MmioWrite { addr, width, data } => {
                // As on a PC, a write to nothing has no effect.
                let _ = self
                    .board
                    .bus
                    .handle_mmio_write(GuestPhysAddr::new(addr), width, data);
            }
            Exit::Sbi {
                extension,
                function,
                args,
            } => {
                let (error, value) = self.call(extension, function, args);
                let answer = self.vcpu.answer();
                answer.put(SBI_RET, &error.to_le_bytes());
                answer.put(SBI_RET + 8, &value.to_le_bytes());
            }
            Exit::System(SystemEvent::PowerOff) => self.switch_off(),
            Exit::System(SystemEvent::Reset) => return Err("the guest resets its machine".into()),
            Exit::System(SystemEvent::Crash) => return Err("the guest crashed".into()),
            Exit::Shutdown => return Err("the guest had a triple fault".into()),
            Exit::Nothing => {}
            Exit::Other { reason, words } => {
                return Err(format!(
                    "exit {reason} ({words:x?}) is not for a guest like this"
                ));
            }
        }
        Ok(())
    }

    fn switch_off(&self) {
        let power: &dyn axdevice::SystemPower = &*self.board.power;
        power.power_off();
    }

    /// One access to a port, whose value is `at` some place in the shared page.
    fn port(
        &mut self,
        direction: Direction,
        port: u16,
        width: AccessWidth,
        at: usize,
    ) -> Option<()> {
        let bus = &self.board.bus;
        match direction {
            Direction::In => {
                let value = bus.handle_port_read(port, width);
                let value = value.unwrap_or(devices::nothing(width));
                self.vcpu.store(at, width.bytes(), value)
            }
            Direction::Out => {
                let value = self.vcpu.load(at, width.bytes())?;
                // As on a PC, a write to nothing has no effect.
                let _ = bus.handle_port_write(port, width, value);
                Some(())
            }
        }
    }

    /// The debug console (SBI specification, "Debug Console Extension"), which KVM leaves to us.
    fn call(&mut self, extension: u64, function: u64, args: [u64; 6]) -> (i64, u64) {
        const DEBUG_CONSOLE: u64 = 0x4442_434e;
        const NOT_SUPPORTED: i64 = -2;
        const INVALID_PARAM: i64 = -3;
        let console = &self.board.console;
        match (extension, function) {
            (DEBUG_CONSOLE, 0) => {
                let mut bytes = [0; 256];
                let len = args[0].min(bytes.len() as u64);
                let bytes = bytes.get_mut(..len as usize).unwrap_or_default();
                match self.board.ram.read(GuestPhysAddr::new(args[1]), bytes) {
                    Some(()) => (0, console.write(bytes) as u64),
                    None => (INVALID_PARAM, 0),
                }
            }
            // Nobody types.
            (DEBUG_CONSOLE, 1) => (0, 0),
            (DEBUG_CONSOLE, 2) => {
                console.write(&[args[0] as u8]);
                (0, 0)
            }
            _ => (NOT_SUPPORTED, 0),
        }
    }
}
