//! The kinds of exit that the [`Account`](axvcpu::Account) tells apart.

axvcpu::exit_kinds! {
    /// Why a vCPU left its guest.
    pub enum ExitKind {
        /// SBI BASE.
        SbiBase = "sbi-base",
        /// SBI TIME.
        SbiTime = "sbi-time",
        /// SBI IPI.
        SbiIpi = "sbi-ipi",
        /// SBI RFENCE.
        SbiRfence = "sbi-rfence",
        /// SBI HSM.
        SbiHsm = "sbi-hsm",
        /// SBI SRST.
        SbiSrst = "sbi-srst",
        /// SBI DBCN.
        SbiDbcn = "sbi-dbcn",
        /// The legacy SBI console.
        SbiLegacy = "sbi-legacy",
        /// The guest's question for its own account.
        SbiAccount = "sbi-account",
        /// An SBI extension that is not there.
        SbiOther = "sbi-other",
        /// A load from a device.
        MmioRead = "mmio-read",
        /// A store to a device.
        MmioWrite = "mmio-write",
        /// A nested page fault in RAM.
        NestedFault = "nested-fault",
        /// A `wfi` that was trapped.
        Wfi = "wfi",
        /// Any other instruction that is not for VS-mode.
        VirtualInstruction = "virtual-instruction",
        /// An exception that the guest was given, because it reached for what is not there or because its delegation is not in
        /// hardware.
        Exception = "exception",
        /// The host's timer.
        HostTimer = "host-timer",
        /// The host's software interrupt.
        HostSoft = "host-soft",
        /// A device of the host.
        HostExternal = "host-external",
        /// Another interrupt of the host.
        HostOther = "host-other",
        /// An exit that nobody knows.
        Unknown = "unknown",
    }
}
