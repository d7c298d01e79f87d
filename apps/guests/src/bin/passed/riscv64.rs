//! The clock of QEMU's `virt`: it tells the time in nanoseconds since 1970, and has an alarm.
//!
//! Options: `alarms=NUMBER` waits for so many alarms; with `again` the guest leaves one unserved, starts its machine again, and finds the
//! clock as it was.

use guests::arch::context::{Context, Interrupts, Regs, interrupt};
use guests::arch::plic::Plic;
use guests::arch::{Machine, csr, sbi};
use guests::{code, println};

/// Registers (Linux, goldfish RTC driver; QEMU, hw/rtc/goldfish_rtc.c).
const TIME_LOW: usize = 0x00;
const TIME_HIGH: usize = 0x04;
const ALARM_LOW: usize = 0x08;
const ALARM_HIGH: usize = 0x0c;
const IRQ_ENABLED: usize = 0x10;
const CLEAR_ALARM: usize = 0x14;
const CLEAR_INTERRUPT: usize = 0x1c;

/// How long an alarm is set ahead.
const AHEAD_NS: u64 = 2_000_000;

struct Clock {
    base: usize,
    source: usize,
    plic: Plic,
}

fn read(address: usize) -> u32 {
    // SAFETY: the addresses are those of devices' registers.
    unsafe { (address as *const u32).read_volatile() }
}

fn write(address: usize, value: u32) {
    // SAFETY: as in `read`.
    unsafe { (address as *mut u32).write_volatile(value) }
}

pub(crate) fn drive(machine: &Machine) -> Result<(), &'static str> {
    let (base, source) = machine
        .device("google,goldfish-rtc")
        .ok_or("the device tree has no clock")?;
    let plic = machine.plic().ok_or("there is no PLIC")?;
    let clock = Clock { base, source, plic };
    let options = machine.options();
    println!("passed: a clock at {base:#x} with interrupt {source}");

    let first = clock.now();
    while clock.now() <= first {}
    println!(
        "passed: it is second {}, and time goes on",
        first / 1_000_000_000
    );

    let alarms = options.number("alarms").map_err(|_| "alarms is a number")?;
    let Some(alarms) = alarms else { return Ok(()) };
    clock.open();
    let is_second_life = options.has("again") && read(base + IRQ_ENABLED) != 0;
    if is_second_life {
        println!("passed: the clock was not reset");
    }
    write(base + IRQ_ENABLED, 1);
    if is_second_life {
        // What was asked for in the former life is there, and nothing stands in its way.
        clock.serve()?;
        println!("passed: the alarm of the former life came");
    }
    for alarm in 1..=alarms {
        clock.set_alarm(AHEAD_NS);
        clock.serve()?;
        println!("passed: alarm {alarm}");
    }
    if options.has("again") && !is_second_life {
        clock.set_alarm(AHEAD_NS);
        clock.wait()?;
        if read(clock.plic.claim()) as usize != source {
            return Err("the claim is another's");
        }
        // Neither the clock nor the PLIC hears of it.
        println!("passed: starting again");
        const COLD_REBOOT: usize = 1;
        sbi::system_reset(COLD_REBOOT, 0);
    }
    // One that nobody waits for: it must not outlive the VM.
    clock.set_alarm(AHEAD_NS);
    Ok(())
}

impl Clock {
    fn now(&self) -> u64 {
        let low = read(self.base + TIME_LOW);
        u64::from(read(self.base + TIME_HIGH)) << 32 | u64::from(low)
    }

    /// Its interrupt, and no other, comes through.
    fn open(&self) {
        write(self.plic.priority(self.source), 1);
        write(
            self.plic.enable() + 4 * (self.source / 32),
            1 << (self.source % 32),
        );
        write(self.plic.threshold(), 0);
        csr::enable_interrupts(csr::EXTERNAL);
    }

    fn set_alarm(&self, ahead_ns: u64) {
        let at = self.now() + ahead_ns;
        write(self.base + ALARM_HIGH, (at >> 32) as u32);
        write(self.base + ALARM_LOW, at as u32);
    }

    /// Waits for the interrupt.
    fn wait(&self) -> Result<(), &'static str> {
        let wait = code!("1: wfi", "j 1b");
        let trap = Context::new(&wait, Regs::ZERO)
            .interrupts(Interrupts::On)
            .run();
        match trap.cause {
            interrupt::EXTERNAL => Ok(()),
            _ => Err("another trap than the alarm's"),
        }
    }

    /// Waits for the interrupt, and serves it.
    fn serve(&self) -> Result<(), &'static str> {
        self.wait()?;
        if read(self.plic.claim()) as usize != self.source {
            return Err("the claim is another's");
        }
        write(self.base + CLEAR_ALARM, 1);
        write(self.base + CLEAR_INTERRUPT, 1);
        write(self.plic.claim(), self.source as u32);
        match read(self.plic.claim()) {
            0 => Ok(()),
            _ => Err("the interrupt comes twice"),
        }
    }
}
