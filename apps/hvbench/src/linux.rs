//! A Linux boot: how long it takes against the same boot without hypervisor, and how often it exits.
//!
//! Both boots have the same kernel, initramfs, options and device tree; without hypervisor the tree has besides what the firmware needs. The
//! kernel's idle waits move either boot by some percent, as the least change of its timing has them fall; so the ratio is that of the means
//! over boots that differ in the length of an option that nobody reads.

use system_tests::{Arch, Bundle, Ended};

use crate::{
    Failed, Subject,
    exits::{self, Exits},
    fdt,
    measure::{difference, machine, progress, well},
};

/// What the boots showed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Linux {
    /// Mean time with hypervisor by mean time without; where the same machine can be booted without.
    pub(crate) ratio: Option<f64>,
    pub(crate) exits: Exits,
}

/// Pairs of boots for the ratio.
const PAIRS: usize = 16;
const CPU: usize = 1;
const RAM: &str = "256M";

/// Boots Linux, with one vCPU alone on pCPU 1.
pub(crate) fn boots(subject: Subject, unlike: &mut Vec<String>) -> Result<Linux, Failed> {
    progress(subject, "Linux, for its exits");
    let first = guest(subject, &options(subject, 0))?;
    progress(subject, "Linux, for its exits, again");
    let again = guest(subject, &options(subject, 0))?;
    unlike.extend(difference("Linux", &first.serial, &again.serial));
    let ratio = match subject {
        Subject::H => Some(ratio(subject)?),
        // The machine without hypervisor has other devices than a VM.
        Subject::Svm | Subject::Vmx => None,
    };
    Ok(Linux {
        ratio,
        exits: exits::of_output(&first.output),
    })
}

/// The kernel's options, with padding of some length.
fn options(subject: Subject, padding: usize) -> String {
    let exact = match subject.arch() {
        Arch::Riscv64 => "",
        // Where the kernel lies is chosen at random otherwise.
        Arch::X86_64 => " nokaslr",
    };
    let padding = "x".repeat(padding);
    format!("console=ttyS0 axhv.run=poweroff{exact} padding={padding}")
}

fn ratio(subject: Subject) -> Result<f64, Failed> {
    let tree = native_tree(subject)?;
    let kernel = subject.arch().guest_path("Image");
    let ramdisk = subject.arch().guest("initramfs.cpio.gz");
    let tree_path = system_tests::repository("target/bench/native.dtb");
    let failed = |error| Failed(format!("{}: {error}", tree_path.display()));
    std::fs::create_dir_all(tree_path.parent().unwrap_or(&tree_path)).map_err(failed)?;
    std::fs::write(&tree_path, tree).map_err(failed)?;

    let mut sums = [0.0; 2];
    for pair in 0..PAIRS {
        let options = options(subject, pair);
        let with = power_down_time(&guest(subject, &options)?)?;
        let tree = tree_path.to_string_lossy();
        let native = machine(subject)
            .harts(CPU)
            .ram(RAM)
            .arguments(["-dtb", &tree, "-append", &options]);
        let without = native.boot_file(subject.arch(), &kernel, &ramdisk).end();
        let without = power_down_time(&well(without)?)?;
        let pair = pair + 1;
        progress(
            subject,
            &format!(
                "Linux, pair {pair} of {PAIRS}: {with} s as a guest, {without} s without hypervisor"
            ),
        );
        sums[0] += with;
        sums[1] += without;
    }
    // More digits than say something would differ between machines that round otherwise.
    Ok((sums[0] / sums[1] * 1e4).round() / 1e4)
}

/// The guest's device tree as it finds it, with what the firmware needs.
fn native_tree(subject: Subject) -> Result<Vec<u8>, Failed> {
    progress(subject, "the guest's device tree");
    let ended = guest(
        subject,
        r#"console=ttyS0 axhv.exec="od -An -v -tx1 /sys/firmware/fdt""#,
    )?;
    let tree = hexadecimal(&ended.output)
        .ok_or_else(|| Failed(format!("the guest shows no device tree:\n{}", ended.output)))?;
    fdt::for_firmware(&tree).ok_or_else(|| Failed("the guest's device tree is malformed".into()))
}

/// The bytes that the guest shows between its first line and its command's status.
fn hexadecimal(output: &str) -> Option<Vec<u8>> {
    let (_, shown) = output.split_once("CPUs online")?;
    let (shown, _) = shown.split_once("AxHV guest: exit status 0")?;
    let byte = |word| u8::from_str_radix(word, 16).ok();
    let mut bytes = Vec::new();
    for line in shown.lines() {
        // The kernel may say something in between.
        let words: Option<Vec<u8>> = line.split_whitespace().map(byte).collect();
        bytes.extend(words.unwrap_or_default());
    }
    (!bytes.is_empty()).then_some(bytes)
}

/// When the kernel switches off, in seconds of its own clock.
fn power_down_time(ended: &Ended) -> Result<f64, Failed> {
    time_of("reboot: Power down", &ended.output)
        .ok_or_else(|| Failed(format!("Linux did not power down:\n{}", ended.output)))
}

fn time_of(message: &str, output: &str) -> Option<f64> {
    let line = output.lines().find(|line| line.contains(message))?;
    let (_, rest) = line.split_once('[')?;
    rest.split_once(']')?.0.trim().parse().ok()
}

/// Boots Linux as a guest with these options.
fn guest(subject: Subject, options: &str) -> Result<Ended, Failed> {
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
    let machine = match subject {
        Subject::H | Subject::Vmx => machine(subject),
        // What the kernel would draw from them differs from run to run.
        Subject::Svm => machine(subject).cpu("EPYC,+svm,+npt,-rdrand,-rdseed"),
    };
    well(machine.harts(CPU + 1).boot(&bundle).end())
}

#[cfg(test)]
mod tests {
    use super::{hexadecimal, options, time_of};
    use crate::Subject;

    #[test]
    fn the_kernels_clock_tells_when_it_powers_down() {
        let output = "[    0.000000] Linux version\r\n[    1.076077] reboot: Power down\r\n\
            [axhv] VM \"linux\" powered off\n";
        assert_eq!(time_of("reboot: Power down", output), Some(1.076077));
        assert_eq!(time_of("reboot: Restarting", output), None);
    }

    #[test]
    fn bytes_are_read_past_the_kernels_lines() {
        let output = "AxHV guest: Linux 6.12, 1 CPUs online\r\n d0 0d fe ed\r\n\
            [    1.0] random: crng init done\r\n 00 7f\r\nAxHV guest: exit status 0\r\n ff\r\n";
        assert_eq!(
            hexadecimal(output),
            Some(vec![0xd0, 0x0d, 0xfe, 0xed, 0, 0x7f])
        );
        assert_eq!(hexadecimal("AxHV guest: exit status 0"), None);
    }

    #[test]
    fn paddings_differ_in_length_only() {
        let [short, long] = [0, 3].map(|padding| options(Subject::H, padding));
        assert_eq!(format!("{short}xxx"), long);
    }
}
