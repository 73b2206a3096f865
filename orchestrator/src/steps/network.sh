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

chain() {
    if [ "$(iptables -w 10 -S "$1" 2>/dev/null | grep '^-A' || :)" != "$2" ]; then
        iptables -w 10 -N "$1" 2>/dev/null || iptables -w 10 -F "$1"
        printf '%s\n' "$2" | while read -r rule; do
            # shellcheck disable=SC2086
            iptables -w 10 $rule
        done
    fi
}

jump() {
    iptables -w 10 -C "$1" -i pinacle+ -j "$2" 2>/dev/null || iptables -w 10 -I "$1" -i pinacle+ -j "$2"
}

(
    flock -w 30 9
    chain PINACLE-INPUT "$input"
    chain PINACLE-FORWARD "$forward"
    iptables -w 10 -N DOCKER-USER 2>/dev/null || :
    jump INPUT PINACLE-INPUT
    jump DOCKER-USER PINACLE-FORWARD
    if command -v ip6tables >/dev/null && ip6tables -w 10 -S INPUT >/dev/null 2>&1; then
        ip6tables -w 10 -C INPUT -i pinacle+ -j DROP 2>/dev/null || ip6tables -w 10 -I INPUT -i pinacle+ -j DROP
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
