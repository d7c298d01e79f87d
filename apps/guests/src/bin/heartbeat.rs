//! A guest in the manner of an RTOS: it beats by its timer, sleeps in between, and reports how late
//! it was woken at worst. Options: `period_us=`, `report=`, `beats=`, `steady=`,
//! `awake` (see [`guests::heartbeat`]).

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

    if config.steady != 0 {
        be_steady(config, timer);
    }
    let mut heart = Heartbeat::new(config, timer.ticks_per_second(), timer.now());
    loop {
        let woken = timer.rest_until(heart.deadline(), config.rest);
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

/// Beats without a word, then says what exits the hypervisor took meanwhile.
#[cfg(target_os = "none")]
fn be_steady(config: guests::heartbeat::Config, timer: guests::arch::Timer) {
    use guests::account::Exits;
    use guests::arch::account;
    use guests::heartbeat::Heartbeat;
    use guests::println;

    /// Until everything has happened that happens once.
    const WARM_UP: u64 = 10;

    if !account::is_there() {
        println!("heartbeat: nobody keeps an account");
        return;
    }
    let mut heart = Heartbeat::new(config, timer.ticks_per_second(), timer.now());
    let mut beat = |beats| {
        for _ in 0..beats {
            let woken = timer.rest_until(heart.deadline(), config.rest);
            let _ = heart.beat(woken);
        }
    };
    beat(WARM_UP);
    let before = Exits::now(account::ask);
    beat(config.steady);
    let since = Exits::now(account::ask).since(&before);
    println!("heartbeat: {} steady beats, exits: {since}", config.steady);
}
