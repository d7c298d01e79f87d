//! The VMX instructions (SDM vol. 3, chapter 31).
//!
//! With [`percpu`](super::percpu) and [`switch`](super::switch) all of VMX that touches the hardware. On other hosts than the bare machine they are those of a
//! [processor made of memory](super::machine), so that everything above is tested there.

use core::fmt;

use super::instruction_error::instruction_error;

/// Why a VMX instruction failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VmFail {
    /// There is no current VMCS that could say more.
    Invalid,
    /// With the error number that the current VMCS holds.
    Valid(u32),
}

impl VmFail {
    /// In words.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Invalid => "a VMX instruction failed without a current VMCS",
            Self::Valid(number) => instruction_error(number),
        }
    }

    /// The error number; zero where there is none.
    pub(crate) const fn number(self) -> u32 {
        match self {
            Self::Invalid => 0,
            Self::Valid(number) => number,
        }
    }
}

impl fmt::Display for VmFail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

/// Which translations INVEPT and INVVPID forget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forget {
    /// INVEPT of all contexts: nested and combined ones of every guest.
    Nested,
    /// INVVPID of one context: the guest's own and combined ones under this VPID.
    Vpid(u16),
    /// INVVPID of all contexts.
    AllVpids,
}

pub(crate) use imp::{clear, forget, load, read, vmxoff, vmxon, write};

#[cfg(target_os = "none")]
mod imp {
    use core::arch::asm;

    use axaddrspace::HostPhysAddr;

    use super::{Forget, VmFail};
    use crate::vmx::fields::VmcsReadOnly32;

    /// Reads the field with this encoding in the current VMCS.
    ///
    /// Only fields that every processor has which passes negotiation are named in [`fields`](crate::vmx::fields): the read cannot fail while
    /// there is a current VMCS, and answers nothing of meaning otherwise.
    #[inline(always)]
    pub(crate) fn read(encoding: u32) -> u64 {
        let value: u64;
        // SAFETY: reads a field; has no effect on memory. VMX operation is on wherever a vCPU is loaded.
        unsafe {
            asm!(
                "vmread {value}, {field}",
                value = out(reg) value,
                field = in(reg) u64::from(encoding),
                options(nomem, nostack),
            );
        }
        value
    }

    /// Writes the field with this encoding in the current VMCS, if there is one.
    #[inline(always)]
    pub(crate) fn write(encoding: u32, value: u64) {
        // SAFETY: changes what the next entry loads into the guest, whose memory its EPT confines; the host's fields are written by
        // `percpu` and the entry alone, and only with what this processor holds already. The VMCS's own memory is the processor's: nothing else
        // reads or writes it meanwhile.
        unsafe {
            asm!(
                "vmwrite {field}, {value}",
                value = in(reg) value,
                field = in(reg) u64::from(encoding),
                options(nomem, nostack),
            );
        }
    }

    /// Runs a VMX instruction that sets CF or ZF when it fails.
    macro_rules! vmx {
        ($insn:literal $(, $name:ident = $value:expr)*) => {{
            let (invalid, valid): (u8, u8);
            // SAFETY: the operands are those that the caller's contract names (see each use).
            unsafe {
                asm!(
                    $insn,
                    "setc {invalid}",
                    "setz {valid}",
                    invalid = out(reg_byte) invalid,
                    valid = out(reg_byte) valid,
                    $($name = in(reg) $value,)*
                    options(nostack),
                );
            }
            if invalid != 0 {
                Err(VmFail::Invalid)
            } else if valid != 0 {
                Err(VmFail::Valid(VmcsReadOnly32::InstructionError.read()))
            } else {
                Ok(())
            }
        }};
    }

    /// VMCLEAR: the VMCS leaves this processor for the region at `region`, which is a [`VmxRegion`](crate::vmx::VmxRegion)'s, and is not launched.
    pub(crate) fn clear(region: HostPhysAddr) -> Result<(), VmFail> {
        let operand = region.as_u64();
        vmx!("vmclear [{operand}]", operand = &raw const operand)
    }

    /// VMPTRLD: the VMCS in the region at `region`, which is a [`VmxRegion`](crate::vmx::VmxRegion)'s, is the current one.
    pub(crate) fn load(region: HostPhysAddr) -> Result<(), VmFail> {
        let operand = region.as_u64();
        vmx!("vmptrld [{operand}]", operand = &raw const operand)
    }

    /// VMXON with the region at `region`, which is a [`VmxRegion`](crate::vmx::VmxRegion)'s. CR4.VMXE is set, and `IA32_FEATURE_CONTROL` allows it.
    pub(crate) fn vmxon(region: HostPhysAddr) -> Result<(), VmFail> {
        let operand = region.as_u64();
        vmx!("vmxon [{operand}]", operand = &raw const operand)
    }

    /// VMXOFF. VMX operation is on.
    pub(crate) fn vmxoff() -> Result<(), VmFail> {
        vmx!("vmxoff")
    }

    /// INVEPT or INVVPID, of a type that negotiation found.
    pub(crate) fn forget(what: Forget) -> Result<(), VmFail> {
        const SINGLE_CONTEXT: u64 = 1;
        const ALL_CONTEXTS: u64 = 2;
        let descriptor = |first: u64| [first, 0];
        match what {
            Forget::Nested => {
                let descriptor = descriptor(0);
                vmx!(
                    "invept {kind}, [{descriptor}]",
                    kind = ALL_CONTEXTS,
                    descriptor = descriptor.as_ptr()
                )
            }
            Forget::Vpid(vpid) => {
                let descriptor = descriptor(u64::from(vpid));
                vmx!(
                    "invvpid {kind}, [{descriptor}]",
                    kind = SINGLE_CONTEXT,
                    descriptor = descriptor.as_ptr()
                )
            }
            Forget::AllVpids => {
                let descriptor = descriptor(0);
                vmx!(
                    "invvpid {kind}, [{descriptor}]",
                    kind = ALL_CONTEXTS,
                    descriptor = descriptor.as_ptr()
                )
            }
        }
    }
}

#[cfg(not(target_os = "none"))]
mod imp {
    use axaddrspace::HostPhysAddr;

    use super::{Forget, VmFail};
    use crate::vmx::machine;

    pub(crate) fn read(encoding: u32) -> u64 {
        machine::with(|m| m.field(encoding))
    }

    pub(crate) fn write(encoding: u32, value: u64) {
        machine::with(|m| m.set_field(encoding, value));
    }

    pub(crate) fn clear(region: HostPhysAddr) -> Result<(), VmFail> {
        machine::with(|m| m.clear(region.as_u64()))
    }

    pub(crate) fn load(region: HostPhysAddr) -> Result<(), VmFail> {
        machine::with(|m| m.load(region.as_u64()))
    }

    pub(crate) fn vmxon(region: HostPhysAddr) -> Result<(), VmFail> {
        machine::with(|m| m.turn_on(region.as_u64()))
    }

    pub(crate) fn vmxoff() -> Result<(), VmFail> {
        machine::with(|m| m.turn_off())
    }

    pub(crate) fn forget(what: Forget) -> Result<(), VmFail> {
        machine::with(|m| m.forgotten.push(what));
        Ok(())
    }
}
