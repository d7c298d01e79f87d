//! What a vCPU is made from.

use alloc::sync::Arc;
use core::ops::Range;

use axaddrspace::{GuestPhysAddr, HostPhysAddr, NestedMode, RamPage};
use axdevice::{Keeps, LocalInterrupts, Timed};
use axvcpu::Sharing;

/// What a guest's HLT does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HltPolicy {
    /// It leaves as [`Halt`](axvcpu::AxVCpuExitReason::Halt), so that others can have the pCPU.
    Exit,
    /// It stops the pCPU until an interrupt, the guest's or the host's, is pending. Whoever has an interrupt for the guest must interrupt the pCPU.
    /// With SVM an interrupt of the host's ends the guest's wait as well: its idle loops must loop, as they do.
    Untrapped,
}

/// What of the guest's local APIC the hardware keeps while the guest runs. What it [can](crate::X86PerCpu::local_apic), no CPU must.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalApicHardware {
    /// Nothing: it is all software's.
    Nothing,
    /// The task priority, so that no access to CR8 exits.
    TaskPriority,
    /// The registers too: reading most of them does not exit, and writing one that has an effect costs little.
    Registers {
        /// The page that the nested table has where the xAPIC's registers are, by which the hardware knows them. It is the VM's own, and nothing is
        /// in it.
        stand_in: HostPhysAddr,
    },
    /// Interrupts too, but for the timer's and what others send: they are delivered, and most of them ended, without an exit.
    Everything {
        /// As above.
        stand_in: HostPhysAddr,
    },
}

impl LocalApicHardware {
    /// What it keeps.
    pub(crate) const fn keeps(self) -> Option<Keeps> {
        match self {
            Self::Nothing => None,
            Self::TaskPriority => Some(Keeps::TaskPriority),
            Self::Registers { .. } => Some(Keeps::Registers),
            Self::Everything { .. } => Some(Keeps::Everything),
        }
    }
}

/// The VM's RAM, as the vCPU reads instructions, page tables and the operands of string instructions in it.
pub trait GuestBytes: Send + Sync {
    /// Fills `buf` from `gpa` on; `false`, and nothing is promised of `buf`, where not all of that is RAM.
    fn read(&self, gpa: GuestPhysAddr, buf: &mut [u8]) -> bool;

    /// Writes `bytes` to `gpa`; `false` where not all of that is RAM.
    fn write(&self, gpa: GuestPhysAddr, bytes: &[u8]) -> bool;

    /// The page of 4 KiB that `gpa` is in; `None` where that is no RAM, or may move: then it is read by [`read`](Self::read).
    fn page(&self, _gpa: GuestPhysAddr) -> Option<RamPage> {
        None
    }
}

/// How a vCPU starts: its setup configuration. Segments are flat, but in real mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum X86Start {
    /// As after power-on, but at this place in real mode.
    RealMode {
        /// The base of CS; its selector is that divided by 16.
        cs_base: u32,
        /// The instruction pointer.
        ip: u16,
    },
    /// 32-bit protected mode without paging.
    Protected32 {
        /// The instruction pointer.
        eip: u32,
        /// EBX: PVH's start information, multiboot's information.
        ebx: u32,
        /// EAX: multiboot's magic number.
        eax: u32,
    },
    /// 64-bit mode with the page tables at `cr3`.
    Long64 {
        /// The instruction pointer.
        rip: u64,
        /// RSI: Linux's boot parameters.
        rsi: u64,
        /// The guest's page table.
        cr3: u64,
    },
    /// It does not run before another vCPU starts it.
    Parked,
}

/// What an [`X86VCpu`](crate::X86VCpu) is made from.
#[derive(Clone)]
pub struct X86VCpuConfig {
    /// How many vCPUs the VM has, 1 to [`MAX_CPUS`](axvcpu::MAX_CPUS); their APIC ids are 0, 1, …
    pub vcpu_count: usize,
    /// The rate of the time stamp counter in ticks a second, which CPUID tells the guest.
    pub tsc_hz: u64,
    /// The format of the nested page table whose root `set_nested_root` gives.
    pub nested_mode: NestedMode,
    /// What HLT does.
    pub hlt: HltPolicy,
    /// The longest that the guest may run without an exit, in ticks of the host's counter; `u64::MAX`: as long as it likes. Kept with VMX.
    pub longest_turn: u64,
    /// Who else runs on the pCPU.
    pub sharing: Sharing,
    /// Where the VM has RAM. A nested fault there leaves as [`NestedPageFault`](axvcpu::AxVCpuExitReason::NestedPageFault); elsewhere it is an
    /// access to a device.
    pub ram: Arc<[Range<GuestPhysAddr>]>,
    /// The vCPU's local APIC.
    pub local: Arc<dyn LocalInterrupts>,
    /// What of it the hardware keeps.
    pub local_hardware: LocalApicHardware,
    /// What wants to be woken in time on this vCPU: its local APIC's timer, and vCPU 0 has the VM's timers too.
    pub timed: Arc<[Arc<dyn Timed>]>,
    /// The VM's RAM.
    pub memory: Arc<dyn GuestBytes>,
}
