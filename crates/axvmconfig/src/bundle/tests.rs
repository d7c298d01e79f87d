//! Archives: what was written is read back, and what is no archive is refused, with its place.

use proptest::prelude::*;

use super::{
    Bundle, BundleError, BundleFile, BundleWriter, MAX_ENTRIES, Part, Problem, WriteError,
    config_path, entry_path,
};

/// An entry as other tools write it, made by hand.
fn entry(mode: u32, name: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "070701{:08X}{mode:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}",
        7,
        1000,
        1000,
        1,
        0x6789_abcd,
        data.len(),
        8,
        1,
        0,
        0,
        name.len() + 1,
        0
    )
    .into_bytes();
    assert_eq!(bytes.len(), 110);
    bytes.extend_from_slice(name.as_bytes());
    bytes.push(0);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn trailer() -> Vec<u8> {
    entry(0, "TRAILER!!!", b"")
}

fn written(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = BundleWriter::new();
    for (path, data) in files {
        writer.add(path, data).expect("fits");
    }
    writer.finish()
}

fn problem(bytes: &[u8]) -> BundleError {
    Bundle::new(bytes).expect_err("must be refused")
}

#[test]
fn other_tools_archives_are_read() {
    let archive = [
        entry(0o040_755, ".", b""),
        entry(0o040_755, "./vms", b""),
        entry(0o100_644, "./vms/b.toml", b"bb"),
        entry(0o100_644, "vms/a.toml", b"a"),
        entry(0o100_644, "vms/notes.txt", b"n"),
        entry(0o100_644, "vms/old/c.toml", b"c"),
        entry(0o120_777, "link", b"vms/a.toml"),
        entry(0o100_600, "guests/Image", b"kernel"),
        trailer(),
        vec![0; 300],
    ]
    .concat();
    let bundle = Bundle::new(&archive).expect("valid");
    let files: Vec<_> = bundle.files().map(|file| file.path).collect();
    assert_eq!(
        files,
        [
            "guests/Image",
            "vms/a.toml",
            "vms/b.toml",
            "vms/notes.txt",
            "vms/old/c.toml"
        ]
    );
    let configs: Vec<_> = bundle.configs().collect();
    assert_eq!(
        configs,
        [
            BundleFile {
                path: "vms/a.toml",
                data: b"a"
            },
            BundleFile {
                path: "vms/b.toml",
                data: b"bb"
            }
        ]
    );
    for path in ["guests/Image", "/guests/Image", "./guests/Image"] {
        assert_eq!(bundle.file(path), Some(&b"kernel"[..]));
    }
    assert_eq!(bundle.file("Image"), None);
    assert_eq!(bundle.file("link"), None);
}

#[test]
fn what_is_written_is_read_in_place_at_page_boundaries() {
    let big = vec![0xa5; 10_000];
    let long = "x".repeat(255);
    let archive = written(&[
        ("vms/a.toml", b"a"),
        ("Image", &big),
        (&long, b""),
        ("/r", b"r"),
    ]);
    let bundle = Bundle::new(&archive).expect("valid");
    assert_eq!(bundle.files().count(), 4);
    assert_eq!(bundle.file("Image"), Some(&big[..]));
    assert_eq!(bundle.file("r"), Some(&b"r"[..]));
    for file in bundle.files() {
        let offset = file.data.as_ptr() as usize - archive.as_ptr() as usize;
        assert_eq!(offset % 4096, 0, "{}", file.path);
    }
    assert_eq!(
        archive,
        written(&[
            ("vms/a.toml", b"a"),
            ("Image", &big),
            (&long, b""),
            ("/r", b"r")
        ])
    );
}

#[test]
fn the_writer_refuses_what_cannot_be_read() {
    let mut writer = BundleWriter::new();
    assert_eq!(writer.add("a", b"1"), Ok(()));
    assert_eq!(writer.add("/a", b"2"), Err(WriteError::Duplicate));
    assert_eq!(writer.add("../b", b""), Err(WriteError::Path));
    for number in 1..MAX_ENTRIES {
        assert_eq!(writer.add(&number.to_string(), b""), Ok(()));
    }
    assert_eq!(writer.add("z", b""), Err(WriteError::TooManyEntries));
    let archive = writer.finish();
    assert_eq!(
        Bundle::new(&archive).expect("valid").file("a"),
        Some(&b"1"[..])
    );
}

#[test]
fn paths_have_one_form() {
    assert_eq!(entry_path("a"), Some("a"));
    assert_eq!(entry_path("/a/b"), Some("a/b"));
    assert_eq!(entry_path("././a/b..c"), Some("a/b..c"));
    for path in [
        "",
        "/",
        "./",
        "a//b",
        "a/",
        "..",
        "a/../b",
        "a/./b",
        "a\0",
        "a\n",
        "TRAILER!!!",
    ] {
        assert_eq!(entry_path(path), None, "{path:?}");
    }
    assert_eq!(config_path("configs/vms/x.toml"), "vms/x.toml");
    assert_eq!(config_path("x.toml"), "vms/x.toml");
}

#[test]
fn what_is_no_archive_is_refused_at_its_place() {
    let first = entry(0o100_644, "a", b"data");
    let truncated = Problem::Truncated {
        part: Part::Header,
        needed: 110,
        left: 0,
    };
    assert_eq!(
        problem(b""),
        BundleError {
            offset: 0,
            problem: truncated
        }
    );
    assert_eq!(
        problem(&first),
        BundleError {
            offset: first.len(),
            problem: truncated
        }
    );
    assert_eq!(
        problem(&[0x1f; 200]),
        BundleError {
            offset: 0,
            problem: Problem::Magic
        }
    );

    let twice = [first.clone(), entry(0o100_644, "./a", b""), trailer()].concat();
    assert_eq!(
        problem(&twice),
        BundleError {
            offset: first.len(),
            problem: Problem::Duplicate
        }
    );

    let damaged = |at: usize, byte: u8| {
        let mut archive = [first.clone(), trailer()].concat();
        archive[at] = byte;
        problem(&archive).problem
    };
    assert_eq!(damaged(5, b'2'), Problem::Magic);
    assert_eq!(damaged(6, b'+'), Problem::Field);
    assert_eq!(damaged(109, b' '), Problem::Field);
    assert_eq!(damaged(110, 0xff), Problem::Name);
    assert_eq!(damaged(111, b'x'), Problem::Name);
    // A name length of 0x60000002.
    assert!(matches!(
        damaged(94, b'6'),
        Problem::Truncated {
            part: Part::Name,
            needed: 0x6000_0002,
            ..
        }
    ));
    // A data length of 0xf0000004.
    assert!(matches!(
        damaged(54, b'f'),
        Problem::Truncated {
            part: Part::Data,
            needed: 0xf000_0004,
            ..
        }
    ));
    // A name of no bytes has no end.
    assert_eq!(damaged(101, b'0'), Problem::Name);

    let crowd: Vec<u8> = (0..=MAX_ENTRIES)
        .flat_map(|n| entry(0o100_644, &n.to_string(), b""))
        .collect();
    assert_eq!(problem(&crowd).problem, Problem::TooManyEntries);
}

#[test]
fn an_archive_cut_anywhere_is_truncated() {
    let archive = [
        entry(0o100_644, "a", b"data!"),
        entry(0o040_755, "vms", b""),
        trailer(),
    ]
    .concat();
    let end = archive
        .iter()
        .rposition(|&byte| byte == b'!')
        .expect("the trailer's name")
        + 2;
    for len in 0..archive.len() {
        let result = Bundle::new(&archive[..len]);
        if len < end {
            let error = result.expect_err("not whole");
            assert!(
                matches!(error.problem, Problem::Truncated { .. }),
                "{len}: {error}"
            );
            assert!(error.offset <= len);
            assert!(error.to_string().contains("truncated"));
        } else {
            assert!(result.is_ok(), "{len}");
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_decided(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = Bundle::new(&bytes);
    }

    #[test]
    fn a_damaged_archive_is_decided(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        len in any::<prop::sample::Index>(),
    ) {
        let mut archive = [
            entry(0o100_644, "vms/a.toml", b"id = 1"),
            entry(0o100_644, "Image", &[7; 50]),
            trailer(),
        ]
        .concat();
        for (place, byte) in damage {
            let at = place.index(archive.len());
            archive[at] = byte;
        }
        archive.truncate(len.index(archive.len()) + 1);
        if let Ok(bundle) = Bundle::new(&archive) {
            for file in bundle.files() {
                prop_assert_eq!(bundle.file(file.path), Some(file.data));
            }
        }
    }

    #[test]
    fn what_is_written_is_read(files in prop::collection::btree_map("[a-z]{1,8}(/[a-z.]{1,8}x){0,2}",
        prop::collection::vec(any::<u8>(), 0..5000), 0..8)) {
        let mut writer = BundleWriter::new();
        for (path, data) in &files {
            prop_assert_eq!(writer.add(path, data), Ok(()));
        }
        let archive = writer.finish();
        let bundle = Bundle::new(&archive).expect("valid");
        let read: Vec<_> = bundle.files().map(|file| (file.path, file.data)).collect();
        let expected: Vec<_> =
            files.iter().map(|(path, data)| (path.as_str(), data.as_slice())).collect();
        prop_assert_eq!(read, expected);
    }
}
