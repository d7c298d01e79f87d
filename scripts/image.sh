#!/usr/bin/env bash
# Builds the hypervisor's image: target/ARCH/hv.bin.
# usage: scripts/image.sh ARCH [LOG]
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/toolchain.sh
. scripts/toolchain.sh

arch=${1:?usage: scripts/image.sh ARCH [LOG]}
target=riscv64imac-unknown-none-elf
axhv_toolchain "$target" || { echo "image: no Rust toolchain; run: make setup ARCH=$arch" >&2; exit 1; }
# ArceOS takes both when it is compiled.
export AX_CONFIG_PATH=$PWD/configs/platforms/$arch.toml AX_LOG=${2:-warn}
echo "image: building the hypervisor for $arch (log level $AX_LOG)"
"$CARGO" build --quiet "${BUILD_FLAGS[@]}" -p hv
mkdir -p "target/$arch"
llvm-objcopy -O binary "${CARGO_TARGET_DIR:-target}/$target/release/hv" "target/$arch/hv.bin"
