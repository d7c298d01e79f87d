//! Linux boots: how often a guest exits in one, what of its time that takes, and how a boot is made to be the same twice.

use system_tests::{Arch, Bundle, Ended};

use crate::{
    Failed, Subject,
    exits::{self, Exits},
    measure::{machine, progress, well},
    unlike::{Unlike, difference},
};

/// What the boots showed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Linux {
    pub(crate) exits: Exits,
    /// Time in the guest and in the hypervisor by time in the guest, as the hypervisor accounts for it.
    pub(crate) account: Option<f64>,
}

/// pCPU 0 keeps house, and this one has the vCPU.
const PCPUS: usize = 2;
/// Of the guest, and of the machine that Linux has without hypervisor.
pub(crate) const RAM: &str = "256M";

/// Whether the kernel tests its ciphers at boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SelfTests {
    /// As Debian has it. The tests draw keys at random, from a pool that every interrupt's time goes into: the work depends on the keys, and
    /// the least change of timing moves the boot by up to 3 % either way.
    On,
    /// So that boots have the same work to do.
    Off,
}

/// Boots Linux, with one vCPU alone on pCPU 1.
pub(crate) fn boots(subject: Subject, unlike: &mut Vec<Unlike>) -> Result<Linux, Failed> {
    progress(subject, "Linux, for its exits, run 1 of 2");
    let options = options(subject, SelfTests::On, 0);
    let first = guest(subject, &options)?;
    progress(subject, "Linux, for its exits, run 2 of 2");
    let again = guest(subject, &options)?;
    unlike.extend(difference(subject, "Linux", &first.serial, &again.serial));
    Ok(Linux {
        exits: exits::of_output(&first.output),
        account: exits::time_by_guest_time(&first.output),
    })
}

/// The kernel's options, with padding of some length, which nobody reads.
pub(crate) fn options(subject: Subject, tests: SelfTests, padding: usize) -> String {
    let exact = match subject.arch() {
        Arch::Riscv64 => "",
        // The kernel's place is drawn at random otherwise; and both emulators answer RDRAND with what differs from run to run.
        Arch::X86_64 => " nokaslr clearcpuid=rdrand,rdseed",
    };
    let tests = match tests {
        SelfTests::On => "",
        SelfTests::Off => " cryptomgr.notests=1",
    };
    let padding = "x".repeat(padding);
    format!("console=ttyS0 axhv.run=poweroff{exact}{tests} padding={padding}")
}

/// When the kernel switches off, in microseconds of its own clock.
pub(crate) fn power_down_micros(ended: &Ended) -> Result<u64, Failed> {
    micros_of("reboot: Power down", &ended.output)
        .ok_or_else(|| Failed(format!("Linux did not power down:\n{}", ended.output)))
}

fn micros_of(message: &str, output: &str) -> Option<u64> {
    let line = output.lines().find(|line| line.contains(message))?;
    let (_, rest) = line.split_once('[')?;
    let (seconds, micros) = rest.split_once(']')?.0.trim().split_once('.')?;
    // The kernel prints six digits.
    let micros = (micros.len() == 6).then_some(micros)?;
    Some(seconds.parse::<u64>().ok()? * 1_000_000 + micros.parse::<u64>().ok()?)
}

/// Boots Linux as a guest with these options.
pub(crate) fn guest(subject: Subject, options: &str) -> Result<Ended, Failed> {
    let arch = subject.arch().name();
    let kernel = match subject.arch() {
        Arch::Riscv64 => "Image",
        Arch::X86_64 => "bzImage",
    };
    let config = format!(
        "[base]\nid = 1\nname = \"linux\"\nphys_cpu_ids = [1]\n\n[kernel]\n\
         kernel_path = \"guests/{arch}/{kernel}\"\nramdisk_path = \"guests/{arch}/initramfs.cpio.gz\"\n\
         cmdline = '{options}'\nmemory_regions = [[\"{RAM}iB\"]]\n"
    );
    let bundle = Bundle::new(subject.arch())
        .vm("linux", &config)
        .guest(kernel)
        .guest("initramfs.cpio.gz");
    well(machine(subject).harts(PCPUS).boot(&bundle).end())
}

#[cfg(test)]
mod tests {
    use super::{SelfTests, micros_of, options};
    use crate::Subject;

    #[test]
    fn the_kernels_clock_tells_when_it_powers_down() {
        let output = "[    0.000000] Linux version\r\n[    1.076077] reboot: Power down\r\n\
            [axhv] VM \"linux\" powered off\n[   12.5] reboot: Later\n";
        assert_eq!(micros_of("reboot: Power down", output), Some(1_076_077));
        assert_eq!(micros_of("reboot: Restarting", output), None);
        assert_eq!(micros_of("reboot: Later", output), None);
    }

    #[test]
    fn paddings_differ_in_length_only() {
        let [short, long] = [0, 3].map(|padding| options(Subject::H, SelfTests::On, padding));
        assert_eq!(format!("{short}xxx"), long);
    }

    #[test]
    fn boots_with_and_without_tests_differ_in_that_alone() {
        let [on, off] =
            [SelfTests::On, SelfTests::Off].map(|tests| options(Subject::Svm, tests, 0));
        assert_eq!(off.replace(" cryptomgr.notests=1", ""), on);
    }
}
