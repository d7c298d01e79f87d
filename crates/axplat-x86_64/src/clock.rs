//! This machine's clocks, for the [calibration](crate::calibration).

use raw_cpuid::CpuId;
use x86::io::{inb, inl, outb};

use crate::{
    acpi::fadt::PmTimer,
    calibration::{self, Claims, Rates, Reference, Subjects},
    lapic,
};

/// The TSC.
pub(crate) fn tsc() -> u64 {
    // SAFETY: every x86_64 CPU has it.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Measures TSC and local APIC timer by the ACPI timer, or by the 8254 where there is none. Needs the local APIC on.
pub(crate) fn measure(pm_timer: Option<PmTimer>) -> Option<Rates> {
    let by_pm_timer = pm_timer.and_then(|timer| {
        calibration::measure(
            &mut RunningPmTimer {
                timer,
                last: 0,
                elapsed: 0,
            },
            &mut ThisCpu,
        )
    });
    let measured = by_pm_timer.or_else(|| calibration::measure(&mut Pit, &mut ThisCpu));
    lapic::start_countdown(0);
    calibration::settle(claims(), measured)
}

/// What CPUID claims: of the machine by a hypervisor's leaf 0x4000_0010, of the CPU by its leaf 0x15. The local APIC's timer runs on the
/// crystal that the latter names (Intel SDM volume 3, "APIC Timer").
fn claims() -> Claims {
    const KILO: u64 = 1_000;
    let cpuid = CpuId::new();
    let told = |khz: Option<u32>| khz.map(|khz| u64::from(khz) * KILO).filter(|&hz| hz != 0);
    let hypervisor = cpuid.get_hypervisor_info();
    let (tsc, apic) = hypervisor.map_or((None, None), |info| {
        (told(info.tsc_frequency()), told(info.apic_frequency()))
    });
    let crystal = cpuid.get_tsc_info();
    let (crystal_tsc, crystal_hz) = crystal.map_or((None, None), |info| {
        (
            info.tsc_frequency(),
            Some(u64::from(info.nominal_frequency())),
        )
    });
    Claims {
        tsc_hz: tsc.or(crystal_tsc),
        apic_timer_hz: apic.or(crystal_hz).filter(|&hz| hz != 0),
    }
}

struct ThisCpu;

impl Subjects for ThisCpu {
    fn start(&mut self) {
        lapic::start_countdown(u32::MAX);
    }

    fn tsc(&mut self) -> u64 {
        tsc()
    }

    fn apic_timer(&mut self) -> u64 {
        u64::from(u32::MAX - lapic::countdown())
    }
}

/// The ACPI timer, which runs always.
struct RunningPmTimer {
    timer: PmTimer,
    last: u32,
    elapsed: u64,
}

impl RunningPmTimer {
    fn read(&self) -> u32 {
        // SAFETY: the FADT names the timer there, and reading it changes nothing.
        unsafe { inl(self.timer.port) & self.timer.mask }
    }
}

impl Reference for RunningPmTimer {
    const HZ: u64 = 3_579_545;

    fn start(&mut self) {
        (self.last, self.elapsed) = (self.read(), 0);
    }

    fn elapsed(&mut self) -> Option<u64> {
        let now = self.read();
        self.elapsed += u64::from(now.wrapping_sub(self.last) & self.timer.mask);
        self.last = now;
        Some(self.elapsed)
    }
}

/// Channel 2 of the 8254, counting down once (Intel 8254 data sheet, "Mode 0").
struct Pit;

impl Pit {
    const CHANNEL_2: u16 = 0x42;
    const CONTROL: u16 = 0x43;
    /// Bit 0 is the channel's gate, bit 1 the speaker, bit 5 the channel's output.
    const SYSTEM_PORT: u16 = 0x61;
    const MAX: u16 = u16::MAX;
}

impl Reference for Pit {
    const HZ: u64 = 1_193_182;

    fn start(&mut self) {
        /// Channel 2, low byte then high byte, mode 0.
        const COUNT_ONCE: u8 = 0b1011_0000;
        let [low, high] = Self::MAX.to_le_bytes();
        // SAFETY: these ports are the 8254's and its gate's; nothing else uses channel 2.
        unsafe {
            outb(Self::SYSTEM_PORT, inb(Self::SYSTEM_PORT) & !0b11 | 1);
            outb(Self::CONTROL, COUNT_ONCE);
            outb(Self::CHANNEL_2, low);
            outb(Self::CHANNEL_2, high);
        }
    }

    fn elapsed(&mut self) -> Option<u64> {
        const LATCH: u8 = 0b1000_0000;
        const OUTPUT: u8 = 1 << 5;
        // SAFETY: as above.
        let (ran_out, count) = unsafe {
            outb(Self::CONTROL, LATCH);
            let count = u16::from_le_bytes([inb(Self::CHANNEL_2), inb(Self::CHANNEL_2)]);
            (inb(Self::SYSTEM_PORT) & OUTPUT != 0, count)
        };
        (!ran_out).then_some(u64::from(Self::MAX - count))
    }
}
