#!/usr/bin/env bash
# Formatting, lints and documentation, with warnings denied: the developer's crates on this machine, the image and the guests for their target.
# usage: scripts/check.sh ARCH...
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/toolchain.sh
. scripts/toolchain.sh

[ $# -gt 0 ] || { echo "usage: scripts/check.sh ARCH..." >&2; exit 2; }

axhv_toolchain "$1" || { echo "check: no Rust toolchain; run: make setup ARCH=$1" >&2; exit 1; }
echo "check: formatting"
"$CARGO" fmt --all -- --check
echo "check: lints, on this machine"
"$CARGO" clippy --quiet --all-targets -- -D warnings
"$CARGO" clippy --quiet -p system-tests --all-targets -- -D warnings
echo "check: documentation, on this machine"
RUSTDOCFLAGS="-D warnings" "$CARGO" doc --quiet --no-deps
for arch in "$@"; do
    axhv_toolchain "$arch"
    export AX_CONFIG_PATH=$PWD/configs/platforms/$arch.toml
    image=(-p hv -p axhv -p "axplat-$arch" -p guests -p kvmrun)
    echo "check: lints and documentation, for $arch"
    "$CARGO" clippy --quiet "${BUILD_FLAGS[@]}" "${image[@]}" -- -D warnings
    RUSTDOCFLAGS="-D warnings" "$CARGO" doc --quiet --no-deps "${BUILD_FLAGS[@]}" "${image[@]}"
done
echo "check: no unsafe code outside the modules that may hold it"
for root in crates/{axconsole,axdevice,axplat-ranges,axvcpu,axvm,axvmconfig,linked_list_r4l,mc146818}/src/lib.rs tests/src/lib.rs apps/{hvbench,hvctl}/src/main.rs; do
    grep -q '^#!\[forbid(unsafe_code)\]' "$root" || { echo "check: $root does not forbid unsafe code" >&2; exit 1; }
done
echo "check: passed"
