//! What the loaders' tests share: RAM made of bytes, and images made by hand.

use alloc::{sync::Arc, vec, vec::Vec};

use axaddrspace::{GuestMemoryError, GuestPhysAddr, LargestLeaf, NestedMode};
use axvmconfig::Isa;

use super::ram::{GuestRam, GuestRange};
use crate::{
    AxVMConfig, Machine, X86Machine,
    testing::{Files, TestConsole, config_of},
};

/// A PC with the kernel `image`, with `text` for the rest of `[kernel]` and what follows.
pub(crate) fn pc_config(
    cpus: usize,
    text: &str,
    images: Files,
    console: Arc<TestConsole>,
) -> AxVMConfig<X86Machine> {
    AxVMConfig {
        vm: config_of(Isa::X86_64, cpus, text),
        machine: Arc::new(Machine {
            timebase_hz: 1_000_000_000,
            nested_mode: NestedMode::Npt(LargestLeaf::Size1G),
            pcpus: 4,
            isa: X86Machine::default(),
        }),
        images: Arc::new(images),
        console,
        host: Arc::new(axdevice::NoHostDevices),
    }
}

/// A file that is written field by field.
pub(crate) struct Draft(pub(crate) Vec<u8>);

impl Draft {
    /// `len` bytes that count up from 1.
    pub(crate) fn counting(len: usize) -> Self {
        Self((1..=len).map(|at| at as u8).collect())
    }

    pub(crate) fn put(mut self, at: usize, bytes: &[u8]) -> Self {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub(crate) fn u16(self, at: usize, value: u16) -> Self {
        self.put(at, &value.to_le_bytes())
    }

    pub(crate) fn u32(self, at: usize, value: u32) -> Self {
        self.put(at, &value.to_le_bytes())
    }

    pub(crate) fn u64(self, at: usize, value: u64) -> Self {
        self.put(at, &value.to_le_bytes())
    }
}

/// The number of `N` bytes at `at`.
pub(crate) fn number<const N: usize>(bytes: &[u8], at: usize) -> u64 {
    let mut wide = [0; 8];
    wide[..N].copy_from_slice(&bytes[at..at + N]);
    u64::from_le_bytes(wide)
}

/// The range `start .. start + size`.
pub(crate) fn range(start: u64, size: u64) -> GuestRange {
    GuestRange::new(GuestPhysAddr::new(start), size).unwrap()
}

/// One region of RAM.
pub(crate) struct TestRam {
    base: u64,
    bytes: Vec<u8>,
}

impl TestRam {
    pub(crate) fn new(base: u64, size: usize) -> Self {
        Self {
            base,
            bytes: vec![0; size],
        }
    }

    /// The `len` bytes at `addr`.
    pub(crate) fn read(&self, addr: u64, len: usize) -> Vec<u8> {
        let at = (addr - self.base) as usize;
        self.bytes[at..at + len].to_vec()
    }

    /// Whether nothing was ever written here but zeros.
    pub(crate) fn is_untouched(&self) -> bool {
        self.bytes.iter().all(|&byte| byte == 0)
    }
}

impl GuestRam for TestRam {
    fn write(&mut self, addr: GuestPhysAddr, bytes: &[u8]) -> Result<(), GuestMemoryError> {
        let at = addr.as_u64().checked_sub(self.base).map(|at| at as usize);
        let room = at.and_then(|at| self.bytes.get_mut(at..at.checked_add(bytes.len())?));
        let len = bytes.len() as u64;
        room.ok_or(GuestMemoryError::NotRam { gpa: addr, len })?
            .copy_from_slice(bytes);
        Ok(())
    }
}

/// `data` as a gzip file.
pub(crate) fn gzip(data: &[u8]) -> Vec<u8> {
    let mut file = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    file.extend(miniz_oxide::deflate::compress_to_vec(data, 6));
    file.extend(crc32(data).to_le_bytes());
    file.extend((data.len() as u32).to_le_bytes());
    file
}

/// The checksum bit by bit, so that the table under test is not its own judge.
fn crc32(data: &[u8]) -> u32 {
    !data.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            if crc & 1 == 1 {
                crc >> 1 ^ 0xedb8_8320
            } else {
                crc >> 1
            }
        })
    })
}

/// A RISC-V Linux Image of `len` bytes with this header; the rest counts up.
pub(crate) fn linux_image(len: usize, text_offset: u64, image_size: u64) -> Vec<u8> {
    let mut image: Vec<u8> = (0..len).map(|at| (at / 3) as u8).collect();
    image[8..16].copy_from_slice(&text_offset.to_le_bytes());
    image[16..24].copy_from_slice(&image_size.to_le_bytes());
    image[24..32].copy_from_slice(&0u64.to_le_bytes());
    image[0x30..0x38].copy_from_slice(b"RISCV\0\0\0");
    image[0x38..0x3c].copy_from_slice(b"RSC\x05");
    image
}

/// One loadable segment of a made-up ELF.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    pub(crate) paddr: u64,
    pub(crate) vaddr: u64,
    pub(crate) filesz: u64,
    pub(crate) memsz: u64,
}

/// A RISC-V ELF64 whose segments hold the bytes 1, 2, 3 …
pub(crate) fn elf(entry: u64, segments: &[Segment]) -> Vec<u8> {
    const EHDR: usize = 64;
    const PHDR: usize = 56;
    let mut file = vec![0; EHDR];
    file[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
    file[16..18].copy_from_slice(&2u16.to_le_bytes());
    file[18..20].copy_from_slice(&243u16.to_le_bytes());
    file[20..24].copy_from_slice(&1u32.to_le_bytes());
    file[24..32].copy_from_slice(&entry.to_le_bytes());
    file[32..40].copy_from_slice(&(EHDR as u64).to_le_bytes());
    file[52..54].copy_from_slice(&(EHDR as u16).to_le_bytes());
    file[54..56].copy_from_slice(&(PHDR as u16).to_le_bytes());
    file[56..58].copy_from_slice(&(segments.len() as u16).to_le_bytes());
    let mut offset = (EHDR + PHDR * segments.len()) as u64;
    for segment in segments {
        file.extend(1u32.to_le_bytes());
        file.extend(7u32.to_le_bytes());
        for field in [
            offset,
            segment.vaddr,
            segment.paddr,
            segment.filesz,
            segment.memsz,
            0x1000u64,
        ] {
            file.extend(field.to_le_bytes());
        }
        // A size that no file has stays a claim.
        offset = offset.wrapping_add(segment.filesz.min(1 << 20));
    }
    for segment in segments {
        file.extend((0..segment.filesz.min(1 << 20)).map(|at| (at + 1) as u8));
    }
    file
}

/// An x86 Linux bzImage: protocol 2.15, one sector of setup code, 16 KiB of kernel that takes 1 MiB,
/// and prefers to be at 16 MiB.
pub(crate) fn bz_image() -> Draft {
    Draft::counting(1024 + (16 << 10))
        .put(0x1f1, &[1])
        .u32(0x1f4, (16 << 10) / 16)
        .u16(0x1fe, 0xaa55)
        .u16(0x200, 0x66eb)
        .put(0x202, b"HdrS")
        .u16(0x206, 0x020f)
        .put(0x211, &[1])
        .u32(0x22c, 0x7fff_ffff)
        .u32(0x230, 2 << 20)
        .put(0x234, &[1])
        .u16(0x236, 0b11)
        .u32(0x238, 2047)
        .u64(0x258, 16 << 20)
        .u32(0x260, 1 << 20)
}

/// An x86 ELF of 32 or 64 bits, at 2 MiB, that is entered at its third byte and has these notes.
pub(crate) fn pc_elf(bits: u32, notes: &[u8], code: &[u8]) -> Vec<u8> {
    const AT: u64 = 2 << 20;
    let wide = bits == 64;
    let (head, entry_len) = if wide { (64, 56) } else { (52, 32) };
    let start = head + 2 * entry_len;
    let mut file = Draft(vec![0; start])
        .put(0, b"\x7fELF")
        .put(4, &[if wide { 2 } else { 1 }, 1, 1])
        .u16(16, 2)
        .u16(18, if wide { 62 } else { 3 })
        .u32(20, 1);
    let segments = [(1, start, code.len()), (4, start + code.len(), notes.len())];
    if wide {
        file = file.u64(24, AT + 2).u64(32, head as u64);
        file = file.u16(54, entry_len as u16).u16(56, 2);
    } else {
        file = file.u32(24, AT as u32 + 2).u32(28, head as u32);
        file = file.u16(42, entry_len as u16).u16(44, 2);
    }
    for (n, (kind, offset, len)) in segments.into_iter().enumerate() {
        let at = head + n * entry_len;
        file = file.u32(at, kind);
        file = if wide {
            [offset as u64, AT, AT, len as u64, len as u64, 1]
                .into_iter()
                .enumerate()
                .fold(file, |file, (n, value)| file.u64(at + 8 + 8 * n, value))
        } else {
            [
                offset as u32,
                AT as u32,
                AT as u32,
                len as u32,
                len as u32,
                7,
                1,
            ]
            .into_iter()
            .enumerate()
            .fold(file, |file, (n, value)| file.u32(at + 4 + 4 * n, value))
        };
    }
    file.0.extend(code);
    file.0.extend(notes);
    file.0
}
