#!/usr/bin/env bash
# Boots an image in QEMU. Further arguments are QEMU's.
# usage: [SMP=4] [MEM=1G] [CPU=…] [MACHINE=…] scripts/qemu.sh ARCH IMAGE BUNDLE [QEMU ARGUMENT...]
set -euo pipefail

arch=${1:?usage: scripts/qemu.sh ARCH IMAGE BUNDLE} image=${2:?} bundle=${3:?}
shift 3
# QEMU ends with whoever started it. On a terminal it is asked to, so that it leaves that as it was; counting instructions it may not listen.
signal=KILL
[ ! -t 0 ] || signal=TERM
tied() { exec setpriv --pdeathsig "$signal" "$@"; }
case $arch in
    riscv64)
        tied qemu-system-riscv64 -machine "${MACHINE:-virt}" -cpu "${CPU:-rv64,h=true}" -smp "${SMP:-4}" -m "${MEM:-1G}" \
            -bios default -kernel "$image" -initrd "$bundle" -nographic -no-reboot "$@"
        ;;
    x86_64)
        # What an EPYC has and QEMU does not emulate is left out, so that QEMU does not complain of each on each CPU.
        cpu=EPYC,+svm,+npt,-fxsr-opt,-misalignsse,-osvw,-topoext,-nrip-save,-xsavec
        # The last device lets the image end QEMU with an exit status: 33 says that all went well, 35 that not.
        tied qemu-system-x86_64 -machine "${MACHINE:-q35}" -cpu "${CPU:-$cpu}" -accel "${ACCEL:-tcg}" -smp "${SMP:-4}" \
            -m "${MEM:-1G}" -kernel "$image" -initrd "$bundle" -nographic -no-reboot \
            -device isa-debug-exit,iobase=0xf4,iosize=4 "$@"
        ;;
    *) echo "qemu: ARCH=$arch is not supported; use ARCH=riscv64 or ARCH=x86_64" >&2; exit 2 ;;
esac
