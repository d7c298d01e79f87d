//! The runs: boots machines and collects figures.

use std::time::Duration;

use system_tests::{Bundle, Emulator, Ended, Machine};

use crate::{
    Failed, Figures, Subject,
    exits::{self, Exits},
    linux,
    native::{self, Native},
    unlike::{Unlike, difference},
};

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Everything, rows twice.
    Full,
    /// The rows of one vCPU, once.
    Short,
}

/// What AxHV took.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured {
    pub(crate) figures: Figures,
    /// Of a Linux boot.
    pub(crate) exits: Exits,
    /// Of that boot against one without hypervisor, where the same machine can be booted without.
    pub(crate) native: Option<Native>,
    /// Pairs of runs that should have been the same and were not.
    pub(crate) unlike: Vec<Unlike>,
}

/// Measures this image.
pub(crate) fn axhv(subject: Subject, scope: Scope) -> Result<Measured, Failed> {
    let mut measured = Measured::default();
    rows(subject, scope, &mut measured)?;
    match scope {
        // The guest has tried.
        Scope::Short => measured.figures.remove(PAIR),
        Scope::Full => {
            pair(subject, &mut measured)?;
            let linux = linux::boots(subject, &mut measured.unlike)?;
            let figures = &mut measured.figures;
            measured.native = native::measure(subject)?;
            if let Some(native) = measured.native {
                figures.add("linux-boot-ratio", Some(rounded(native.ratio().mean)));
            }
            figures.add("linux-boot-account", linux.account.map(rounded));
            figures.add("linux-boot-exits", Some(exits::total(&linux.exits) as f64));
            measured.exits = linux.exits;
        }
    }
    image(subject, &mut measured.figures)?;
    Ok(measured)
}

/// More digits of a ratio than say something would differ between machines that round otherwise.
fn rounded(ratio: f64) -> f64 {
    (ratio * 1e4).round() / 1e4
}

/// The guest alone on pCPU 1, housekeeping on pCPU 0.
fn rows(subject: Subject, scope: Scope, measured: &mut Measured) -> Result<(), Failed> {
    let bundle = bundle(subject);
    let ended = boot_alike(subject, scope, "rows", 2, &bundle, &mut measured.unlike)?;
    measured.figures = figures(&ended)?;
    if let Some([image, alone, vms]) = memory(&ended.output) {
        let figures = &mut measured.figures;
        figures.add("memory-kib", Some((image + alone + vms) as f64));
        figures.add("memory-for-vm-kib", Some(vms as f64));
    }
    Ok(())
}

/// The guest that counts.
fn bundle(subject: Subject) -> Bundle {
    Bundle::new(subject.arch())
        .shipped_vm("bench", &[])
        .guest("bench.bin")
}

/// The row that needs two vCPUs.
const PAIR: &str = "ipi-round-trip";

/// Measures that row, with the vCPUs on pCPUs 1 and 2.
fn pair(subject: Subject, measured: &mut Measured) -> Result<(), Failed> {
    let what = "IPIs between two vCPUs";
    let bundle = bundle_of(subject, PAIR);
    let ended = boot_alike(subject, Scope::Full, what, 3, &bundle, &mut measured.unlike)?;
    measured.figures.add(PAIR, figures(&ended)?.value(PAIR));
    Ok(())
}

/// The guest that counts one row alone, on as many vCPUs as that needs.
fn bundle_of(subject: Subject, row: &str) -> Bundle {
    let only = format!("cmdline = \"only={row} ");
    let vcpus = match row {
        PAIR => "cpu_num = 2\nphys_cpu_ids = [1, 2]",
        _ => "phys_cpu_ids = [1]",
    };
    let replace = [("phys_cpu_ids = [1]", vcpus), ("cmdline = \"", &only)];
    Bundle::new(subject.arch())
        .shipped_vm("bench", &replace)
        .guest("bench.bin")
}

/// Measures one of the guest's rows alone, once.
pub(crate) fn one(subject: Subject, row: &str) -> Result<Figures, Failed> {
    let none = || {
        Failed(format!(
            "the guest has no row {row:?}; benches/results/{}.txt lists the rows; those of memory, files and Linux's boot are not the guest's",
            subject.name()
        ))
    };
    // It goes into a config.
    if !row
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    {
        return Err(none());
    }
    let cpus = match row {
        PAIR => 3,
        _ => 2,
    };
    let bundle = bundle_of(subject, row);
    let mut unlike = Vec::new();
    let ended = boot_alike(subject, Scope::Short, row, cpus, &bundle, &mut unlike)?;
    Figures::of_guest(&ended.output).map_err(|_| none())
}

/// Boots a bundle as often as the scope says, and notes in what the runs differ.
fn boot_alike(
    subject: Subject,
    scope: Scope,
    what: &str,
    cpus: usize,
    bundle: &Bundle,
    unlike: &mut Vec<Unlike>,
) -> Result<Ended, Failed> {
    // In Bochs, guests that never halt with interrupts off may halt by themselves.
    // Nor does it deliver virtual interrupts right (scripts/bochs.sh).
    let machine = machine(subject).harts(cpus).bootargs("apicv=registers");
    let runs = match scope {
        Scope::Full => 2,
        Scope::Short => 1,
    };
    let run = |number: usize| {
        progress(subject, &format!("{what}, run {number} of {runs}"));
        well(machine.boot(bundle).end())
    };
    let first = run(1)?;
    for number in 2..=runs {
        unlike.extend(difference(
            subject,
            what,
            &first.serial,
            &run(number)?.serial,
        ));
    }
    Ok(first)
}

/// The machine that counts.
pub(crate) fn machine(subject: Subject) -> Machine {
    let machine = Machine::emulated_by(subject.emulator());
    match subject.emulator() {
        Emulator::Qemu => machine.ram("1G").counted(),
        // It counts instructions as it is, and takes its time.
        Emulator::Bochs => machine.patience(Duration::from_secs(1800)),
    }
}

/// What is shown while it takes its time.
pub(crate) fn progress(subject: Subject, what: &str) {
    eprintln!("bench: {}: {what}", subject.name());
}

/// A run in which nothing went wrong.
pub(crate) fn well(ended: Ended) -> Result<Ended, Failed> {
    match ended.status {
        Some(0) => Ok(ended),
        _ => Err(Failed(format!(
            "the machine ended with status {:?}:\n{}",
            ended.status, ended.output
        ))),
    }
}

fn figures(ended: &Ended) -> Result<Figures, Failed> {
    Figures::of_guest(&ended.output).map_err(|why| Failed(format!("{why}:\n{}", ended.output)))
}

/// The hypervisor's memory in KiB, as it says at boot: its image, what it takes without VMs, and for the VMs besides their RAM.
fn memory(output: &str) -> Option<[u64; 3]> {
    let (_, rest) = output.split_once("memory beside the VMs' RAM: ")?;
    let mut numbers = rest.lines().next()?.split(", ").map(|part| {
        let (number, _) = part.split_once(' ')?;
        number.parse().ok()
    });
    Some([numbers.next()??, numbers.next()??, numbers.next()??])
}

fn image(subject: Subject, figures: &mut Figures) -> Result<(), Failed> {
    let path = subject.arch().image_path();
    let bytes = std::fs::metadata(&path)
        .map_err(|error| Failed(format!("{}: {error}", path.display())))?
        .len();
    figures.add("image-kib", Some(bytes.div_ceil(1024) as f64));
    Ok(())
}

/// Measures KVM with the same guest on the same machine.
pub(crate) fn kvm(subject: Subject) -> Result<Figures, Failed> {
    let run = |machine: Machine| {
        let patient = machine.harts(2).patience(Duration::from_secs(1800));
        figures(&well(patient.boot_peer(&bundle(subject)).end())?)
    };
    progress(subject, "the same guest under KVM");
    let mut kvm = run(machine(subject))?;
    // The guest's counter starts with its vCPU there, not with the machine.
    kvm.add("power-on", None);
    match subject {
        Subject::Svm | Subject::Vmx => {}
        Subject::H => {
            // KVM itself answers for no device on a machine without AIA. With AIA it saves and loads more at every exit: the other rows are
            // those of the plain machine.
            progress(subject, "the same guest under KVM, with AIA");
            let with_aia = run(machine(subject).kind("virt,aia=aplic-imsic,aia-guests=1"))?;
            for row in ["mmio-read", "mmio-write"] {
                kvm.add(row, with_aia.value(row));
            }
        }
    }
    Ok(kvm)
}

#[cfg(test)]
mod tests {
    use system_tests::repository;

    use super::{memory, one, rounded};
    use crate::{Failed, subject::Subject};

    /// Whoever mistypes a row is told where they stand.
    #[test]
    fn a_row_that_is_none_leads_to_the_rows() {
        for subject in [Subject::H, Subject::Svm, Subject::Vmx] {
            let Err(Failed(why)) = one(subject, "mmio read") else {
                panic!("no guest has it");
            };
            let file = why
                .split([' ', ';'])
                .find(|word| word.starts_with("benches/"));
            let table = std::fs::read_to_string(repository(file.unwrap_or(""))).expect(&why);
            assert!(table.contains("\nmmio-read "), "{table}");
        }
    }

    #[test]
    fn the_hypervisors_own_memory() {
        let output = "[axhv] memory beside the VMs' RAM: 1072 KiB of image, \
            153 KiB allocated before them, 95 KiB for them\r\nmore, and more\n";
        assert_eq!(memory(output), Some([1072, 153, 95]));
        assert_eq!(memory("nothing"), None);
    }

    #[test]
    fn ratios_have_four_digits() {
        assert_eq!(rounded(1.004_84), 1.0048);
        assert_eq!(rounded(1.004_85 + 1e-9), 1.0049);
    }
}
