//! A VM: vCPUs, devices and memory, and the loop that serves its exits.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod boot;
mod machine;

pub use boot::{ElfError, GuestRange, GzipError, ImageError, ImageSource, PlaceError, Thing};
pub use machine::{IsaInfo, Machine};
