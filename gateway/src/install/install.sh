#!/bin/sh
# Makes this machine a host of Pinacle, or takes it out again. Run it as root; it says every change that it makes, and
# changes nothing that is right already.
#
#   install.sh --token TOKEN        join, or join again with another token
#   install.sh                      bring the agent of a host up to date
#   install.sh --uninstall          take the agent away, with its key
#
#   --token-file FILE   read the token from a file instead
#   --with-docker       install Docker and gVisor, which pods need
#   --ssh-user USER     whom the orchestrator logs in as [default: root]
#   --agent-file FILE   take the agent's program from here instead of downloading it; its checksum counts all the same
#   --delete-data       with --uninstall: remove all pods with their data, too
set -eu

GATEWAY='@GATEWAY@'
CHECKSUMS='@CHECKSUMS@'
SSH_KEY='@SSH_KEY@'
CA='@CA@'

USER_NAME=pinacle-agent
PROGRAM=/usr/local/bin/pinacle-agent
CONFIG_DIR=/etc/pinacle
CONFIG=$CONFIG_DIR/agent.toml
TOKEN=$CONFIG_DIR/enrolment-token
CA_FILE=$CONFIG_DIR/gateway-ca.pem
STATE=/var/lib/pinacle-agent
UNIT=/etc/systemd/system/pinacle-agent.service
RC=/etc/init.d/pinacle-agent
PIDFILE=/run/pinacle-agent.pid
LOG=/var/log/pinacle-agent.log
MARK=pinacle-orchestrator

changed=no
# Whoever became root by su may not have these.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

say() { printf '%s\n' "pinacle: $*"; }
die() { printf '%s\n' "pinacle: $*" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

# What is piped into "put PATH MODE OWNER" becomes that file, if it is not that already.
put() {
    new=$1.pinacle-new
    (umask 077 && cat >"$new")
    chmod "$2" "$new"
    chown "$3" "$new"
    if [ -f "$1" ] && cmp -s "$new" "$1"; then
        rm -f "$new"
        return
    fi
    mv -f "$new" "$1"
    say "wrote $1"
    changed=yes
}

gone() {
    for path in "$@"; do
        if [ -e "$path" ]; then
            rm -rf "$path"
            say "removed $path"
        fi
    done
}

detect() {
    [ "$(uname -s)" = Linux ] || die "hosts run Linux, this is $(uname -s)"
    case $(uname -m) in
        x86_64 | amd64) arch=x86_64 ;;
        aarch64 | arm64) arch=aarch64 ;;
        *) die "there is no agent for $(uname -m)" ;;
    esac
    os=unknown
    # shellcheck disable=SC1091
    [ ! -r /etc/os-release ] || os=$(. /etc/os-release && printf '%s' "${ID:-unknown}")
    if [ -d /run/systemd/system ]; then
        init=systemd
    elif has openrc-run && has rc-service && [ -d /run/openrc ]; then
        init=openrc
    else
        init=none
    fi
    say "this is $os on $arch, started by $init"
}

digest() {
    if has sha256sum; then
        sha256sum "$1" | cut -d ' ' -f 1
    elif has openssl; then
        openssl dgst -sha256 "$1" | sed 's/.* //'
    else
        die "neither sha256sum nor openssl is here to check the program with"
    fi
}

download() {
    if has curl; then
        if [ -n "$CA" ]; then curl -fsSL --cacert "$work/ca.pem" -o "$2" "$1"; else curl -fsSL -o "$2" "$1"; fi
    elif has wget; then
        if [ -n "$CA" ]; then wget -q --ca-certificate="$work/ca.pem" -O "$2" "$1"; else wget -q -O "$2" "$1"; fi
    else
        die "neither curl nor wget is here to download the agent with"
    fi
}

program() {
    wanted=
    for pair in $CHECKSUMS; do
        [ "${pair%%:*}" != "$arch" ] || wanted=${pair#*:}
    done
    [ -n "$wanted" ] || die "$GATEWAY has no agent for $arch (gateway.agent_dir)"
    if [ -f "$PROGRAM" ] && [ "$(digest "$PROGRAM")" = "$wanted" ]; then
        return
    fi
    if [ -n "$agent_file" ]; then
        cp "$agent_file" "$work/agent" || die "cannot read $agent_file"
    else
        download "$GATEWAY/agent/$arch" "$work/agent" || die "cannot download $GATEWAY/agent/$arch"
    fi
    got=$(digest "$work/agent")
    [ "$got" = "$wanted" ] || die "the agent's program has a wrong checksum: $got, and should have $wanted. Nothing was installed"
    # Beside where it will be: what is in /tmp may be forbidden to run.
    trial=$PROGRAM.pinacle-new
    cp "$work/agent" "$trial"
    chmod 755 "$trial"
    runs=no
    ! "$trial" --version >/dev/null 2>&1 || runs=yes
    rm -f "$trial"
    [ $runs = yes ] || die "the agent's program does not run on this system, perhaps for want of its C library: let the gateway serve the static one. Nothing was installed"
    put "$PROGRAM" 755 0:0 <"$work/agent"
}

user() {
    if grep -q "^$USER_NAME:" /etc/passwd; then
        return
    fi
    if has useradd; then
        useradd --system --user-group --no-create-home --home-dir "$STATE" --shell /usr/sbin/nologin "$USER_NAME"
    else
        addgroup -S "$USER_NAME"
        adduser -S -D -H -h "$STATE" -s /sbin/nologin -G "$USER_NAME" "$USER_NAME"
    fi
    say "made the user $USER_NAME"
}

# Whoever may use Docker's socket is as good as root there: the agent needs it to see containers.
docker_group() {
    if ! grep -q '^docker:' /etc/group || id -nG "$USER_NAME" | tr ' ' '\n' | grep -qx docker; then
        return
    fi
    if has usermod; then usermod -aG docker "$USER_NAME"; else addgroup "$USER_NAME" docker; fi
    say "let $USER_NAME see containers: it is in the group docker now"
    changed=yes
}

settings() {
    if [ ! -d "$CONFIG_DIR" ]; then
        mkdir -p "$CONFIG_DIR"
        say "made $CONFIG_DIR"
    fi
    if [ ! -d "$STATE" ]; then
        mkdir -p "$STATE"
        say "made $STATE"
    fi
    chmod 700 "$STATE"
    chown "$USER_NAME:$USER_NAME" "$STATE"
    if [ -n "$token" ]; then
        put "$TOKEN" 600 "$USER_NAME:$USER_NAME" <<END
$token
END
    elif [ ! -e "$STATE/enrolment.json" ]; then
        die "this machine is no host yet: give --token"
    fi
    ca_line=
    if [ -n "$CA" ]; then
        put "$CA_FILE" 644 0:0 <<END
$CA
END
        ca_line="gateway_ca_file = \"$CA_FILE\""
    fi
    token_line=
    [ ! -e "$TOKEN" ] || token_line="enrolment_token = \"file:$TOKEN\""
    put "$CONFIG" 644 0:0 <<END
# Written by $GATEWAY/install.sh, and anew each time it runs.
[agent]
gateway_url = "$GATEWAY"
$ca_line
$token_line
state_dir = "$STATE"
ssh_user = "$ssh_user"
END
}

ssh_key() {
    if [ -z "$SSH_KEY" ]; then
        say "the orchestrator's SSH key is not known here: no pods can run on this host until it may log in"
        return
    fi
    home=$(grep "^$ssh_user:" /etc/passwd | cut -d : -f 6)
    [ -n "$home" ] || die "there is no user $ssh_user for the orchestrator to log in as"
    keys=$home/.ssh/authorized_keys
    line="restrict $SSH_KEY $MARK"
    if [ -f "$keys" ] && grep -qxF "$line" "$keys"; then
        return
    fi
    if [ ! -d "$home/.ssh" ]; then
        mkdir -m 700 "$home/.ssh"
        chown "$ssh_user:" "$home/.ssh"
    fi
    if [ -f "$keys" ] && grep -q " $MARK\$" "$keys"; then
        without_mark "$keys"
    fi
    printf '%s\n' "$line" >>"$keys"
    chmod 600 "$keys"
    chown "$ssh_user:" "$keys"
    say "let the orchestrator log in as $ssh_user: its key is in $keys"
    has sshd || say "but there is no SSH server here: install one, or no pods can run on this host"
}

without_mark() {
    grep -v " $MARK\$" "$1" >"$1.pinacle-new" || true
    cat "$1.pinacle-new" >"$1"
    rm -f "$1.pinacle-new"
}

install_docker() {
    packages=
    has dockerd || packages='docker.io'
    has runsc || packages="$packages runsc"
    if [ -z "$packages" ]; then
        say "Docker and gVisor are here already"
    elif ! has apt-get; then
        die "Docker and gVisor can be installed here by hand only: do so, and run this again without --with-docker"
    fi
    gvisor
    if [ -n "$packages" ]; then
        say "installing Docker and gVisor: apt-get install ${packages# }"
        export DEBIAN_FRONTEND=noninteractive
        # shellcheck disable=SC2086
        { apt-get -q update && apt-get -q -y --no-install-recommends install $packages; } >/dev/null ||
            die "apt-get could not install $packages: do so by hand, and run this again"
    fi
    case $init in
        systemd) systemctl -q enable --now docker || die "Docker does not start: journalctl -u docker says why" ;;
        openrc)
            rc-update -q add docker default
            docker version >/dev/null 2>&1 || rc-service -q docker start >/dev/null ||
                die "Docker does not start: rc-service docker start says why"
            ;;
        none) docker version >/dev/null 2>&1 || say "start Docker yourself: nothing here starts services" ;;
    esac
}

# Tells Docker of gVisor; before it is installed, so that it starts with that.
gvisor() {
    # "host" is the container's own network namespace here. The network stack that gVisor brings along is not for every
    # machine: that of Debian 12's release does not start on newer kernels.
    runtimes="{ \"runtimes\": { \"runsc\": { \"path\": \"$(command -v runsc || echo /usr/bin/runsc)\", \"runtimeArgs\": [\"--network=host\"] } } }"
    if [ ! -e /etc/docker/daemon.json ]; then
        mkdir -p /etc/docker
        put /etc/docker/daemon.json 644 0:0 <<END
$runtimes
END
        # One that runs reads its file again, and containers run on.
        ! docker version >/dev/null 2>&1 || kill -HUP "$(cat /run/docker.pid)" || say "start Docker again by hand"
    elif ! grep -q runsc /etc/docker/daemon.json; then
        say "add gVisor to /etc/docker/daemon.json, which is left as it is: $runtimes"
    fi
}

unit() {
    groups=
    ! grep -q '^docker:' /etc/group || groups=SupplementaryGroups=docker
    put "$UNIT" 644 0:0 <<END
[Unit]
Description=Pinacle's agent
Wants=network-online.target
After=network-online.target docker.service

[Service]
ExecStart=$PROGRAM --config $CONFIG
User=$USER_NAME
Group=$USER_NAME
$groups
Restart=always
RestartSec=2
UMask=0077
ReadWritePaths=$STATE
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=yes
PrivateDevices=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
# The last one to ask for the machine's own addresses, which the orchestrator logs in at.
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
MemoryMax=64M
TasksMax=64

[Install]
WantedBy=multi-user.target
END
}

rc_script() {
    put "$RC" 755 0:0 <<END
#!/sbin/openrc-run
description="Pinacle's agent"
supervisor=supervise-daemon
command="$PROGRAM"
command_args="--config $CONFIG"
command_user="$USER_NAME:$USER_NAME"
output_log="$LOG"
error_log="$LOG"
# Not no_new_privs: releases up to 0.45 make an option of it that they do not know.
supervise_daemon_args="--no-new-privs"
respawn_delay=2
# Without end; otherwise the tenth death is the last one, however long ago the first was.
respawn_max=0
umask=0077

depend() {
    use net
    after docker
}

start_pre() {
    checkpath --file --owner $USER_NAME:$USER_NAME --mode 0640 "$LOG"
}
END
}

# Whether the agent runs where nothing looks after it; its process is $pid.
runs() {
    pid=$(cat "$PIDFILE" 2>/dev/null) && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "${PROGRAM##*/}" ]
}

start() {
    case $init in
        systemd)
            unit
            systemctl daemon-reload
            systemctl -q enable pinacle-agent
            if [ $changed = yes ]; then systemctl restart pinacle-agent; else systemctl start pinacle-agent; fi
            ;;
        openrc)
            rc_script
            rc-update -q add pinacle-agent default
            if [ $changed = yes ]; then rc-service -q pinacle-agent restart; else rc-service -q pinacle-agent start; fi
            ;;
        none)
            has start-stop-daemon || die "nothing here starts services: start $PROGRAM --config $CONFIG as $USER_NAME yourself"
            [ $changed = no ] || stop
            ! runs || return 0
            # The log may hold what nobody else should read.
            [ -e "$LOG" ] || (umask 027 && : >"$LOG")
            chown "$USER_NAME:$USER_NAME" "$LOG"
            # By what busybox's has, too.
            start-stop-daemon -S -b -m -p "$PIDFILE" -c "$USER_NAME:$USER_NAME" -x /bin/sh -- \
                -c "umask 077; exec $PROGRAM --config $CONFIG >>$LOG 2>&1"
            say "started the agent; nothing here starts services, so start it again after a boot: run this script"
            ;;
    esac
}

stop() {
    case $init in
        systemd) systemctl -q disable --now pinacle-agent 2>/dev/null || true ;;
        openrc) rc-service -q pinacle-agent stop 2>/dev/null || true ;;
        none)
            tries=0
            while runs; do
                if [ $tries -lt 15 ]; then kill "$pid" 2>/dev/null || true; else kill -9 "$pid" 2>/dev/null || true; fi
                tries=$((tries + 1))
                sleep 1
            done
            rm -f "$PIDFILE"
            ;;
    esac
}

# A token that is not good shall be told here, and not be found in a log later.
await() {
    tries=0
    mark='"grant":{'
    if [ -n "$token" ]; then
        printf '%s' "$token" >"$work/token"
        mark=$(digest "$work/token")'",'$mark
    fi
    while [ $tries -lt 60 ]; do
        if [ -s "$STATE/host_id" ] && grep -qF "$mark" "$STATE/enrolment.json" 2>/dev/null; then
            say "this machine is the host $(cat "$STATE/host_id")"
            return
        fi
        tries=$((tries + 1))
        sleep 0.5 2>/dev/null || sleep 1
    done
    case $init in
        systemd) journalctl -q -u pinacle-agent -n 5 --no-pager >&2 || true ;;
        *) tail -n 5 "$LOG" >&2 || true ;;
    esac
    die "the agent has not joined within 30 seconds; what it says is above"
}

# All that the orchestrator has made here.
delete_pods() {
    if has docker; then
        docker version >/dev/null 2>&1 || die "Docker does not answer, and pods' data is in it: start it, and run this again"
        for what in "ps -aq|rm -f" "network ls -q|network rm" "volume ls -q|volume rm"; do
            # shellcheck disable=SC2086
            found=$(docker ${what%%|*} --filter label=pinacle.pod)
            [ -n "$found" ] || continue
            # shellcheck disable=SC2086
            docker ${what#*|} $found >/dev/null || die "docker ${what#*|} did not work: run this again"
            say "docker ${what#*|}: $(printf '%s' "$found" | tr '\n' ' ')"
        done
    fi
    for family in iptables ip6tables; do
        rules=$("$family" -w 10 -S 2>/dev/null | grep -e '-i pinacle+ ' | sed 's/^-A/-D/')
        [ -n "$rules" ] || continue
        printf '%s\n' "$rules" | while read -r rule; do
            # shellcheck disable=SC2086
            "$family" -w 10 $rule
        done
        for chain in PINACLE-INPUT PINACLE-FORWARD; do
            ! "$family" -w 10 -F "$chain" 2>/dev/null || "$family" -w 10 -X "$chain"
        done
        say "removed what kept pods apart from $family"
    done
    gone /var/lib/pinacle
}

uninstall() {
    stop
    [ ! -e "$RC" ] || rc-update -q delete pinacle-agent default 2>/dev/null || true
    # First, or the orchestrator could make anew what is removed.
    home=$(grep "^$ssh_user:" /etc/passwd | cut -d : -f 6)
    keys=$home/.ssh/authorized_keys
    if [ -f "$keys" ] && grep -q " $MARK\$" "$keys"; then
        without_mark "$keys"
        say "the orchestrator may not log in as $ssh_user any more"
    fi
    [ $delete_data = no ] || delete_pods
    gone "$UNIT" "$RC" "$PROGRAM" "$CONFIG_DIR" "$STATE" "$LOG" "$PIDFILE"
    [ "$init" != systemd ] || systemctl daemon-reload
    if grep -q "^$USER_NAME:" /etc/passwd; then
        if has userdel; then userdel "$USER_NAME"; else deluser "$USER_NAME"; fi
        say "removed the user $USER_NAME"
    fi
    say "this machine is no host any more; remove it in Pinacle, too: pinacle host rm"
}

main() {
    token='' agent_file='' ssh_user=root with_docker=no do_uninstall=no delete_data=no
    while [ $# -gt 0 ]; do
        case $1 in
            --token | --token-file | --ssh-user | --agent-file)
                [ $# -ge 2 ] || die "$1 needs a value"
                case $1 in
                    --token) token=$2 ;;
                    --token-file) token=$(cat "$2") || die "cannot read $2" ;;
                    --ssh-user) ssh_user=$2 ;;
                    --agent-file) agent_file=$2 ;;
                esac
                shift
                ;;
            --with-docker) with_docker=yes ;;
            --uninstall) do_uninstall=yes ;;
            --delete-data) delete_data=yes ;;
            *) die "what is $1? See the head of $GATEWAY/install.sh" ;;
        esac
        shift
    done
    case $ssh_user in *[!a-zA-Z0-9._-]* | '') die "--ssh-user: that is no user's name" ;; esac
    case $token in *[!a-zA-Z0-9_-]*) die "--token: that is no token" ;; esac
    [ "$(id -u)" = 0 ] || die "run this as root"
    detect
    if [ $do_uninstall = yes ]; then
        uninstall
        return
    fi
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    [ -z "$CA" ] || printf '%s\n' "$CA" >"$work/ca.pem"
    program
    user
    [ $with_docker = no ] || install_docker
    docker_group
    settings
    ssh_key
    start
    await
    [ $changed = yes ] || say "nothing was to be changed"
}

# Last, so that nothing happens when only a part of this arrives.
main "$@"
