//! What a VM asks of its host.

use axvcpu::AxVCpuHal;

/// The host services of a VM, beyond those of its vCPUs.
pub trait AxVMHal: AxVCpuHal {
    /// Sends `pcpu` an interrupt that takes it out of its guest or its sleep, and does nothing
    /// else. Callable with interrupts off; a kick of the caller's own pCPU may be left out.
    fn kick(pcpu: usize);

    /// Has this pCPU forget, before it next runs a guest, what it has cached of nested tables: a page
    /// that another vCPU has filled meanwhile may be remembered as absent. Nobody else is disturbed.
    fn forget_nested_here();

    /// Whether other tasks live on this pCPU, so that each host interrupt may be the end of a
    /// guest's [turn](Self::is_turn_over).
    fn needs_reschedule() -> bool;

    /// Whether the calling task has had its turn: it shares its pCPU, and the host has served an
    /// interrupt there since a task gave way, and not only just now; for a turn that is too short
    /// it sees to another interrupt. Asked after a host interrupt was served, and wherever a guest
    /// can make the hypervisor work for long, or come back often, without one that ends its exit.
    fn is_turn_over() -> bool;

    /// Lets other tasks run. The vCPU is bound to no pCPU meanwhile, and may come back on another.
    fn reschedule();
}
