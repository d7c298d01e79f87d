//! One UART for all VMs.
//!
//! A VM writes into its own [`VmPort`] and never waits for another VM or for the UART. The host's housekeeping alone owns the [`Mux`], which
//! reads the ports and decides what appears: the focused VM's bytes at once; another VM's as whole lines under its name, at the newline or when
//! the line has waited long enough, with the focused VM's unfinished line written again below. Keys go to the focused VM; one key moves the focus.
//!
//! A VM that is not focused cannot control the terminal: its control characters are shown as dots.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod line;
mod mux;
mod port;
mod ring;

pub use mux::{Mux, Pumped, TURNS, Turn, Typed};
pub use port::VmPort;
