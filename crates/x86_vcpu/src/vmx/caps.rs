//! What the processor's VMX can do, and what of that is used (SDM vol. 3, appendix A).
//!
//! A pure function from the capability MSRs' words to the controls: the must-haves or one line that names what is missing, and of the
//! optional ones those that are there.

use core::fmt;

use axaddrspace::LargestLeaf;
use axdevice::Keeps;

use super::controls::{entry, exit, pin, primary, secondary};

/// The capability MSRs.
mod msr {
    pub(super) const BASIC: u32 = 0x480;
    pub(super) const PIN_BASED: u32 = 0x481;
    pub(super) const PRIMARY: u32 = 0x482;
    pub(super) const EXIT: u32 = 0x483;
    pub(super) const ENTRY: u32 = 0x484;
    pub(super) const MISC: u32 = 0x485;
    pub(super) const CR0_FIXED0: u32 = 0x486;
    pub(super) const CR0_FIXED1: u32 = 0x487;
    pub(super) const CR4_FIXED0: u32 = 0x488;
    pub(super) const CR4_FIXED1: u32 = 0x489;
    pub(super) const SECONDARY: u32 = 0x48b;
    pub(super) const EPT_VPID: u32 = 0x48c;
    pub(super) const TRUE_PIN_BASED: u32 = 0x48d;
    pub(super) const TRUE_PRIMARY: u32 = 0x48e;
    pub(super) const TRUE_EXIT: u32 = 0x48f;
    pub(super) const TRUE_ENTRY: u32 = 0x490;
}

/// Bits of `IA32_VMX_BASIC` (A.1).
mod basic {
    pub(super) const REVISION: u64 = 0x7fff_ffff;
    pub(super) const SIZE_SHIFT: u32 = 32;
    pub(super) const SIZE: u64 = 0x1fff;
    /// VMX structures must lie below 4 GiB.
    pub(super) const ADDRESSES_32_BIT: u64 = 1 << 48;
    pub(super) const MEMORY_TYPE_SHIFT: u32 = 50;
    pub(super) const MEMORY_TYPE: u64 = 0xf;
    pub(super) const WRITE_BACK: u64 = 6;
    /// The TRUE capability MSRs exist.
    pub(super) const TRUE_CONTROLS: u64 = 1 << 55;
}

/// Bits of `IA32_VMX_EPT_VPID_CAP` (A.10).
mod ept_vpid {
    pub(super) const WALK_4_LEVELS: u64 = 1 << 6;
    pub(super) const WRITE_BACK: u64 = 1 << 14;
    pub(super) const LEAF_2M: u64 = 1 << 16;
    pub(super) const LEAF_1G: u64 = 1 << 17;
    pub(super) const INVEPT: u64 = 1 << 20;
    pub(super) const INVEPT_ALL: u64 = 1 << 26;
    pub(super) const INVVPID: u64 = 1 << 32;
    pub(super) const INVVPID_SINGLE: u64 = 1 << 41;
    pub(super) const INVVPID_ALL: u64 = 1 << 42;
}

/// `IA32_VMX_MISC` (A.6): the bit of the time stamp counter with whose changes the VMX-preemption timer counts.
const MISC_TIMER_SHIFT: u64 = 0x1f;

/// The capability MSRs' words; zero for one that the processor does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VmxCapabilityWords {
    /// `IA32_VMX_BASIC`.
    pub basic: u64,
    /// `IA32_VMX_(TRUE_)PINBASED_CTLS`.
    pub pin: u64,
    /// `IA32_VMX_(TRUE_)PROCBASED_CTLS`.
    pub primary: u64,
    /// `IA32_VMX_PROCBASED_CTLS2`.
    pub secondary: u64,
    /// `IA32_VMX_(TRUE_)EXIT_CTLS`.
    pub exit: u64,
    /// `IA32_VMX_(TRUE_)ENTRY_CTLS`.
    pub entry: u64,
    /// `IA32_VMX_EPT_VPID_CAP`.
    pub ept_vpid: u64,
    /// `IA32_VMX_MISC`.
    pub misc: u64,
    /// `IA32_VMX_CR0_FIXED0` and `FIXED1`.
    pub cr0: FixedBits,
    /// `IA32_VMX_CR4_FIXED0` and `FIXED1`.
    pub cr4: FixedBits,
}

/// What VMX operation demands of a control register (A.7, A.8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FixedBits {
    /// Bits that must be set.
    pub must_be_set: u64,
    /// Bits that may be set.
    pub may_be_set: u64,
}

impl FixedBits {
    /// Bits of `value` that VMX operation does not stand: set, but must not be, or clear, but must be set.
    #[must_use]
    pub const fn violated_by(self, value: u64) -> u64 {
        (self.must_be_set & !value) | (value & !self.may_be_set)
    }
}

impl VmxCapabilityWords {
    /// Reads them through `rdmsr`, which is only asked for MSRs that exist where VMX does.
    pub(crate) fn read(rdmsr: impl Fn(u32) -> u64) -> Self {
        let basic = rdmsr(msr::BASIC);
        let either = |plain, exact| {
            rdmsr(if basic & basic::TRUE_CONTROLS != 0 {
                exact
            } else {
                plain
            })
        };
        let primary = either(msr::PRIMARY, msr::TRUE_PRIMARY);
        let if_allowed = |word: u64, bits: u32, number| {
            if allowed(word) & bits != 0 {
                rdmsr(number)
            } else {
                0
            }
        };
        let secondary = if_allowed(primary, primary::ACTIVATE_SECONDARY, msr::SECONDARY);
        let ept_or_vpid = secondary::ENABLE_EPT | secondary::ENABLE_VPID;
        Self {
            basic,
            pin: either(msr::PIN_BASED, msr::TRUE_PIN_BASED),
            primary,
            secondary,
            exit: either(msr::EXIT, msr::TRUE_EXIT),
            entry: either(msr::ENTRY, msr::TRUE_ENTRY),
            ept_vpid: if_allowed(secondary, ept_or_vpid, msr::EPT_VPID),
            misc: rdmsr(msr::MISC),
            cr0: FixedBits {
                must_be_set: rdmsr(msr::CR0_FIXED0),
                may_be_set: rdmsr(msr::CR0_FIXED1),
            },
            cr4: FixedBits {
                must_be_set: rdmsr(msr::CR4_FIXED0),
                may_be_set: rdmsr(msr::CR4_FIXED1),
            },
        }
    }
}

/// A capability that AxHV cannot do without and the processor does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissingCapability(pub &'static str);

impl fmt::Display for MissingCapability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "this processor's VMX lacks {}: guests need an Intel processor of 2010 or later, or a hypervisor below that offers it",
            self.0
        )
    }
}

impl core::error::Error for MissingCapability {}

/// How the guest's own translations are forgotten (INVVPID types).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvvpidType {
    /// Those of one VPID.
    SingleContext,
    /// Those of every VPID.
    AllContexts,
}

/// What a processor's VMX gives, negotiated: the controls' values as a vCPU begins with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VmxCapabilities {
    /// The number that begins every VMX structure.
    pub revision: u32,
    /// Pin-based controls.
    pub pin: u32,
    /// Primary processor-based controls.
    pub primary: u32,
    /// Secondary processor-based controls.
    pub secondary: u32,
    /// VM-exit controls.
    pub exit: u32,
    /// VM-entry controls.
    pub entry: u32,
    /// How much slower than the time stamp counter the VMX-preemption timer counts, as a shift; `None` without that timer.
    pub timer_shift: Option<u32>,
    /// `None`: no VPIDs, every entry and exit forgets all translations by itself.
    pub invvpid: Option<InvvpidType>,
    /// What of a local APIC the processor keeps, if it is told to.
    pub keeps: Option<Keeps>,
    /// Largest leaf of EPTs.
    pub ept_leaf: LargestLeaf,
    /// Fixed bits of CR0.
    pub cr0: FixedBits,
    /// Fixed bits of CR4.
    pub cr4: FixedBits,
}

/// One word of controls: what it must have, what it is glad to have, and what must not be forced upon it.
struct Wish {
    must: &'static [(u32, &'static str)],
    optional: u32,
    unwanted: &'static [(u32, &'static str)],
}

const PIN: Wish = Wish {
    must: &[
        (
            pin::EXTERNAL_INTERRUPT_EXITING,
            "external-interrupt exiting",
        ),
        (pin::NMI_EXITING, "NMI exiting"),
        (pin::VIRTUAL_NMIS, "virtual NMIs"),
    ],
    optional: 0,
    unwanted: &[],
};

/// The windows are opened when they are needed: they must be possible, and begin shut.
const PRIMARY: Wish = Wish {
    must: &[
        (primary::ACTIVATE_SECONDARY, "secondary controls"),
        (
            primary::INTERRUPT_WINDOW_EXITING,
            "interrupt-window exiting",
        ),
        (primary::NMI_WINDOW_EXITING, "NMI-window exiting"),
        (primary::HLT_EXITING, "HLT exiting"),
        (primary::MWAIT_EXITING, "MWAIT exiting"),
        (primary::MONITOR_EXITING, "MONITOR exiting"),
        (primary::RDPMC_EXITING, "RDPMC exiting"),
        (primary::CR8_LOAD_EXITING, "CR8-load exiting"),
        (primary::CR8_STORE_EXITING, "CR8-store exiting"),
        (
            primary::UNCONDITIONAL_IO_EXITING,
            "unconditional I/O exiting",
        ),
        (primary::USE_MSR_BITMAPS, "MSR bitmaps"),
    ],
    optional: 0,
    unwanted: &[
        (primary::CR3_LOAD_EXITING, "CR3 loads without exit"),
        (primary::CR3_STORE_EXITING, "CR3 stores without exit"),
        (primary::INVLPG_EXITING, "INVLPG without exit"),
        (primary::MOV_DR_EXITING, "debug registers without exit"),
    ],
};

const WINDOWS: u32 = primary::INTERRUPT_WINDOW_EXITING | primary::NMI_WINDOW_EXITING;

const SECONDARY: Wish = Wish {
    must: &[
        (secondary::ENABLE_EPT, "EPT"),
        (secondary::UNRESTRICTED_GUEST, "unrestricted guests"),
    ],
    optional: secondary::ENABLE_RDTSCP
        | secondary::ENABLE_VPID
        | secondary::WBINVD_EXITING
        | secondary::ENABLE_INVPCID
        | secondary::ENCLS_EXITING
        | secondary::ENABLE_XSAVES,
    unwanted: &[],
};

const EXIT: Wish = Wish {
    must: &[
        (exit::HOST_ADDRESS_SPACE_SIZE, "a 64-bit host"),
        (exit::SAVE_DEBUG_CONTROLS, "saving of debug controls"),
        (exit::SAVE_PAT, "saving of IA32_PAT"),
        (exit::LOAD_PAT, "loading of IA32_PAT at exits"),
        (exit::SAVE_EFER, "saving of IA32_EFER"),
        (exit::LOAD_EFER, "loading of IA32_EFER at exits"),
    ],
    optional: 0,
    unwanted: &[],
};

/// A vCPU begins outside IA-32e mode.
const ENTRY: Wish = Wish {
    must: &[
        (entry::IA32E_MODE_GUEST, "64-bit guests"),
        (entry::LOAD_DEBUG_CONTROLS, "loading of debug controls"),
        (entry::LOAD_PAT, "loading of IA32_PAT at entries"),
        (entry::LOAD_EFER, "loading of IA32_EFER at entries"),
    ],
    optional: 0,
    unwanted: &[],
};

const EPT_VPID: [(u64, &str); 5] = [
    (ept_vpid::WALK_4_LEVELS, "EPTs of four levels"),
    (ept_vpid::WRITE_BACK, "write-back EPTs"),
    (ept_vpid::LEAF_2M, "2 MiB pages in EPTs"),
    (ept_vpid::INVEPT, "INVEPT"),
    (ept_vpid::INVEPT_ALL, "INVEPT of all contexts"),
];

/// The controls that a word's high half allows to be set.
const fn allowed(word: u64) -> u32 {
    (word >> 32) as u32
}

/// The controls that a word's low half forces to be set.
const fn forced(word: u64) -> u32 {
    word as u32
}

impl Wish {
    /// The value closest to the wish that `word` allows.
    fn settle(&self, word: u64) -> Result<u32, MissingCapability> {
        let mut value = forced(word) | self.optional & allowed(word);
        for &(bit, name) in self.must {
            if allowed(word) & bit == 0 {
                return Err(MissingCapability(name));
            }
            value |= bit;
        }
        match self
            .unwanted
            .iter()
            .find(|(bit, _)| forced(word) & bit != 0)
        {
            Some(&(_, name)) => Err(MissingCapability(name)),
            None => Ok(value),
        }
    }
}

/// What makes the processor keep the registers of a local APIC, in either mode of it. Some of it alone is not used: no processor of Intel's has that.
const REGISTERS: u32 = secondary::VIRTUALIZE_APIC_ACCESSES
    | secondary::VIRTUALIZE_X2APIC_MODE
    | secondary::APIC_REGISTER_VIRTUALIZATION;
/// What makes it keep interrupts as well.
const EVERYTHING: u32 = REGISTERS | secondary::VIRTUAL_INTERRUPT_DELIVERY;

/// What of a local APIC the processor can keep.
const fn keeps(words: &VmxCapabilityWords) -> Option<Keeps> {
    let exits = primary::CR8_LOAD_EXITING | primary::CR8_STORE_EXITING;
    if allowed(words.primary) & primary::USE_TPR_SHADOW == 0 || forced(words.primary) & exits != 0 {
        None
    } else if allowed(words.secondary) & EVERYTHING == EVERYTHING {
        Some(Keeps::Everything)
    } else if allowed(words.secondary) & REGISTERS == REGISTERS {
        Some(Keeps::Registers)
    } else {
        Some(Keeps::TaskPriority)
    }
}

impl VmxCapabilities {
    /// What of `words` is used.
    ///
    /// # Errors
    /// [`MissingCapability`] names the first thing that guests need and the processor has not.
    pub fn negotiate(words: &VmxCapabilityWords) -> Result<Self, MissingCapability> {
        let lacks = |name| Err(MissingCapability(name));
        if words.basic >> basic::SIZE_SHIFT & basic::SIZE > VMX_REGION_BYTES {
            return lacks("VMX structures of at most 4 KiB");
        }
        if words.basic >> basic::MEMORY_TYPE_SHIFT & basic::MEMORY_TYPE != basic::WRITE_BACK {
            return lacks("VMX structures in write-back memory");
        }
        if words.basic & basic::ADDRESSES_32_BIT != 0 {
            return lacks("VMX structures above 4 GiB");
        }
        let primary = PRIMARY.settle(words.primary)? & !(WINDOWS & !forced(words.primary));
        let mut secondary = SECONDARY.settle(words.secondary)?;
        for (bit, name) in EPT_VPID {
            if words.ept_vpid & bit == 0 {
                return lacks(name);
            }
        }
        let has = |bits: u64| words.ept_vpid & bits == bits;
        let invvpid = if secondary & secondary::ENABLE_VPID == 0 {
            None
        } else if has(ept_vpid::INVVPID | ept_vpid::INVVPID_SINGLE) {
            Some(InvvpidType::SingleContext)
        } else if has(ept_vpid::INVVPID | ept_vpid::INVVPID_ALL) {
            Some(InvvpidType::AllContexts)
        } else {
            None
        };
        if invvpid.is_none() {
            secondary &= !secondary::ENABLE_VPID;
        }
        let has_timer = allowed(words.pin) & pin::PREEMPTION_TIMER != 0;
        Ok(Self {
            revision: (words.basic & basic::REVISION) as u32,
            pin: PIN.settle(words.pin)?,
            primary,
            secondary,
            exit: EXIT.settle(words.exit)?,
            entry: ENTRY.settle(words.entry)? & !(entry::IA32E_MODE_GUEST & !forced(words.entry)),
            timer_shift: has_timer.then_some((words.misc & MISC_TIMER_SHIFT) as u32),
            invvpid,
            keeps: keeps(words),
            ept_leaf: if has(ept_vpid::LEAF_1G) {
                LargestLeaf::Size1G
            } else {
                LargestLeaf::Size2M
            },
            cr0: words.cr0,
            cr4: words.cr4,
        })
    }
}

/// What a VMXON region and a VMCS take at most (A.1).
pub(crate) const VMX_REGION_BYTES: u64 = 4096;

#[cfg(test)]
mod tests;
