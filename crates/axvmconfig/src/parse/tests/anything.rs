//! Whatever comes in: a config, or errors that each point to a line.

use proptest::prelude::*;

use super::*;

/// A config with one of everything, to be damaged.
const RICH: &str = r#"
[base]
id = 7
name = "rich"
cpu_num = 2
phys_cpu_ids = [2, 3]
[kernel]
kernel_path = "guests/Image"
entry_point = 0x8020_0000
ramdisk_path = "initrd"
ramdisk_load_addr = 0x8800_0000
cmdline = "console=ttyS0"
memory_regions = [[0x8000_0000, "256MiB", 7, 0], { gpa = 0x4000_0000, size = 4096, map_type = "lazy" }]
[devices]
virtual = [{ id = "uart0", model = "ns16550", addr = 0x1000_0000, irq = 10 }]
interrupt_mode = "emulated"
"#;

/// Whatever comes in: a config, or errors that each point to a line.
fn assert_decided(text: &str) {
    if let Err(errors) = parse(text) {
        assert!(!errors.is_empty());
        let lines = text.bytes().filter(|&byte| byte == b'\n').count() + 1;
        for error in errors {
            let line = error.line.map_or(1, |line| line as usize);
            assert!((1..=lines).contains(&line), "{error}");
            assert!(!error.message.is_empty());
            assert!(!error.to_string().contains('\n'), "{error}");
        }
    }
}

proptest! {
    #[test]
    fn any_text_is_decided(text in "\\PC*") {
        assert_decided(&text);
    }

    #[test]
    fn any_toml_like_text_is_decided(words in prop::collection::vec(
        prop::sample::select(vec![
            "[", "]", "[[", "]]", "{", "}", "=", ".", ",", "\n", " ", "\"", "'", "#", "-", "0x",
            "base", "kernel", "devices", "id", "memory_regions", "virtual", "gpa", "1", "\"64MiB\"",
            "phys_cpu_ids", "1979-05-27", "1e9", "nan", "true", "é", "\0", "\r",
        ]),
        0..60,
    )) {
        assert_decided(&words.concat());
    }

    #[test]
    fn a_damaged_config_is_decided(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0usize..4), 1..6),
    ) {
        let mut bytes = RICH.as_bytes().to_vec();
        for (place, byte, kind) in cuts {
            if bytes.is_empty() {
                break;
            }
            let at = place.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 => { bytes.remove(at); }
                _ => bytes.truncate(at),
            }
        }
        assert_decided(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn a_renamed_key_is_refused_at_its_line(line in 0usize..16, letter in 0usize..64) {
        let mut lines: Vec<String> = RICH.lines().map(Into::into).collect();
        let line = line % lines.len();
        let Some(equals) = lines[line].find(" =") else { return Ok(()) };
        lines[line].insert(letter % (equals + 1), 'x');
        let errors = parse(&lines.join("\n")).expect_err("no such key");
        let of_line = errors.iter().find(|error| error.line == u32::try_from(line + 1).ok());
        prop_assert!(of_line.is_some_and(|error| error.message.contains("unknown key")));
    }

    #[test]
    fn memory_overlaps_are_found(
        regions in prop::collection::vec((0u64..40, 1u64..6), 1..8),
    ) {
        let list: Vec<_> = regions
            .iter()
            .map(|(page, pages)| format!("[{}, {}]", page * 4096, pages * 4096))
            .collect();
        let text = with("kernel", &format!("memory_regions = [{}]", list.join(", ")));
        let mut owners = [0u32; 64];
        for (page, pages) in &regions {
            for page in *page..page + pages {
                owners[page as usize] += 1;
            }
        }
        let expected = owners.iter().any(|&count| count > 1);
        prop_assert_eq!(parse(&text).is_err(), expected);
    }
}
