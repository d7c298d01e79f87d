//! The ArceOS platform of AxHV's x86_64 image.

#![no_std]
// On the developer's machine only the parts without hardware are built, for their tests.
#![cfg_attr(not(target_os = "none"), allow(dead_code))]

#[cfg(test)]
extern crate std;

mod acpi;
mod bytes;
mod multiboot;
mod ranges;
