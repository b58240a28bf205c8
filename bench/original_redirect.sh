#!/bin/sh
# The originals' way to set a redirect router up, written anew for the benchmark: address, link and
# route by iproute2, one announcement, one rule for each destination.
#
# EGRESS_SOURCE (an address), EGRESS_GATEWAY, DESTINATIONS (a file). All rules go in by one call of
# nft, which is the kindest reading of theirs. The route to the cluster's networks stands for what
# their network plugin put on eth0.
set -eu

ip address add "$EGRESS_SOURCE/32" dev macvlan0
ip link set up dev macvlan0
ip route add "$EGRESS_GATEWAY/32" dev macvlan0
ip route add 10.128.0.0/14 via 10.128.0.1 dev eth0
ip route replace default via "$EGRESS_GATEWAY" dev macvlan0
arping -q -A -c 1 -I macvlan0 "$EGRESS_SOURCE"

rules() {
    echo 'table ip original'
    echo 'delete table ip original'
    echo 'table ip original {'
    echo '  chain prerouting { type nat hook prerouting priority -100;'
    while read -r port protocol address target; do
        case "$port" in
        '' | '#'*) continue ;;
        *[!0-9]*) echo "bad port: $port" >&2; exit 1 ;;
        esac
        case "$protocol" in
        tcp | udp) ;;
        *) echo "bad protocol: $protocol" >&2; exit 1 ;;
        esac
        echo "    iifname eth0 $protocol dport $port dnat to $address${target:+:$target}"
    done <"$DESTINATIONS"
    echo '  }'
    echo '  chain postrouting { type nat hook postrouting priority 100;'
    echo "    oifname macvlan0 snat to $EGRESS_SOURCE"
    echo '  }'
    echo '}'
}
rules | nft -f -
