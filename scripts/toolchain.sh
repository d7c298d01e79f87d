# Sourced: chooses the Rust toolchain and sets CARGO, RUSTC, TARGET and BUILD_FLAGS (for the architecture "$1") for the caller.
#
# A rustup whose toolchain has the target is taken first. Otherwise Debian's rustc-web, which has no bare-metal target but the sources
# of core and alloc, so that they are built with everything else. AxHV's ArceOS crates use `#![feature]`, hence RUSTC_BOOTSTRAP.

# The oldest Rust that builds all of it: 1.MINOR.
axhv_rust_minor=95

axhv_is_new_enough() {
    local minor
    minor=$("$1" --version | sed -n 's/^rustc 1\.\([0-9]*\)\..*/\1/p')
    [ -n "$minor" ] && [ "$minor" -ge "$axhv_rust_minor" ]
}

# The Rust target of an architecture's image and guests: none of them lets the compiler use FP or vector registers.
axhv_target() {
    case $1 in
        riscv64) echo riscv64imac-unknown-none-elf ;;
        x86_64) echo x86_64-unknown-none ;;
        *) return 1 ;;
    esac
}

axhv_toolchain() {
    local target
    target=$(axhv_target "$1") || return 1
    TARGET=$target
    export RUSTC_BOOTSTRAP=1
    # What cargo fetches, it fetches again if the network fails for a moment.
    export CARGO_NET_RETRY=${CARGO_NET_RETRY:-10}
    BUILD_FLAGS=(--release --target "$target")
    if command -v rustup >/dev/null && rustup target list --installed 2>/dev/null | grep -qx "$target" &&
        axhv_is_new_enough "$(rustup which rustc)"; then
        CARGO=$(rustup which cargo) RUSTC=$(rustup which rustc)
    elif [ -x /usr/bin/cargo ] && [ -d /usr/src/rustc-"$(/usr/bin/rustc --version | cut -d' ' -f2)" ] &&
        axhv_is_new_enough /usr/bin/rustc; then
        CARGO=/usr/bin/cargo RUSTC=/usr/bin/rustc
        BUILD_FLAGS+=(-Zbuild-std=core,alloc)
        # Debian's rustc brings no rust-lld of its own.
        local linker=CARGO_TARGET_${target^^}_LINKER
        export "${linker//-/_}=ld.lld"
    else
        return 1
    fi
    export CARGO RUSTC TARGET
    # cargo calls clippy-driver, rustfmt and rustdoc by name: those of the same toolchain.
    PATH=$(dirname "$CARGO"):$PATH
    RUSTDOC=$(dirname "$CARGO")/rustdoc
    export PATH RUSTDOC
}
