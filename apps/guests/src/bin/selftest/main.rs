//! x
#![cfg_attr(target_os = "none", no_std, no_main)]
guests::guest!(run);
#[cfg(target_os = "none")]
fn run(_machine: &'static guests::arch::Machine) -> guests::Exit {
    guests::Exit::Failure
}
