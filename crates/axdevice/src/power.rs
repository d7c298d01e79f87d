//! The way out for a machine.

/// What the registers that power a machine off and reset it are wired to.
///
/// Both only ask: they return, and the vCPU that wrote the register stops a moment later. No device lock is held.
pub trait SystemPower: Send + Sync {
    /// Powers the machine off.
    fn power_off(&self);

    /// Resets the machine.
    fn reset(&self);
}
