#!/usr/bin/env bash
# Builds the hypervisor's image: target/ARCH/hv.bin on riscv64, where it is flat, target/ARCH/hv.elf on x86_64.
# usage: scripts/image.sh ARCH [LOG]
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/toolchain.sh
. scripts/toolchain.sh

arch=${1:?usage: scripts/image.sh ARCH [LOG]}
axhv_toolchain "$arch" || { echo "image: no Rust toolchain; run: make setup ARCH=$arch" >&2; exit 1; }
# ArceOS takes these when it is compiled; the last two it prints.
export AX_CONFIG_PATH=$PWD/configs/platforms/$arch.toml AX_LOG=${2:-warn} AX_TARGET=$TARGET AX_MODE=release
echo "image: building the hypervisor for $arch (log level $AX_LOG)"
"$CARGO" build --quiet "${BUILD_FLAGS[@]}" -p hv
mkdir -p "target/$arch"
elf=${CARGO_TARGET_DIR:-target}/$TARGET/release/hv
case $arch in
    riscv64) llvm-objcopy -O binary "$elf" "target/$arch/hv.bin" ;;
    x86_64) llvm-objcopy --strip-debug "$elf" "target/$arch/hv.elf" ;;
esac
