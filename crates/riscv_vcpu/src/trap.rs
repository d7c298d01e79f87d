//! The world switch, and what must survive a trap of its own.
//!
//! [`enter`] runs the guest: `trap.S` stores and loads registers and calls [`vmexit_handler`](crate::exit::vmexit_handler) at
//! each trap. The other functions here run one instruction that may fault, with a trap vector of their own around it.

use crate::regs::{FloatRegisters, VectorRegisters};

/// What the exit handler wants.
#[repr(usize)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Back to the guest at once.
    Resume = 0,
    /// Out of the vCPU's loop.
    Leave = 1,
    /// To the [device handler](crate::exit::device_handler), with all of the guest's registers in memory.
    Device = 2,
}

#[cfg(target_arch = "riscv64")]
pub(crate) use hardware::{
    abandon, enter, fetch_halfword, has_double_float, has_hypervisor, load_float, load_vector,
    save_float, save_vector,
};

#[cfg(not(target_arch = "riscv64"))]
pub(crate) use scripted::{
    abandon, enter, fetch_halfword, has_double_float, has_hypervisor, load_float, load_vector,
    save_float, save_vector,
};

#[cfg(target_arch = "riscv64")]
mod hardware {
    use alloc::sync::Arc;
    use core::mem::offset_of;

    use axvcpu::{Account, AxVCpuHal};

    use super::{FloatRegisters, Next, VectorRegisters};
    use crate::{
        RISCVVCpu,
        csr::{self, HSTATUS, SEPC, SSTATUS},
        exit::{Context, device_handler, vmexit_handler},
        regs::{GuestRegisters, HypervisorRegisters, VmCpuRegisters},
    };

    core::arch::global_asm!(
        include_str!("trap.S"),
        X = const offset_of!(VmCpuRegisters, guest_regs) + offset_of!(GuestRegisters, x),
        HOST_RA = const host(offset_of!(HypervisorRegisters, ra)),
        HOST_SP = const host(offset_of!(HypervisorRegisters, sp)),
        HOST_GP = const host(offset_of!(HypervisorRegisters, gp)),
        HOST_TP = const host(offset_of!(HypervisorRegisters, tp)),
        HOST_SAVED = const host(offset_of!(HypervisorRegisters, saved)),
        HOST_STVEC = const host(offset_of!(HypervisorRegisters, stvec)),
        HANDLER = const host(offset_of!(HypervisorRegisters, handler)),
        DEVICE_HANDLER = const host(offset_of!(HypervisorRegisters, device_handler)),
        CONTEXT = const host(offset_of!(HypervisorRegisters, context)),
        CLOCK = const host(offset_of!(HypervisorRegisters, clock)),
        NEXT_DEVICE = const Next::Device as usize,
    );

    const fn host(offset: usize) -> usize {
        offset_of!(VmCpuRegisters, hyp_regs) + offset
    }

    unsafe extern "C" {
        fn riscv_vcpu_enter(
            registers: *mut core::ffi::c_void,
            handler: *const (),
            device_handler: *const (),
            context: *const core::ffi::c_void,
            clock: *const core::ffi::c_void,
        );
        fn riscv_vcpu_save_float(registers: *mut u64);
        fn riscv_vcpu_load_float(registers: *const u64);
        fn riscv_vcpu_save_vector(registers: *mut u64, eight: usize);
        fn riscv_vcpu_load_vector(registers: *const u64, eight: usize);
    }

    /// Runs the guest until the exit handler says [`Next::Leave`]. The CSRs hold the guest's state, and host interrupts are off.
    pub(crate) fn enter<H: AxVCpuHal>(vcpu: &mut RISCVVCpu<H>, context: &Context<'_>) {
        // The assembly takes the vCPU's address for that of its registers.
        const { assert!(offset_of!(RISCVVCpu<H>, regs) == 0) };
        let handler: extern "C" fn(&mut RISCVVCpu<H>) -> Next = vmexit_handler::<H>;
        let device_handler: extern "C" fn(&mut RISCVVCpu<H>, &Context<'_>) -> Next =
            device_handler::<H>;
        let account: *const Account = Arc::as_ptr(&vcpu.account);
        // SAFETY: the assembly follows the C calling convention: it returns with all callee-saved registers, gp, tp, sp and
        // stvec as they were. It hands the exclusively borrowed vCPU, and the context, which outlives the call, to the handlers,
        // which are of their types, one call at a time, and writes none but the first field, which is `repr(C)` and has the offsets that the assembly uses;
        // and the account's clock, an atomic word of an account that the vCPU keeps, by loads and stores of all of it. `sret` goes to the
        // guest (hstatus.SPV is set by the caller), which reaches only memory that its nested page table gives it.
        unsafe {
            riscv_vcpu_enter(
                (&raw mut *vcpu).cast(),
                handler as *const (),
                device_handler as *const (),
                (&raw const *context).cast(),
                account.byte_add(Account::HYPERVISOR_CLOCK).cast(),
            );
        };
    }

    /// Gives up the guest for good, from within the exit handler: traps are the host's again.
    pub(crate) fn abandon(registers: &VmCpuRegisters) {
        // SAFETY: puts back the host's own vector; with sscratch zero its handler knows that the trap comes from the hypervisor.
        unsafe {
            core::arch::asm!(
                "csrw stvec, {vector}",
                "csrw sscratch, zero",
                vector = in(reg) registers.hyp_regs.stvec,
                options(nostack)
            );
        }
    }

    /// Runs one instruction under a trap vector that steps over it; evaluates to whether it did not trap. `value` takes what it
    /// read.
    ///
    /// A trap from HS-mode to HS-mode overwrites `sepc`, `sstatus` and `hstatus`, where the guest's may be: they are put back.
    macro_rules! guarded {
        ($arch:literal, $insn:literal, $value:ident $(, $input:ident)?) => {{
            let (sepc, sstatus, hstatus) = (SEPC.read(), SSTATUS.read(), HSTATUS.read());
            let fine: u64;
            // SAFETY: the instruction only reads. Should it trap, interrupts being off, control is back two lines further on, the
            // vector is put back either way, and no other register has changed.
            unsafe {
                core::arch::asm!(
                    "lla {vector}, 2f",
                    "csrrw {vector}, stvec, {vector}",
                    "li {fine}, 0",
                    ".option push",
                    concat!(".option arch, ", $arch),
                    $insn,
                    ".option pop",
                    "li {fine}, 1",
                    ".balign 4",
                    "2: csrw stvec, {vector}",
                    vector = out(reg) _,
                    fine = out(reg) fine,
                    value = out(reg) $value,
                    $($input = in(reg) $input,)?
                    options(nostack)
                );
            }
            if fine == 0 {
                HSTATUS.write(hstatus);
                SSTATUS.write(sstatus);
                SEPC.write(sepc);
            }
            fine == 1
        }};
    }

    /// Two bytes of the guest's code, read as the guest in its privilege would fetch them; `None` if it cannot. Interrupts are off.
    pub(crate) fn fetch_halfword(address: u64) -> Option<u16> {
        let mut value: u64;
        guarded!("+h", "hlvx.hu {value}, ({address})", value, address).then_some(value as u16)
    }

    /// Whether this pCPU has the H extension.
    pub(crate) fn has_hypervisor() -> bool {
        let _off = csr::InterruptsOff::new();
        // `guarded!` keeps hstatus, which is not there either without the extension: ask for hgatp by hand.
        let fine: u64;
        // SAFETY: as in `guarded!`; sepc and sstatus hold nothing that the host needs while it is not in a trap handler, and SIE is
        // cleared by the trap as it was before.
        unsafe {
            core::arch::asm!(
                "lla {vector}, 2f",
                "csrrw {vector}, stvec, {vector}",
                "li {fine}, 0",
                "csrr {value}, 0x680",
                "li {fine}, 1",
                ".balign 4",
                "2: csrw stvec, {vector}",
                vector = out(reg) _,
                fine = out(reg) fine,
                value = out(reg) _,
                options(nostack)
            );
        }
        fine == 1
    }

    /// Whether floating-point registers are 64 bits wide. The H extension is there.
    pub(crate) fn has_double_float() -> bool {
        let _off = csr::InterruptsOff::new();
        csr::with_units_on(|| {
            let _bits: u64;
            guarded!("+d", "fmv.x.d {value}, f0", _bits)
        })
    }

    /// The floating-point unit is on.
    pub(crate) fn save_float(float: &mut FloatRegisters) {
        // SAFETY: writes the 32 words of the array, which is exclusively borrowed.
        unsafe { riscv_vcpu_save_float(float.f.as_mut_ptr()) };
        float.fcsr = csr::FCSR.read();
    }

    /// The floating-point unit is on.
    pub(crate) fn load_float(float: &FloatRegisters) {
        // SAFETY: reads the 32 words of the array; the hypervisor is compiled without floating point, so the registers are not
        // its own.
        unsafe { riscv_vcpu_load_float(float.f.as_ptr()) };
        csr::FCSR.write(float.fcsr);
    }

    /// Whether `vector` has room for the 32 registers of this machine.
    fn fits(vector: &VectorRegisters) -> bool {
        size_of_val(&*vector.v) as u64 >= 32 * csr::VLENB.read()
    }

    /// The vector unit is on.
    pub(crate) fn save_vector(vector: &mut VectorRegisters) {
        vector.vstart = csr::VSTART.swap(0);
        vector.vcsr = csr::VCSR.read();
        vector.vl = csr::VL.read();
        vector.vtype = csr::VTYPE.read();
        assert!(fits(vector), "the pCPUs' vector registers differ in length");
        // SAFETY: writes 32 registers of `vlenb` bytes, for which there is room (above).
        unsafe {
            riscv_vcpu_save_vector(vector.v.as_mut_ptr(), 8 * csr::VLENB.read() as usize);
        };
    }

    /// The vector unit is on.
    pub(crate) fn load_vector(vector: &VectorRegisters) {
        assert!(fits(vector), "the pCPUs' vector registers differ in length");
        csr::VSTART.write(0);
        // SAFETY: reads 32 registers of `vlenb` bytes, which are there (above); the hypervisor is compiled without vectors.
        unsafe {
            riscv_vcpu_load_vector(vector.v.as_ptr(), 8 * csr::VLENB.read() as usize);
        };
        // SAFETY: sets the vector unit's length and type only.
        unsafe {
            core::arch::asm!(
                ".option push",
                ".option arch, +v",
                "vsetvl zero, {vl}, {vtype}",
                ".option pop",
                vl = in(reg) vector.vl,
                vtype = in(reg) vector.vtype,
                options(nomem, nostack)
            );
        }
        csr::VCSR.write(vector.vcsr);
        csr::VSTART.write(vector.vstart);
    }
}

/// The same for the machine made of memory.
#[cfg(not(target_arch = "riscv64"))]
mod scripted {
    use axvcpu::AxVCpuHal;

    use super::{FloatRegisters, Next, VectorRegisters};
    use crate::{
        RISCVVCpu, VmCpuRegisters, csr,
        exit::{Context, device_handler, vmexit_handler},
        machine,
    };

    pub(crate) fn enter<H: AxVCpuHal>(vcpu: &mut RISCVVCpu<H>, context: &Context<'_>) {
        loop {
            vcpu.account.entering(H::now());
            match machine::with(|m| m.script.pop_front()) {
                Some(step) => step(&mut vcpu.regs),
                // A guest without a script runs until the host's timer.
                None => {
                    csr::SCAUSE.write(csr::interrupt::FLAG | csr::interrupt::SUPERVISOR_TIMER);
                }
            }
            vcpu.account.left(H::now());
            let next = match vmexit_handler(vcpu) {
                Next::Device => device_handler(vcpu, context),
                next => next,
            };
            match next {
                Next::Resume => {}
                Next::Leave | Next::Device => break,
            }
        }
    }

    pub(crate) fn abandon(_: &VmCpuRegisters) {}

    pub(crate) fn fetch_halfword(address: u64) -> Option<u16> {
        machine::with(|m| m.code.get(&address).copied())
    }

    pub(crate) fn has_hypervisor() -> bool {
        machine::with(|m| !m.without_hypervisor)
    }

    pub(crate) fn has_double_float() -> bool {
        true
    }

    pub(crate) fn save_float(float: &mut FloatRegisters) {
        float.f = machine::with(|m| m.float);
        float.fcsr = csr::FCSR.read();
    }

    pub(crate) fn load_float(float: &FloatRegisters) {
        machine::with(|m| m.float = float.f);
        csr::FCSR.write(float.fcsr);
    }

    pub(crate) fn save_vector(vector: &mut VectorRegisters) {
        vector.vstart = csr::VSTART.read();
        vector.vcsr = csr::VCSR.read();
        vector.vl = csr::VL.read();
        vector.vtype = csr::VTYPE.read();
    }

    pub(crate) fn load_vector(vector: &VectorRegisters) {
        csr::VSTART.write(vector.vstart);
        csr::VCSR.write(vector.vcsr);
        csr::VL.write(vector.vl);
        csr::VTYPE.write(vector.vtype);
    }
}
