//! What the tests share: a host, a vCPU on the machine made of memory, and guests that trap as told.

extern crate std;

use alloc::{boxed::Box, sync::Arc, vec::Vec};
use core::cell::Cell;

use axaddrspace::{
    AxMmHal, FrameSize, GuestPhysAddr, HostPhysAddr, HostVirtAddr, NestedMode, PcpuMask,
};
use axvcpu::{AxArchPerCpu, AxArchVCpu, AxVCpuExitReason, AxVCpuHal, Mailbox, NoDevices};

use crate::{
    CpuFeatures, MachineIds, RISCVPerCpu, RISCVVCpu, RISCVVCpuConfig, Sharing, WfiPolicy,
    csr::{HTINST, HTVAL, SCAUSE, STVAL},
    exception::cause,
    machine,
    percpu::Pcpus,
    regs::VmCpuRegisters,
};

std::thread_local! {
    // Each test has a thread, and a machine of its own: what one does on its pCPUs, none that runs beside it sees.
    static PCPUS: &'static Pcpus = Box::leak(Box::new(Pcpus::new()));
    static PCPU: Cell<usize> = const { Cell::new(0) };
    static NOW: Cell<u64> = const { Cell::new(0) };
    static GUEST_TIMER: Cell<u64> = const { Cell::new(0) };
}

/// What is known about all pCPUs of this thread's machine.
pub(crate) fn pcpus() -> &'static Pcpus {
    PCPUS.with(|&pcpus| pcpus)
}

pub(crate) struct Memory;

impl AxMmHal for Memory {
    fn alloc_frame(_: FrameSize) -> Option<HostPhysAddr> {
        None
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

pub(crate) struct Host;

impl AxVCpuHal for Host {
    type MmHal = Memory;
    fn irq_fetch() -> usize {
        0
    }
    fn irq_handler(_: usize) {}
    fn this_pcpu() -> usize {
        PCPU.get()
    }
    fn now() -> u64 {
        NOW.get()
    }
    fn set_guest_timer(deadline: u64) {
        GUEST_TIMER.set(deadline);
    }
}

pub(crate) fn set_now(now: u64) {
    NOW.set(now);
}

pub(crate) fn guest_timer() -> u64 {
    GUEST_TIMER.get()
}

/// Goes on on the other of two pCPUs, which can run guests too. Its hardware is the same machine: what it holds is another's.
pub(crate) fn move_to_another_pcpu() {
    PCPU.set(1 - PCPU.get());
    enable_this_pcpu();
}

pub(crate) fn enable_this_pcpu() {
    let mut pcpu = RISCVPerCpu::<Host>::new(Host::this_pcpu()).unwrap();
    pcpu.hardware_enable().unwrap();
}

pub(crate) type TestCpu = RISCVVCpu<Host>;

pub(crate) const ENTRY: u64 = 0x8020_0000;
pub(crate) const ROOT: u64 = 0x9000_4000;
pub(crate) const RAM: core::ops::Range<u64> = 0x8000_0000..0x9000_0000;
pub(crate) const DEVICE: u64 = 0x1000_0000;

pub(crate) fn config() -> RISCVVCpuConfig {
    let ram = GuestPhysAddr::new(RAM.start)..GuestPhysAddr::new(RAM.end);
    RISCVVCpuConfig {
        vcpu_count: 4,
        features: CpuFeatures::all(),
        nested_mode: NestedMode::Sv39x4,
        wfi: WfiPolicy::Exit,
        sharing: Sharing::Dedicated,
        machine_ids: MachineIds {
            vendor: 11,
            arch: 12,
            implementation: 13,
        },
        ram: Arc::new([ram]),
    }
}

/// vCPU `id`, set up and bound.
pub(crate) fn vcpu_with(id: usize, config: RISCVVCpuConfig) -> TestCpu {
    machine::with(|m| {
        m.writable.insert(0xc22, 0);
        m.fences.clear();
    });
    enable_this_pcpu();
    let mut vcpu = TestCpu::new(7, id, config).unwrap();
    vcpu.set_nested_root(HostPhysAddr::new(ROOT)).unwrap();
    vcpu.set_entry(GuestPhysAddr::new(ENTRY)).unwrap();
    vcpu.setup(()).unwrap();
    vcpu.bind().unwrap();
    vcpu
}

/// vCPU 1 of 4.
pub(crate) fn vcpu() -> TestCpu {
    vcpu_with(1, config())
}

/// Adds to what the guest does: `step`, then a trap of this kind.
pub(crate) fn trap(csrs: Trap, step: impl FnOnce(&mut VmCpuRegisters) + 'static) {
    let all: machine::Step = Box::new(move |regs| {
        step(regs);
        SCAUSE.write(csrs.cause);
        STVAL.write(csrs.stval);
        HTVAL.write(csrs.gpa >> 2);
        HTINST.write(csrs.htinst);
    });
    machine::with(|m| m.script.push_back(all));
}

/// What the hardware says about a trap.
#[derive(Clone, Copy, Default)]
pub(crate) struct Trap {
    pub(crate) cause: u64,
    pub(crate) stval: u64,
    pub(crate) gpa: u64,
    pub(crate) htinst: u64,
}

/// Adds an SBI call to what the guest does.
pub(crate) fn sbi(extension: u64, function: u64, args: &[u64]) {
    let args: Vec<u64> = args.to_vec();
    let csrs = Trap {
        cause: cause::CALL_FROM_VS,
        ..Trap::default()
    };
    trap(csrs, move |regs| {
        let x = &mut regs.guest_regs.x;
        x[10..16].fill(0xdead);
        x[10..10 + args.len()].copy_from_slice(&args);
        (x[16], x[17]) = (function, extension);
    });
}

/// Runs what was added, to the end: the host's timer, if nothing leaves before.
pub(crate) fn run(vcpu: &mut TestCpu) -> AxVCpuExitReason {
    vcpu.run(&Mailbox::new(), &NoDevices).unwrap()
}

pub(crate) const HOST_TIMER: AxVCpuExitReason = AxVCpuExitReason::ExternalInterrupt {
    vector: 1 << 63 | 5,
};
