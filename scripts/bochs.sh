#!/usr/bin/env bash
# Boots an image in Bochs, which has Intel's VMX where QEMU has AMD's SVM; the machine's serial line is this terminal. Ctrl-] ends Bochs.
# Bochs 2.7 may hold interrupts of the host's back from a guest that has its own off (SDM vol. 3, 26.2 has them take it out): BOOTARGS tells the
# hypervisor not to leave guests alone for long. It also delivers virtual interrupts to a guest that has its own off when one of the host's comes, and
# not to one in HLT (30.2.2 has it the other way round): BOOTARGS tells the hypervisor to deliver interrupts itself.
# Bochs ends with the same status whatever happened, so this judges by what the image prints last: status 0 if all VMs ended well, 1 if not, and 130
# if the user ended Bochs before.
# With CMDLINE the image is a Linux kernel, booted with these options and the bundle as its initramfs; how that ended is for its caller to judge.
# usage: [SMP=4] [MEM=512M] [CPU=corei7_haswell_4770] [BOOTARGS="longest_turn_us=10000 apicv=registers"] scripts/bochs.sh x86_64 IMAGE BUNDLE
set -euo pipefail

# This shell, and with it all that it starts, ends with whoever started it.
[ -n "${AXHV_TIED:-}" ] || AXHV_TIED=1 exec setpriv --pdeathsig TERM "$0" "$@"
unset AXHV_TIED

arch=${1:?usage: scripts/bochs.sh x86_64 IMAGE BUNDLE} image=${2:?} bundle=${3:?}
[ "$arch" = x86_64 ] || { echo "bochs: ARCH=$arch is not supported; use ARCH=x86_64" >&2; exit 2; }
case ${MEM:=512M} in
    *G) ram=$((${MEM%G} * 1024)) ;;
    *) ram=${MEM%M} ;;
esac
target=$(cd "$(dirname "$0")/.." && pwd)/target
mkdir -p "$target"
# What shells left behind that were killed.
for dir in "$target"/bochs.*; do
    pid=${dir##*.}
    [[ ! $pid =~ ^[0-9]+$ ]] || [ -e "/proc/$pid" ] || rm -rf "$dir"
done
dir=$target/bochs.$$
mkdir -p "$dir"
terminal= input=
finish() {
    for process in $terminal $input; do kill "$process" 2>/dev/null || true; done
    [ -z "$terminal" ] || wait "$terminal" || true
    rm -rf "$dir"
}
trap finish EXIT
trap 'exit 130' INT TERM

mkdir -p "$dir/iso/boot/grub"
cp "$image" "$dir/iso/boot/hv.elf"
cp "$bundle" "$dir/iso/boot/bundle.cpio"
if [ -n "${CMDLINE:-}" ]; then
    how=("linux /boot/hv.elf $CMDLINE" 'initrd /boot/bundle.cpio')
else
    how=("multiboot /boot/hv.elf ${BOOTARGS-longest_turn_us=10000 apicv=registers}" 'module /boot/bundle.cpio')
fi
printf '%s\n' "${how[@]}" boot >"$dir/iso/boot/grub/grub.cfg"
grub-mkrescue --install-modules="multiboot linux normal iso9660 biosdisk" --fonts= --locales= --themes= -o "$dir/hv.iso" "$dir/iso" \
    2>"$dir/grub.log" || { cat "$dir/grub.log" >&2; exit 1; }

cat >"$dir/bochsrc" <<END
plugin_ctrl: unmapped=1, biosdev=0, speaker=0, extfpuirq=1, parallel=0, serial=1, iodebug=1, e1000=0
config_interface: textconfig
display_library: rfb, options="timeout=0"
memory: guest=$ram, host=$ram
cpu: model=${CPU:-corei7_haswell_4770}, count=${SMP:-4}, ips=200000000, reset_on_triple_fault=0, ignore_bad_msrs=1
clock: sync=none, time0=946684800, rtc_sync=0
romimage: file=/usr/share/bochs/BIOS-bochs-latest, options=fastboot
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=cdrom, path=$dir/hv.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=term, dev=/dev/tty
com2: enabled=1, mode=null
log: $dir/bochs.log
panic: action=fatal
error: action=ignore
info: action=ignore
END
# Bochs has a debugger in it; its first command lets the machine run.
echo c >"$dir/commands"

# Bochs's serial line is a terminal of its own, which script(1) joins to this one; whoever ends this shell ends both. Input that is no terminal
# stays open past its end, which script would type as Ctrl-D.
tied() { exec setpriv --pdeathsig TERM "$@"; }
if [ -t 0 ]; then
    exec 3<&0
else
    mkfifo "$dir/never"
    exec 3< <(tied cat - "$dir/never")
    input=$!
fi
serial=$dir/com1.txt
cat >"$dir/run" <<END
# Bochs makes its terminal a raw one. Ctrl-] alone is to interrupt it, which ends it: its debugger has no more commands to read.
for attempt in \$(seq 3000); do
    ! stty -F /dev/tty -a | grep -q -e -icanon || break
    sleep 0.1
done && stty -F /dev/tty isig intr ^] &
exec bochs-bin -q -f '$dir/bochsrc' -rc '$dir/commands' </dev/null >'$dir/bochs.out' 2>&1
END
(tied script --quiet --flush --command "exec sh '$dir/run'" "$serial") <&3 &
terminal=$!
wait "$terminal" || true
terminal=
# Without the lines that script frames it with.
sed -i '1d;$d' "$serial"
if [ ! -s "$serial" ]; then
    tail -n 20 "$dir/bochs.out" "$dir/bochs.log" >&2
    echo "bochs: the image printed nothing" >&2
    exit 1
fi
[ -z "${CMDLINE:-}" ] || exit 0
# The image's last line, where no device takes its status; nothing like it comes from a guest, whose lines stand before.
case $(tr -d '\r' <"$serial" | grep . | tail -n 1) in
    "axhv: all ended well") exit 0 ;;
    "axhv: "*) exit 1 ;;
esac
# What Bochs ends itself for, as a triple fault.
if grep -h '>>PANIC<<' "$dir/bochs.log" >&2; then
    echo "bochs: the hypervisor crashed" >&2
    exit 1
fi
exit 130
