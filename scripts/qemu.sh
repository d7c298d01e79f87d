#!/usr/bin/env bash
# Boots an image in QEMU. Further arguments are QEMU's.
# usage: [SMP=4] [MEM=1G] [CPU=…] [MACHINE=…] scripts/qemu.sh ARCH IMAGE BUNDLE [QEMU ARGUMENT...]
set -euo pipefail

arch=${1:?usage: scripts/qemu.sh ARCH IMAGE BUNDLE} image=${2:?} bundle=${3:?}
shift 3
case $arch in
    riscv64)
        exec qemu-system-riscv64 -machine "${MACHINE:-virt}" -cpu "${CPU:-rv64,h=true}" -smp "${SMP:-4}" -m "${MEM:-1G}" \
            -bios default -kernel "$image" -initrd "$bundle" -nographic -no-reboot "$@"
        ;;
    *) echo "qemu: ARCH=$arch is not supported; use ARCH=riscv64" >&2; exit 2 ;;
esac
