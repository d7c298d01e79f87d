//! What is measured: an architecture on an emulator, which together say by which hardware interface guests run.

use clap::ValueEnum;
use system_tests::{Arch, Emulator};

use crate::Failed;

/// The architecture, as the command line names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum ArchName {
    Riscv64,
    #[value(name = "x86_64")]
    X86,
}

/// The emulator, as the command line names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum EmulatorName {
    Qemu,
    Bochs,
}

/// The hardware's interface for guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// RISC-V's H extension, in QEMU.
    H,
    /// AMD's SVM, in QEMU.
    Svm,
    /// Intel's VMX, in Bochs.
    Vmx,
}

impl Subject {
    pub(crate) fn new(arch: ArchName, emulator: EmulatorName) -> Result<Self, Failed> {
        match (arch, emulator) {
            (ArchName::Riscv64, EmulatorName::Qemu) => Ok(Self::H),
            (ArchName::X86, EmulatorName::Qemu) => Ok(Self::Svm),
            (ArchName::X86, EmulatorName::Bochs) => Ok(Self::Vmx),
            (ArchName::Riscv64, EmulatorName::Bochs) => Err(Failed(
                "Bochs emulates no RISC-V; use EMU=qemu, or ARCH=x86_64".into(),
            )),
        }
    }

    /// As files and their sections are named.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::H => "riscv64-h",
            Self::Svm => "x86_64-svm",
            Self::Vmx => "x86_64-vmx",
        }
    }

    pub(crate) const fn arch(self) -> Arch {
        match self {
            Self::H => Arch::Riscv64,
            Self::Svm | Self::Vmx => Arch::X86_64,
        }
    }

    pub(crate) const fn emulator(self) -> Emulator {
        match self {
            Self::H | Self::Svm => Emulator::Qemu,
            Self::Vmx => Emulator::Bochs,
        }
    }
}
