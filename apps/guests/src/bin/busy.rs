//! A guest that computes without a pause: it never sleeps, and asks the hypervisor for nothing. Options: `ms=`: for how many
//! milliseconds (0 or none: for ever).

#![cfg_attr(target_os = "none", no_std, no_main)]

guests::guest!(run);

#[cfg(target_os = "none")]
fn run(machine: &'static guests::arch::Machine) -> guests::Exit {
    use guests::{Exit, println};

    let millis = match machine.options().number("ms") {
        Ok(millis) => millis.unwrap_or(0),
        Err(error) => {
            println!("busy: {error}");
            return Exit::Failure;
        }
    };
    println!("busy: on {}", machine.name());
    let timer = machine.timer();
    let ticks = match millis {
        0 => u64::MAX,
        _ => timer.ticks_per_second() / 1000 * millis,
    };
    timer.spin(ticks);
    println!("busy: done");
    Exit::Success
}
