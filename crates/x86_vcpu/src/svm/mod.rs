//! AMD's SVM (APM 2, "Secure Virtual Machine").
//!
//! `vmcb` has the layout that the hardware reads, `entry` the world switch, `decode` and `exit_code` what an exit means, `refusal` why there was no entry, `registers` and `segment` where registers are, `vcpu` and
//! `percpu` the vendor's parts of each.

mod decode;
mod entry;
mod exit_code;
#[cfg(not(target_os = "none"))]
mod machine;
mod percpu;
mod refusal;
mod registers;
mod segment;
mod vcpu;
mod vmcb;

#[cfg(test)]
pub(crate) use machine::script;
pub use percpu::SvmPerCpuState;
pub use vcpu::SvmVcpu;
