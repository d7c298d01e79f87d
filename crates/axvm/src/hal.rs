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

    /// Whether another task of this pCPU should run before the guest does: asked after a host
    /// interrupt was served.
    fn needs_reschedule() -> bool;

    /// Lets other tasks run. The vCPU is bound to no pCPU meanwhile, and may come back on another.
    fn reschedule();
}
