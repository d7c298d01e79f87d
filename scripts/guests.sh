#!/usr/bin/env bash
# Makes the guests that AxHV runs, under target/guests/ARCH/.
# usage: scripts/guests.sh linux|bare|all ARCH
#
#   linux   Debian's kernel (Image on riscv64, bzImage on x86_64) and initramfs.cpio.gz: busybox, with guest-init.sh
#           as /init
#   bare    bench, busy, hello, heartbeat, hostile, passed, restless and selftest of apps/guests, each as .elf and .bin
#   all     both
#
# Needs no root. Does only what is not done yet: the packages are fetched once and kept, what is made of them is
# compared by checksum, and cargo knows what to compile. For a newer kernel, delete target/guests and run it again.
#
# DEBIAN_MIRROR and DEBIAN_KEYRING name another mirror than this machine's own, and the keys that sign it.
set -euo pipefail
umask 022
cd "$(dirname "$0")/.."

suite=trixie

say() { echo "guests: $*" >&2; }
# What is wrong, and what to type.
die() {
    echo "guests: error: $1" >&2
    echo "guests: remedy: $2" >&2
    exit 1
}
need() { command -v "$1" >/dev/null || die "'$1' is missing" "make setup   (or: apt-get install $2)"; }

# All that depends on the architecture.
choose_arch() {
    arch=$1 out=target/guests/$1
    case $arch in
        riscv64)
            target=riscv64imac-unknown-none-elf
            debian_arch=riscv64 kernel_package=linux-image-riscv64
            # The flat Image, and how one is known: "RSC\5" at byte 56 (Linux, boot-image-header).
            kernel_file='vmlinux-*' image=Image magic_at=56 magic=52534305
            elf_format=
            ;;
        x86_64)
            target=x86_64-unknown-none
            debian_arch=amd64 kernel_package=linux-image-cloud-amd64
            # "HdrS" at byte 0x202 (Linux, x86 boot protocol).
            kernel_file='vmlinuz-*' image=bzImage magic_at=514 magic=48647253
            # Multiboot loaders take 32-bit files only.
            elf_format=elf32-i386
            ;;
        *) die "there are no guests for '$arch'" "scripts/guests.sh all riscv64   (or x86_64)" ;;
    esac
}

# --- Linux -----------------------------------------------------------------------------------------------------------

# What the outputs are made by; a change of it makes them anew, from the packages that are here.
recipe() { sha256sum scripts/guests.sh scripts/guest-init.sh; }

# Whether the files that a directory's SHA256SUMS lists are there and whole.
is_whole() { [ -s "$1/SHA256SUMS" ] && (cd "$1" && sha256sum --check --status SHA256SUMS); }

# The mirror from which this machine's apt takes Debian itself, not its security suite.
mirror() {
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' |
        sort | uniq -c | sort -rn | awk 'NR == 1 { print $2 }'
}

# An apt of our own: lists, cache and architecture are private, so that the machine's stay untouched; of its
# configuration only what says how to reach the network still counts.
configure_apt() {
    local apt=$PWD/$out/apt keyring=${DEBIAN_KEYRING:-/usr/share/keyrings/debian-archive-keyring.gpg}
    uri=${DEBIAN_MIRROR:-$(mirror)}
    [ -n "$uri" ] || die "this machine's apt knows no Debian mirror" \
        "DEBIAN_MIRROR=http://<mirror>/debian scripts/guests.sh linux $arch"
    [ -f "$keyring" ] || die "Debian's keys are not at $keyring" \
        "apt-get install debian-archive-keyring   (or set DEBIAN_KEYRING)"

    mkdir -p "$apt/state/lists/partial" "$apt/cache/archives/partial" "$apt/none"
    : >"$apt/state/status"
    echo "deb [signed-by=$keyring] $uri $suite main" >"$apt/sources.list"
    # As root, apt would become the user _apt, who may not enter this directory.
    cat >"$apt/apt.conf" <<CONF
Dir::Etc::sourcelist "$apt/sources.list";
Dir::Etc::sourceparts "$apt/none";
Dir::Etc::preferences "$apt/none/preferences";
Dir::Etc::preferencesparts "$apt/none";
Dir::State "$apt/state";
Dir::State::status "$apt/state/status";
Dir::Cache "$apt/cache";
APT::Architecture "$debian_arch";
APT::Architectures { "$debian_arch"; };
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::Retries "3";
CONF
    export APT_CONFIG=$apt/apt.conf
}

# The metapackage knows the kernel's package, whose name carries a version.
kernel_of_metapackage() {
    apt-cache depends --no-recommends --no-suggests "$kernel_package" |
        awk '$1 == "Depends:" && $2 ~ /^linux-image-/ { print $2; exit }'
}

# Fetches the packages into $out/debs; apt checks them against the signed lists.
fetch_debs() {
    is_whole "$out/debs" && return
    need apt-get apt
    configure_apt
    local attempt
    # A mirror may fail for a moment, or replace a package after its lists were read.
    for attempt in 1 2; do
        ! fetch_once || return 0
        say "$wrong; trying again soon"
        sleep $((attempt * attempt * 4))
    done
    fetch_once || die "$wrong" "$remedy"
}

# Says by `wrong` and `remedy` what fails. Called where set -e is off.
fetch_once() {
    local kernel new=$out/debs.new
    say "reading the package lists of Debian $suite for $debian_arch from $uri"
    wrong="apt could not read $uri" remedy="check the network, or set DEBIAN_MIRROR; then: scripts/guests.sh linux $arch"
    apt-get -qq update || return
    wrong="$kernel_package of $suite names no kernel" remedy="set DEBIAN_MIRROR to a mirror that has $suite for $debian_arch"
    kernel=$(kernel_of_metapackage) && [ -n "$kernel" ] || return
    say "fetching $kernel and busybox-static"
    wrong="apt could not fetch $kernel and busybox-static" remedy="scripts/guests.sh linux $arch"
    # There under its name only when it is whole.
    rm -rf "$new" && mkdir -p "$new" &&
        (cd "$new" && apt-get -qq download "$kernel" busybox-static && sha256sum ./*.deb >SHA256SUMS) &&
        rm -rf "$out/debs" && mv "$new" "$out/debs"
}

make_image() {
    local file found
    dpkg-deb --extract "$out"/debs/linux-image-*.deb "$work/kernel"
    # shellcheck disable=SC2086 # a pattern
    file=$(echo "$work"/kernel/boot/$kernel_file)
    [ -f "$file" ] || die "Debian's kernel package has no single boot/$kernel_file" "report this as a bug"
    found=$(od -An -tx1 -j "$magic_at" -N 4 "$file" | tr -d ' ')
    [ "$found" = "$magic" ] || die "$file begins like no $image" "report this as a bug"
    mv "$file" "$out/$image"
}

# The same inputs give the same bytes: order, owners, times and inode numbers are fixed.
make_initramfs() {
    local tree=$work/initramfs
    dpkg-deb --extract "$out"/debs/busybox-static_*.deb "$work/busybox"
    mkdir -p "$tree"/{bin,dev,proc,root,sys,tmp}
    install -m 755 "$work/busybox/usr/bin/busybox" "$tree/bin/busybox"
    install -m 755 scripts/guest-init.sh "$tree/init"
    find "$tree" -exec touch --date=@0 {} +
    (cd "$tree" && find . | LC_ALL=C sort | cpio --quiet --create --format=newc --owner=0:0 --reproducible) |
        gzip --best --no-name >"$out/initramfs.cpio.gz"
}

linux() {
    if is_whole "$out" && is_whole "$out/debs" && [ "$(cat "$out/recipe" 2>/dev/null)" = "$(recipe)" ]; then
        say "Linux for $arch is up to date"
        return
    fi
    need dpkg-deb dpkg
    need cpio cpio
    mkdir -p "$out"
    fetch_debs
    say "unpacking the kernel and building the initramfs"
    work=$(mktemp -d "$out/work.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    make_image
    make_initramfs
    (cd "$out" && sha256sum "$image" initramfs.cpio.gz >SHA256SUMS)
    recipe >"$out/recipe"
    say "made $out/$image and $out/initramfs.cpio.gz"
}

# --- Bare metal ------------------------------------------------------------------------------------------------------

bare() {
    # shellcheck source=scripts/toolchain.sh
    . scripts/toolchain.sh
    axhv_toolchain "$arch" || die "there is no Rust toolchain for $arch" "make setup ARCH=$arch"
    need llvm-objcopy llvm
    say "building the bare-metal guests for $arch"
    "$CARGO" build --quiet "${BUILD_FLAGS[@]}" -p guests
    mkdir -p "$out"
    local guest built=${CARGO_TARGET_DIR:-target}/$target/release
    for guest in bench busy hello heartbeat hostile passed restless selftest; do
        llvm-objcopy ${elf_format:+--output-target="$elf_format"} "$built/$guest" "$out/$guest.elf"
        llvm-objcopy --output-target=binary "$out/$guest.elf" "$out/$guest.bin"
    done
}

[ $# = 2 ] || die "usage: scripts/guests.sh linux|bare|all ARCH" "scripts/guests.sh all riscv64"
choose_arch "$2"
case $1 in
    linux | bare) "$1" ;;
    all) linux && bare ;;
    *) die "'$1' is none of linux, bare, all" "scripts/guests.sh all $arch" ;;
esac
