//! `/init` of the kernel whose KVM runs the VM.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod program;

/// On the developer's machine this program is only checked and unit-tested.
#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("kvmrun: this is /init of a kernel of its own; run scripts/peer.sh");
}
