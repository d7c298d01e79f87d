//! x86 VMs: PCs with vCPUs on VMX or SVM.

mod board;
