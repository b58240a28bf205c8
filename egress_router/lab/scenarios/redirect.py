"""Redirect: the kernel sends what reaches the pod's ports on to the partner, from the source."""

from __future__ import annotations

from typing import TYPE_CHECKING

from egress_router.lab import checks
from egress_router.lab.addresses import ADDRESSES, Address
from egress_router.lab.checks import Calls
from egress_router.lab.scenario import Check, Scenario

if TYPE_CHECKING:
    from egress_router.lab.world import Lab

MODE = "redirect"
NAME = "www.partner.test."
FALLBACK_PORT = 7777  # named by no line of the destinations

ENVIRONMENT = {
    "EGRESS_ROUTER_MODE": "init",
    "EGRESS_SOURCE": "192.168.12.99/24,2001:db8:12::99/64",
    "EGRESS_GATEWAY": "192.168.12.1,2001:db8:12::1",
    "EGRESS_DESTINATION": """\
80 tcp 203.0.113.10
8080 tcp 203.0.113.11 80
5000-5010 udp 203.0.113.12
8443 tcp 2001:db8:113::11 443
203.0.113.25
2001:db8:113::25
""",
}

FIRST, SECOND, THIRD, FALLBACK = ADDRESSES.partners


def arrange(lab: Lab) -> None:
    """Starts the partner's ports and the cluster's DNS."""
    lab.start_partner(tcp=(80, 443, FALLBACK_PORT), udp=(*range(5000, 5011), FALLBACK_PORT))
    lab.start_nameserver(
        f"{NAME} 5 IN A {ADDRESSES.partner.v4}", f"{NAME} 5 IN AAAA {ADDRESSES.partner.v6}"
    )


def _redirected(
    title: str, protocol: str, ports: tuple[int, ...], server: Address, there: tuple[int, ...] = ()
) -> Check:
    calls = Calls(protocol=protocol, ports=ports, server=server, server_ports=there or ports)
    return Check(title=title, act=calls)


def _unbound(server: Address) -> Check:
    calls = Calls(
        host="pod", address=server, protocol="tcp", ports=(80,), server=server, server_ports=(80,)
    )
    return Check(title=f"unbound socket in the pod, IPv{server.version}", act=calls)


SCENARIO = Scenario(
    mode=MODE,
    summary="connections to the pod's ports leave from the source address",
    arrange=arrange,
    environment=ENVIRONMENT,
    checks=(
        _redirected("TCP port", "tcp", (80,), FIRST.v4),
        _redirected("TCP port to another port", "tcp", (8080,), SECOND.v4, (80,)),
        _redirected("UDP range", "udp", (5000, 5005, 5010), THIRD.v4),
        _redirected("IPv6", "tcp", (8443,), SECOND.v6, (443,)),
        _redirected("fallback, TCP", "tcp", (FALLBACK_PORT,), FALLBACK.v4),
        _redirected("fallback, UDP", "udp", (FALLBACK_PORT,), FALLBACK.v4),
        _redirected("fallback, IPv6", "tcp", (FALLBACK_PORT,), FALLBACK.v6),
        _unbound(FIRST.v4),
        _unbound(FIRST.v6),
        Check(title="DNS stays in the cluster", act=checks.dns_stays_inside(NAME)),
        Check(title="outsider cannot connect", act=checks.outsider_cannot_connect((80, 8443))),
        Check(title="outsider cannot route", act=checks.outsider_cannot_route),
        Check(title="cable out", act=checks.cable_out(80)),
        Check(title="egress link down", act=checks.egress_link_down(80, MODE, ENVIRONMENT)),
        Check(title="stop", act=checks.stops(MODE, {})),
    ),
)
