# The first process of a bare host: makes what the kernel shows there, and becomes what starts services.
# $1 its folder, with its root file system, $2 its name, $3 openrc, systemd or none.
set -e
cd "$1/root"
mount --bind . .
cd "$1/root"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t tmpfs -o mode=755 run run
mount -t tmpfs -o mode=755 dev dev
mkdir -p run/sshd run/lock dev/pts dev/shm old
for device in null zero full random urandom tty; do
    touch "dev/$device"
    mount --bind "/dev/$device" "dev/$device"
done
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
# Each hierarchy of control groups as this machine has it.
mount -t tmpfs -o mode=755 cgroup sys/fs/cgroup
while read -r _ point type options _; do
    case $type:$point in
    cgroup*:/sys/fs/cgroup*) mkdir -p ".$point" ;;
    *) continue ;;
    esac
    case $type in
    # Its controllers, or its name.
    cgroup) options=$(echo "$options" | tr , '\n' | grep -vxE 'r[ow]|no(suid|dev|exec)|relatime|xattr|release_agent=.*' | paste -s -d ,) ;;
    cgroup2) options=rw ;;
    esac
    mount -t "$type" -o "$options" cgroup ".$point"
done </proc/mounts
hostname "$2"
ip link set lo up
pivot_root . old
umount -l /old
rmdir /old

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive
install() {
    apt-get -qq update
    apt-get -qq -y --no-install-recommends install "$1" >/dev/null
}
stay() {
    touch /ready
    trap : TERM
    while :; do
        sleep 3600 &
        wait $!
    done
}
case $3 in
none)
    /usr/sbin/sshd
    stay
    ;;
openrc)
    install openrc
    # All that these mount and set is there, or the machine's own.
    rm -f /etc/runlevels/sysinit/*
    # Docker's script asks for more open files than a machine may be free to have.
    mkdir -p /lib/lsb/init-functions.d
    echo 'ulimit() { command ulimit "$@" || :; }' >/lib/lsb/init-functions.d/50-limits
    for level in sysinit boot default; do openrc "$level"; done
    stay
    ;;
systemd)
    install systemd-sysv
    touch /ready
    exec env -i container=pinacle-lab /sbin/init
    ;;
esac
