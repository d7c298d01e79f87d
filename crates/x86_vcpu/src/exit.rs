//! What happens when the guest exits: what concerns the CPU alone is answered here, and the guest entered again.

use axaddrspace::GuestPhysAddr;
use axvcpu::{AxVCpuExitReason, AxVCpuHal, FailReason, SystemDownKind};

use crate::{
    ExitKind, X86VCpu,
    backend::{ControlAccess, ControlRegister, Direction, Exit, ExitInfo, Instruction},
    cpuid::CpuidState,
    cr::{self, CodeSize, ControlRegisters, cr0, cr4, efer},
    decode::{self, Bytes, CodeMode, Length, MAX_LENGTH, MemoryInstruction, Opcode, opcode},
    device::Pending,
    event::{Exception, Raised, vector},
    msr::{self, MsrKind, OnWrite},
    regs::{Register, SegmentName, dr6, gpr, rflags},
    vcpu::Activity,
    walk::{Access, Paging, Privilege, WalkFailure},
};

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Back to the guest.
    Resume,
    /// Out of the vCPU's loop, for the reason in [`X86VCpu::exit`](X86VCpu).
    Leave,
}

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

/// What a step of an exit's service comes to; `Err`: the guest goes on, or is left, instead.
pub(crate) type Step<T> = Result<T, Next>;

impl<H: AxVCpuHal> X86VCpu<H> {
    /// Serves the exit that the backend has just made.
    pub(crate) fn serve_exit(&mut self) -> Next {
        let info = self.backend.exit();
        if let Some(event) = info.interrupted {
            self.events.interrupted(event);
        }
        self.serve(&info).unwrap_or_else(|next| next)
    }

    fn serve(&mut self, info: &ExitInfo) -> Step<Next> {
        match info.exit {
            Exit::Instruction(instruction) => self.instruction(info, instruction),
            Exit::Msr(Direction::Read) => self.read_msr(info),
            Exit::Msr(Direction::Write) => self.write_msr(info),
            Exit::Io(io) => self.port_access(info, io),
            Exit::Nested(fault) => self.nested_fault(fault),
            Exit::HostInterrupt => {
                self.counters.count(ExitKind::HostInterrupt);
                Ok(self.leave(AxVCpuExitReason::ExternalInterrupt {
                    vector: H::irq_fetch(),
                }))
            }
            Exit::HostNmi => {
                self.counters.count(ExitKind::HostNmi);
                Ok(Next::Resume)
            }
            Exit::InterruptWindow => {
                self.counters.count(ExitKind::InterruptWindow);
                self.window_opened();
                Ok(Next::Resume)
            }
            Exit::NmiWindow => {
                self.counters.count(ExitKind::NmiWindow);
                Ok(Next::Resume)
            }
            Exit::Control(access) => {
                self.counters.count(ExitKind::ControlRegister);
                let length = match info.length {
                    Some(length) => length,
                    None => self.decoded(decode::any_length)?,
                };
                self.control(access, length)
            }
            Exit::ControlInstruction => {
                self.counters.count(ExitKind::ControlRegister);
                let instruction = self.decoded(decode::control_instruction)?;
                self.control(instruction.access, instruction.length)
            }
            Exit::Exception { vector, error_code } => self.exception(vector, error_code),
            Exit::TripleFault => {
                self.counters.count(ExitKind::TripleFault);
                Ok(self.leave(TRIPLE_FAULT))
            }
            Exit::TaskSwitch => {
                Ok(self.fail("the guest switches tasks by hardware, which is not supported"))
            }
            Exit::Refused(what) => Ok(self.fail(what)),
            Exit::Unknown => {
                self.counters.count(ExitKind::Unknown);
                let raw = self.backend.raw_exit();
                Ok(self.leave(AxVCpuExitReason::Unknown(raw)))
            }
        }
    }

    /// Leaves the loop.
    #[inline(always)]
    pub(crate) fn leave(&mut self, why: AxVCpuExitReason) -> Next {
        self.exit = why;
        Next::Leave
    }

    /// The VM cannot go on, for a reason in words.
    #[cold]
    pub(crate) fn fail(&mut self, what: &'static str) -> Next {
        self.counters.count(ExitKind::Unknown);
        let raw = self.backend.raw_exit();
        self.leave(AxVCpuExitReason::FailEntry {
            reason: FailReason { what, raw },
        })
    }

    /// The guest suffers `exception` for the instruction that it is at.
    pub(crate) fn raise(&mut self, exception: Exception) -> Next {
        match self.events.raise(exception) {
            Raised::Queued => Next::Resume,
            Raised::TripleFault => self.leave(TRIPLE_FAULT),
        }
    }

    /// #GP(0).
    pub(crate) fn general_protection(&mut self) -> Next {
        self.raise(Exception::GENERAL_PROTECTION)
    }

    /// An address led nowhere.
    pub(crate) fn walk_failed(&mut self, failure: WalkFailure) -> Next {
        match failure.exception() {
            Some((exception, cr2)) => {
                if let Some(cr2) = cr2 {
                    self.backend.set(Register::Cr2, cr2);
                }
                self.raise(exception)
            }
            None => self.fail("the guest's page tables lie outside of its RAM"),
        }
    }

    /// An intercepted exception goes back to the guest; a machine check is about the machine.
    fn exception(&mut self, vector: u8, error_code: Option<u32>) -> Step<Next> {
        if vector == vector::MACHINE_CHECK {
            return Ok(self.fail("the machine reported a hardware error while the guest ran"));
        }
        self.counters.count(ExitKind::Exception);
        Ok(self.raise(Exception { vector, error_code }))
    }

    fn instruction(&mut self, info: &ExitInfo, instruction: Instruction) -> Step<Next> {
        match instruction {
            Instruction::Cpuid => {
                self.counters.count(ExitKind::Cpuid);
                let length = self.length(info, &[opcode::CPUID])?;
                self.cpuid();
                Ok(self.advance(length))
            }
            Instruction::Hlt => {
                self.counters.count(ExitKind::Hlt);
                let length = self.length(info, &[opcode::HLT])?;
                let next = self.advance(length);
                Ok(self.halt(next))
            }
            Instruction::Hypercall => {
                self.counters.count(ExitKind::Hypercall);
                let length = self.length(info, &[opcode::VMMCALL, opcode::VMCALL])?;
                Ok(self.hypercall(length))
            }
            Instruction::Xsetbv => {
                self.counters.count(ExitKind::Xsetbv);
                let length = self.length(info, &[opcode::XSETBV])?;
                Ok(self.xsetbv(length))
            }
            // Caches are the machine's: they stay.
            Instruction::Invd => self.nothing(info, opcode::INVD),
            Instruction::Wbinvd => self.nothing(info, opcode::WBINVD),
            Instruction::Pause => self.nothing(info, opcode::PAUSE),
            // There are no performance counters.
            Instruction::Rdpmc => {
                self.counters.count(ExitKind::OtherInstruction);
                Ok(self.general_protection())
            }
            Instruction::Absent => {
                self.counters.count(ExitKind::OtherInstruction);
                Ok(self.raise(Exception::UNDEFINED))
            }
        }
    }

    /// An instruction that has no effect here.
    fn nothing(&mut self, info: &ExitInfo, opcode: Opcode) -> Step<Next> {
        self.counters.count(ExitKind::OtherInstruction);
        let length = self.length(info, &[opcode])?;
        Ok(self.advance(length))
    }

    #[inline]
    fn cpuid(&mut self) {
        let [leaf, subleaf] = [gpr::RAX, gpr::RCX].map(|number| self.regs.gpr[number] as u32);
        let answer = self.cpuid.answer(leaf, subleaf, || CpuidState {
            cr4: self.backend.get(Register::Cr4),
            xcr0: self.xsave.xcr0(),
        });
        self.regs.gpr[gpr::RAX] = answer.eax.into();
        self.regs.gpr[gpr::RBX] = answer.ebx.into();
        self.regs.gpr[gpr::RCX] = answer.ecx.into();
        self.regs.gpr[gpr::RDX] = answer.edx.into();
    }

    /// HLT has been completed, with `next` to follow.
    fn halt(&mut self, next: Next) -> Next {
        let takes_interrupts = self.backend.get(Register::Rflags) & rflags::INTERRUPT != 0;
        if next != Next::Resume || self.wakes(takes_interrupts) {
            return next;
        }
        self.activity = Activity::Halted { takes_interrupts };
        self.leave(AxVCpuExitReason::Halt)
    }

    /// VMCALL or VMMCALL: number in RAX, arguments in RBX, RCX, RDX, RSI, RDI, R8. Programs have none: #UD.
    fn hypercall(&mut self, length: u8) -> Next {
        if self.backend.privilege() != 0 {
            return self.raise(Exception::UNDEFINED);
        }
        let [nr, args @ ..] = [
            gpr::RAX,
            gpr::RBX,
            gpr::RCX,
            gpr::RDX,
            gpr::RSI,
            gpr::RDI,
            gpr::R8,
        ]
        .map(|number| self.regs.gpr[number]);
        match self.advance(length) {
            Next::Resume => {
                self.pending = Pending::Hypercall;
                self.leave(AxVCpuExitReason::Hypercall { nr, args })
            }
            Next::Leave => Next::Leave,
        }
    }

    fn xsetbv(&mut self, length: u8) -> Next {
        if self.backend.get(Register::Cr4) & cr4::OSXSAVE == 0 {
            return self.raise(Exception::UNDEFINED);
        }
        let value = self.edx_eax();
        let index = self.regs.gpr[gpr::RCX] as u32;
        if self.backend.privilege() != 0
            || index != 0
            || !cr::xcr0_is_valid(self.xsave.supported(), value)
        {
            return self.general_protection();
        }
        self.xsave.set_xcr0(value);
        self.advance(length)
    }

    fn edx_eax(&self) -> u64 {
        self.regs.gpr[gpr::RDX] << 32 | self.regs.gpr[gpr::RAX] & 0xffff_ffff
    }

    fn read_msr(&mut self, info: &ExitInfo) -> Step<Next> {
        self.counters.count(ExitKind::MsrRead);
        let length = self.length(info, &[opcode::RDMSR])?;
        let number = self.regs.gpr[gpr::RCX] as u32;
        let Some(kind) = msr::kind(number) else {
            return Ok(self.general_protection());
        };
        let value = match kind {
            MsrKind::Device => {
                self.pending = Pending::SystemRegisterRead {
                    rip: self.backend.get(Register::Rip),
                };
                return Ok(self.leave_past(length, AxVCpuExitReason::SysRegRead { addr: number }));
            }
            MsrKind::Address(register) | MsrKind::Plain(register) => self.backend.get(register),
            MsrKind::Efer => self.backend.get(Register::Efer),
            MsrKind::Pat => self.backend.get(Register::Pat),
            MsrKind::FsBase => self.backend.segment(SegmentName::Fs).base,
            MsrKind::GsBase => self.backend.segment(SegmentName::Gs).base,
            MsrKind::Tsc => crate::hardware::read_tsc(),
            MsrKind::TscAux => self.tsc_aux,
            MsrKind::Microcode => crate::hardware::read_msr(msr::number::MICROCODE_REVISION),
            MsrKind::Stored { place, .. } => self.msrs.read(place),
            MsrKind::Constant(value, _) => value,
        };
        self.set_edx_eax(value);
        Ok(self.advance(length))
    }

    /// What RDMSR reads.
    pub(crate) fn set_edx_eax(&mut self, value: u64) {
        self.regs.gpr[gpr::RAX] = value & 0xffff_ffff;
        self.regs.gpr[gpr::RDX] = value >> 32;
    }

    fn write_msr(&mut self, info: &ExitInfo) -> Step<Next> {
        self.counters.count(ExitKind::MsrWrite);
        let length = self.length(info, &[opcode::WRMSR])?;
        let (number, value) = (self.regs.gpr[gpr::RCX] as u32, self.edx_eax());
        let Some(kind) = msr::kind(number) else {
            return Ok(self.general_protection());
        };
        match kind {
            MsrKind::Device => {
                self.pending = Pending::SystemRegisterWrite {
                    rip: self.backend.get(Register::Rip),
                };
                let exit = AxVCpuExitReason::SysRegWrite {
                    addr: number,
                    value,
                };
                Ok(self.leave_past(length, exit))
            }
            _ if self.set_msr(kind, value) => Ok(self.advance(length)),
            _ => Ok(self.general_protection()),
        }
    }

    /// Whether the MSR takes the value.
    fn set_msr(&mut self, kind: MsrKind, value: u64) -> bool {
        match kind {
            MsrKind::Address(register) if self.is_canonical(value) => {
                self.backend.set(register, value);
            }
            MsrKind::Plain(register) => self.backend.set(register, value),
            MsrKind::Pat if msr::is_valid_pat(value) => self.backend.set(Register::Pat, value),
            MsrKind::FsBase if self.is_canonical(value) => self.set_base(SegmentName::Fs, value),
            MsrKind::GsBase if self.is_canonical(value) => self.set_base(SegmentName::Gs, value),
            MsrKind::Efer => {
                let allowed = cr::efer_of(&self.cpuid);
                match cr::write_efer(self.control_registers(), allowed, value) {
                    Ok(efer) => self.backend.set(Register::Efer, efer),
                    Err(_) => return false,
                }
            }
            MsrKind::TscAux if value >> 32 == 0 && self.cpuid.has_tsc_aux() => {
                self.tsc_aux = value;
                self.load_tsc_aux();
            }
            MsrKind::Stored { place, writable } if value & !writable == 0 => {
                self.msrs.write(place, value);
            }
            MsrKind::Tsc | MsrKind::Microcode | MsrKind::Constant(_, OnWrite::Ignore) => {}
            MsrKind::Address(_)
            | MsrKind::Pat
            | MsrKind::FsBase
            | MsrKind::GsBase
            | MsrKind::TscAux
            | MsrKind::Stored { .. }
            | MsrKind::Device
            | MsrKind::Constant(_, OnWrite::Fault) => return false,
        }
        true
    }

    fn set_base(&mut self, name: SegmentName, base: u64) {
        let segment = self.backend.segment(name);
        self.backend
            .set_segment(name, crate::regs::Segment { base, ..segment });
    }

    fn is_canonical(&self, address: u64) -> bool {
        msr::is_canonical(address, self.paging(Privilege::Supervisor).address_bits())
    }

    fn control_registers(&self) -> ControlRegisters {
        ControlRegisters {
            cr0: self.backend.get(Register::Cr0),
            cr3: self.backend.get(Register::Cr3),
            cr4: self.backend.get(Register::Cr4),
            efer: self.backend.get(Register::Efer),
        }
    }

    /// A control register, by an instruction of this length.
    fn control(&mut self, access: ControlAccess, length: u8) -> Step<Next> {
        let now = self.control_registers();
        let next = match access {
            ControlAccess::Read { register, gpr } => {
                let value = match register {
                    ControlRegister::Cr0 => now.cr0,
                    ControlRegister::Cr3 => now.cr3,
                    ControlRegister::Cr4 => now.cr4,
                    ControlRegister::Cr8 => self.local.task_priority().into(),
                };
                self.set_gpr(gpr, value);
                return Ok(self.advance(length));
            }
            ControlAccess::Write { register, gpr } => {
                let value = self.gpr(gpr);
                match register {
                    ControlRegister::Cr0 => cr::write_cr0(now, self.code_size(), value),
                    ControlRegister::Cr3 => Ok(ControlRegisters {
                        // The bit that keeps translations, with PCIDs: they may go all the same.
                        cr3: value & !(1 << 63),
                        ..now
                    }),
                    ControlRegister::Cr4 => {
                        let allowed = cr::cr4_of(|leaf| self.cpuid.feature(leaf));
                        cr::write_cr4(now, allowed, value)
                    }
                    ControlRegister::Cr8 if value < 16 => {
                        self.local.set_task_priority(value as u8);
                        self.backend.set_task_priority(value as u8);
                        return Ok(self.advance(length));
                    }
                    ControlRegister::Cr8 => Err(Exception::GENERAL_PROTECTION),
                }
            }
            ControlAccess::Clts => Ok(ControlRegisters {
                cr0: now.cr0 & !cr0::TS,
                ..now
            }),
            ControlAccess::Lmsw { source } => {
                cr::write_cr0(now, self.code_size(), cr::lmsw(now.cr0, source))
            }
        };
        match next {
            Ok(next) => {
                self.set_control_registers(now, next)?;
                Ok(self.advance(length))
            }
            Err(exception) => Ok(self.raise(exception)),
        }
    }

    fn code_size(&self) -> CodeSize {
        match self.code_mode() {
            CodeMode::Bits64 => CodeSize::Long,
            CodeMode::Bits16 | CodeMode::Bits32 => CodeSize::Legacy,
        }
    }

    /// The guest's control registers become `next`.
    fn set_control_registers(&mut self, now: ControlRegisters, next: ControlRegisters) -> Step<()> {
        if next.is_pae() && next != now {
            let entries = self.read_pdptes(next.cr3)?;
            self.backend.set_pdptes(entries);
        }
        for (register, before, after) in [
            (Register::Cr0, now.cr0, next.cr0),
            (Register::Cr3, now.cr3, next.cr3),
            (Register::Cr4, now.cr4, next.cr4),
            (Register::Efer, now.efer, next.efer),
        ] {
            if before != after {
                self.backend.set(register, after);
            }
        }
        const PAGING0: u64 = cr0::PG | cr0::WP | cr0::PE;
        const PAGING4: u64 =
            cr4::PSE | cr4::PAE | cr4::PGE | cr4::PCIDE | cr4::SMEP | cr4::SMAP | cr4::LA57;
        if (now.cr0 ^ next.cr0) & PAGING0 != 0
            || (now.cr4 ^ next.cr4) & PAGING4 != 0
            || now.cr3 != next.cr3
        {
            self.backend.flush();
        }
        Ok(())
    }

    /// The four entries of PAE paging's root; #GP if one has reserved bits (SDM 3A, "PDPTE Registers").
    fn read_pdptes(&mut self, cr3: u64) -> Step<[u64; 4]> {
        const PRESENT: u64 = 1;
        const RESERVED: u64 = 0xfff0_0000_0000_01e6;
        let mut bytes = [0; 32];
        let at = GuestPhysAddr::new(cr3 & 0xffff_ffe0);
        if !self.memory.read(at, &mut bytes) {
            return Err(self.fail("the guest's page tables lie outside of its RAM"));
        }
        let mut entries = [0; 4];
        for (entry, bytes) in entries.iter_mut().zip(bytes.chunks_exact(8)) {
            *entry = bytes.try_into().map_or(0, u64::from_le_bytes);
        }
        if entries
            .iter()
            .any(|entry| entry & PRESENT != 0 && entry & RESERVED != 0)
        {
            return Err(self.general_protection());
        }
        Ok(entries)
    }

    /// Past the instruction, and out.
    fn leave_past(&mut self, length: u8, exit: AxVCpuExitReason) -> Next {
        match self.advance(length) {
            Next::Resume => self.leave(exit),
            Next::Leave => Next::Leave,
        }
    }

    /// The instruction, of this length, has been completed. A single-stepping guest sees the step.
    #[inline]
    pub(crate) fn advance(&mut self, length: u8) -> Next {
        let rip = self
            .backend
            .get(Register::Rip)
            .wrapping_add(u64::from(length));
        // Only 64-bit code runs above 4 GiB; where it ends there, the hardware says so.
        self.backend.set(Register::Rip, rip);
        self.backend.end_shadow();
        if self.backend.get(Register::Rflags) & rflags::TRAP != 0 {
            let status = self.backend.get(Register::Dr6);
            self.backend.set(Register::Dr6, status | dr6::SINGLE_STEP);
            return self.raise(Exception {
                vector: vector::DEBUG,
                error_code: None,
            });
        }
        Next::Resume
    }

    /// How the guest's addresses are translated, for `privilege`.
    pub(crate) fn paging(&self, privilege: Privilege) -> Paging {
        Paging {
            registers: self.control_registers(),
            rflags: self.backend.get(Register::Rflags),
            privilege,
        }
    }

    /// The guest's present privilege.
    pub(crate) fn privilege(&self) -> Privilege {
        if self.backend.privilege() == 3 {
            Privilege::User
        } else {
            Privilege::Supervisor
        }
    }

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
        match decode::length_of(bytes.as_slice(), mode, opcodes) {
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

/// The processor shut down: a PC resets.
const TRIPLE_FAULT: AxVCpuExitReason = AxVCpuExitReason::SystemDown {
    kind: SystemDownKind::Reset,
};

#[cfg(test)]
mod tests;
