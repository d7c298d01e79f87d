//! How a VM's devices reach its vCPUs, its memory, and its way down.
//!
//! Devices are made before vCPUs, which may hold some of them; so the link learns of the vCPUs last,
//! and does not keep them alive.

use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicU8, Ordering};

use axaddrspace::{
    AddrSpace, AddrSpaceError, AxMmHal, FixedRam, GuestPhysAddr, HostPhysAddr, RamPage,
};
use axvcpu::{AxArchVCpu, LineLevel, ResetCause, SystemDownKind};
use spin::{Mutex, Once};

use crate::door::VCpuDoor;

/// What an instruction set's devices and vCPUs reach of their VM.
///
/// No call waits for a vCPU or calls a device. A vCPU that does not exist hears nothing.
pub trait VmLink: Send + Sync {
    /// Puts letter `vector` once into the mailbox of vCPU `cpu`, and kicks it.
    fn raise(&self, cpu: usize, vector: usize);

    /// Sets line `vector` in the mailbox of vCPU `cpu`, and kicks it.
    fn set_line(&self, cpu: usize, vector: usize, level: LineLevel);

    /// Takes vCPU `cpu` down: it is off from now on, and hears of that by letter `vector`.
    fn stop(&self, cpu: usize, vector: usize);

    /// Starts vCPU `cpu` at `entry` if it is off.
    fn start(&self, cpu: usize, entry: GuestPhysAddr);

    /// Has the VM go down.
    fn shut_down(&self, kind: SystemDownKind);

    /// Fills `buf` with the guest's memory from `addr` on; `false` where not all of that is RAM.
    fn read_ram(&self, addr: GuestPhysAddr, buf: &mut [u8]) -> bool;

    /// Writes `bytes` to the guest's memory; `false` where not all of that is RAM.
    fn write_ram(&self, addr: GuestPhysAddr, bytes: &[u8]) -> bool;

    /// Has a page of the VM's own, which is no RAM, stand in for the device at `addr`, as
    /// [`map_stand_in`](AddrSpace::map_stand_in) does.
    ///
    /// # Errors
    /// Those of that.
    fn stand_in(&self, _addr: GuestPhysAddr) -> Result<HostPhysAddr, AddrSpaceError> {
        Err(AddrSpaceError::OutOfMemory {
            start: GuestPhysAddr::new(0),
            len: 0,
        })
    }

    /// The page of the guest's memory that `addr` is in, if it stays where it is.
    fn ram_page(&self, _addr: GuestPhysAddr) -> Option<RamPage> {
        None
    }
}

const NOT_DOWN: u8 = 0;
const POWER_OFF: u8 = 1;
const RESET: u8 = 2;
const TRIPLE_FAULT: u8 = 3;
const CRASH: u8 = 4;

/// A VM's link.
pub(crate) struct Link<M: AxMmHal, A> {
    doors: Once<Weak<[VCpuDoor<A>]>>,
    /// The part of the memory that needs no lock. It goes first: what it holds would not go back to the host.
    fixed: FixedRam,
    memory: Arc<Mutex<AddrSpace<M>>>,
    /// [`NOT_DOWN`], or how the VM goes down.
    down: AtomicU8,
}

impl<M: AxMmHal, A: AxArchVCpu> Link<M, A> {
    /// The link of a VM whose RAM is there, and whose vCPUs are not yet.
    pub(crate) fn new(memory: Arc<Mutex<AddrSpace<M>>>) -> Self {
        let fixed = memory.lock().fixed_ram();
        Self {
            doors: Once::new(),
            fixed,
            memory,
            down: AtomicU8::new(NOT_DOWN),
        }
    }

    /// Here they are.
    pub(crate) fn connect(&self, doors: &Arc<[VCpuDoor<A>]>) {
        self.doors.call_once(|| Arc::downgrade(doors));
    }

    /// The VM starts again.
    pub(crate) fn set_up(&self) {
        self.down.store(NOT_DOWN, Ordering::SeqCst);
    }

    /// Has the VM go down. The first to say how is heeded.
    pub(crate) fn shut_down(&self, kind: SystemDownKind) {
        let how = match kind {
            SystemDownKind::PowerOff => POWER_OFF,
            SystemDownKind::Reset(ResetCause::Asked) => RESET,
            SystemDownKind::Reset(ResetCause::TripleFault) => TRIPLE_FAULT,
            SystemDownKind::Crash => CRASH,
        };
        // Fails for whoever comes second.
        let _ = self
            .down
            .compare_exchange(NOT_DOWN, how, Ordering::SeqCst, Ordering::SeqCst);
        if let Some(doors) = self.doors() {
            doors.iter().for_each(VCpuDoor::rouse);
        }
    }

    /// How the VM goes, or went, down; `None` while it does not.
    #[inline]
    pub(crate) fn shutting_down(&self) -> Option<SystemDownKind> {
        match self.down.load(Ordering::SeqCst) {
            NOT_DOWN => None,
            POWER_OFF => Some(SystemDownKind::PowerOff),
            RESET => Some(SystemDownKind::Reset(ResetCause::Asked)),
            TRIPLE_FAULT => Some(SystemDownKind::Reset(ResetCause::TripleFault)),
            _ => Some(SystemDownKind::Crash),
        }
    }

    fn doors(&self) -> Option<Arc<[VCpuDoor<A>]>> {
        self.doors.get().and_then(Weak::upgrade)
    }

    fn with_door(&self, cpu: usize, f: impl FnOnce(&VCpuDoor<A>)) {
        if let Some(doors) = self.doors()
            && let Some(door) = doors.get(cpu)
        {
            f(door);
        }
    }
}

impl<M: AxMmHal, A: AxArchVCpu + Send> VmLink for Link<M, A>
where
    Self: Send + Sync,
{
    fn raise(&self, cpu: usize, vector: usize) {
        self.with_door(cpu, |door| door.raise(vector));
    }

    fn set_line(&self, cpu: usize, vector: usize, level: LineLevel) {
        self.with_door(cpu, |door| door.set_line(vector, level));
    }

    fn stop(&self, cpu: usize, vector: usize) {
        self.with_door(cpu, |door| door.stop(vector));
    }

    fn start(&self, cpu: usize, entry: GuestPhysAddr) {
        self.with_door(cpu, |door| {
            // One that is on does not hear.
            let _ = door.start(entry, 0);
        });
    }

    fn shut_down(&self, kind: SystemDownKind) {
        Self::shut_down(self, kind);
    }

    fn read_ram(&self, addr: GuestPhysAddr, buf: &mut [u8]) -> bool {
        self.fixed.read(addr, buf) || self.memory.lock().memory().read(addr, buf).is_ok()
    }

    fn write_ram(&self, addr: GuestPhysAddr, bytes: &[u8]) -> bool {
        self.fixed.write(addr, bytes) || self.memory.lock().memory().write(addr, bytes).is_ok()
    }

    fn stand_in(&self, addr: GuestPhysAddr) -> Result<HostPhysAddr, AddrSpaceError> {
        self.memory.lock().map_stand_in(addr)
    }

    fn ram_page(&self, addr: GuestPhysAddr) -> Option<RamPage> {
        self.fixed.page(addr)
    }
}
