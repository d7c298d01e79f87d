//! What the loaders' tests share: RAM made of bytes, and images made by hand.

use alloc::{vec, vec::Vec};

use axaddrspace::{GuestMemoryError, GuestPhysAddr};

use super::ram::{GuestRam, GuestRange};

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
