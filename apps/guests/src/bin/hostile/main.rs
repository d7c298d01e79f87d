//! A guest that means harm, to its neighbours or to its host. The option `attack=` says what it does:
//!
//! - `reset`: it starts its machine again at once, and again. With `lazy=ADDRESS` it first touches a page there, which is RAM that the
//!   hypervisor fills on first touch.
//! - `flood`: it writes to its console as fast as that takes it, and never stops.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(all(target_os = "none", target_arch = "riscv64"))]
#[path = "riscv64.rs"]
mod arch;

#[cfg(all(target_os = "none", target_arch = "x86_64"))]
#[path = "x86_64.rs"]
mod arch;

guests::guest!(run);

#[cfg(target_os = "none")]
fn run(machine: &'static guests::arch::Machine) -> guests::Exit {
    use guests::{Exit, println};

    let options = machine.options();
    match options.value("attack") {
        Some("reset") => {
            match options.number("lazy") {
                Ok(Some(addr)) => touch(addr as usize),
                Ok(None) => {}
                Err(error) => {
                    println!("hostile: {error}");
                    return Exit::Failure;
                }
            }
            arch::reset()
        }
        Some("flood") => {
            let line = *b"All work and no play makes a console a dull boy.\r\n";
            let text: [u8; 4000] = core::array::from_fn(|at| line[at % line.len()]);
            loop {
                arch::write(&text);
            }
        }
        Some(_) | None => {
            println!("hostile: attack=reset or attack=flood");
            Exit::Failure
        }
    }
}

#[cfg(target_os = "none")]
fn touch(addr: usize) {
    // SAFETY: whoever configured the VM says that there is RAM, which nobody else uses; it is mapped to itself.
    unsafe { (addr as *mut u64).write_volatile(1) }
}
