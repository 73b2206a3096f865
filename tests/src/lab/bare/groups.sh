# Runs a command with the control group $1 as the root of all groups that it sees, in each of this machine's hierarchies.
set -e
group=$1
shift
leave=:
while read -r _ point type _; do
    case $type:$point in
    cgroup*:/sys/fs/cgroup*) ;;
    *) continue ;;
    esac
    mkdir -p "$point/$group"
    # Of version 1: without them no process is let in.
    for file in cpuset.cpus cpuset.mems; do
        [ "$type" = cgroup2 ] || [ ! -e "$point/$group/$file" ] || cat "$point/$file" >"$point/$group/$file"
    done
    echo $$ >"$point/$group/cgroup.procs"
    # Of version 2: a group with controllers below it must not have processes.
    [ "$type" = cgroup ] || leave="
        mkdir -p '$point/$group/init' && echo \$\$ >'$point/$group/init/cgroup.procs'
        for known in \$(cat '$point/$group/cgroup.controllers'); do echo +\$known >'$point/$group/cgroup.subtree_control'; done"
done </proc/mounts
exec unshare --cgroup sh -ec "$leave"'
    exec "$@"' sh "$@"
