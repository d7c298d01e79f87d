//! What the first process of a kernel has to do before there is a KVM.

use alloc::{format, string::String};
use core::ffi::CStr;

use syscalls::Errno;

use crate::linux::{self, Access, File};

/// A kernel module of the initramfs.
struct Module {
    path: &'static CStr,
    /// Whether it is no mistake that the machine cannot use it.
    kind: ModuleKind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ModuleKind {
    /// It always loads.
    Needed,
    /// It loads where the CPU is of its vendor.
    OfVendor,
}

/// In the order in which they need each other. Not each kernel has all of them.
const MODULES: [Module; 4] = [
    Module {
        path: c"/modules/irqbypass.ko.xz",
        kind: ModuleKind::Needed,
    },
    Module {
        path: c"/modules/kvm.ko.xz",
        kind: ModuleKind::Needed,
    },
    Module {
        path: c"/modules/kvm-amd.ko.xz",
        kind: ModuleKind::OfVendor,
    },
    Module {
        path: c"/modules/kvm-intel.ko.xz",
        kind: ModuleKind::OfVendor,
    },
];

/// A kernel that has just started has work to do behind its first process, which is not to be counted
/// among what a guest costs. This is longer than it was seen to take on a machine of a GHz.
const SETTLING_S: u64 = 10;

/// Where the initramfs has the bundle.
const BUNDLE: &CStr = c"/bundle.cpio";

/// Makes KVM available at `/dev/kvm`, and lets the kernel come to rest.
///
/// # Errors
/// In words: a kernel module does not load, though the machine can use it, or `/dev/kvm` cannot be made.
pub fn prepare() -> Result<(), String> {
    for module in MODULES {
        let name = module.path.to_string_lossy();
        let file = match File::open(module.path, Access::Read) {
            Ok(file) => file,
            Err(Errno::ENOENT) => continue,
            Err(errno) => return Err(format!("{name}: {errno}")),
        };
        match (linux::load_module(file), module.kind) {
            (Ok(()), _) | (Err(_), ModuleKind::OfVendor) => {}
            (Err(errno), ModuleKind::Needed) => return Err(format!("loading {name}: {errno}")),
        }
    }
    // What Linux calls misc devices, and KVM's number among them (Documentation/admin-guide/devices.txt).
    linux::make_device(c"/dev/kvm", 10, 232).map_err(|errno| format!("/dev/kvm: {errno}"))?;
    linux::sleep(SETTLING_S);
    Ok(())
}

/// The bundle that the initramfs has.
///
/// # Errors
/// In words: there is none, or it cannot be mapped.
pub fn bundle() -> Result<&'static [u8], String> {
    let file = File::open(BUNDLE, Access::Read);
    let file = file.map_err(|errno| format!("{}: {errno}", BUNDLE.to_string_lossy()))?;
    Ok(file.contents()?)
}
