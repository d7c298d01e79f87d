//! The control and status registers, and the fences.
//!
//! With [`trap`](crate::trap) the only place that touches the hardware. Only those CSRs are named whose writes cannot break the
//! hypervisor's own memory, stack or control flow: the trap vector and the host's page table are not among them. `hgatp`, which
//! decides what a guest reaches, is written by the loader of a vCPU alone.
//!
//! On other machines than RISC-V the registers are those of a [machine made of memory](crate::machine), so that all above can be
//! tested there. Numbers are those of the privileged specification, "CSR Listing".

use core::sync::atomic::{Ordering, compiler_fence};

/// Control and status register `N`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Csr<const N: u16>;

macro_rules! csrs {
    ($($name:ident = $number:literal,)*) => {
        $(pub(crate) const $name: Csr<$number> = Csr;)*
    };
}

csrs! {
    FCSR = 0x003,
    VSTART = 0x008,
    VCSR = 0x00f,
    SSTATUS = 0x100,
    SCOUNTEREN = 0x106,
    SENVCFG = 0x10a,
    SEPC = 0x141,
    SCAUSE = 0x142,
    STVAL = 0x143,
    VSSTATUS = 0x200,
    VSIE = 0x204,
    VSTVEC = 0x205,
    VSSCRATCH = 0x240,
    VSEPC = 0x241,
    VSCAUSE = 0x242,
    VSTVAL = 0x243,
    VSIP = 0x244,
    VSTIMECMP = 0x24d,
    VSATP = 0x280,
    HSTATUS = 0x600,
    HEDELEG = 0x602,
    HIDELEG = 0x603,
    HTIMEDELTA = 0x605,
    HCOUNTEREN = 0x606,
    HENVCFG = 0x60a,
    HTVAL = 0x643,
    HVIP = 0x645,
    HTINST = 0x64a,
    HGATP = 0x680,
    VL = 0xc20,
    VTYPE = 0xc21,
    VLENB = 0xc22,
}

/// Bits of `sstatus` and `vsstatus`.
pub(crate) mod sstatus {
    /// Interrupts are on.
    pub(crate) const SIE: u64 = 1 << 1;
    /// They were before the trap.
    pub(crate) const SPIE: u64 = 1 << 5;
    /// The trap came from supervisor mode.
    pub(crate) const SPP: u64 = 1 << 8;
    /// The state of the vector unit.
    pub(crate) const VS: u64 = 0b11 << 9;
    pub(crate) const VS_INITIAL: u64 = 0b01 << 9;
    pub(crate) const VS_CLEAN: u64 = 0b10 << 9;
    /// The state of the floating-point unit.
    pub(crate) const FS: u64 = 0b11 << 13;
    pub(crate) const FS_INITIAL: u64 = 0b01 << 13;
    pub(crate) const FS_CLEAN: u64 = 0b10 << 13;
    /// User mode is 64-bit.
    pub(crate) const UXL_64: u64 = 0b10 << 32;
}

/// Bits of `hstatus`.
pub(crate) mod hstatus {
    /// The trap came from the guest; `sret` goes there.
    pub(crate) const SPV: u64 = 1 << 7;
    /// It came from VS-mode; HLV and HLVX read as VS-mode would.
    pub(crate) const SPVP: u64 = 1 << 8;
    /// The guest's `wfi` traps.
    pub(crate) const VTW: u64 = 1 << 21;
    /// VS-mode is 64-bit.
    pub(crate) const VSXL_64: u64 = 0b10 << 32;
}

/// Bits of `henvcfg`.
pub(crate) mod henvcfg {
    /// `cbo.inval` in the guest writes back first, so that it never uncovers what was in memory before it got the page.
    pub(crate) const CBIE_FLUSH: u64 = 0b01 << 4;
    /// `cbo.clean` and `cbo.flush`.
    pub(crate) const CBCFE: u64 = 1 << 6;
    /// `cbo.zero`.
    pub(crate) const CBZE: u64 = 1 << 7;
    /// `stimecmp` in the guest is `vstimecmp`.
    pub(crate) const STCE: u64 = 1 << 63;
}

/// Bits of the interrupt registers, and the numbers of those interrupts.
pub(crate) mod interrupt {
    /// The top bit of `scause`.
    pub(crate) const FLAG: u64 = 1 << 63;
    pub(crate) const SUPERVISOR_SOFT: u64 = 1;
    pub(crate) const SUPERVISOR_TIMER: u64 = 5;
    pub(crate) const SUPERVISOR_EXTERNAL: u64 = 9;
    pub(crate) const VSSIP: u64 = 1 << 2;
    pub(crate) const VSTIP: u64 = 1 << 6;
    pub(crate) const VSEIP: u64 = 1 << 10;
}

#[cfg(target_arch = "riscv64")]
impl<const N: u16> Csr<N> {
    #[inline(always)]
    pub(crate) fn read(self) -> u64 {
        let value;
        // SAFETY: reading one of the CSRs above has no effect on memory.
        unsafe {
            core::arch::asm!("csrr {}, {}", out(reg) value, const N, options(nomem, nostack));
        }
        value
    }

    #[inline(always)]
    pub(crate) fn write(self, value: u64) {
        // SAFETY: none of the CSRs above moves the hypervisor's memory, stack or control flow (see the module's head).
        unsafe { core::arch::asm!("csrw {}, {}", const N, in(reg) value, options(nomem, nostack)) };
    }

    #[inline(always)]
    pub(crate) fn swap(self, value: u64) -> u64 {
        let old;
        // SAFETY: as for `write`.
        unsafe {
            core::arch::asm!("csrrw {}, {}, {}", out(reg) old, const N, in(reg) value, options(nomem, nostack));
        }
        old
    }

    #[inline(always)]
    pub(crate) fn set(self, bits: u64) {
        // SAFETY: as for `write`.
        unsafe { core::arch::asm!("csrs {}, {}", const N, in(reg) bits, options(nomem, nostack)) };
    }

    /// Clears `bits`; what the register held before.
    #[inline(always)]
    pub(crate) fn clear(self, bits: u64) -> u64 {
        let old;
        // SAFETY: as for `write`.
        unsafe {
            core::arch::asm!("csrrc {}, {}, {}", out(reg) old, const N, in(reg) bits, options(nomem, nostack));
        }
        old
    }
}

#[cfg(not(target_arch = "riscv64"))]
impl<const N: u16> Csr<N> {
    pub(crate) fn read(self) -> u64 {
        crate::machine::with(|m| m.read(N))
    }

    pub(crate) fn write(self, value: u64) {
        crate::machine::with(|m| m.write(N, value));
    }

    pub(crate) fn swap(self, value: u64) -> u64 {
        let old = self.read();
        self.write(value);
        old
    }

    pub(crate) fn set(self, bits: u64) {
        self.write(self.read() | bits);
    }

    pub(crate) fn clear(self, bits: u64) -> u64 {
        self.swap(self.read() & !bits)
    }
}

/// Whether the register keeps all of `bits` when they are written. It is left as it was.
pub(crate) fn keeps<const N: u16>(register: Csr<N>, bits: u64) -> bool {
    let before = register.read();
    register.write(before | bits);
    let kept = register.read() & bits == bits;
    register.write(before);
    kept
}

/// Host interrupts are off while this lives, and as before afterwards.
#[derive(Debug)]
pub(crate) struct InterruptsOff {
    before: u64,
}

impl InterruptsOff {
    #[inline(always)]
    pub(crate) fn new() -> Self {
        let before = SSTATUS.clear(sstatus::SIE) & sstatus::SIE;
        // The compiler may move memory accesses across a CSR's; not across this.
        compiler_fence(Ordering::SeqCst);
        Self { before }
    }
}

impl Drop for InterruptsOff {
    #[inline(always)]
    fn drop(&mut self) {
        compiler_fence(Ordering::SeqCst);
        SSTATUS.set(self.before);
    }
}

/// Runs `f` while the floating-point and vector registers can be touched.
pub(crate) fn with_units_on<T>(f: impl FnOnce() -> T) -> T {
    let before = SSTATUS.read();
    SSTATUS.set(sstatus::FS | sstatus::VS);
    let result = f();
    SSTATUS.clear(sstatus::FS | sstatus::VS);
    SSTATUS.set(before & (sstatus::FS | sstatus::VS));
    result
}

/// The length of this pCPU's vector registers in bytes. It has them.
pub(crate) fn vlenb() -> u64 {
    with_units_on(|| VLENB.read())
}

/// What a fence covers of the current VMID's own translations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Translations {
    /// Everything.
    All,
    /// One of the guest's address spaces.
    AddressSpace {
        /// Its number.
        asid: u64,
    },
    /// One page, in every address space.
    Page {
        /// An address in it.
        address: u64,
    },
    /// One page in one address space.
    PageIn {
        /// An address in it.
        address: u64,
        /// The address space's number.
        asid: u64,
    },
}

/// Runs a fence instruction: none has an effect on the hypervisor's own state.
#[cfg(target_arch = "riscv64")]
macro_rules! fence {
    ($insn:literal $(, $name:ident)*) => {
        // SAFETY: a fence only makes the hardware forget what it cached.
        unsafe {
            core::arch::asm!(
                ".option push",
                ".option arch, +h",
                $insn,
                ".option pop",
                $($name = in(reg) $name,)*
                options(nostack)
            );
        }
    };
}

/// `hfence.vvma`, under the VMID in `hgatp`.
pub(crate) fn fence_translations(which: Translations) {
    #[cfg(target_arch = "riscv64")]
    match which {
        Translations::All => fence!("hfence.vvma"),
        Translations::AddressSpace { asid } => fence!("hfence.vvma zero, {asid}", asid),
        Translations::Page { address } => fence!("hfence.vvma {address}, zero", address),
        Translations::PageIn { address, asid } => {
            fence!("hfence.vvma {address}, {asid}", address, asid);
        }
    }
    #[cfg(not(target_arch = "riscv64"))]
    crate::machine::with(|m| m.fences.push(crate::machine::Fence::Translations(which)));
}

/// `hfence.gvma`: every nested translation of every VMID.
pub(crate) fn fence_nested_all() {
    #[cfg(target_arch = "riscv64")]
    fence!("hfence.gvma");
    #[cfg(not(target_arch = "riscv64"))]
    crate::machine::with(|m| m.fences.push(crate::machine::Fence::Nested));
}

/// `fence.i`.
pub(crate) fn fence_instructions() {
    #[cfg(target_arch = "riscv64")]
    fence!(".option arch, +zifencei\n fence.i");
    #[cfg(not(target_arch = "riscv64"))]
    crate::machine::with(|m| m.fences.push(crate::machine::Fence::Instructions));
}
