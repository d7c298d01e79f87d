//! A vCPU's registers in memory, grouped by when each part is switched.
//!
//! The entry assembly (`trap.S`) reads and writes [`HypervisorRegisters`] and [`GuestRegisters`] by offsets that are computed from
//! these structs, so the two cannot disagree.

use core::fmt;

use alloc::boxed::Box;

use crate::csr;

/// Everything that is switched between host and guest, or between two guests.
#[repr(C)]
#[derive(Clone, Debug, Default)]
pub struct VmCpuRegisters {
    /// The host's, while the guest runs: switched at each entry and when the vCPU's loop is left.
    pub hyp_regs: HypervisorRegisters,
    /// The guest's: caller-saved ones are stored at each trap, the others when the loop is left.
    pub guest_regs: GuestRegisters,
    /// What the hardware said about the last trap that was more than a call or an interrupt.
    pub trap_csrs: TrapCsrs,
    /// The guest's supervisor CSRs: switched when the pCPU changes vCPU.
    pub vs_csrs: VsCsrs,
    /// The hypervisor CSRs that hold the vCPU: switched when the pCPU changes vCPU.
    pub virtual_hs_csrs: VirtualHsCsrs,
}

/// The host's registers while a guest runs.
#[repr(C)]
#[derive(Clone, Debug, Default)]
pub struct HypervisorRegisters {
    /// Where the entry returns to.
    pub ra: u64,
    /// The stack.
    pub sp: u64,
    /// The host may keep its per-CPU pointer here.
    pub gp: u64,
    /// Or here.
    pub tp: u64,
    /// `s0` to `s11`.
    pub saved: [u64; 12],
    /// The host's trap vector.
    pub stvec: u64,
    /// The Rust function that the trap assembly calls.
    pub handler: u64,
    /// The one that it calls for an access to a device.
    pub device_handler: u64,
    /// What that one is given beside the vCPU.
    pub context: u64,
    /// The clock of the time that the vCPU is in the hypervisor.
    pub clock: u64,
}

/// The guest's registers.
#[repr(C)]
#[derive(Clone, Debug, Default)]
pub struct GuestRegisters {
    /// `x0` to `x31`; the first stays zero.
    pub x: [u64; 32],
    /// The program counter. In the CSR while the vCPU's loop runs.
    pub sepc: u64,
    /// The HS-level `sstatus` under which the guest runs: privilege and the FP and vector units' states. In the CSR while the
    /// loop runs.
    pub sstatus: u64,
    /// `hstatus` likewise.
    pub hstatus: u64,
}

/// What the hardware said about a trap.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrapCsrs {
    /// The cause.
    pub scause: u64,
    /// The guest-virtual address or the instruction.
    pub stval: u64,
    /// The guest-physical address, shifted right by two.
    pub htval: u64,
    /// The instruction, transformed, or zero.
    pub htinst: u64,
}

impl TrapCsrs {
    pub(crate) fn read() -> Self {
        Self {
            scause: csr::SCAUSE.read(),
            stval: csr::STVAL.read(),
            htval: csr::HTVAL.read(),
            htinst: csr::HTINST.read(),
        }
    }
}

/// Declares a group of CSRs that are all saved and loaded together.
macro_rules! csr_group {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident = $csr:ident,)* }) => {
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: u64,)*
        }

        impl $name {
            /// From the hardware to memory.
            pub(crate) fn save(&mut self) {
                $(self.$field = csr::$csr.read();)*
            }

            /// From memory to the hardware.
            pub(crate) fn load(&self) {
                $(csr::$csr.write(self.$field);)*
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                $(writeln!(f, "{:>10} {:#018x}", stringify!($field), self.$field)?;)*
                Ok(())
            }
        }
    };
}

csr_group! {
    /// The guest's supervisor CSRs, and those that it shares with HS-mode but the host does not use.
    VsCsrs {
        /// Status.
        vsstatus = VSSTATUS,
        /// Interrupt enables.
        vsie = VSIE,
        /// Trap vector.
        vstvec = VSTVEC,
        /// Scratch.
        vsscratch = VSSCRATCH,
        /// Where the guest's own trap happened.
        vsepc = VSEPC,
        /// Its cause.
        vscause = VSCAUSE,
        /// Its value.
        vstval = VSTVAL,
        /// The guest's page table.
        vsatp = VSATP,
        /// Which counters the guest's user mode reads.
        scounteren = SCOUNTEREN,
        /// The environment of the guest's user mode.
        senvcfg = SENVCFG,
    }
}

csr_group! {
    /// The hypervisor CSRs that hold a vCPU. `hgatp` is not among them: its VMID is chosen when the vCPU is loaded.
    VirtualHsCsrs {
        /// The interrupts that the hypervisor raises in the guest.
        hvip = HVIP,
        /// The environment of VS-mode.
        henvcfg = HENVCFG,
        /// What is added to `time`.
        htimedelta = HTIMEDELTA,
    }
}

/// The floating-point registers.
#[repr(C)]
#[derive(Clone, Debug, Default)]
pub(crate) struct FloatRegisters {
    pub(crate) f: [u64; 32],
    pub(crate) fcsr: u64,
}

/// The vector registers.
#[derive(Clone, Debug)]
pub(crate) struct VectorRegisters {
    pub(crate) vstart: u64,
    pub(crate) vcsr: u64,
    pub(crate) vl: u64,
    pub(crate) vtype: u64,
    /// All 32, each as long as the machine makes them.
    pub(crate) v: Box<[u64]>,
}

/// `vtype.vill`: no vector type is set (vector specification, "Vector Type Register").
const VILL: u64 = 1 << 63;

impl VectorRegisters {
    /// Zeroes, each register of `vlenb` bytes.
    pub(crate) fn new(vlenb: usize) -> Self {
        Self {
            vstart: 0,
            vcsr: 0,
            vl: 0,
            vtype: VILL,
            v: alloc::vec![0; 32 * vlenb.div_ceil(8)].into_boxed_slice(),
        }
    }

    /// As after power-on.
    pub(crate) fn reset(&mut self) {
        (self.vstart, self.vcsr, self.vl, self.vtype) = (0, 0, 0, VILL);
        self.v.fill(0);
    }
}

/// The ABI names of `x0` to `x31`, for the record.
pub(crate) const REGISTER_NAMES: [&str; 32] = [
    "zero", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "s0", "s1", "a0", "a1", "a2", "a3", "a4",
    "a5", "a6", "a7", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "t3", "t4",
    "t5", "t6",
];
