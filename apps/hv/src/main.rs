//! The bootable image: ArceOS brings the machine up and calls `main`; everything else is in the `axhv` component.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
extern crate axstd;

#[cfg(target_os = "none")]
// SAFETY: ArceOS's runtime looks for this name, and nothing else defines it.
#[unsafe(no_mangle)]
fn main() {
    axhv::run();
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is the image's entry: build it with `make A=apps/hv ARCH=riscv64`");
}
