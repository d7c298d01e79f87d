//! A guest that has no peace: its two CPUs touch memory for the first time, both the same pages at once, and it starts again whenever it is
//! told to, while the second CPU goes on touching.
//!
//! It does what the keys say that it reads: `r` resets the machine, `q` switches it off, `t` does what takes a VM down for good. Options:
//! `lazy=ADDRESS` and `pages=NUMBER`: where RAM is that the hypervisor fills on first touch.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(all(target_os = "none", target_arch = "riscv64"))]
#[path = "riscv64.rs"]
mod arch;

#[cfg(all(target_os = "none", target_arch = "x86_64"))]
#[path = "x86_64.rs"]
mod arch;

#[cfg(target_os = "none")]
mod race;

guests::guest!(run);

#[cfg(target_os = "none")]
fn run(machine: &'static guests::arch::Machine) -> guests::Exit {
    use guests::{Exit, println};

    let number = |name| machine.options().number(name).ok().flatten();
    let region = number("lazy").zip(number("pages"));
    if let Some((start, pages)) = region
        && let Err(wrong) = race::run(machine, start as usize, pages as usize)
    {
        println!("restless: {wrong}");
        return Exit::Failure;
    }
    println!("restless: ready");
    loop {
        match key() {
            b'r' => {
                race::go_on();
                arch::reset();
            }
            b't' => arch::fail(),
            b'q' => return Exit::Success,
            _ => {}
        }
    }
}

/// Waits for a key.
#[cfg(target_os = "none")]
fn key() -> u8 {
    use guests::arch::uart;

    /// There is a byte to be read.
    const DATA_READY: u8 = 1;
    while uart::read(uart::LSR) & DATA_READY == 0 {
        core::hint::spin_loop();
    }
    uart::read(0)
}
