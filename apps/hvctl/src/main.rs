//! `hvctl`, the companion of AxHV on the developer's machine.
//!
//! It does before the boot what the hypervisor does at boot, with the same code: `check` applies the rules
//! of `axvmconfig` to VM configs, `pack` puts configs and images into a bundle, `list` shows what is in one.

#![forbid(unsafe_code)]

mod check;
mod list;
mod pack;
mod report;

use std::{path::PathBuf, process::ExitCode};

use axvmconfig::{Isa, MachineLimits, SizeError, parse_size};
use clap::{Args, Parser, Subcommand};

/// The companion of AxHV on the developer's machine.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say what is wrong with VM configs, each by itself and all together.
    Check {
        #[command(flatten)]
        machine: Machine,
        /// VM configs.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Put VM configs and the images that they name into a bundle.
    Pack {
        #[command(flatten)]
        machine: Machine,
        #[command(flatten)]
        options: pack::Options,
        /// VM configs.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Show what is in a bundle.
    List {
        /// The bundle.
        bundle: PathBuf,
    },
}

/// `max-cpu-num` of the platforms in `configs/platforms`.
const MOST_PCPUS: u16 = 8;

/// The machine that the VMs are for.
#[derive(Debug, Args)]
struct Machine {
    /// The machine's architecture, which a config does not name.
    #[arg(long, value_parser = parse_isa, value_name = "riscv64|x86_64")]
    isa: Isa,
    /// How many pCPUs the machine has; by default, as many as an image serves.
    #[arg(long, value_name = "N", default_value_t = MOST_PCPUS, value_parser = clap::value_parser!(u16).range(1..=64))]
    pcpus: u16,
    /// How much memory all VMs together may have, like 1GiB; by default, any amount.
    #[arg(long, value_name = "SIZE", value_parser = parse_ram)]
    ram: Option<u64>,
}

fn parse_isa(name: &str) -> Result<Isa, String> {
    Isa::ALL
        .into_iter()
        .find(|isa| isa.name() == name)
        .ok_or_else(|| {
            let names: Vec<_> = Isa::ALL.iter().map(|isa| isa.name()).collect();
            format!("must be one of {}", names.join(", "))
        })
}

fn parse_ram(text: &str) -> Result<u64, String> {
    parse_size(text).map_err(|error| match error {
        SizeError::Malformed => {
            "must be a whole number with KiB, MiB, GiB or TiB, like 256MiB".into()
        }
        SizeError::TooLarge => error.to_string(),
    })
}

impl Machine {
    fn limits(&self) -> MachineLimits {
        MachineLimits {
            pcpus: usize::from(self.pcpus),
            ram_bytes: self.ram.unwrap_or(u64::MAX),
            guest_phys_bits: self.isa.guest_map().min_phys_bits,
            devices: None,
        }
    }
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Check { machine, files } => check::run(&machine, &files),
        Command::Pack {
            machine,
            options,
            files,
        } => pack::run(&machine, &options, &files),
        Command::List { bundle } => list::run(&bundle),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(report::Failed) => ExitCode::FAILURE,
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
