//! The guest's code, read for what the hardware does not say of an instruction: how long it is, and what it does.

use axaddrspace::GuestPhysAddr;
use axvcpu::AxVCpuHal;

use crate::{
    X86VCpu,
    backend::ExitInfo,
    cr::efer,
    decode::{self, Bytes, CodeMode, MAX_LENGTH, MemoryInstruction},
    event::Exception,
    exit::{Next, Step},
    opcode::{Length, Opcode, length_of},
    regs::{Register, SegmentName},
    walk::Access,
};

/// Where the code was found that exited last. The guest's tables may have changed since: what is read there counts only if it is the instruction
/// that the hardware says it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CodePage {
    cr3: u64,
    /// The base of CS, and RIP at the start of the page.
    base: u64,
    rip: u64,
    at: GuestPhysAddr,
}

impl Default for CodePage {
    fn default() -> Self {
        Self {
            cr3: 0,
            base: 0,
            // No page begins there.
            rip: 1,
            at: GuestPhysAddr::new(0),
        }
    }
}

const PAGE_MASK: u64 = 0xfff;

impl<H: AxVCpuHal> X86VCpu<H> {
    /// What mode the guest's code is for.
    pub(crate) fn code_mode(&self) -> CodeMode {
        let rights = self.backend.segment(SegmentName::Cs).rights;
        let long = self.backend.get(Register::Efer) & efer::LMA != 0;
        if long && rights.is_long() {
            CodeMode::Bits64
        } else if rights.is_big() {
            CodeMode::Bits32
        } else {
            CodeMode::Bits16
        }
    }

    /// How long the instruction is that exited, one of `opcodes`.
    #[inline]
    pub(crate) fn length(&mut self, info: &ExitInfo, opcodes: &[Opcode]) -> Step<u8> {
        match info.length {
            Some(length) => Ok(length),
            None => self.length_from_bytes(opcodes),
        }
    }

    fn length_from_bytes(&mut self, opcodes: &[Opcode]) -> Step<u8> {
        if let Some(length) = self.length_without_prefixes(opcodes) {
            return Ok(length);
        }
        let mode = self.code_mode();
        let bytes = self.fetch()?;
        match length_of(bytes.as_slice(), mode, opcodes) {
            Length::Known(length) => Ok(length),
            // The code was changed between the exit and our look at it: let it run.
            Length::Short | Length::Other => Err(Next::Resume),
        }
    }

    /// The same, where the code is in the page that was found last and the instruction has no prefixes.
    #[inline]
    fn length_without_prefixes(&self, opcodes: &[Opcode]) -> Option<u8> {
        let page = &self.code_page;
        let rip = self.backend.get(Register::Rip);
        let at = rip & PAGE_MASK;
        let mut bytes = [0; 4];
        let is_there = page.rip == rip - at
            && page.cr3 == self.backend.get(Register::Cr3)
            && page.base == self.backend.segment(SegmentName::Cs).base
            && at + bytes.len() as u64 <= PAGE_MASK
            && self
                .memory
                .read(GuestPhysAddr::new(page.at.as_u64() | at), &mut bytes);
        let word = u32::from_le_bytes(bytes);
        let found = opcodes.iter().find(|opcode| opcode.begins(word));
        found.filter(|_| is_there).map(|opcode| opcode.length())
    }

    /// The linear address of the guest's next instruction.
    fn instruction_pointer(&self, mode: CodeMode) -> u64 {
        let rip = self.backend.get(Register::Rip);
        match mode {
            CodeMode::Bits64 => rip,
            CodeMode::Bits16 | CodeMode::Bits32 => {
                self.backend.segment(SegmentName::Cs).base.wrapping_add(rip) & 0xffff_ffff
            }
        }
    }

    /// The bytes at the guest's instruction pointer, as far as its pages reach.
    fn fetch(&mut self) -> Step<Bytes> {
        let mut bytes = Bytes::default();
        let ip = self.instruction_pointer(self.code_mode());
        let paging = self.paging(self.privilege());
        while bytes.count < MAX_LENGTH {
            let address = ip.wrapping_add(bytes.count as u64);
            let at = match paging.translate(&*self.memory, address, Access::Execute) {
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
                self.note_code_page(paging.registers.cr3, at);
            }
            bytes.count = end;
        }
        Ok(bytes)
    }

    /// Notes where the page of code is that the guest runs in, if the offsets in it are those of RIP.
    fn note_code_page(&mut self, cr3: u64, at: GuestPhysAddr) {
        let rip = self.backend.get(Register::Rip);
        let offset = rip & PAGE_MASK;
        if at.as_u64() & PAGE_MASK == offset {
            self.code_page = CodePage {
                cr3,
                base: self.backend.segment(SegmentName::Cs).base,
                rip: rip - offset,
                at: at.align_down(PAGE_MASK + 1),
            };
        }
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
        if let Some(found) = self.decoded_before.find(rip, &bytes, mode) {
            return Ok(found);
        }
        let Some(found) = decode::memory_instruction(bytes.as_slice(), mode) else {
            return Err(self.raise(Exception::UNDEFINED));
        };
        self.decoded_before.note(rip, bytes, mode, found);
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
