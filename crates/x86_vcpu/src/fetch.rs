//! The guest's code, read for what the hardware does not say of an instruction: how long it is, and what it does.

use axaddrspace::{GuestPhysAddr, RamPage, RamWord};
use axvcpu::AxVCpuHal;

use crate::{
    backend::VendorVcpu,
    cr::{ControlRegisters, efer},
    decode::{self, Bytes, CodeMode, MAX_LENGTH, MemoryInstruction},
    event::Exception,
    exit::{Next, Step},
    opcode::{Length, Opcode, length_of},
    regs::{Register, SegmentName, SegmentRights},
    vcpu::VCpu,
    walk::{Access, Paging, Privilege},
};

/// The pages of code that exited last: a driver's and its interrupt handler's, say.
#[derive(Debug, Default)]
pub(crate) struct CodePages([Option<CodePage>; PAGES]);

const PAGES: usize = 8;

impl CodePages {
    const fn place(rip: u64) -> usize {
        (rip >> 12 ^ rip >> 15) as usize % PAGES
    }
}

/// A page of code that exited, and how it was found.
///
/// The guest may change its tables at any time. So the instruction that is read here counts only if it is the one that the hardware says it is, or if
/// [the same walk](Walk) leads here still.
#[derive(Debug)]
struct CodePage {
    cr3: u64,
    /// The base of CS, and RIP at the start of the page.
    base: u64,
    rip: u64,
    /// What the code is for, by the rights of CS and by EFER.
    mode: CodeMode,
    cs: SegmentRights,
    page: RamPage,
    walk: Option<Walk>,
}

/// The levels of page tables, and the entries that a walk reads.
const LEVELS: usize = 5;

/// What led to a page: if all of it is as it was, so is where it leads.
#[derive(Debug)]
struct Walk {
    registers: ControlRegisters,
    privilege: Privilege,
    entries: [Option<(RamWord, u64)>; LEVELS],
}

impl Walk {
    #[inline]
    fn is_as_it_was(&self) -> bool {
        // Entries are in order, and those that are not used are the last.
        self.entries
            .iter()
            .map_while(Option::as_ref)
            .all(|(word, value)| word.read() == *value)
    }
}

const PAGE_MASK: u64 = 0xfff;

impl<H: AxVCpuHal, V: VendorVcpu> VCpu<H, V> {
    /// What mode the guest's code is for.
    pub(crate) fn code_mode(&self) -> CodeMode {
        let rights = self.backend.segment_rights(SegmentName::Cs);
        let long = self.backend.get(Register::Efer) & efer::LMA != 0;
        if long && rights.is_long() {
            CodeMode::Bits64
        } else if rights.is_big() {
            CodeMode::Bits32
        } else {
            CodeMode::Bits16
        }
    }

    /// How long the instruction is that exited, one of `opcodes`, where the hardware has not `told`.
    #[inline]
    pub(crate) fn length(&mut self, told: Option<u8>, opcodes: &[Opcode]) -> Step<u8> {
        match told {
            Some(length) => Ok(length),
            None => match self.length_without_prefixes(opcodes) {
                Some(length) => Ok(length),
                None => self.length_from_bytes(opcodes),
            },
        }
    }

    #[cold]
    fn length_from_bytes(&mut self, opcodes: &[Opcode]) -> Step<u8> {
        let mode = self.code_mode();
        let bytes = self.fetch()?;
        match length_of(bytes.as_slice(), mode, opcodes) {
            Length::Known(length) => Ok(length),
            // The code was changed between the exit and our look at it: let it run.
            Length::Short | Length::Other => Err(Next::Resume),
        }
    }

    /// The page that RIP is in, if it was found before, and where.
    #[inline]
    fn code_page(&self) -> Option<(&CodePage, usize)> {
        let rip = self.backend.get(Register::Rip);
        let page = self.code_pages.0[CodePages::place(rip)].as_ref()?;
        let offset = rip & PAGE_MASK;
        let is_there = page.rip == rip - offset
            && page.cr3 == self.backend.get(Register::Cr3)
            && page.base == self.backend.segment_base(SegmentName::Cs);
        is_there.then_some((page, offset as usize))
    }

    /// How long the instruction is, where its page was found before and it has no prefixes.
    ///
    /// The walk is not compared: which instruction it is the hardware has said, and here it stands. The answer is wrong only where the guest has put another
    /// page in this place, under the same CR3, that has the very instruction there behind prefixes without a meaning, while this one still has it without.
    /// The guest then goes on in the midst of its own instruction, as privileged as before. Comparing the walk would cost each exit more than that is worth.
    #[inline]
    fn length_without_prefixes(&self, opcodes: &[Opcode]) -> Option<u8> {
        let (page, offset) = self.code_page()?;
        let word = u32::from_le_bytes(page.page.read(offset)?);
        let found = opcodes.iter().find(|opcode| opcode.begins(word))?;
        Some(found.length())
    }

    /// What the guest's instruction does with memory, if it was decoded before and nothing has changed since its page was found.
    #[inline]
    pub(crate) fn known_instruction(&self) -> Option<&MemoryInstruction> {
        let (page, offset) = self.known_code()?;
        let bytes = page.page.read(offset)?;
        self.decoded_before
            .find(page.rip | offset as u64, bytes, page.mode)
    }

    /// Where RIP is, if nothing has changed since its page was found.
    #[inline]
    fn known_code(&self) -> Option<(&CodePage, usize)> {
        let (page, offset) = self.code_page()?;
        let walk = page.walk.as_ref()?;
        let is_same = walk.registers == self.control_registers()
            && walk.privilege == self.privilege()
            && page.cs == self.backend.segment_rights(SegmentName::Cs)
            && walk.is_as_it_was();
        is_same.then_some((page, offset))
    }

    /// The linear address of the guest's next instruction.
    fn instruction_pointer(&self, mode: CodeMode) -> u64 {
        let rip = self.backend.get(Register::Rip);
        match mode {
            CodeMode::Bits64 => rip,
            CodeMode::Bits16 | CodeMode::Bits32 => {
                self.backend.segment_base(SegmentName::Cs).wrapping_add(rip) & 0xffff_ffff
            }
        }
    }

    /// The bytes at the guest's instruction pointer, as far as its pages reach.
    fn fetch(&mut self) -> Step<Bytes> {
        let known = self.known_code();
        let known = known.and_then(|(page, offset)| page.page.read(offset));
        match known {
            Some(bytes) => Ok(Bytes {
                bytes,
                count: MAX_LENGTH,
            }),
            None => self.fetch_anew(),
        }
    }

    #[cold]
    fn fetch_anew(&mut self) -> Step<Bytes> {
        let mut bytes = Bytes::default();
        let ip = self.instruction_pointer(self.code_mode());
        let paging = self.paging(self.privilege());
        while bytes.count < MAX_LENGTH {
            let address = ip.wrapping_add(bytes.count as u64);
            let mut way = [const { None }; LEVELS];
            let mut places = way.iter_mut();
            let note = |at, word| {
                if let Some(place) = places.next() {
                    *place = Some((at, word));
                }
            };
            let at = match paging.translate_noting(&*self.memory, address, Access::Execute, note) {
                Ok(at) => at,
                // The instruction may end before.
                Err(_) if bytes.count > 0 => break,
                Err(failure) => return Err(self.walk_failed(failure)),
            };
            let in_page = (PAGE_MASK + 1 - (address & PAGE_MASK)) as usize;
            let end = MAX_LENGTH.min(bytes.count + in_page);
            let read = bytes
                .bytes
                .get_mut(bytes.count..end)
                .is_some_and(|place| self.memory.read(at, place));
            if !read {
                if bytes.count > 0 {
                    break;
                }
                return Err(self.fail("the guest's code lies outside of its RAM"));
            }
            if bytes.count == 0 {
                let place = CodePages::place(self.backend.get(Register::Rip));
                self.code_pages.0[place] = self.found_code_page(&paging, at, way);
            }
            bytes.count = end;
        }
        Ok(bytes)
    }

    /// The page of code that the guest runs in, if the offsets in it are those of RIP.
    fn found_code_page(
        &self,
        paging: &Paging,
        at: GuestPhysAddr,
        way: [Option<(GuestPhysAddr, u64)>; LEVELS],
    ) -> Option<CodePage> {
        let rip = self.backend.get(Register::Rip);
        let offset = rip & PAGE_MASK;
        if at.as_u64() & PAGE_MASK != offset {
            return None;
        }
        Some(CodePage {
            cr3: paging.registers.cr3,
            base: self.backend.segment_base(SegmentName::Cs),
            rip: rip - offset,
            mode: self.code_mode(),
            cs: self.backend.segment_rights(SegmentName::Cs),
            page: self.memory.page(at)?,
            walk: self.note_walk(paging, way),
        })
    }

    fn note_walk(
        &self,
        paging: &Paging,
        way: [Option<(GuestPhysAddr, u64)>; LEVELS],
    ) -> Option<Walk> {
        let mut entries = [const { None }; LEVELS];
        for (place, (at, value)) in entries.iter_mut().zip(way.into_iter().flatten()) {
            if !paging.has_long_entries() {
                return None;
            }
            let offset = (at.as_u64() & PAGE_MASK) as usize;
            *place = Some((self.memory.page(at)?.word(offset)?, value));
        }
        Some(Walk {
            registers: paging.registers,
            privilege: paging.privilege,
            entries,
        })
    }

    /// What `decoder` makes of the bytes that the hardware has fetched, if it has.
    #[inline]
    fn decode_fetched<T>(
        &self,
        decoder: impl Fn(&[u8], CodeMode) -> Option<T>,
        mode: CodeMode,
    ) -> Option<T> {
        match self.backend.fetched_bytes() {
            [] => None,
            bytes => decoder(bytes, mode),
        }
    }

    /// What the guest's instruction does with memory: #UD if that is not known.
    pub(crate) fn memory_instruction(&mut self) -> Step<MemoryInstruction> {
        let mode = self.code_mode();
        if let Some(found) = self.decode_fetched(decode::memory_instruction, mode) {
            return Ok(found);
        }
        let rip = self.backend.get(Register::Rip);
        let bytes = self.fetch()?;
        let Some(found) = decode::memory_instruction(bytes.as_slice(), mode) else {
            return Err(self.raise(Exception::UNDEFINED));
        };
        self.decoded_before.note(rip, &bytes, mode, found);
        Ok(found)
    }

    /// What `decoder` makes of the guest's instruction: #UD if nothing.
    pub(crate) fn decoded<T>(&mut self, decoder: impl Fn(&[u8], CodeMode) -> Option<T>) -> Step<T> {
        let mode = self.code_mode();
        if let Some(found) = self.decode_fetched(&decoder, mode) {
            return Ok(found);
        }
        let bytes = self.fetch()?;
        decoder(bytes.as_slice(), mode).ok_or_else(|| self.raise(Exception::UNDEFINED))
    }
}
