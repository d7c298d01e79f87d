//! The bits of the VM-execution, VM-exit and VM-entry controls that have a use here (SDM vol. 3, 25.6 to 25.8).

/// Pin-based VM-execution controls.
pub(crate) mod pin {
    /// Host interrupts take the guest out.
    pub(crate) const EXTERNAL_INTERRUPT_EXITING: u32 = 1 << 0;
    /// So do NMIs.
    pub(crate) const NMI_EXITING: u32 = 1 << 3;
    /// The guest's blocking by NMI is its own.
    pub(crate) const VIRTUAL_NMIS: u32 = 1 << 5;
    /// The guest exits when the time that the VMCS says is over.
    pub(crate) const PREEMPTION_TIMER: u32 = 1 << 6;
}

/// Primary processor-based VM-execution controls.
pub(crate) mod primary {
    /// Exit as soon as the guest can take an interrupt.
    pub(crate) const INTERRUPT_WINDOW_EXITING: u32 = 1 << 2;
    pub(crate) const HLT_EXITING: u32 = 1 << 7;
    pub(crate) const INVLPG_EXITING: u32 = 1 << 9;
    pub(crate) const MWAIT_EXITING: u32 = 1 << 10;
    pub(crate) const RDPMC_EXITING: u32 = 1 << 11;
    pub(crate) const CR3_LOAD_EXITING: u32 = 1 << 15;
    pub(crate) const CR3_STORE_EXITING: u32 = 1 << 16;
    pub(crate) const CR8_LOAD_EXITING: u32 = 1 << 19;
    pub(crate) const CR8_STORE_EXITING: u32 = 1 << 20;
    /// CR8, and what else is the task priority, is in the virtual-APIC page.
    pub(crate) const USE_TPR_SHADOW: u32 = 1 << 21;
    /// Exit as soon as the guest can take an NMI.
    pub(crate) const NMI_WINDOW_EXITING: u32 = 1 << 22;
    pub(crate) const MOV_DR_EXITING: u32 = 1 << 23;
    /// Every I/O instruction exits.
    pub(crate) const UNCONDITIONAL_IO_EXITING: u32 = 1 << 24;
    pub(crate) const USE_MSR_BITMAPS: u32 = 1 << 28;
    pub(crate) const MONITOR_EXITING: u32 = 1 << 29;
    /// The secondary controls count.
    pub(crate) const ACTIVATE_SECONDARY: u32 = 1 << 31;
}

/// Secondary processor-based VM-execution controls.
pub(crate) mod secondary {
    /// Accesses to the APIC-access page are no accesses to memory.
    pub(crate) const VIRTUALIZE_APIC_ACCESSES: u32 = 1 << 0;
    pub(crate) const ENABLE_EPT: u32 = 1 << 1;
    /// Without it RDTSCP is an invalid opcode in the guest.
    pub(crate) const ENABLE_RDTSCP: u32 = 1 << 3;
    /// The MSRs of an x2APIC that do not exit are in the virtual-APIC page.
    pub(crate) const VIRTUALIZE_X2APIC_MODE: u32 = 1 << 4;
    pub(crate) const ENABLE_VPID: u32 = 1 << 5;
    pub(crate) const WBINVD_EXITING: u32 = 1 << 6;
    /// The guest may run without paging, and in real mode.
    pub(crate) const UNRESTRICTED_GUEST: u32 = 1 << 7;
    /// Most registers are in the virtual-APIC page.
    pub(crate) const APIC_REGISTER_VIRTUALIZATION: u32 = 1 << 8;
    /// Virtual interrupts are chosen, delivered and ended by the processor.
    pub(crate) const VIRTUAL_INTERRUPT_DELIVERY: u32 = 1 << 9;
    /// Without it INVPCID is an invalid opcode in the guest.
    pub(crate) const ENABLE_INVPCID: u32 = 1 << 12;
    /// SGX supervisor instructions exit as the bitmap says.
    pub(crate) const ENCLS_EXITING: u32 = 1 << 15;
    /// Without it XSAVES and XRSTORS are invalid opcodes in the guest.
    pub(crate) const ENABLE_XSAVES: u32 = 1 << 20;
}

/// VM-exit controls.
pub(crate) mod exit {
    /// DR7 and `IA32_DEBUGCTL` go to the VMCS.
    pub(crate) const SAVE_DEBUG_CONTROLS: u32 = 1 << 2;
    /// The host is in 64-bit mode.
    pub(crate) const HOST_ADDRESS_SPACE_SIZE: u32 = 1 << 9;
    pub(crate) const SAVE_PAT: u32 = 1 << 18;
    pub(crate) const LOAD_PAT: u32 = 1 << 19;
    pub(crate) const SAVE_EFER: u32 = 1 << 20;
    pub(crate) const LOAD_EFER: u32 = 1 << 21;
}

/// VM-entry controls.
pub(crate) mod entry {
    /// DR7 and `IA32_DEBUGCTL` come from the VMCS.
    pub(crate) const LOAD_DEBUG_CONTROLS: u32 = 1 << 2;
    /// The guest is in IA-32e mode: its `EFER.LMA`. Exits keep it up to date.
    pub(crate) const IA32E_MODE_GUEST: u32 = 1 << 9;
    pub(crate) const LOAD_PAT: u32 = 1 << 14;
    pub(crate) const LOAD_EFER: u32 = 1 << 15;
}
