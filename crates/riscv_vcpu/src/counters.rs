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
        counters.count(ExitKind::Wfi);
        counters.count(ExitKind::Wfi);
        counters.count(ExitKind::Unknown);
        for (kind, count) in counters.iter() {
            let expected = match kind {
                ExitKind::Wfi => 2,
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
