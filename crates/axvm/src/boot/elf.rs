//! ELF kernels: each loadable segment goes to its physical address.
//!
//! The program headers stand at the front of the file, so the segments' places are known before
//! their bytes arrive, and a packed file is loaded while it is unpacked.

use alloc::vec::Vec;
use core::{fmt, ops::Range};

use axaddrspace::GuestPhysAddr;
use axvmconfig::Isa;
use elf::{
    abi,
    endian::AnyEndian,
    file::{Class, FileHeader, parse_ident},
    parse::ParsingTable,
    segment::{ProgramHeader, SegmentTable},
};

use super::ram::{PlaceError, RamMap, Thing};

/// More loadable segments than any kernel has; a file with more is damaged.
const MAX_SEGMENTS: usize = 64;
/// More bytes of notes than any kernel has; what is longer is not looked at.
const MAX_NOTES: u64 = 16 << 10;
/// Bytes of `e_ident`, and of the whole file header.
const IDENT_LEN: usize = 16;
const HEADER_LEN_64: usize = 64;
const HEADER_LEN_32: usize = 52;

/// Why an ELF file is not a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElfError {
    /// It breaks the format's rules.
    Malformed,
    /// It is not a little-endian file of the width that this instruction set's kernels have.
    WrongClass(Isa),
    /// It is for another kind of CPU.
    WrongMachine {
        /// What it says (`e_machine`).
        found: u16,
        /// What the machine is.
        machine: Isa,
    },
    /// It has no loadable segment, or too many.
    Segments(usize),
    /// This loadable segment claims more bytes of file than of memory, or bytes that the file has
    /// not.
    BadSegment(usize),
    /// This loadable segment has no place in RAM.
    Place(usize, PlaceError),
    /// The entry point is in no segment.
    EntryOutside(u64),
}

impl fmt::Display for ElfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => write!(f, "malformed ELF file"),
            Self::WrongClass(Isa::Riscv64) => write!(f, "ELF file is not 64-bit little-endian"),
            Self::WrongClass(Isa::X86_64) => write!(f, "ELF file is not little-endian"),
            Self::WrongMachine { found, machine } => {
                let machine = machine.name();
                match isa_of(*found) {
                    Some(isa) => write!(
                        f,
                        "ELF file is for {}, and this machine is {machine}",
                        isa.name()
                    ),
                    None => write!(
                        f,
                        "ELF file is not for {machine} (its e_machine is {found})"
                    ),
                }
            }
            Self::Segments(count) => {
                write!(
                    f,
                    "ELF file has {count} loadable segments, not 1 to {MAX_SEGMENTS}"
                )
            }
            Self::BadSegment(index) => {
                write!(f, "ELF segment {index} claims more bytes than there are")
            }
            Self::Place(index, why) => write!(f, "ELF segment {index}: {why}"),
            Self::EntryOutside(entry) => write!(f, "ELF entry {entry:#x} is in no segment"),
        }
    }
}

/// Whether `file` is an ELF file.
pub(crate) fn is_elf(file: &[u8]) -> bool {
    file.starts_with(&abi::ELFMAGIC)
}

/// Where an ELF file's bytes go.
#[derive(Debug)]
pub(crate) struct ElfPlan {
    /// The physical address of the entry point.
    pub(crate) entry: GuestPhysAddr,
    segments: Vec<Segment>,
    /// Where the file's notes are.
    notes_at: Range<u64>,
    /// As many of them as were seen.
    pub(crate) notes: Vec<u8>,
}

/// One loadable segment.
#[derive(Debug)]
struct Segment {
    file: Range<u64>,
    start: GuestPhysAddr,
}

impl ElfPlan {
    /// The plan for the file that begins with `front`, whose places are taken in `map`.
    pub(crate) fn new(front: &[u8], isa: Isa, map: &mut RamMap<'_>) -> Result<Self, ElfError> {
        let Headers {
            entry,
            loadable,
            notes_at,
        } = parse(front, isa)?;
        let mut segments = Vec::with_capacity(loadable.len());
        let mut entry_at = None;
        for (index, header) in loadable.iter().enumerate() {
            let start = GuestPhysAddr::new(header.p_paddr);
            map.take(Thing::Kernel, start, header.p_memsz)
                .map_err(|why| ElfError::Place(index, why))?;
            let end = header.p_offset.checked_add(header.p_filesz);
            let end = end.filter(|_| header.p_filesz <= header.p_memsz);
            let file = header.p_offset..end.ok_or(ElfError::BadSegment(index))?;
            segments.push(Segment { file, start });
            // The entry is a virtual address, which the kernel's own tables will translate; it
            // starts without them.
            let offset = entry
                .checked_sub(header.p_vaddr)
                .filter(|&at| at < header.p_memsz);
            entry_at = entry_at.or(offset.and_then(|offset| start.checked_add(offset)));
        }
        Ok(Self {
            entry: entry_at.ok_or(ElfError::EntryOutside(entry))?,
            segments,
            notes_at,
            notes: Vec::new(),
        })
    }

    /// Keeps what the bytes at `offset` in the file have of the notes.
    pub(crate) fn keep_notes(&mut self, offset: u64, bytes: &[u8]) {
        let Range { start, end } = self.notes_at;
        let from = start.saturating_sub(offset);
        let to = end.saturating_sub(offset).min(bytes.len() as u64);
        if let Some(part) = bytes.get(from as usize..to as usize) {
            self.notes.extend_from_slice(part);
        }
    }

    /// Which of the bytes at `offset` in the file go where.
    pub(crate) fn pieces<'a>(
        &'a self,
        offset: u64,
        bytes: &'a [u8],
    ) -> impl Iterator<Item = (GuestPhysAddr, &'a [u8])> {
        self.segments.iter().filter_map(move |segment| {
            let from = segment.file.start.max(offset);
            let to = segment
                .file
                .end
                .min(offset.saturating_add(bytes.len() as u64));
            let part = bytes.get((from - offset) as usize..to.checked_sub(offset)? as usize)?;
            Some((segment.start.checked_add(from - segment.file.start)?, part))
        })
    }

    /// Whether the file, which turned out to be `len` bytes long, had all that its segments claim.
    pub(crate) fn check_len(&self, len: u64) -> Result<(), ElfError> {
        match self
            .segments
            .iter()
            .position(|segment| segment.file.end > len)
        {
            Some(index) => Err(ElfError::BadSegment(index)),
            None => Ok(()),
        }
    }
}

/// What the headers of a file say.
struct Headers {
    entry: u64,
    /// The segments that occupy memory.
    loadable: Vec<ProgramHeader>,
    /// Where the first of the notes are; empty if there are none, or too many to be any.
    notes_at: Range<u64>,
}

fn parse(front: &[u8], isa: Isa) -> Result<Headers, ElfError> {
    let malformed = ElfError::Malformed;
    let ident = front.get(..IDENT_LEN).ok_or(malformed)?;
    let ident = parse_ident::<AnyEndian>(ident).map_err(|_| malformed)?;
    let class = ident.1;
    let header_len = match class {
        Class::ELF64 => HEADER_LEN_64,
        Class::ELF32 => HEADER_LEN_32,
    };
    let tail = front.get(IDENT_LEN..header_len).ok_or(malformed)?;
    let header = FileHeader::parse_tail(ident, tail).map_err(|_| malformed)?;
    let wrong_machine = ElfError::WrongMachine {
        found: header.e_machine,
        machine: isa,
    };
    // That it is another instruction set's says more than what of this one's it lacks for that.
    if isa_of(header.e_machine).is_some_and(|found| found != isa) {
        return Err(wrong_machine);
    }
    if ident.0 != AnyEndian::Little || !classes(isa).contains(&class) {
        return Err(ElfError::WrongClass(isa));
    }
    if !machines(isa, class).contains(&header.e_machine) {
        return Err(wrong_machine);
    }
    let table = usize::try_from(header.e_phoff).ok().and_then(|start| {
        let len = usize::from(header.e_phnum).checked_mul(header.e_phentsize.into())?;
        front.get(start..start.checked_add(len)?)
    });
    let table: SegmentTable<'_, AnyEndian> =
        ParsingTable::new(header.endianness, header.class, table.ok_or(malformed)?);
    let loadable = |header: &ProgramHeader| header.p_type == abi::PT_LOAD && header.p_memsz != 0;
    let count = table.iter().filter(loadable).count();
    if !(1..=MAX_SEGMENTS).contains(&count) {
        return Err(ElfError::Segments(count));
    }
    let notes = table.iter().find(|header| header.p_type == abi::PT_NOTE);
    let notes_at = notes
        .filter(|header| header.p_filesz <= MAX_NOTES)
        .and_then(|header| Some(header.p_offset..header.p_offset.checked_add(header.p_filesz)?));
    Ok(Headers {
        entry: header.e_entry,
        loadable: table.iter().filter(loadable).collect(),
        notes_at: notes_at.unwrap_or(0..0),
    })
}

/// The instruction set of a number in an ELF header, if it is one that machines of ours have.
const fn isa_of(e_machine: u16) -> Option<Isa> {
    match e_machine {
        abi::EM_RISCV => Some(Isa::Riscv64),
        abi::EM_386 | abi::EM_X86_64 => Some(Isa::X86_64),
        _ => None,
    }
}

/// How wide the addresses may be in an instruction set's kernels.
const fn classes(isa: Isa) -> &'static [Class] {
    match isa {
        Isa::Riscv64 => &[Class::ELF64],
        Isa::X86_64 => &[Class::ELF64, Class::ELF32],
    }
}

/// The numbers of an instruction set in an ELF header.
const fn machines(isa: Isa, class: Class) -> &'static [u16] {
    match (isa, class) {
        (Isa::Riscv64, _) => &[abi::EM_RISCV],
        (Isa::X86_64, Class::ELF64) => &[abi::EM_X86_64],
        (Isa::X86_64, Class::ELF32) => &[abi::EM_386, abi::EM_X86_64],
    }
}

#[cfg(test)]
mod tests;
