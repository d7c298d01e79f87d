//! Links the image by the linker script that ArceOS's axhal writes for the platform.

use std::{env, path::PathBuf};

fn main() {
    let target = |what| env::var(format!("CARGO_CFG_TARGET_{what}")).unwrap_or_default();
    let platform = match (target("ARCH").as_str(), target("OS").as_str()) {
        (platform @ ("riscv64" | "x86_64"), "none") => platform.to_owned(),
        // On the developer's own system there is nothing to link by.
        _ => return,
    };
    // axhal's build script writes three levels above its own OUT_DIR, which is where ours has it too: <target>/<triple>/<profile>.
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let script = out.join("../../..").join(format!("linker_{platform}.lds"));
    for argument in [
        "-no-pie",
        "-znostart-stop-gc",
        &format!("-T{}", script.display()),
    ] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}
