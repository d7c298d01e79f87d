//! A guest that says where it is and powers off.

#![cfg_attr(target_os = "none", no_std, no_main)]

guests::guest!(hello);

#[cfg(target_os = "none")]
fn hello(machine: &'static guests::arch::Machine) -> guests::Exit {
    guests::println!("hello from AxHV guest, {}", machine.name());
    guests::println!("{machine}");
    guests::Exit::Success
}
