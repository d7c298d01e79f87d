//! Links the guests at the address where a guest's flat binary is loaded.

use std::env;

fn main() {
    let variable = |name: &str| env::var(name).unwrap_or_default();
    if variable("CARGO_CFG_TARGET_OS") != "none" {
        return; // on the developer's machine the guests are only checked and unit-tested
    }
    let script = format!(
        "{}/src/{}/guest.ld",
        variable("CARGO_MANIFEST_DIR"),
        variable("CARGO_CFG_TARGET_ARCH")
    );
    println!("cargo:rerun-if-changed={script}");
    println!("cargo:rustc-link-arg-bins=-T{script}");
    // A guest runs where it is linked, and nobody relocates it.
    println!("cargo:rustc-link-arg-bins=-no-pie");
    println!("cargo:rustc-link-arg-bins=--no-dynamic-linker");
}
