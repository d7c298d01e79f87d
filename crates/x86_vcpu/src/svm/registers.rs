//! Where a VMCB has each register, and which clean bit covers it (APM 2, "VMCB State Caching").

use super::vmcb::{Clean, SaveArea};
use crate::regs::Register;

/// Declares the accessors.
macro_rules! registers {
    ($($group:ident: $($register:ident = $field:ident),*;)*) => {
        impl SaveArea {
            /// What is in the place of `register`.
            #[inline(always)]
            pub(super) const fn register(&self, register: Register) -> u64 {
                match register {
                    $($(Register::$register => self.$field,)*)*
                }
            }

            /// Changes it.
            #[inline(always)]
            pub(super) const fn set_register(&mut self, register: Register, value: u64) {
                match register {
                    $($(Register::$register => self.$field = value,)*)*
                }
            }
        }

        /// What of the VMCB is no longer clean after a change of `register`.
        #[inline(always)]
        pub(super) const fn group(register: Register) -> Clean {
            match register {
                $($(Register::$register)|* => Clean::$group,)*
            }
        }
    };
}

registers! {
    NOT_CACHED: Rip = rip, Rsp = rsp, Rflags = rflags;
    CONTROL_REGISTERS: Cr0 = cr0, Cr3 = cr3, Cr4 = cr4, Efer = efer;
    CR2: Cr2 = cr2;
    NESTED_PAGING: Pat = g_pat;
    DEBUG_REGISTERS: Dr6 = dr6, Dr7 = dr7;
    // VMLOAD and VMSAVE switch these.
    NOT_CACHED: SysenterCs = sysenter_cs, SysenterEsp = sysenter_esp, SysenterEip = sysenter_eip,
        Star = star, Lstar = lstar, Cstar = cstar, Sfmask = sfmask, KernelGsBase = kernel_gs_base;
}
