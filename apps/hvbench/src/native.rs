//! What a Linux boot takes against the same boot without hypervisor.
//!
//! Kernel, initramfs and options are the same. On RISC-V the device tree is, too; without hypervisor it has besides what the firmware needs. A PC
//! that is as a VM of ours is QEMU's `microvm`, without PCI and with the same old devices. Two boots are never in step, and what the kernel does by chance moves either by more than the hypervisor does. So what the hypervisor adds is measured on boots
//! without the kernel's tests of its ciphers, which draw keys: pairs of boots, each pair with another length of an option that nobody
//! reads, and from their differences a mean and its standard error. Set against a boot with the tests, which no exit is part of, that is the ratio.

use std::path::{Path, PathBuf};

use system_tests::Machine;

use crate::{
    Failed, Subject, fdt,
    linux::{self, SelfTests, options, power_down_micros},
    measure::{machine, progress, well},
};

/// Pairs of boots without tests, and boots with them.
const PAIRS: usize = 8;
const WHOLE: usize = 4;

/// A mean and its standard error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Estimate {
    pub(crate) mean: f64,
    pub(crate) error: f64,
}

impl Estimate {
    /// Of at least two samples.
    fn of(samples: &[f64]) -> Self {
        let count = samples.len() as f64;
        let mean = samples.iter().sum::<f64>() / count;
        let squares: f64 = samples.iter().map(|sample| (sample - mean).powi(2)).sum();
        Self {
            mean,
            error: (squares / (count - 1.0) / count).sqrt(),
        }
    }
}

/// Microseconds of the kernel's clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Native {
    /// What a boot takes longer with hypervisor.
    pub(crate) longer: Estimate,
    /// A boot without hypervisor.
    pub(crate) boot: Estimate,
}

impl Native {
    /// A boot with hypervisor by one without.
    pub(crate) fn ratio(&self) -> Estimate {
        let boot = self.boot.mean;
        Estimate {
            mean: 1.0 + self.longer.mean / boot,
            error: self.longer.error / boot,
        }
    }

    /// A line for people.
    pub(crate) fn describe(&self) -> String {
        let (longer, ratio) = (self.longer, self.ratio());
        format!(
            "Linux boots {:.0} ± {:.0} us later than without hypervisor ({PAIRS} pairs), where it takes {:.0}: {:.5} ± {:.5}\n",
            longer.mean, longer.error, self.boot.mean, ratio.mean, ratio.error
        )
    }
}

/// Boots Linux with hypervisor and without, if there is such a machine.
pub(crate) fn measure(subject: Subject) -> Result<Option<Native>, Failed> {
    let Some(bare) = Bare::like_guest(subject)? else {
        return Ok(None);
    };
    let mut longer = Vec::new();
    for padding in 0..PAIRS {
        let options = options(subject, SelfTests::Off, padding);
        let with = power_down_micros(&linux::guest(subject, &options)?)?;
        let without = bare.power_down_micros(&options)?;
        progress(
            subject,
            &format!(
                "Linux, pair {} of {PAIRS}: {with} us as a guest, {without} us without hypervisor",
                padding + 1
            ),
        );
        longer.push(with as f64 - without as f64);
    }
    let mut boots = Vec::new();
    for padding in 0..WHOLE {
        let micros = bare.power_down_micros(&options(subject, SelfTests::On, padding))?;
        progress(
            subject,
            &format!(
                "Linux without hypervisor, ciphers tested, {} of {WHOLE}: {micros} us",
                padding + 1
            ),
        );
        boots.push(micros as f64);
    }
    Ok(Some(Native {
        longer: Estimate::of(&longer),
        boot: Estimate::of(&boots),
    }))
}

/// A machine that boots Linux without hypervisor and is like the guest's.
struct Bare {
    subject: Subject,
    machine: Machine,
    kernel: PathBuf,
}

impl Bare {
    fn like_guest(subject: Subject) -> Result<Option<Self>, Failed> {
        let machine = machine(subject).harts(1).ram(linux::RAM);
        let (machine, kernel) = match subject {
            Subject::H => {
                let tree = guests_tree(subject)?;
                let machine = machine.arguments(["-dtb", &tree.to_string_lossy()]);
                (machine, "Image")
            }
            Subject::Svm => {
                let kind =
                    "microvm,acpi=on,pic=on,pit=on,rtc=on,isa-serial=on,auto-kernel-cmdline=off";
                (machine.kind(kind).cpu("EPYC,-svm"), "bzImage")
            }
            // Bochs has but one PC.
            Subject::Vmx => return Ok(None),
        };
        Ok(Some(Self {
            subject,
            machine,
            kernel: subject.arch().guest_path(kernel),
        }))
    }

    fn power_down_micros(&self, options: &str) -> Result<u64, Failed> {
        let arch = self.subject.arch();
        let machine = self.machine.clone().arguments(["-append", options]);
        let ramdisk = arch.guest("initramfs.cpio.gz");
        power_down_micros(&well(
            machine.boot_file(arch, &self.kernel, &ramdisk).end(),
        )?)
    }
}

/// The guest's device tree as it finds it, with what the firmware needs, as a file.
fn guests_tree(subject: Subject) -> Result<PathBuf, Failed> {
    progress(subject, "the guest's device tree");
    let ended = linux::guest(
        subject,
        r#"console=ttyS0 axhv.exec="od -An -v -tx1 /sys/firmware/fdt""#,
    )?;
    let tree = hexadecimal(&ended.output)
        .ok_or_else(|| Failed(format!("the guest shows no device tree:\n{}", ended.output)))?;
    let tree = fdt::for_firmware(&tree)
        .ok_or_else(|| Failed("the guest's device tree is malformed".into()))?;
    let path = system_tests::repository("target/bench/native.dtb");
    let failed = |error| Failed(format!("{}: {error}", path.display()));
    std::fs::create_dir_all(path.parent().unwrap_or(Path::new("."))).map_err(failed)?;
    std::fs::write(&path, tree).map_err(failed)?;
    Ok(path)
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

#[cfg(test)]
mod tests {
    use super::{Estimate, Native, hexadecimal};

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
    fn a_mean_comes_with_its_standard_error() {
        let same = Estimate::of(&[5.0; 3]);
        assert_eq!((same.mean, same.error), (5.0, 0.0));
        // Deviations of 1 each: a variance of 4 / 3, a third of which is by four samples.
        let spread = Estimate::of(&[4.0, 6.0, 4.0, 6.0]);
        assert_eq!(spread.mean, 5.0);
        assert!((spread.error - (1.0_f64 / 3.0).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn the_ratio_has_the_error_of_what_the_hypervisor_adds() {
        let native = Native {
            longer: Estimate {
                mean: 5_000.0,
                error: 100.0,
            },
            boot: Estimate {
                mean: 1_000_000.0,
                error: 9_000.0,
            },
        };
        let ratio = native.ratio();
        assert!((ratio.mean - 1.005).abs() < 1e-12 && (ratio.error - 0.0001).abs() < 1e-12);
        assert_eq!(
            native.describe(),
            "Linux boots 5000 ± 100 us later than without hypervisor (8 pairs), where it takes 1000000: 1.00500 ± 0.00010\n"
        );
    }
}
