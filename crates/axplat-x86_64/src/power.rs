//! CPUs come up and the machine goes down.

use core::sync::atomic::{AtomicBool, Ordering};

use axplat::{
    mem::{PhysAddr, phys_to_virt},
    power::PowerIf,
};
use raw_cpuid::CpuId;
use x86::io::{inl, inw, outb, outl, outw};

use crate::{acpi::fadt::PowerOff, boot, console, lapic, machine, paging, timer};

/// Whether [`PowerIf::system_off`] reports success. A panic powers off too, so success has to be said.
static ALL_WELL: AtomicBool = AtomicBool::new(false);

/// From now on, powering off reports success to whoever runs the machine.
pub fn report_success() {
    ALL_WELL.store(true, Ordering::Relaxed);
}

/// Stops before ArceOS is up, with one line that says why.
pub(crate) fn stop(why: &str) -> ! {
    axplat::console_println!("axhv: {why}");
    off()
}

/// QEMU's device that ends it with a status (`-device isa-debug-exit,iobase=0xf4,iosize=4`): a value `v` written becomes the status `2 v + 1`.
/// It cannot be 0, so the statuses are two that QEMU has no other use for.
pub(crate) const DEBUG_EXIT_PORT: u16 = 0xf4;
/// Status 33.
const EXIT_SUCCESS: u32 = 0x10;
/// Status 35.
pub(crate) const EXIT_FAILURE: u32 = 0x11;

/// How long a machine may take to end once it was told to.
const PATIENCE_MILLIS: u64 = 1_000;

/// Powers the machine off: by QEMU's device where there is one, since it carries a status, else by ACPI, else as Bochs knows it, after a
/// line on the console that says the same.
pub(crate) fn off() -> ! {
    axcpu::asm::disable_irqs();
    console::drain();
    end_by_debug_exit();
    axplat::console_println!(
        "axhv: {}",
        match ALL_WELL.load(Ordering::Relaxed) {
            true => "all ended well",
            false => "not all ended well",
        }
    );
    console::drain();
    if let Some(way) = crate::machine::found().and_then(|machine| machine.power_off) {
        end_by_acpi(way);
    }
    end_by_bochs();
    loop {
        axcpu::asm::halt();
    }
}

fn end_by_debug_exit() {
    // Without such a device the bus answers all ones; on hardware nothing is asked.
    let is_emulated = CpuId::new()
        .get_feature_info()
        .is_some_and(|features| features.has_hypervisor());
    // SAFETY: the port is that device's or nobody's, and the write ends the machine.
    unsafe {
        if is_emulated && inl(DEBUG_EXIT_PORT) == 0 {
            let status = match ALL_WELL.load(Ordering::Relaxed) {
                true => EXIT_SUCCESS,
                false => EXIT_FAILURE,
            };
            outl(DEBUG_EXIT_PORT, status);
            // QEMU 10 ends a little after the write: what was printed meanwhile would come out in some runs and not in others.
            timer::spin_for_micros(PATIENCE_MILLIS * 1_000);
        }
    }
}

/// Enters the sleeping state S5 (ACPI 6.5, 7.4.2), from ACPI mode, into which the machine is brought if need be (16.3.1).
fn end_by_acpi(way: PowerOff) {
    const SCI_ENABLE: u16 = 1 << 0;
    const SLEEP_TYPE: u16 = 7 << 10;
    const SLEEP_ENABLE: u16 = 1 << 13;
    let [Some((control, _)), _] = way.control else {
        return;
    };
    // SAFETY: the FADT names these ports, and the writes end the machine.
    unsafe {
        if let (0, Some((port, command))) = (inw(control) & SCI_ENABLE, way.enable) {
            outb(port, command);
            for _ in 0..PATIENCE_MILLIS {
                if inw(control) & SCI_ENABLE != 0 {
                    break;
                }
                timer::spin_for_micros(1_000);
            }
        }
        for (port, sleep_type) in way.control.into_iter().flatten() {
            let rest = inw(port) & !(SLEEP_TYPE | SLEEP_ENABLE);
            outw(
                port,
                rest | u16::from(sleep_type) << 10 & SLEEP_TYPE | SLEEP_ENABLE,
            );
        }
    }
    timer::spin_for_micros(PATIENCE_MILLIS * 1_000);
}

/// Bochs ends when it has read its word at this port, where a PC has nothing.
fn end_by_bochs() {
    const PORT: u16 = 0x8900;
    for byte in *b"Shutdown" {
        // SAFETY: the port is Bochs's or nobody's.
        unsafe { outb(PORT, byte) };
    }
}

/// Where a CPU may begin: a page of RAM below 640 KiB that no module is in.
fn first_page() -> Option<u8> {
    const PAGE: usize = 4096;
    /// The real mode's interrupt table and the BIOS's data are on page 0.
    const PAGES: core::ops::Range<u8> = 1..0xa0;
    let free = machine().ram.without(&machine().reserved);
    PAGES
        .rev()
        .find(|&page| free.contains(usize::from(page) * PAGE, PAGE))
}

/// Starts a CPU (Intel SDM volume 3, "MP Initialization Protocol Algorithm").
fn start(apic_id: u32, page: u8, has_arrived: impl Fn() -> bool) -> bool {
    const AFTER_INIT_MICROS: u64 = 10_000;
    const AFTER_STARTUP_MICROS: u64 = 200;
    /// An emulated CPU may wait for its turn on a host that is busy.
    const PATIENCE_MICROS: u64 = 10_000_000;
    const STEP_MICROS: u64 = 20;
    let wait = |micros: u64| {
        (0..micros / STEP_MICROS).any(|_| {
            timer::spin_for_micros(STEP_MICROS);
            has_arrived()
        })
    };
    lapic::send(apic_id, lapic::Command::Init);
    timer::spin_for_micros(AFTER_INIT_MICROS);
    lapic::send(apic_id, lapic::Command::Startup { page });
    if wait(AFTER_STARTUP_MICROS) {
        return true;
    }
    // Once more, as the protocol has it. A CPU that is already running does not take it.
    lapic::send(apic_id, lapic::Command::Startup { page });
    wait(PATIENCE_MICROS)
}

struct PowerIfImpl;

#[impl_plat_interface]
impl PowerIf for PowerIfImpl {
    /// Starts pCPU `cpu_id` on the stack that ends at `stack_top_paddr`, and waits until it runs: ArceOS would wait for ever.
    fn cpu_boot(cpu_id: usize, stack_top_paddr: usize) {
        let (Some(cpu), Some(page)) = (machine().cpus().get(cpu_id), first_page()) else {
            stop("there is no RAM below 640 KiB for the other CPUs to start in");
        };
        let stack_top = phys_to_virt(PhysAddr::from_usize(stack_top_paddr)).as_usize();
        boot::prepare(cpu_id, paging::root(), stack_top);
        let steps = boot::first_steps();
        let to = phys_to_virt(PhysAddr::from_usize(usize::from(page) << 12)).as_mut_ptr();
        // SAFETY: the page is RAM that is kept from everybody else, mapped, and larger than the few instructions.
        unsafe { to.copy_from_nonoverlapping(steps.as_ptr(), steps.len()) };
        if !start(cpu.apic_id, page, || boot::has_arrived(cpu_id)) {
            axplat::console_println!("axhv: the CPU with APIC id {} does not start", cpu.apic_id);
            off();
        }
    }

    /// Powers the machine off, with a status where somebody waits for one.
    fn system_off() -> ! {
        off()
    }

    /// How many CPUs the MADT has, up to the most that one image serves.
    fn cpu_num() -> usize {
        machine().cpus().len()
    }
}
