//! The platform-level interrupt controller, as far as a check needs it (PLIC specification 1.0).

/// A PLIC, seen through one of its contexts.
#[derive(Clone, Copy, Debug)]
pub struct Plic {
    /// Address of its registers.
    pub base: usize,
    /// The largest source number.
    pub sources: usize,
    /// The boot hart's supervisor context.
    pub context: usize,
}

impl Plic {
    /// Address of a source's priority.
    pub fn priority(&self, source: usize) -> usize {
        self.base + 4 * source
    }

    /// Address of the pending bits of sources 0 to 31.
    pub fn pending(&self) -> usize {
        self.base + 0x1000
    }

    /// Address of this context's enable bits of sources 0 to 31.
    pub fn enable(&self) -> usize {
        self.base + 0x2000 + 0x80 * self.context
    }

    /// Address of this context's threshold.
    pub fn threshold(&self) -> usize {
        self.base + 0x20_0000 + 0x1000 * self.context
    }

    /// Address of this context's claim and complete register.
    pub fn claim(&self) -> usize {
        self.threshold() + 4
    }
}
