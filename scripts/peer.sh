#!/usr/bin/env bash
# Runs the VM of a bundle under KVM of Debian's kernel, on the machine that the hypervisor itself boots on: the peer to measure against.
# The kernel is the one that guests run (scripts/guests.sh linux), with kvmrun of apps/kvmrun, KVM's modules and the bundle in its initramfs.
# Status 0 if the guest powered its machine off.
# usage: [EMU=bochs] [SMP=2] [MEM=1G] scripts/peer.sh ARCH BUNDLE [QEMU-FLAG...]
set -euo pipefail
umask 022

arch=${1:?usage: scripts/peer.sh ARCH BUNDLE [QEMU-FLAG...]} bundle=$(realpath "${2:?usage: scripts/peer.sh ARCH BUNDLE [QEMU-FLAG...]}")
shift 2
cd "$(dirname "$0")/.."
emulator=${EMU:-qemu} out=target/peer/$arch guests=target/guests/$arch

die() { # what is wrong, what to type
    echo "peer: error: $1" >&2
    echo "peer: remedy: $2" >&2
    exit 1
}

# The kernel's options: nothing in it is random, nothing printed but what goes wrong, and no clock source is given up because the
# emulator's host was busy.
cmdline="nokaslr mitigations=off quiet loglevel=3 panic=-1 tsc=reliable"
case $arch-$emulator in
    riscv64-qemu) image=Image cmdline="console=ttyS0 ${cmdline/ tsc=reliable/}" ;;
    x86_64-qemu | x86_64-bochs)
        # Without instructions that read real randomness, two runs are the same.
        image=bzImage cmdline="console=ttyS0 $cmdline clearcpuid=rdrand,rdseed"
        ;;
    *) die "there is no KVM for ARCH=$arch EMU=$emulator" "use ARCH=riscv64, ARCH=x86_64, or ARCH=x86_64 EMU=bochs" ;;
esac
[ -s "$guests/$image" ] && compgen -G "$guests/debs/linux-image-*.deb" >/dev/null ||
    die "Debian's kernel is not there" "scripts/guests.sh linux $arch"

# shellcheck source=scripts/toolchain.sh
. scripts/toolchain.sh
axhv_toolchain "$arch" || die "there is no Rust toolchain for $arch" "make setup ARCH=$arch"
"$CARGO" build --quiet "${BUILD_FLAGS[@]}" -p kvmrun

# KVM's modules of that very kernel. Whoever comes first unpacks them, and what is there is whole.
modules() {
    local deb=$1 all=$out/modules
    [ ! "$all" -nt "$deb" ] || return 0
    mkdir -p "$work/kernel" "$work/modules"
    dpkg-deb --extract "$deb" "$work/kernel"
    find "$work/kernel" \( -name 'kvm*.ko.xz' -o -name irqbypass.ko.xz \) -exec mv -t "$work/modules" {} +
    [ -s "$work/modules/kvm.ko.xz" ] || die "Debian's kernel package has no KVM" "report this as a bug"
    rm -rf "$work/kernel" "$all"
    mv -T "$work/modules" "$all" 2>/dev/null || [ -d "$all" ]
}
mkdir -p "$out"
work=$(mktemp -d "$out/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
exec 9>"$out/lock"
flock 9
modules "$(echo "$guests"/debs/linux-image-*.deb)"
flock -u 9

# The same inputs give the same bytes, so that counts do not depend on who packed them.
tree=$work/initramfs initramfs=$work/initramfs.cpio console=$work/console.txt
mkdir -p "$tree/dev"
cp -r "$out/modules" "$tree/modules"
llvm-objcopy --strip-all "${CARGO_TARGET_DIR:-target}/$TARGET/release/kvmrun" "$tree/init"
cp "$bundle" "$tree/bundle.cpio"
chmod -R u=rwX,go=rX "$tree"
chmod 755 "$tree/init"
find "$tree" -exec touch --date=@0 {} +
(cd "$tree" && find . | LC_ALL=C sort | cpio --quiet --create --format=newc --owner=0:0 --reproducible) >"$initramfs"

case $emulator in
    qemu) SMP=${SMP:-2} signal=KILL run=(scripts/qemu.sh "$arch" "$guests/$image" "$initramfs" -append "$cmdline" "$@") ;;
    bochs) SMP=${SMP:-1} signal=TERM run=(env CMDLINE="$cmdline" scripts/bochs.sh "$arch" "$guests/$image" "$initramfs") ;;
esac
export SMP
# Whoever ends this shell ends the emulator.
exec 3> >(tee "$console")
tee=$!
status=0
setpriv --pdeathsig "$signal" "${run[@]}" </dev/null >&3 &
wait $! || status=$?
exec 3>&-
wait "$tee"
tr -d '\r' <"$console" | grep -qx 'kvmrun: the guest powered off' || {
    echo "peer: the guest did not power off (status $status of the emulator)" >&2
    exit 1
}
