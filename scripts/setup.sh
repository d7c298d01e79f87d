#!/usr/bin/env bash
# Installs what building, running and testing AxHV needs, and nothing that is there already.
# With EMU=bochs on x86_64 also the emulator that has VMX.
# usage: [EMU=bochs] scripts/setup.sh ARCH
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/toolchain.sh
. scripts/toolchain.sh

arch=${1:?usage: scripts/setup.sh ARCH}
case $arch in
    riscv64) qemu=qemu-system-riscv64 qemu_packages=(qemu-system-riscv opensbi) ;;
    x86_64) qemu=qemu-system-x86_64 qemu_packages=(qemu-system-x86) ;;
    *) echo "setup: ARCH=$arch is not supported; use ARCH=riscv64 or ARCH=x86_64" >&2; exit 2 ;;
esac
target=$(axhv_target "$arch")
# The oldest QEMU that the tests were seen to pass on.
qemu_major=10

say() { echo "setup: $*"; }
die() { echo "setup: $*" >&2; exit 1; }

can_be_root() { [ "$(id -u)" = 0 ] || command -v sudo >/dev/null; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif command -v sudo >/dev/null; then sudo "$@"
    else die "must be root to run: $*"; fi
}

have_apt() { command -v apt-get >/dev/null; }

# Mirrors and networks fail for a moment, and others may be at the package lists: each step is tried again.
attempts=3
apt() { # command and its arguments
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 "$@" >/dev/null
}
try_again() { # command...
    local attempt
    for ((attempt = 1; attempt < attempts; attempt++)); do
        ! "$@" || return 0
        say "that failed; trying again soon"
        sleep $((attempt * attempt * 4))
    done
    "$@"
}

# Lists that could not be read are an error only once: some of them may be nobody's for good, and not be needed.
apt_updated=
apt_update() {
    [ -z "$apt_updated" ] || return 0
    say "refreshing the package lists"
    try_again apt update -o APT::Update::Error-Mode=any || apt update || return
    apt_updated=1
}

# Called where set -e is off, too, so each step says itself what follows if it fails. What apt complains of is shown.
apt_install() { # [-t suite] package...
    apt_update || return
    say "installing: $*"
    try_again apt install -y --no-install-recommends "$@"
}

apt_must_install() { # package...
    apt_install "$@" || die "apt could not install $*: see above"
}

# Debian 12 has a QEMU that is too old in its main suite and a new one in its backports; the mirror is the machine's own.
add_backports() {
    # shellcheck disable=SC1091
    local codename mirror list=/etc/apt/sources.list.d/axhv-backports.list
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    mirror=$(apt-get indextargets --format '$(REPO_URI)' "Codename: $codename" | sort -u | head -n 1) || true
    [ -n "$codename" ] && [ -n "$mirror" ] || die "apt names no mirror for this system; install QEMU $qemu_major or newer by hand"
    say "adding $codename-backports of your mirror as $list"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $codename-backports main" |
        as_root tee "$list" >/dev/null
    apt_updated=
    apt_install -t "$codename-backports" "${qemu_packages[@]}" || {
        as_root rm -f "$list"
        die "apt could not install QEMU from $codename-backports: see above, or install QEMU $qemu_major by hand ($list is removed)"
    }
}

qemu_is_new_enough() {
    local major
    major=$("$qemu" --version 2>/dev/null | sed -n 's/^QEMU emulator version \([0-9]*\)\..*/\1/p')
    [ -n "$major" ] && [ "$major" -ge "$qemu_major" ]
}

# The major version of QEMU that apt would install; 0 if it knows none. Older suites have no package of this name.
qemu_candidate() {
    local version
    version=$(LC_ALL=C apt-cache policy "${qemu_packages[0]}" | sed -n 's/^ *Candidate: \([0-9]*:\)\{0,1\}\([0-9]*\)\..*/\2/p')
    echo "${version:-0}"
}

setup_qemu() {
    qemu_is_new_enough && return
    have_apt || die "install $qemu, version $qemu_major or newer (for riscv64 with OpenSBI)"
    apt_update || die "apt could not read the package lists: see above, or install QEMU $qemu_major by hand"
    if [ "$(qemu_candidate)" -ge "$qemu_major" ]; then
        apt_install "${qemu_packages[@]}" || die "apt could not install QEMU: see above, or install QEMU $qemu_major by hand"
    else
        add_backports
    fi
    qemu_is_new_enough || die "found no $qemu of version $qemu_major or newer; install one and run this again"
}

setup_bochs() {
    local missing=()
    command -v bochs-bin >/dev/null || missing+=(bochs)
    [ -e /usr/share/bochs/BIOS-bochs-latest ] || missing+=(bochsbios)
    [ -e /usr/share/bochs/VGABIOS-lgpl-latest ] || missing+=(vgabios)
    command -v grub-mkrescue >/dev/null || missing+=(grub-common)
    [ -d /usr/lib/grub/i386-pc ] || missing+=(grub-pc-bin)
    command -v xorriso >/dev/null || missing+=(xorriso)
    command -v mformat >/dev/null || missing+=(mtools)
    command -v script >/dev/null || missing+=(bsdutils)
    command -v setpriv >/dev/null || missing+=(util-linux)
    [ ${#missing[@]} = 0 ] && return
    have_apt || die "install: ${missing[*]}"
    apt_must_install "${missing[@]}"
}

setup_tools() {
    local missing=()
    command -v ld.lld >/dev/null || missing+=(lld)
    command -v llvm-objcopy >/dev/null || missing+=(llvm)
    command -v cpio >/dev/null || missing+=(cpio)
    command -v gzip >/dev/null || missing+=(gzip)
    command -v cc >/dev/null || missing+=(gcc libc6-dev)
    # The guests' packages are Debian's and signed by it.
    [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || missing+=(debian-archive-keyring)
    [ ${#missing[@]} = 0 ] && return
    have_apt || die "install: ${missing[*]}"
    apt_must_install "${missing[@]}"
}

toolchain_is_ready() {
    local tools
    axhv_toolchain "$arch" || return 1
    tools=$(dirname "$CARGO")
    [ -x "$tools/cargo-clippy" ] && [ -x "$tools/rustfmt" ]
}

debian_rust() {
    have_apt && can_be_root || return 1
    [ -n "$(apt-cache --names-only search '^rust-web-src$')" ] || apt_update || return
    [ -n "$(apt-cache --names-only search '^rust-web-src$')" ] || return 1
    apt_install rustc-web cargo-web rust-web-src rust-web-clippy rustfmt-web
}

rustup_rust() {
    command -v rustup >/dev/null || return 1
    say "adding the target $target to your Rust toolchain"
    rustup target add "$target" && rustup component add clippy rustfmt
}

setup_rust() {
    toolchain_is_ready && return
    debian_rust && toolchain_is_ready && return
    rustup_rust && toolchain_is_ready && return
    die "found no Rust 1.$axhv_rust_minor or newer for $target; install rustup, then run: rustup update stable && rustup target add $target"
}

setup_tools
setup_qemu
[ "$arch-${EMU:-}" != x86_64-bochs ] || setup_bochs
setup_rust
say "ready: $("$RUSTC" --version | cut -d' ' -f1,2), $("$qemu" --version | head -n 1)"
