//! How often a vCPU left its guest, by reason: what an exit path did, without a log line.

macro_rules! exit_kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal,)*) => {
        /// Why a vCPU left its guest.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum ExitKind {
            $($(#[$doc])* $kind,)*
        }

        impl ExitKind {
            /// Every kind, in the order in which they are listed.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            /// Its name in lists.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }
        }
    };
}

exit_kinds! {
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
    /// A host NMI.
    HostNmi = "host-nmi",
    /// The guest shut down.
    TripleFault = "triple-fault",
    /// An exit that nobody knows.
    Unknown = "unknown",
}

/// How often each kind of exit happened.
#[derive(Clone, Debug)]
pub struct ExitCounters([u64; ExitKind::ALL.len()]);

impl ExitCounters {
    pub(crate) const fn new() -> Self {
        Self([0; ExitKind::ALL.len()])
    }

    /// One more of `kind`.
    #[inline(always)]
    pub(crate) fn count(&mut self, kind: ExitKind) {
        // `kind as usize` is below the array's length by construction, so no check remains.
        self.0[kind as usize] = self.0[kind as usize].wrapping_add(1);
    }

    /// How often `kind` happened.
    #[must_use]
    pub fn get(&self, kind: ExitKind) -> u64 {
        self.0[kind as usize]
    }

    /// Every kind with its count.
    pub fn iter(&self) -> impl Iterator<Item = (ExitKind, u64)> + '_ {
        ExitKind::ALL.iter().map(|&kind| (kind, self.get(kind)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_counts_for_itself() {
        let mut counters = ExitCounters::new();
        counters.count(ExitKind::Hlt);
        counters.count(ExitKind::Hlt);
        counters.count(ExitKind::Unknown);
        for (kind, count) in counters.iter() {
            let expected = match kind {
                ExitKind::Hlt => 2,
                ExitKind::Unknown => 1,
                _ => 0,
            };
            assert_eq!(count, expected, "{}", kind.name());
        }
    }

    #[test]
    fn names_differ() {
        for (i, a) in ExitKind::ALL.iter().enumerate() {
            assert_eq!(*a as usize, i);
            assert!(ExitKind::ALL[..i].iter().all(|b| b.name() != a.name()));
        }
    }
}
