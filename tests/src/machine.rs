//! The machine that a test boots.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use crate::{Arch, Bundle, Run, bundle, read, repository};

/// What emulates a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emulator {
    /// QEMU, which has the H extension and SVM.
    Qemu,
    /// Bochs, which has VMX.
    Bochs,
}

/// How long a run may take. CI's machines are slow and shared; a run that hangs is what this is for.
const PATIENCE: Duration = Duration::from_secs(400);

/// A machine to be, by default what `make run` boots: four harts and 1 GiB of RAM, in QEMU.
#[derive(Clone, Debug)]
pub struct Machine {
    emulator: Emulator,
    patience: Duration,
    variables: Vec<(&'static str, String)>,
    arguments: Vec<String>,
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

impl Machine {
    /// The default machine.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            emulator: Emulator::Qemu,
            patience: PATIENCE,
            variables: Vec::new(),
            arguments: Vec::new(),
        }
    }

    /// Emulated by that.
    #[must_use]
    pub const fn emulated_by(mut self, emulator: Emulator) -> Self {
        self.emulator = emulator;
        self
    }

    /// With so much time for a run.
    #[must_use]
    pub const fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// With more arguments for QEMU.
    #[must_use]
    pub fn arguments<'a>(mut self, arguments: impl IntoIterator<Item = &'a str>) -> Self {
        self.arguments
            .extend(arguments.into_iter().map(String::from));
        self
    }

    /// With so many harts.
    #[must_use]
    pub fn harts(self, count: usize) -> Self {
        self.variable("SMP", count.to_string())
    }

    /// With so much RAM, as QEMU writes it.
    #[must_use]
    pub fn ram(self, size: &str) -> Self {
        self.variable("MEM", size.into())
    }

    /// With this CPU, as QEMU writes it.
    #[must_use]
    pub fn cpu(self, cpu: &str) -> Self {
        self.variable("CPU", cpu.into())
    }

    /// Of this kind, as QEMU writes it.
    #[must_use]
    pub fn kind(self, machine: &str) -> Self {
        self.variable("MACHINE", machine.into())
    }

    /// With time that is counted in instructions, so that every run is the same: 1 ns each, all harts in turn.
    #[must_use]
    pub fn counted(mut self) -> Self {
        let clock = [
            "-icount",
            "shift=0,sleep=off",
            "-seed",
            "1",
            "-rtc",
            "clock=vm,base=2026-01-01",
        ];
        self.arguments.extend(clock.map(String::from));
        self
    }

    fn variable(mut self, name: &'static str, value: String) -> Self {
        self.variables.push((name, value));
        self
    }

    /// Boots the image with a bundle.
    #[must_use]
    pub fn boot(&self, bundle: &Bundle) -> Run {
        self.boot_bytes(bundle.arch(), &bundle.bytes())
    }

    /// Boots the image with something in a bundle's place.
    #[must_use]
    pub fn boot_bytes(&self, arch: Arch, bundle: &[u8]) -> Run {
        let image = arch.image_path();
        read(&image, &format!("make image ARCH={}", arch.name()));
        self.boot_file(arch, &image, bundle)
    }

    /// Boots any kernel, with something as its initial RAM disk.
    #[must_use]
    pub fn boot_file(&self, arch: Arch, kernel: &Path, ramdisk: &[u8]) -> Run {
        let ramdisk = bundle::store(ramdisk);
        let command = self.command(arch, [kernel, &ramdisk]);
        Run::start(arch, self.emulator, command, ramdisk, self.patience)
    }

    fn command(&self, arch: Arch, files: [&Path; 2]) -> Command {
        let script = match self.emulator {
            Emulator::Qemu => "scripts/qemu.sh",
            Emulator::Bochs => "scripts/bochs.sh",
        };
        let mut command = Command::new(repository(script));
        command
            .arg(arch.name())
            .args(files)
            .args(&self.arguments)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}
