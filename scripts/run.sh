#!/usr/bin/env bash
# Boots an image as `make run` does, and says by its status how that ended: 0 if every VM started and ended of its own will, 1 if not. If the user
# ended the emulator, nothing went wrong, so that is 0 too, and said where it can be known (QEMU's riscv64 machine has one status for both).
# usage: [EMU=qemu] [SMP=4] [MEM=1G] scripts/run.sh ARCH IMAGE BUNDLE
set -euo pipefail

arch=${1:?usage: scripts/run.sh ARCH IMAGE BUNDLE} image=${2:?} bundle=${3:?}
emulator=${EMU:-qemu} status=0 flags=()
if [ "$arch-$emulator" = x86_64-qemu ]; then
    # The BIOS keeps to the screen, which nobody sees: on the serial line it would clear the terminal and turn off line wrap for good.
    flags+=(-machine graphics=on)
    # QEMU ends with status 0 at a triple fault, as it does when the user ends it. What it notes of resets tells the two apart.
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    flags+=(-d cpu_reset -D "$log")
fi
"$(dirname "$0")/$emulator.sh" "$arch" "$image" "$bundle" "${flags[@]}" || status=$?
case $arch-$emulator-$status in
    riscv64-qemu-0 | x86_64-qemu-33 | x86_64-bochs-0) exit 0 ;;
    x86_64-qemu-0)
        if grep -q '^Triple fault' "$log"; then
            echo "run: the hypervisor crashed: a triple fault reset the machine" >&2
            exit 1
        fi
        echo "run: ended by hand"
        ;;
    x86_64-bochs-130) echo "run: ended by hand" ;;
    *) exit 1 ;;
esac
