//! The bundle: the one that AxHV takes, of which the first VM runs.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use axvm::ImageSource;
use axvmconfig::{Bundle, Isa, VmConfig};

/// The images of a bundle.
#[derive(Clone, Debug)]
pub struct Images(pub Bundle<'static>);

impl ImageSource for Images {
    fn open(&self, path: &str) -> Option<&[u8]> {
        self.0.file(path)
    }
}

/// The VM of a bundle.
///
/// # Errors
/// The bundle is none, has not exactly one VM, or a wrong config.
pub fn vm(bytes: &'static [u8], isa: Isa) -> Result<(VmConfig, Images), String> {
    let bundle = Bundle::new(bytes).map_err(|why| why.to_string())?;
    let configs: Vec<_> = bundle.configs().collect();
    let [file] = configs[..] else {
        return Err("KVM runs one VM: pack a bundle with one config".to_string());
    };
    let config = VmConfig::parse_bytes(file.path, file.data, isa).map_err(|errors| {
        let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
        lines.join("\n")
    })?;
    if let Some(device) = config.passed.first() {
        return Err(format!("KVM's VM gets no devices of the machine: {device}"));
    }
    Ok((config, Images(bundle)))
}

/// Puts words behind a VM's command line.
pub fn tell(config: &mut VmConfig, words: &str) {
    let line = config.kernel.cmdline.get_or_insert_default();
    if !line.is_empty() {
        line.push(' ');
    }
    line.push_str(words);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A newc archive of these files.
    fn archive(files: &[(&str, &str)]) -> &'static [u8] {
        let mut bytes = Vec::new();
        let ends = [("TRAILER!!!", "")];
        for (name, data) in files.iter().chain(&ends) {
            let (name_len, len) = (name.len() + 1, data.len());
            let zero = "00000000";
            let header = format!(
                "070701{zero}000081a4{zero}{zero}00000001{zero}{len:08x}{zero}{zero}{zero}{zero}{name_len:08x}{zero}"
            );
            bytes.extend_from_slice(header.as_bytes());
            bytes.extend_from_slice(name.as_bytes());
            bytes.push(0);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes.extend_from_slice(data.as_bytes());
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes.leak()
    }

    const CONFIG: &str = "[base]\nid = 1\nname = \"bench\"\nphys_cpu_ids = [1]\n\
        [kernel]\nkernel_path = \"guests/bench.bin\"\nmemory_regions = [[\"8MiB\"]]\n";

    #[test]
    fn a_vm_is_told_who_runs_it() {
        let files = [("vms/bench.toml", CONFIG), ("guests/bench.bin", "code")];
        let (mut config, images) = vm(archive(&files), Isa::X86_64).unwrap();
        assert_eq!(images.open(&config.kernel.path), Some(&b"code"[..]));
        tell(&mut config, "peer=kvm");
        assert_eq!(config.kernel.cmdline.as_deref(), Some("peer=kvm"));
        tell(&mut config, "mmio=1");
        assert_eq!(config.kernel.cmdline.as_deref(), Some("peer=kvm mmio=1"));
    }

    #[test]
    fn what_cannot_run_is_refused_in_words() {
        let refused = |files: &[(&str, &str)]| vm(archive(files), Isa::X86_64).unwrap_err();
        let two = [("vms/a.toml", CONFIG), ("vms/b.toml", CONFIG)];
        for files in [&[][..], &two] {
            assert!(refused(files).contains("one VM"), "{}", refused(files));
        }
        let why = refused(&[("vms/a.toml", "[base]\nid = 1\n")]);
        assert!(why.contains("vms/a.toml"), "{why}");
        assert!(vm(b"nonsense", Isa::X86_64).is_err());
    }
}
