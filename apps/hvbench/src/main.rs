//! `hvbench` counts, in emulated instructions, what AxHV costs, and holds it to its budgets: `make bench`.
//!
//! It boots the real image in an emulator that counts instructions as time, with the guest `bench` alone on pCPU 1 and housekeeping idle on pCPU 0,
//! reads the rows that the guest prints, and adds what only the whole machine shows: a Linux boot against the same boot without hypervisor, its
//! exits, sizes. Every run of rows is done twice. What came out goes to `target/bench/`, and with `--accept` to `benches/results/`, which is
//! committed; it lowers budgets, too. A figure above its budget in `benches/budgets.toml` is an error.

#![forbid(unsafe_code)]

mod exits;
mod expectation;
mod fdt;
mod figures;
mod linux;
mod lower;
mod measure;
mod native;
mod record;
mod subject;
mod table;
mod unlike;

use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use crate::{
    expectation::Expectations, figures::Figures, measure::Scope, record::Record, subject::Subject,
};

/// Count what AxHV costs, and hold it to its budgets.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    /// The architecture.
    #[arg(long)]
    arch: subject::ArchName,
    /// The emulator: on x86_64 QEMU has SVM and Bochs VMX.
    #[arg(long, default_value = "qemu")]
    emu: subject::EmulatorName,
    /// Count exits only, once.
    #[arg(long)]
    short: bool,
    /// Run the same guest under a peer too, on the same machine.
    #[arg(long)]
    peer: Option<Peer>,
    /// Measure this row of the guest's alone, once, and hold it to nothing.
    #[arg(long, value_name = "KEY", conflicts_with_all = ["peer", "accept"])]
    row: Option<String>,
    /// Keep the result under benches/results/, to be committed, and lower the budgets that it leaves room in.
    #[arg(long)]
    accept: bool,
}

/// A hypervisor to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Peer {
    /// KVM of Debian's kernel.
    Kvm,
}

/// Why there is no result.
#[derive(Debug)]
struct Failed(String);

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(code) => code,
        Err(Failed(why)) => {
            eprintln!("bench: error: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<ExitCode, Failed> {
    let subject = Subject::new(cli.arch, cli.emu)?;
    let scope = if cli.short { Scope::Short } else { Scope::Full };
    let expectations = Expectations::load(subject)?;
    let committed = Record::load(&record::committed_path(subject))?;

    if let Some(row) = &cli.row {
        let figures = measure::one(subject, row)?;
        let table = table::render(subject, &figures, None, &expectations, committed.as_ref());
        print!("{table}");
        return Ok(ExitCode::SUCCESS);
    }
    let measured = measure::axhv(subject, scope)?;
    let peer = match cli.peer {
        Some(Peer::Kvm) => Some(measure::kvm(subject)?),
        None => None,
    };

    let record = Record::new(subject, &measured);
    let fresh = record::fresh_path(subject, scope);
    record.store(&fresh)?;
    let verdict = expectations.judge(&measured.figures, scope);
    let native = measured.native.as_ref();
    let below = exits::describe(&measured.exits)
        + &native.map_or_else(String::new, |native| native.describe());
    let table = table::render(
        subject,
        &measured.figures,
        peer.as_ref(),
        &expectations,
        committed.as_ref(),
    );
    print!("{table}{below}");
    for unlike in &measured.unlike {
        println!("bench: {unlike}");
    }
    if let Some(line) = expectation::above_goals(&expectations, &measured.figures) {
        println!("bench: {line}");
    }
    println!("bench: written to {}", fresh.display());
    if cli.accept {
        accept(subject, scope, &record, &measured.figures, &below)?;
    }
    if verdict.is_empty() {
        println!("bench: {}: every budget is kept", subject.name());
        return Ok(ExitCode::SUCCESS);
    }
    for line in verdict {
        eprintln!("bench: {}: over budget: {line}", subject.name());
    }
    eprintln!(
        "bench: remedy: find what the change did (docs/performance.md, \"Where the instructions go\"), or raise the budget in \
         benches/budgets.toml and give the reason in the commit"
    );
    Ok(ExitCode::FAILURE)
}

fn accept(
    subject: Subject,
    scope: Scope,
    record: &Record,
    figures: &Figures,
    below: &str,
) -> Result<(), Failed> {
    match scope {
        Scope::Full => {
            let path = record::committed_path(subject);
            record.store(&path)?;
            for line in lower::in_file(subject, figures)? {
                println!("bench: budget lowered: {line}");
            }
            let lowered = Expectations::load(subject)?;
            let table = table::render(subject, figures, None, &lowered, None) + below;
            let to_read = path.with_extension("txt");
            std::fs::write(&to_read, table)
                .map_err(|why| Failed(format!("{}: {why}", to_read.display())))?;
            println!(
                "bench: accepted as {} and {}",
                path.display(),
                to_read.display()
            );
            Ok(())
        }
        Scope::Short => Err(Failed(
            "a short run is no whole result; accept one without SHORT".into(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
