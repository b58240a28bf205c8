"""Every address of the lab's world, in one place.

The outside networks are documentation ranges (RFC 5737, RFC 3849); the cluster side uses the
ranges OKD installs with, so that routes look as they do in a real pod.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One host's address in either family."""

    v4: IPv4Address
    v6: IPv6Address

    def of(self, version: int) -> Address:
        """The address of IP version 4 or 6."""
        return self.v4 if version == 4 else self.v6


@dataclass(frozen=True, slots=True, kw_only=True)
class Networks:
    """One subnet in either family."""

    v4: IPv4Network
    v6: IPv6Network

    def of(self, version: int) -> Network:
        """The network of IP version 4 or 6."""
        return self.v4 if version == 4 else self.v6


def _pair(v4: str, v6: str) -> Pair:
    return Pair(v4=IPv4Address(v4), v6=IPv6Address(v6))


def _networks(v4: str, v6: str) -> Networks:
    return Networks(v4=IPv4Network(v4), v6=IPv6Network(v6))


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """The address plan; `pod`, `source` and `partner` are the ones that checks ask about."""

    client: Pair
    client_gateway: Pair
    client_network: Networks

    pod: Pair
    twin: Pair
    pod_gateway: Pair
    pod_network: Networks
    cluster_network: Networks

    dns: Pair
    dns_gateway: Pair
    service_network: Networks
    join_network: Networks

    node: Pair
    gateway: Pair
    outsider: Pair
    multus: Pair
    source: Pair
    lan_network: Networks

    partner_gateway: Pair
    partners: tuple[Pair, ...]
    partner_network: Networks

    @property
    def partner(self) -> Pair:
        """The first of the partner's addresses."""
        return self.partners[0]


ADDRESSES = Addresses(
    client=_pair("10.128.2.10", "fd00:10:128:2::10"),
    client_gateway=_pair("10.128.2.1", "fd00:10:128:2::1"),
    client_network=_networks("10.128.2.0/24", "fd00:10:128:2::/64"),
    pod=_pair("10.128.0.5", "fd00:10:128::5"),
    twin=_pair("10.128.0.6", "fd00:10:128::6"),
    pod_gateway=_pair("10.128.0.1", "fd00:10:128::1"),
    pod_network=_networks("10.128.0.0/24", "fd00:10:128::/64"),
    cluster_network=_networks("10.128.0.0/14", "fd00:10:128::/48"),
    dns=_pair("172.30.0.10", "fd00:172:30::10"),
    dns_gateway=_pair("172.30.0.1", "fd00:172:30::1"),
    service_network=_networks("172.30.0.0/16", "fd00:172:30::/112"),
    join_network=_networks("100.64.0.0/16", "fd98::/64"),
    node=_pair("192.168.12.10", "2001:db8:12::10"),
    gateway=_pair("192.168.12.1", "2001:db8:12::1"),
    outsider=_pair("192.168.12.66", "2001:db8:12::66"),
    multus=_pair("192.168.12.50", "2001:db8:12::50"),
    source=_pair("192.168.12.99", "2001:db8:12::99"),
    lan_network=_networks("192.168.12.0/24", "2001:db8:12::/64"),
    partner_gateway=_pair("203.0.113.1", "2001:db8:113::1"),
    partners=(
        _pair("203.0.113.10", "2001:db8:113::10"),
        _pair("203.0.113.11", "2001:db8:113::11"),
        _pair("203.0.113.12", "2001:db8:113::12"),
        _pair("203.0.113.25", "2001:db8:113::25"),
    ),
    partner_network=_networks("203.0.113.0/24", "2001:db8:113::/64"),
)
