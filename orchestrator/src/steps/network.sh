set -eu
name=$1 n=$2 pod=$3
shift 3
PATH=$PATH:/usr/sbin:/sbin

# What pods send to the host itself, and what they send to each other or to blocked networks, is dropped. The rules are
# compared with what is there, so that most of the time one look is all; one copy of this at a time changes them.
input='-A PINACLE-INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN
-A PINACLE-INPUT -j DROP'
forward='-A PINACLE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN
-A PINACLE-FORWARD -o pinacle+ -j DROP'
while [ "$1" != -- ]; do
    forward="$forward
-A PINACLE-FORWARD -d $1 -j DROP"
    shift
done
shift

has() {
    printf '%s\n' "$there" | grep -qxF -e "$1"
}

chain() {
    if [ "$(printf '%s\n' "$there" | grep "^-A $1 " || :)" != "$2" ]; then
        iptables -w 10 -N "$1" 2>/dev/null || iptables -w 10 -F "$1"
        printf '%s\n' "$2" | while read -r rule; do
            # shellcheck disable=SC2086
            iptables -w 10 $rule
        done
    fi
}

jump() {
    has "-A $1 -i pinacle+ -j $2" || iptables -w 10 -I "$1" -i pinacle+ -j "$2"
}

(
    flock -w 30 9
    there=$(iptables -w 10 -S)
    chain PINACLE-INPUT "$input"
    chain PINACLE-FORWARD "$forward"
    has '-N DOCKER-USER' || iptables -w 10 -N DOCKER-USER
    jump INPUT PINACLE-INPUT
    jump DOCKER-USER PINACLE-FORWARD
    if command -v ip6tables >/dev/null && there=$(ip6tables -w 10 -S INPUT 2>/dev/null); then
        has '-A INPUT -i pinacle+ -j DROP' || ip6tables -w 10 -I INPUT -i pinacle+ -j DROP
    fi
) 9>/var/lib/pinacle/filter.lock

create() {
    docker network create --driver bridge --subnet "10.249.$n.0/24" --gateway "10.249.$n.1" \
        --opt "com.docker.network.bridge.name=pinacle$n" "$@" "$name"
}

if said=$(create "$@" 2>&1); then
    echo "$said"
    exit 0
fi
case $said in
*'already exists'*) ;;
*)
    echo "$said" >&2
    exit 1
    ;;
esac
found=$(docker network inspect --format '{{(index .IPAM.Config 0).Subnet}} {{index .Labels "pinacle.pod"}}' "$name")
if [ "$found" = "10.249.$n.0/24 $pod" ]; then
    echo "adopted $name"
    exit 0
fi
docker network rm "$name" >/dev/null
create "$@"
