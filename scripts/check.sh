#!/usr/bin/env bash
# Formatting, lints and documentation, with warnings denied: the developer's crates on this machine, the image and the guests for their target.
# usage: scripts/check.sh ARCH
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/toolchain.sh
. scripts/toolchain.sh

arch=${1:?usage: scripts/check.sh ARCH}
axhv_toolchain "$arch" || { echo "check: no Rust toolchain; run: make setup ARCH=$arch" >&2; exit 1; }
export AX_CONFIG_PATH=$PWD/configs/platforms/$arch.toml
image=(-p hv -p axhv -p "axplat-$arch" -p guests)

echo "check: formatting"
"$CARGO" fmt --all -- --check
echo "check: lints, on this machine"
"$CARGO" clippy --quiet --all-targets -- -D warnings
"$CARGO" clippy --quiet -p system-tests --all-targets -- -D warnings
echo "check: lints, for $arch"
"$CARGO" clippy --quiet "${BUILD_FLAGS[@]}" "${image[@]}" -- -D warnings
echo "check: documentation"
RUSTDOCFLAGS="-D warnings" "$CARGO" doc --quiet --no-deps
RUSTDOCFLAGS="-D warnings" "$CARGO" doc --quiet --no-deps "${BUILD_FLAGS[@]}" "${image[@]}"
echo "check: no unsafe code outside the modules that may hold it"
for root in crates/{axconsole,axdevice,axvcpu,axvm,axvmconfig}/src/lib.rs tests/src/lib.rs apps/hvctl/src/main.rs; do
    grep -q '^#!\[forbid(unsafe_code)\]' "$root" || { echo "check: $root does not forbid unsafe code" >&2; exit 1; }
done
echo "check: passed"
