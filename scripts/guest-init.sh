#!/bin/busybox sh
# /init of the Linux guests: brings up the least a shell needs, says so in one
# line that tests wait for, and powers the machine off when the shell ends.
#
# Kernel command line:
#   axhv.exec="COMMAND"   run COMMAND instead of a shell, print its exit status
#   axhv.run=poweroff     run nothing: boot, say so, power off

export PATH=/bin HOME=/root TERM="${TERM:-vt100}"

/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
/bin/busybox --install -s /bin

# From here on the kernel speaks up only when something is wrong.
echo 5 >/proc/sys/kernel/printk

echo "AxHV guest: Linux $(uname -r), $(nproc) CPUs online"

read -r cmdline </proc/cmdline
case " $cmdline " in
*' axhv.exec="'*)
    command=${cmdline#*axhv.exec=\"}
    sh -c "${command%%\"*}"
    echo "AxHV guest: exit status $?"
    ;;
*' axhv.exec='*)
    command=${cmdline#*axhv.exec=}
    sh -c "${command%% *}"
    echo "AxHV guest: exit status $?"
    ;;
*' axhv.run=poweroff '*) ;;
*)
    # poweroff and reboot ask init, which is this script, by signal.
    trap 'poweroff -f' USR1 USR2
    trap 'reboot -f' TERM
    # A session and a controlling terminal of its own give the shell job control.
    cd /root
    setsid cttyhack sh &
    wait $!
    ;;
esac

poweroff -f
