//! The world switch, and what must survive a trap of its own.
//!
//! [`enter`] runs the guest: `trap.S` stores and loads registers and calls [`vmexit_handler`](crate::exit::vmexit_handler) at
//! each trap. The other functions here run one instruction that may fault, with a trap vector of their own around it.

use crate::{
    insn::Register,
    regs::{FloatRegisters, VectorRegisters},
};

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

/// Where a register of the guest is while [`vmexit_handler`](crate::exit::vmexit_handler) serves a trap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    /// In memory: `trap.S` stores it at each trap.
    AtTrap,
    /// In the hardware still: callee-saved, or `tp`, which the compiler leaves alone.
    Later,
}

impl Stored {
    /// Where `register` is.
    pub(crate) const fn of(register: Register) -> Self {
        // zero, ra, sp, gp; t0 to t2; a0 to a7; t3 to t6.
        const AT_TRAP: u32 = 0b1111 | 0b111 << 5 | 0xff << 10 | 0b1111 << 28;
        match AT_TRAP >> register.number() & 1 {
            0 => Self::Later,
            _ => Self::AtTrap,
        }
    }
}

#[cfg(target_arch = "riscv64")]
pub(crate) use hardware::{
    abandon, enter, fetch_halfword, has_double_float, has_hypervisor, load_float, load_vector,
    save_float, save_vector, vectors_agree,
};

#[cfg(not(target_arch = "riscv64"))]
pub(crate) use scripted::{
    abandon, enter, fetch_halfword, has_double_float, has_hypervisor, load_float, load_vector,
    save_float, save_vector, vectors_agree,
};

#[cfg(target_arch = "riscv64")]
mod hardware {
    use alloc::sync::Arc;
    use core::{
        mem::offset_of,
        sync::atomic::{AtomicU64, Ordering},
    };

    use axvcpu::{Account, AxVCpuHal, DeviceAccess};

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
            context: *mut core::ffi::c_void,
            clock: *const core::ffi::c_void,
        );
        fn riscv_vcpu_save_float(registers: *mut u64);
        fn riscv_vcpu_load_float(registers: *const u64);
        fn riscv_vcpu_save_vector(registers: *mut u64, eight: usize);
        fn riscv_vcpu_load_vector(registers: *const u64, eight: usize);
    }

    /// Runs the guest until the exit handler says [`Next::Leave`]. The CSRs hold the guest's state, and host interrupts are off.
    pub(crate) fn enter<H: AxVCpuHal, D: DeviceAccess>(
        vcpu: &mut RISCVVCpu<H>,
        context: &mut Context<'_, D>,
    ) {
        // The assembly takes the vCPU's address for that of its registers.
        const { assert!(offset_of!(RISCVVCpu<H>, regs) == 0) };
        let handler: extern "C" fn(&mut RISCVVCpu<H>, &mut Context<'_, D>) -> Next =
            vmexit_handler::<H, D>;
        let device_handler: extern "C" fn(&mut RISCVVCpu<H>, &mut Context<'_, D>) -> Next =
            device_handler::<H, D>;
        let account: *const Account = Arc::as_ptr(&vcpu.account);
        // SAFETY: the assembly follows the C calling convention: it returns with all callee-saved registers, gp, tp, sp and
        // stvec as they were. It hands the vCPU and the context, both borrowed exclusively until it returns, to the handlers,
        // which are of their types, one call at a time, and writes none but the first field, which is `repr(C)` and has the offsets that the assembly uses;
        // and the account's clock, an atomic word of an account that the vCPU keeps, by loads and stores of all of it. `sret` goes to the
        // guest (hstatus.SPV is set by the caller), which reaches only memory that its nested page table gives it.
        unsafe {
            riscv_vcpu_enter(
                (&raw mut *vcpu).cast(),
                handler as *const (),
                device_handler as *const (),
                (&raw mut *context).cast(),
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

    /// The vector registers' length on the pCPU that said it first, in bytes; 0 before.
    static VECTOR_LENGTH: AtomicU64 = AtomicU64::new(0);

    /// Whether this pCPU's vector registers are of this length, as all others' that were asked so far.
    pub(crate) fn vectors_agree(vlenb: u64) -> bool {
        let (success, failure) = (Ordering::Relaxed, Ordering::Relaxed);
        match VECTOR_LENGTH.compare_exchange(0, vlenb, success, failure) {
            Ok(_) => true,
            Err(first) => first == vlenb,
        }
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
    use axvcpu::{AxVCpuHal, DeviceAccess};

    use super::{FloatRegisters, Next, Stored, VectorRegisters};
    use crate::{
        RISCVVCpu, VmCpuRegisters, csr,
        exit::{Context, device_handler, vmexit_handler},
        insn::Register,
        machine,
    };

    pub(crate) fn enter<H: AxVCpuHal, D: DeviceAccess>(
        vcpu: &mut RISCVVCpu<H>,
        context: &mut Context<'_, D>,
    ) {
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
            let later = hide_later(vcpu);
            let next = vmexit_handler(vcpu, context);
            show_later(vcpu, later);
            let next = match next {
                Next::Device => device_handler(vcpu, context),
                Next::Resume | Next::Leave => next,
            };
            match next {
                Next::Resume => {}
                Next::Leave | Next::Device => break,
            }
        }
    }

    /// What stands in memory for a register that is still in the hardware.
    const HIDDEN: u64 = 0xdead_dead_dead_dead;

    fn is_later(number: usize) -> bool {
        Stored::of(Register::numbered(number as u32)) == Stored::Later
    }

    /// Takes the registers out of memory that the hardware would still hold.
    fn hide_later<H: AxVCpuHal>(vcpu: &mut RISCVVCpu<H>) -> [u64; 32] {
        let before = vcpu.regs.guest_regs.x;
        for (number, value) in vcpu.regs.guest_regs.x.iter_mut().enumerate() {
            if is_later(number) {
                *value = HIDDEN;
            }
        }
        before
    }

    /// Puts them back.
    fn show_later<H: AxVCpuHal>(vcpu: &mut RISCVVCpu<H>, before: [u64; 32]) {
        let now = vcpu.regs.guest_regs.x.iter_mut().zip(before).enumerate();
        for (number, (value, before)) in now {
            if is_later(number) {
                assert_eq!(*value, HIDDEN, "x{number} was written, and is not there");
                *value = before;
            }
        }
    }

    pub(crate) fn abandon(_: &VmCpuRegisters) {}

    pub(crate) fn fetch_halfword(address: u64) -> Option<u16> {
        machine::with(|m| m.code.get(&address).copied())
    }

    /// Each thread is a machine of its own.
    pub(crate) fn vectors_agree(vlenb: u64) -> bool {
        machine::with(|m| *m.vector_length.get_or_insert(vlenb) == vlenb)
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

#[cfg(test)]
mod tests {
    extern crate std;

    use std::collections::BTreeSet;

    use super::Stored;
    use crate::{insn::Register, regs::REGISTER_NAMES};

    /// The registers that `trap.S` stores from the guest's trap to the call of the handler.
    fn stored_at_trap() -> BTreeSet<&'static str> {
        let text = include_str!("trap.S");
        let between = |from, to| {
            let (_, rest) = text.split_once(from).unwrap();
            rest.split_once(to).unwrap().0
        };
        let group = between(".macro each_caller_saved op", ".endm");
        let trap = between("riscv_vcpu_trap:\n", "jalr t1");
        assert!(trap.contains("each_caller_saved sd"));
        let lines = group.lines().chain(trap.lines());
        let stores = lines.filter_map(|line| {
            let line = line
                .trim()
                .strip_prefix("\\op ")
                .or(line.trim().strip_prefix("sd "))?;
            line.contains("{X}").then(|| line.split(',').next())?
        });
        // The first is always there, and a0 comes by way of t0.
        stores.chain(["zero", "a0"]).collect()
    }

    #[test]
    fn what_the_assembly_stores_is_what_is_said_to_be_stored() {
        let stored = stored_at_trap();
        for (number, name) in REGISTER_NAMES.iter().enumerate() {
            let at_trap = Stored::of(Register::numbered(number as u32)) == Stored::AtTrap;
            assert_eq!(at_trap, stored.contains(name), "{name}");
        }
    }
}
