"""The network state of a host as text that can be compared: before and after, or world by world."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from egress_router.lab.spec import Host
    from egress_router.lab.world import Lab

# No counters, no ages, no neighbours: what a host was told, not what happened on it since.
_SCRIPT = r"""
echo '== links'; ip -o -d link | sed 's/ qdisc [a-z]*//'  # a link that was up once keeps its own
echo '== addresses'; ip -o addr | sed 's/ tentative//'  # a matter of time
echo '== rules'; ip rule; ip -6 rule
echo '== routes'; ip -4 route show table all
ip -6 route show table all | grep -v '^local fe80:'  # they come a second or two later
echo '== ruleset'; nft -s list ruleset
echo '== settings'
for name in /proc/sys/net/ipv4/conf/*/rp_filter /proc/sys/net/ipv4/conf/*/forwarding \
  /proc/sys/net/ipv4/conf/*/arp_ignore /proc/sys/net/ipv4/conf/*/arp_announce \
  /proc/sys/net/ipv6/conf/*/forwarding /proc/sys/net/ipv6/conf/*/disable_ipv6 \
  /proc/sys/net/ipv6/conf/*/accept_ra
do echo "$name $(cat $name)"; done
"""
_MAC = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}")
_LINK_LOCAL = re.compile(r"fe80::[0-9a-f:]+")


def observe_state(lab: Lab, host: Host = "pod") -> str:
    """Links, addresses, rules, routes, ruleset and settings of a host, as they are."""
    return lab.run(host, ("sh", "-c", _SCRIPT)).stdout


def comparable(lab: Lab, text: str) -> str:
    """The text without what differs between two equal worlds: names, numbers, random MACs."""
    text = text.replace(lab.prefix, "")
    text = re.sub(r"^[0-9]+: ", "", text, flags=re.MULTILINE)
    text = re.sub(r"@if[0-9]+|link-netns \S+|link-netnsid [0-9]+", "", text)
    text = _MAC.sub("MAC", text)
    return _LINK_LOCAL.sub(lambda found: found[0] if found[0] == "fe80::5" else "fe80::MAC", text)
