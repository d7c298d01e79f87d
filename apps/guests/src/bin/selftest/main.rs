//! A guest that checks from inside whether the machine keeps what its specifications promise.
//!
//! One line for each check, a tally at the end, then power-off, where the machine can be told with
//! the reason "system failure" if a check failed. A check is true of every conforming machine, or is
//! marked as true of a guest only; those are skipped where the machine is known to be none, and with
//! the option `native`. With `only=smp.`, say, only the checks run whose names begin so.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod soon;

#[cfg(all(target_os = "none", target_arch = "riscv64"))]
#[path = "riscv64/mod.rs"]
mod checks;

#[cfg(all(target_os = "none", target_arch = "x86_64"))]
#[path = "x86_64/mod.rs"]
mod checks;

guests::guest!(selftest);

#[cfg(target_os = "none")]
fn selftest(machine: &'static guests::arch::Machine) -> guests::Exit {
    use guests::console::Console;
    use guests::report::{Host, run};
    use guests::{Exit, println};

    println!("selftest: {machine}");
    let host = if machine.options().has("native") {
        Host::Native
    } else {
        machine.host()
    };
    let options = machine.options();
    let only = options.value("only").unwrap_or("");
    let (prepare, out) = (checks::prepare, &mut Console);
    let tally = run(checks::THEMES, machine, host, only, prepare, out);
    println!("selftest: {tally}");
    if tally.failed == 0 {
        Exit::Success
    } else {
        Exit::Failure
    }
}
