//! The guest's floating-point and vector registers (Intel SDM 1, "Managing State Using the XSAVE Feature Set").
//!
//! The hypervisor is compiled without them, so they stay the guest's in the processor through every exit, with the guest's XCR0; they are
//! saved and loaded only when the pCPU changes vCPU.

use alloc::{boxed::Box, vec};

use crate::{
    cr::{cr0, cr4},
    hardware,
};

/// The state of the x87 FPU, which XCR0 always enables.
pub(crate) const XCR0_ALWAYS: u64 = 1;

/// x87, SSE, AVX, and the three of AVX-512: the states that a guest may have, where the processor has them.
const SHOWN: u64 = 0b1110_0111;

/// The legacy area and the header.
const BASE_SIZE: u32 = 512 + 64;

/// What a guest may set in XCR0; 0 without XSAVE.
pub(crate) fn supported_xcr0() -> u64 {
    const XSAVE: u32 = 1 << 26;
    if hardware::cpuid(1, 0).ecx & XSAVE == 0 {
        return 0;
    }
    let answer = hardware::cpuid(0xd, 0);
    (u64::from(answer.edx) << 32 | u64::from(answer.eax)) & SHOWN
}

/// The bytes of the area for `components`, in the standard format.
pub(crate) fn area_size(components: u64) -> u32 {
    (2..32)
        .filter(|component| components >> component & 1 == 1)
        .map(|component| {
            let answer = hardware::cpuid(0xd, component);
            answer.ebx.saturating_add(answer.eax)
        })
        .fold(BASE_SIZE, u32::max)
}

/// Lets this pCPU run the instructions that save and load the registers: the guest's are in there, so nothing may trap.
pub(crate) fn enable() {
    hardware::write_cr0(hardware::read_cr0() & !(cr0::EM | cr0::TS) | cr0::MP);
    let xsave = if supported_xcr0() == 0 {
        0
    } else {
        cr4::OSXSAVE
    };
    hardware::write_cr4(hardware::read_cr4() | cr4::OSFXSR | cr4::OSXMMEXCPT | xsave);
}

/// 64 bytes, aligned so.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Block([u8; 64]);

const EMPTY: Block = Block([0; 64]);

/// A vCPU's registers, while another's are in the processor.
#[derive(Debug)]
pub(crate) struct ExtendedState {
    area: Box<[Block]>,
    /// The guest's, always.
    xcr0: u64,
    /// What it may be.
    supported: u64,
    pointers: X87Pointers,
}

/// What loading the x87 FPU does to its pointers to the last instruction and operand (FIP, FDP, FOP) where no exception of its is pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum X87Pointers {
    /// They are loaded.
    Loaded,
    /// Nothing: what ran before is seen by what is loaded (AMD's processors without XSaveErPtr, APM vol. 3, CPUID Fn8000_0008_EBX).
    Left,
}

impl X87Pointers {
    /// Intel's processors do not have the bit, and load them; nothing is lost by doing more there.
    fn of_this_cpu() -> Self {
        const ERROR_POINTERS: u32 = 1 << 2;
        let has_leaf = hardware::cpuid(0x8000_0000, 0).eax >= 0x8000_0008;
        if has_leaf && hardware::cpuid(0x8000_0008, 0).ebx & ERROR_POINTERS != 0 {
            Self::Loaded
        } else {
            Self::Left
        }
    }
}

impl ExtendedState {
    /// As at reset.
    pub(crate) fn new() -> Self {
        let supported = supported_xcr0();
        let blocks = area_size(supported).div_ceil(64) as usize;
        let mut new = Self {
            area: vec![EMPTY; blocks].into_boxed_slice(),
            xcr0: XCR0_ALWAYS,
            supported,
            pointers: X87Pointers::of_this_cpu(),
        };
        new.reset();
        new
    }

    /// As at reset.
    pub(crate) fn reset(&mut self) {
        const FCW_AFTER_INIT: [u8; 2] = 0x37f_u16.to_le_bytes();
        const MXCSR_AT_RESET: [u8; 4] = 0x1f80_u32.to_le_bytes();
        self.area.fill(EMPTY);
        self.xcr0 = XCR0_ALWAYS;
        if let Some(legacy) = self.area.first_mut() {
            legacy.0[..2].copy_from_slice(&FCW_AFTER_INIT);
            legacy.0[24..28].copy_from_slice(&MXCSR_AT_RESET);
        }
        // Which of the states are in the area: those two.
        if let Some(header) = self.area.get_mut(8) {
            header.0[0] = 0b11;
        }
    }

    pub(crate) const fn xcr0(&self) -> u64 {
        self.xcr0
    }

    pub(crate) const fn supported(&self) -> u64 {
        self.supported
    }

    /// The guest, whose registers are in the processor, writes a value that [is valid](crate::cr::xcr0_is_valid).
    pub(crate) fn set_xcr0(&mut self, value: u64) {
        self.xcr0 = value;
        hardware::write_xcr0(value);
    }

    /// From the processor to memory.
    pub(crate) fn save(&mut self) {
        let area = self.area.as_mut_ptr().cast();
        if self.supported == 0 {
            // SAFETY: 512 bytes, aligned to 64, exclusively borrowed.
            unsafe { hardware::fxsave(area) };
            return;
        }
        hardware::write_xcr0(self.supported);
        // SAFETY: the area has room for all of `supported`, is aligned to 64, and exclusively borrowed.
        unsafe { hardware::xsave(area, self.supported) };
        hardware::write_xcr0(self.xcr0);
    }

    /// From memory to the processor.
    pub(crate) fn load(&self) {
        match self.pointers {
            X87Pointers::Loaded => {}
            X87Pointers::Left => hardware::forget_x87_pointers(),
        }
        let area = self.area.as_ptr().cast();
        if self.supported == 0 {
            // SAFETY: 512 bytes, aligned to 64, that are as at reset or were saved.
            unsafe { hardware::fxrstor(area) };
            return;
        }
        hardware::write_xcr0(self.supported);
        // SAFETY: the area holds what `reset` or `save` put there, all of it valid.
        unsafe { hardware::xrstor(area, self.supported) };
        hardware::write_xcr0(self.xcr0);
    }
}

#[cfg(test)]
mod tests {
    use super::{ExtendedState, hardware};
    use crate::{machine, testing::power_on};

    #[test]
    fn where_loading_leaves_the_fpus_pointers_they_are_overwritten_first() {
        power_on();
        let leaf = |number, ebx| {
            let answer = hardware::CpuidResult {
                eax: 0x8000_0008,
                ebx,
                ..hardware::CpuidResult::default()
            };
            machine::with(|m| m.cpuid.insert((number, 0), answer));
        };
        leaf(0x8000_0000, 0);
        for (ebx, times) in [(0, 1), (1 << 2, 0)] {
            leaf(0x8000_0008, ebx);
            machine::with(|m| m.pointers_forgotten = 0);
            ExtendedState::new().load();
            assert_eq!(machine::with(|m| m.pointers_forgotten), times);
        }
    }
}
