//! What a vCPU asks of its host.

use axaddrspace::AxMmHal;

/// The host services of a vCPU. Time is in ticks of the counter that the guest reads (RISC-V: `time`; x86: TSC).
pub trait AxVCpuHal: 'static {
    /// Memory services.
    type MmHal: AxMmHal;

    /// The number of the host interrupt that took the guest out, if the exit did not say it and the host can tell; else 0. Where the interrupt
    /// stays pending until the host's own vector takes it, nobody knows it yet.
    fn irq_fetch() -> usize;

    /// Host interrupt `vector` took a guest out of this pCPU: serves it, unless the host's own vector did so when the exit let interrupts in.
    fn irq_handler(vector: usize);

    /// The pCPU that this runs on: 0, 1, …
    fn this_pcpu() -> usize;

    /// The host's counter now, in its ticks.
    fn now() -> u64;

    /// Arms the timer of the vCPU that is loaded on this pCPU: once [`now`](Self::now) reaches `deadline` a host interrupt takes
    /// the guest out. [`u64::MAX`] disarms it.
    fn set_guest_timer(deadline: u64);
}
