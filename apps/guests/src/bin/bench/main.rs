//! A guest that counts, from inside, what a hypervisor costs: one row for each operation that may
//! exit, each the plain instructions in a loop of its own.
//!
//! A row prints `bench: KEY COUNT instructions, N rounds`, or `bench: KEY absent` where the machine
//! lacks what it measures. A count includes the loop, whose own cost is the row `loop`. Under
//! emulation that counts instructions as time, counts are exact; elsewhere a "count" is
//! nanoseconds on RISC-V and ticks of the time stamp counter on x86.
//!
//! Options: `only=KEY` measures one row alone; `lazy=ADDRESS` (decimal) says where 1 MiB of RAM is
//! that the hypervisor fills on first touch; on RISC-V, `mmio=ADDRESS` says where a register is that the
//! hypervisor answers for, if not in the PLIC.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(all(target_os = "none", target_arch = "riscv64"))]
#[path = "riscv64/mod.rs"]
mod rows;

#[cfg(all(target_os = "none", target_arch = "x86_64"))]
#[path = "x86_64/mod.rs"]
mod rows;

guests::guest!(bench);

#[cfg(target_os = "none")]
fn bench(machine: &'static guests::arch::Machine) -> guests::Exit {
    use guests::{Exit, println};

    println!("bench: begin on {machine}");
    let only = machine.options().value("only");
    for row in rows::ROWS {
        if only.is_none_or(|only| only == row.key()) {
            settle(machine);
            println!("{}", row.run(machine));
        }
    }
    println!("bench: end");
    Exit::Success
}

/// Sleeps until whoever shows what was printed, on another CPU perhaps, has done so.
#[cfg(target_os = "none")]
fn settle(machine: &guests::arch::Machine) {
    let timer = machine.timer();
    timer.sleep_until(timer.now() + timer.ticks_per_second() / 50);
    timer.set(u64::MAX);
}
