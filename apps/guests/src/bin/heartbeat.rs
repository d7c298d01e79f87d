//! A guest in the manner of an RTOS: it beats by its timer, sleeps in between, and reports how late
//! it was woken at worst. Options: `period_us=`, `report=`, `beats=` (see [`guests::heartbeat`]).

#![cfg_attr(target_os = "none", no_std, no_main)]

guests::guest!(run);

#[cfg(target_os = "none")]
fn run(machine: &'static guests::arch::Machine) -> guests::Exit {
    use guests::heartbeat::{Config, Heartbeat, Next};
    use guests::{Exit, println};

    let config = match Config::new(&machine.options()) {
        Ok(config) => config,
        Err(error) => {
            println!("heartbeat: {error}");
            return Exit::Failure;
        }
    };
    let timer = machine.timer();
    println!(
        "heartbeat: a beat every {} us on {}",
        config.period_us,
        machine.name()
    );

    let mut heart = Heartbeat::new(config, timer.ticks_per_second(), timer.now());
    loop {
        let woken = timer.sleep_until(heart.deadline());
        match heart.beat(woken) {
            Next::Wait => {}
            Next::Report => println!("heartbeat: {}", heart.tally()),
            Next::Stop => {
                println!("heartbeat: done, {}", heart.tally());
                return Exit::Success;
            }
        }
    }
}
