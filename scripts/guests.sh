#!/bin/sh
# Makes the guests that AxHV runs, under target/guests/ARCH/:
#
#   guests.sh linux ARCH   Image, initramfs.cpio.gz    Debian's kernel, busybox, our /init
#   guests.sh bare ARCH    hello, heartbeat, selftest  apps/guests, each as .elf and .bin
#   guests.sh all ARCH     both
#
# Needs no root. What is up to date is left alone: `linux` compares checksums and
# asks the network only when something is missing, `bare` is incremental by cargo.
# To take a newer kernel, delete target/guests.
#
# Environment:
#   DEBIAN_MIRROR        a Debian mirror; default: the one this machine uses
#   DEBIAN_KEYRING       the keys that sign it; default: debian-archive-keyring's
#   CARGO, RUSTC, CARGO_FLAGS, TARGET_DIR   the toolchain; default: Debian's

set -eu
umask 022

suite=trixie
root=$(cd "$(dirname "$0")/.." && pwd)

say() { echo "guests: $*" >&2; }

# The message is what is wrong, the remedy what to type.
die() {
    echo "guests: error: $1" >&2
    echo "guests: remedy: $2" >&2
    exit 1
}

need() {
    command -v "$1" >/dev/null || die "'$1' is missing" "apt-get install $2   (or: make setup)"
}

# What depends on the architecture, in one place.
choose_arch() {
    case $1 in
    riscv64)
        debian_arch=riscv64
        kernel_package=linux-image-riscv64
        kernel_file='vmlinux-*' # the flat Image
        kernel_magic=52534305   # "RSC\5" at 56: Linux, Documentation/arch/riscv/boot-image-header
        kernel_magic_at=56
        target=riscv64imac-unknown-none-elf
        ;;
    *) die "no guests for architecture '$1'" "use one of: riscv64" ;;
    esac
    out=$root/target/guests/$1
}

# --- linux -------------------------------------------------------------------

# What the outputs are made of: change one and they are made again.
recipe() { sha256sum "$root/scripts/guests.sh" "$root/scripts/guest-init.sh" | sha256sum; }

linux_is_up_to_date() {
    [ -f "$out/SHA256SUMS" ] && [ "$(cat "$out/recipe" 2>/dev/null)" = "$(recipe)" ] &&
        (cd "$out" && sha256sum --check --status SHA256SUMS)
}

# The mirror this machine's apt uses for Debian itself (not its security suite).
mirror() {
    if [ -n "${DEBIAN_MIRROR:-}" ]; then
        echo "$DEBIAN_MIRROR"
    else
        apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' |
            sort | uniq -c | sort -rn | awk 'NR == 1 { print $2 }'
    fi
}

# A private apt: own lists, cache and architecture; the machine's stay untouched,
# and of its configuration only what says how to reach the network still counts.
# APT_CONFIG points at ours afterwards.
make_apt_root() {
    apt=$out/apt
    keyring=${DEBIAN_KEYRING:-/usr/share/keyrings/debian-archive-keyring.gpg}
    uri=$(mirror)
    [ -n "$uri" ] || die "this machine's apt knows no Debian mirror" \
        "DEBIAN_MIRROR=<URL of a Debian mirror> $0 linux ARCH"
    [ -f "$keyring" ] || die "Debian's keys are not at $keyring" \
        "apt-get install debian-archive-keyring   (or set DEBIAN_KEYRING)"

    mkdir -p "$apt/state/lists/partial" "$apt/cache/archives/partial" "$apt/none"
    : >"$apt/state/status"
    echo "deb [signed-by=$keyring] $uri $suite main" >"$apt/sources.list"
    # As root, apt would drop to the user _apt, who may not enter this directory.
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
Acquire::Languages "none";
Acquire::Retries "3";
CONF
    export APT_CONFIG="$apt/apt.conf"
}

# The kernel's package carries its version in its name: the metapackage tells it.
kernel_of_metapackage() {
    apt-cache depends --no-recommends --no-suggests "$kernel_package" |
        awk '$1 == "Depends:" && $2 ~ /^linux-image-/ { print $2; exit }'
}

fetch_debs() {
    mkdir -p "$out/debs"
    make_apt_root
    say "reading the package lists of Debian $suite for $debian_arch from $uri"
    apt-get -qq update || die "apt could not read $uri" \
        "check the network and the mirror, or set DEBIAN_MIRROR, and run this again"
    kernel=$(kernel_of_metapackage)
    [ -n "$kernel" ] || die "$kernel_package of $suite names no kernel" \
        "set DEBIAN_MIRROR to a mirror that carries $suite for $debian_arch"
    say "fetching $kernel and busybox-static"
    # Apt checks each file against the signed lists, and skips what is here already.
    (cd "$out/debs" && apt-get -qq download "$kernel" busybox-static) ||
        die "apt could not fetch $kernel and busybox-static" "run this again"
    kernel_deb=$(newest "$out/debs/${kernel}_*.deb")
    busybox_deb=$(newest "$out/debs/busybox-static_*.deb")
}

# shellcheck disable=SC2086 # the pattern is meant to expand
newest() { ls -t $1 | head -n 1; }

make_image() {
    tree=$work/kernel
    dpkg-deb --extract "$kernel_deb" "$tree"
    # shellcheck disable=SC2086
    set -- "$tree"/boot/$kernel_file
    [ $# -eq 1 ] && [ -f "$1" ] ||
        die "$kernel_deb holds no single boot/$kernel_file" "report this: Debian's kernel package changed"
    magic=$(od -An -tx1 -j "$kernel_magic_at" -N 4 "$1" | tr -d ' ')
    [ "$magic" = "$kernel_magic" ] ||
        die "$1 is no flat Image (magic $magic)" "report this: Debian's kernel package changed"
    mv "$1" "$out/Image"
}

# Same inputs, same bytes: fixed order, owner, time and inode numbers.
make_initramfs() {
    tree=$work/initramfs
    dpkg-deb --extract "$busybox_deb" "$work/busybox"
    mkdir -p "$tree/bin" "$tree/dev" "$tree/proc" "$tree/root" "$tree/sys" "$tree/tmp"
    install -m 755 "$work/busybox/usr/bin/busybox" "$tree/bin/busybox"
    install -m 755 "$root/scripts/guest-init.sh" "$tree/init"
    find "$tree" -exec chmod go-w {} + -exec touch --no-dereference --date=@0 {} +
    (cd "$tree" && find . | LC_ALL=C sort |
        cpio --quiet --create --format=newc --owner=0:0 --reproducible) |
        gzip --best --no-name >"$out/initramfs.cpio.gz"
}

linux() {
    if linux_is_up_to_date; then
        say "Linux for $1 is up to date"
        return
    fi
    need apt-get apt
    need dpkg-deb dpkg
    need cpio cpio
    fetch_debs

    work=$(mktemp -d "$out/work.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    say "unpacking the kernel and building the initramfs"
    make_image
    make_initramfs
    (cd "$out" && sha256sum Image initramfs.cpio.gz "debs/${kernel_deb##*/}" \
        "debs/${busybox_deb##*/}") >"$out/SHA256SUMS"
    recipe >"$out/recipe"
    say "made $out/Image ($kernel) and $out/initramfs.cpio.gz"
}

# --- bare --------------------------------------------------------------------

bare() {
    cargo=${CARGO:-/usr/bin/cargo}
    need llvm-objcopy llvm
    need ld.lld lld
    if [ -z "${RUSTC:-}" ]; then
        RUSTC=/usr/bin/rustc
        : "${CARGO_FLAGS=-Zbuild-std=core,alloc}"
        export RUSTC_BOOTSTRAP=1
    fi
    export RUSTC
    need "$cargo" cargo-web
    need "$RUSTC" "rustc-web rust-web-src"
    export CARGO_TARGET_RISCV64IMAC_UNKNOWN_NONE_ELF_LINKER=ld.lld
    dir=${TARGET_DIR:-${CARGO_TARGET_DIR:-$root/target}}
    export CARGO_TARGET_DIR="$dir"

    # shellcheck disable=SC2086 # CARGO_FLAGS is a list
    (cd "$root" && "$cargo" build --quiet --release ${CARGO_FLAGS:-} --target "$target" -p guests) ||
        die "the bare-metal guests did not build" "see cargo's message above"
    mkdir -p "$out"
    for guest in hello heartbeat selftest; do
        cp "$dir/$target/release/$guest" "$out/$guest.elf"
        llvm-objcopy --output-target=binary "$out/$guest.elf" "$out/$guest.bin"
    done
    say "bare-metal guests for $1 are in $out"
}

usage() { die "usage: $0 linux|bare|all ARCH" "for example: $0 all riscv64"; }

[ $# -eq 2 ] || usage
choose_arch "$2"
case $1 in
linux | bare) "$1" "$2" ;;
all) linux "$2" && bare "$2" ;;
*) usage ;;
esac
