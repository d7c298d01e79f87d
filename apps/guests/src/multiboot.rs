//! What a Multiboot (version 1) loader tells: the command line and where RAM is.
//!
//! Multiboot Specification 0.6.96, "Boot information format".

use crate::memory::Memory;

/// What stands in EAX when a loader has passed an information structure.
pub const LOADER_MAGIC: u32 = 0x2bad_b002;

/// The information structure, in memory `M`.
#[derive(Clone, Copy, Debug)]
pub struct Info<M> {
    memory: M,
    address: u64,
    flags: u32,
}

const HAS_MEMORY: u32 = 1 << 0;
const HAS_COMMAND_LINE: u32 = 1 << 2;
const HAS_MEMORY_MAP: u32 = 1 << 6;

/// Longest command line that is looked at.
const LONGEST_LINE: usize = 4096;
/// Type of a memory map's entry: RAM for free use.
const AVAILABLE: u32 = 1;

impl<'a, M: Memory<'a>> Info<M> {
    /// The structure at `address`, if the loader said that there is one.
    pub fn new(memory: M, magic: u32, address: u32) -> Option<Self> {
        let address = u64::from(address);
        let flags = memory.u32(address)?;
        (magic == LOADER_MAGIC).then_some(Self {
            memory,
            address,
            flags,
        })
    }

    /// The command line; empty if there is none.
    pub fn command_line(&self) -> &'a str {
        self.command_line_bytes()
            .and_then(|bytes| str::from_utf8(bytes).ok())
            .unwrap_or("")
    }

    fn command_line_bytes(&self) -> Option<&'a [u8]> {
        let start = u64::from(self.field(HAS_COMMAND_LINE, 16)?);
        let end = (0..LONGEST_LINE)
            .find(|&len| self.memory.bytes(start + len as u64, 1) == Some(&[0]))?;
        self.memory.bytes(start, end)
    }

    /// Where the RAM ends that begins at 1 MiB.
    pub fn ram_end(&self) -> Option<u64> {
        const MIB: u64 = 1 << 20;
        self.mapped_end(MIB).or_else(|| {
            let kib = self.field(HAS_MEMORY, 8)?;
            Some((1 << 20) + u64::from(kib) * 1024)
        })
    }

    /// Where the RAM ends that `address` is in, as the memory map has it.
    pub fn mapped_end(&self, address: u64) -> Option<u64> {
        let len = u64::from(self.field(HAS_MEMORY_MAP, 44)?);
        let start = u64::from(self.memory.u32(self.address + 48)?);
        let mut entry = start;
        while entry < start + len {
            let base = self.memory.u64(entry + 4)?;
            let end = base.checked_add(self.memory.u64(entry + 12)?)?;
            if self.memory.u32(entry + 20)? == AVAILABLE && (base..end).contains(&address) {
                return Some(end);
            }
            // The size does not count itself.
            entry += u64::from(self.memory.u32(entry)?) + 4;
        }
        None
    }

    /// A field that is there if the flags say so.
    fn field(&self, flag: u32, offset: u64) -> Option<u32> {
        (self.flags & flag != 0).then_some(())?;
        self.memory.u32(self.address + offset)
    }
}

#[cfg(test)]
mod tests {
    use super::{Info, LOADER_MAGIC};
    use crate::memory::Image;

    const START: u32 = 0x9000;

    /// An information structure, with a command line at 0x100 and a memory map at 0x200 of it.
    fn image(flags: u32) -> Vec<u8> {
        let mut bytes = vec![0; 0x300];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, &flags.to_le_bytes());
        put(8, &(127_u32 * 1024).to_le_bytes());
        put(16, &(START + 0x100).to_le_bytes());
        put(44, &48_u32.to_le_bytes());
        put(48, &(START + 0x200).to_le_bytes());
        put(0x100, b"beats=3 native\0");
        for (n, (base, len)) in [(0_u64, 0x9_fc00_u64), (0x10_0000, 0x3ff_0000)]
            .into_iter()
            .enumerate()
        {
            let at = 0x200 + n * 24;
            put(at, &20_u32.to_le_bytes());
            put(at + 4, &base.to_le_bytes());
            put(at + 12, &len.to_le_bytes());
            put(at + 20, &1_u32.to_le_bytes());
        }
        bytes
    }

    fn info(bytes: &[u8]) -> Info<Image<'_>> {
        let start = u64::from(START);
        Info::new(Image { start, bytes }, LOADER_MAGIC, START).unwrap()
    }

    #[test]
    fn what_the_flags_announce_is_read() {
        let bytes = image(0b100_0101);
        assert_eq!(info(&bytes).command_line(), "beats=3 native");
        assert_eq!(info(&bytes).ram_end(), Some(0x40f_0000));
        assert_eq!(info(&bytes).mapped_end(0x8000), Some(0x9_fc00));
        assert_eq!(info(&bytes).mapped_end(0x9_fc00), None);
        let bytes = image(0b1);
        assert_eq!(info(&bytes).command_line(), "");
        assert_eq!(info(&bytes).ram_end(), Some(128 << 20));
        assert_eq!(info(&image(0)).ram_end(), None);
    }

    #[test]
    fn nothing_is_read_for_another_loader() {
        let bytes = image(!0);
        let start = u64::from(START);
        let memory = Image {
            start,
            bytes: &bytes,
        };
        assert!(Info::new(memory, 0, START).is_none());
        assert!(Info::new(memory, LOADER_MAGIC, 0).is_none());
    }
}
