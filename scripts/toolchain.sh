# Sourced: chooses the Rust toolchain and sets CARGO, RUSTC and BUILD_FLAGS (for the target "$1") for the caller.
#
# A rustup whose toolchain has the target is taken first. Otherwise Debian's rustc-web, which has no bare-metal target but the sources
# of core and alloc, so that they are built with everything else. AxHV's ArceOS crates use `#![feature]`, hence RUSTC_BOOTSTRAP.

axhv_toolchain() {
    local target=$1
    export RUSTC_BOOTSTRAP=1
    BUILD_FLAGS=(--release --target "$target")
    if command -v rustup >/dev/null && rustup target list --installed 2>/dev/null | grep -qx "$target"; then
        CARGO=$(rustup which cargo) RUSTC=$(rustup which rustc)
    elif [ -x /usr/bin/cargo ] && [ -d /usr/src/rustc-"$(/usr/bin/rustc --version | cut -d' ' -f2)" ]; then
        CARGO=/usr/bin/cargo RUSTC=/usr/bin/rustc
        BUILD_FLAGS+=(-Zbuild-std=core,alloc)
        # Debian's rustc brings no rust-lld of its own.
        local linker=CARGO_TARGET_${target^^}_LINKER
        export "${linker//-/_}=ld.lld"
    else
        return 1
    fi
    export CARGO RUSTC
    # cargo calls clippy-driver, rustfmt and rustdoc by name: those of the same toolchain.
    PATH=$(dirname "$CARGO"):$PATH
    RUSTDOC=$(dirname "$CARGO")/rustdoc
    export PATH RUSTDOC
}
