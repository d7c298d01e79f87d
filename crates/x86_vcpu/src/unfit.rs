//! Why a CPU cannot run guests.

use core::fmt;

use axerrno::AxError;

use crate::MissingCapability;

/// Why a CPU cannot run guests. What it prints is one line, with what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// Neither SVM nor VMX.
    NoVirtualization,
    /// SVM without nested paging.
    SvmWithoutNestedPaging,
    /// SVM that the firmware has disabled for good (AMD APM 2, "VM_CR MSR").
    SvmLockedOff,
    /// VMX that the firmware has disabled for good (Intel SDM volume 3, "Enabling and Entering VMX Operation").
    VmxLockedOff,
    /// VMX of an old or a pared-down kind: without EPT, for one.
    VmxLacks(MissingCapability),
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoVirtualization => {
                "the CPU has neither SVM nor VMX: use one that has, or turn on nested virtualization in the hypervisor below (QEMU: -cpu EPYC,+svm,+npt)"
            }
            Self::SvmWithoutNestedPaging => {
                "the CPU's SVM has no nested paging: use a CPU that has, or turn it on in the hypervisor below (QEMU: -cpu EPYC,+svm,+npt)"
            }
            Self::SvmLockedOff => {
                "the firmware has locked SVM off: turn on \"SVM Mode\" in its setup"
            }
            Self::VmxLockedOff => {
                "the firmware has locked VMX off: turn on \"Intel Virtualization Technology\" (VT-x) in its setup"
            }
            Self::VmxLacks(missing) => return missing.fmt(f),
        })
    }
}

impl core::error::Error for Unfit {}

impl From<Unfit> for AxError {
    fn from(unfit: Unfit) -> Self {
        log::error!("{unfit}");
        Self::Unsupported
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn each_says_in_one_line_what_is_wrong_and_what_to_do() {
        for (unfit, words) in [
            (Unfit::NoVirtualization, ["neither SVM nor VMX", "-cpu"]),
            (Unfit::SvmWithoutNestedPaging, ["nested paging", "+npt"]),
            (Unfit::SvmLockedOff, ["locked SVM off", "SVM Mode"]),
            (Unfit::VmxLockedOff, ["locked VMX off", "VT-x"]),
            (
                Unfit::VmxLacks(MissingCapability("EPT")),
                ["lacks EPT", "need"],
            ),
        ] {
            let line = unfit.to_string();
            assert!(words.iter().all(|word| line.contains(word)), "{line}");
            assert_eq!(line.lines().count(), 1);
        }
    }
}
