//! How often each vCPU came out of its guest to the VM, and why.

use core::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use axvcpu::AxVCpuExitReason;

macro_rules! kinds {
    ($($kind:ident $pattern:pat => $name:literal,)*) => {
        /// The kinds of [`AxVCpuExitReason`].
        #[derive(Clone, Copy)]
        enum Kind { $($kind,)* }

        impl Kind {
            const NAMES: &[&str] = &[$($name,)*];

            const fn of(exit: &AxVCpuExitReason) -> Self {
                match exit { $($pattern => Self::$kind,)* }
            }
        }
    };
}

kinds! {
    Nothing AxVCpuExitReason::Nothing => "nothing",
    Hypercall AxVCpuExitReason::Hypercall { .. } => "hypercall",
    Console AxVCpuExitReason::Console(_) => "console",
    MmioRead AxVCpuExitReason::MmioRead { .. } => "mmio-read",
    MmioWrite AxVCpuExitReason::MmioWrite { .. } => "mmio-write",
    IoRead AxVCpuExitReason::IoRead { .. } => "io-read",
    IoWrite AxVCpuExitReason::IoWrite { .. } => "io-write",
    SysRegRead AxVCpuExitReason::SysRegRead { .. } => "sysreg-read",
    SysRegWrite AxVCpuExitReason::SysRegWrite { .. } => "sysreg-write",
    NestedPageFault AxVCpuExitReason::NestedPageFault { .. } => "nested-page-fault",
    ExternalInterrupt AxVCpuExitReason::ExternalInterrupt { .. } => "external-interrupt",
    CpuUp AxVCpuExitReason::CpuUp { .. } => "cpu-up",
    CpuStatus AxVCpuExitReason::CpuStatus { .. } => "cpu-status",
    CpuDown AxVCpuExitReason::CpuDown => "cpu-down",
    SendIpi AxVCpuExitReason::SendIPI { .. } => "send-ipi",
    RemoteFence AxVCpuExitReason::RemoteFence { .. } => "remote-fence",
    Halt AxVCpuExitReason::Halt => "halt",
    SystemDown AxVCpuExitReason::SystemDown { .. } => "system-down",
    FailEntry AxVCpuExitReason::FailEntry { .. } => "fail-entry",
    Unknown AxVCpuExitReason::Unknown(_) => "unknown",
}

/// One vCPU's counts. Only its own task counts; anyone may look.
pub(crate) struct ExitCounts([AtomicU64; Kind::NAMES.len()]);

impl ExitCounts {
    pub(crate) const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; Kind::NAMES.len()])
    }

    #[inline]
    pub(crate) fn count(&self, exit: &AxVCpuExitReason) {
        if let Some(count) = self.0.get(Kind::of(exit) as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The kinds that happened, by name, and how often.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.0.iter().map(|count| count.load(Ordering::Relaxed));
        Kind::NAMES
            .iter()
            .copied()
            .zip(counts)
            .filter(|&(_, count)| count != 0)
    }
}

impl fmt::Display for ExitCounts {
    /// `halt 3, mmio-read 20`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, (name, count)) in self.iter().enumerate() {
            let separator = if position == 0 { "" } else { ", " };
            write!(f, "{separator}{name} {count}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn what_happened_is_listed_and_nothing_else() {
        let counts = ExitCounts::new();
        assert_eq!(counts.to_string(), "");
        counts.count(&AxVCpuExitReason::Halt);
        counts.count(&AxVCpuExitReason::CpuDown);
        counts.count(&AxVCpuExitReason::Halt);
        assert_eq!(counts.to_string(), "cpu-down 1, halt 2");
    }
}
