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
    /// With the H extension, or with SVM.
    Qemu,
    /// With VMX.
    Bochs,
}

impl Emulator {
    /// As the Makefile names it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Qemu => "qemu",
            Self::Bochs => "bochs",
        }
    }

    /// What boots an image in it.
    const fn script(self) -> &'static str {
        match self {
            Self::Qemu => "scripts/qemu.sh",
            Self::Bochs => "scripts/bochs.sh",
        }
    }
}

/// How long a run may take. Machines are slow and shared; a run that hangs is what this is for, and nothing else is judged by it.
const PATIENCE: Duration = Duration::from_secs(900);

/// A machine to be, by default what `make run` boots: four harts and 1 GiB of RAM (in Bochs 512 MiB).
#[derive(Clone, Debug)]
pub struct Machine {
    emulator: Emulator,
    script: &'static str,
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
    /// The default machine, in QEMU.
    #[must_use]
    pub const fn new() -> Self {
        Self::emulated_by(Emulator::Qemu)
    }

    /// The default machine of an emulator.
    #[must_use]
    pub const fn emulated_by(emulator: Emulator) -> Self {
        Self {
            emulator,
            script: emulator.script(),
            patience: PATIENCE,
            variables: Vec::new(),
            arguments: Vec::new(),
        }
    }

    /// As `make run` boots it, whose exit status that of the run then is.
    #[must_use]
    pub fn by_make(mut self) -> Self {
        self.script = "scripts/run.sh";
        let name = self.emulator.name().into();
        self.variable("EMU", name)
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

    /// With harts, sockets and so on as QEMU writes them.
    #[must_use]
    pub fn topology(self, harts: &str) -> Self {
        self.variable("SMP", harts.into())
    }

    /// With one more device, as QEMU writes it.
    #[must_use]
    pub fn device(mut self, device: &str) -> Self {
        self.arguments.push("-device".into());
        self.arguments.push(device.into());
        self
    }

    /// With so much RAM, as the emulator writes it.
    #[must_use]
    pub fn ram(self, size: &str) -> Self {
        self.variable("MEM", size.into())
    }

    /// With this CPU, as the emulator writes it.
    #[must_use]
    pub fn cpu(self, cpu: &str) -> Self {
        self.variable("CPU", cpu.into())
    }

    /// Of this kind, as QEMU writes it.
    #[must_use]
    pub fn kind(self, machine: &str) -> Self {
        self.variable("MACHINE", machine.into())
    }

    /// With a clock that says, in UTC, that it is `date` when the machine starts, as QEMU writes it.
    #[must_use]
    pub fn date(mut self, date: &str) -> Self {
        self.arguments.push("-rtc".into());
        self.arguments.push(format!("base={date}"));
        self
    }

    /// With this command line for the image (Bochs).
    #[must_use]
    pub fn bootargs(self, line: &str) -> Self {
        self.variable("BOOTARGS", line.into())
    }

    /// With time that is counted in instructions, so that every run is the same: 1 ns each, all harts in turn.
    #[must_use]
    pub fn counted(self) -> Self {
        self.counted_in("shift=0,sleep=off")
    }

    /// The same, but for 8 ns each: about as fast as the emulator is, so that a busy second takes no longer than one.
    #[must_use]
    pub fn counted_slowly(self) -> Self {
        self.counted_in("shift=3,sleep=off")
    }

    fn counted_in(mut self, unit: &str) -> Self {
        let clock = [
            "-icount",
            unit,
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
    ///
    /// # Panics
    /// If the image is not there, the bundle has a path that is none, or the emulator's script cannot be run.
    #[must_use]
    pub fn boot(&self, bundle: &Bundle) -> Run {
        self.boot_bytes(bundle.arch(), &bundle.bytes())
    }

    /// Boots the image with something in a bundle's place.
    ///
    /// # Panics
    /// If the image is not there, or the emulator's script cannot be run.
    #[must_use]
    pub fn boot_bytes(&self, arch: Arch, bundle: &[u8]) -> Run {
        let image = arch.image_path();
        read(&image, &format!("make image ARCH={}", arch.name()));
        self.boot_file(arch, &image, bundle)
    }

    /// Boots any kernel, with something as its initial RAM disk.
    ///
    /// # Panics
    /// If the emulator's script cannot be run.
    #[must_use]
    pub fn boot_file(&self, arch: Arch, kernel: &Path, ramdisk: &[u8]) -> Run {
        let ramdisk = bundle::store(ramdisk);
        let command = self.command(arch, [kernel, &ramdisk]);
        Run::start(arch, command, ramdisk, self.patience)
    }

    /// Boots Debian's kernel, whose KVM runs the VM of a bundle in the image's place. Status 0 says that the guest powered off.
    ///
    /// # Panics
    /// If the bundle has a path that is none, or the script cannot be run.
    #[must_use]
    pub fn boot_peer(&self, bundle: &Bundle) -> Run {
        let (arch, file) = (bundle.arch(), bundle::store(&bundle.bytes()));
        let mut command = self.script("scripts/peer.sh", arch, [file.as_path()]);
        command.env("EMU", self.emulator.name());
        Run::start(arch, command, file, self.patience)
    }

    fn command(&self, arch: Arch, files: [&Path; 2]) -> Command {
        self.script(self.script, arch, files)
    }

    fn script<const N: usize>(&self, script: &str, arch: Arch, files: [&Path; N]) -> Command {
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
