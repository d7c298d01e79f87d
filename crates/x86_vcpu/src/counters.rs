//! The kinds of exit that the [`Account`](axvcpu::Account) tells apart.

axvcpu::exit_kinds! {
    /// Why a vCPU left its guest.
    pub enum ExitKind {
        /// CPUID.
        Cpuid = "cpuid",
        /// RDMSR.
        MsrRead = "msr-read",
        /// WRMSR.
        MsrWrite = "msr-write",
        /// A control register.
        ControlRegister = "control-register",
        /// XSETBV.
        Xsetbv = "xsetbv",
        /// HLT.
        Hlt = "hlt",
        /// VMCALL or VMMCALL.
        Hypercall = "hypercall",
        /// IN, INS.
        PortRead = "port-read",
        /// OUT, OUTS.
        PortWrite = "port-write",
        /// A load from a device.
        MmioRead = "mmio-read",
        /// A store to a device.
        MmioWrite = "mmio-write",
        /// A store to the local APIC that the hardware has done, but not all that follows.
        ApicWrite = "apic-write",
        /// The end of an interrupt that another must hear of.
        ApicEnd = "apic-eoi",
        /// A task priority that holds less back.
        TaskPriority = "task-priority",
        /// A nested page fault in RAM.
        NestedFault = "nested-fault",
        /// The guest can take an interrupt that waited.
        InterruptWindow = "interrupt-window",
        /// The guest can take an NMI that waited.
        NmiWindow = "nmi-window",
        /// An exception that goes back to the guest.
        Exception = "exception",
        /// An instruction that does nothing, or that the guest has not.
        OtherInstruction = "other-instruction",
        /// A host interrupt.
        HostInterrupt = "host-interrupt",
        /// A timer of the guest's is due.
        Deadline = "deadline",
        /// A host NMI.
        HostNmi = "host-nmi",
        /// The guest shut down.
        TripleFault = "triple-fault",
        /// An exit that nobody knows.
        Unknown = "unknown",
    }
}
