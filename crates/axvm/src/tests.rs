//! The VM as a whole, on scripted vCPUs.

mod console;
mod exits;
mod life;
mod passed;
mod smp;
