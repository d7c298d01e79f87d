//! A guest that computes without a pause: it never sleeps, and asks the hypervisor for nothing. Options: `ms=`: for how many
//! milliseconds (0 or none: for ever); `nap_ns=`: instead it sleeps all the time, for so many nanoseconds at once, so that its timer leaves
//! nobody on its CPU in peace.

#![cfg_attr(target_os = "none", no_std, no_main)]

guests::guest!(run);

#[cfg(target_os = "none")]
fn run(machine: &'static guests::arch::Machine) -> guests::Exit {
    use guests::{Exit, println};

    let options = machine.options();
    let read = || Ok((options.number("ms")?, options.number("nap_ns")?));
    let (millis, nap_ns) = match read() {
        Ok(numbers) => numbers,
        Err::<_, guests::options::BadOption<'_>>(error) => {
            println!("busy: {error}");
            return Exit::Failure;
        }
    };
    println!("busy: on {}", machine.name());
    let timer = machine.timer();
    let ticks = match millis.unwrap_or(0) {
        0 => u64::MAX,
        millis => timer.ticks_per_second() / 1000 * millis,
    };
    match nap_ns {
        None => timer.spin(ticks),
        Some(nap_ns) => {
            let nap = timer.ticks_per_second() * nap_ns / 1_000_000_000;
            let start = timer.now();
            while timer.now() - start < ticks {
                timer.sleep_until(timer.now() + nap);
            }
        }
    }
    println!("busy: done");
    Exit::Success
}
