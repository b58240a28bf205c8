from dataclasses import replace
from ipaddress import ip_network

import pytest

from egress_router.kernel.netlink import render_route, render_rule
from egress_router.plan.state import MARK, Route, RouteKind, Rule
from model.worlds import route

DEFAULT = route("default", "eth0", "10.128.0.1")


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (DEFAULT, "default via 10.128.0.1 dev eth0 table 254"),
        (route("10.0.0.0/8", "eth0", table=8686), "10.0.0.0/8 dev eth0 table 8686"),
        (
            replace(DEFAULT, link=None, gateway=None, kind=RouteKind.UNREACHABLE),
            "unreachable default table 254",
        ),
    ],
)
def test_routes(shown: Route, text: str) -> None:
    """A route in a message reads as it does in `ip route`."""
    assert render_route(shown) == text


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (Rule(version=4, mark=MARK), "priority 8686 fwmark 0x20000000 lookup 8686"),
        (
            Rule(version=4, destination=ip_network("10.0.0.0/8"), destination_port=53),
            "priority 8686 to 10.0.0.0/8 dport 53 lookup 8686",
        ),
        (
            Rule(version=6, priority=8688, source=ip_network("fd00::5")),
            "priority 8688 from fd00::5/128 lookup 8686",
        ),
    ],
)
def test_rules(shown: Rule, text: str) -> None:
    """A rule in a message reads as it does in `ip rule`."""
    assert render_rule(shown) == text
