"""Destinations as they are written on the command line, and what the list says of them."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from egress_router.config.settings import Environment
from egress_router.programs.doctor.names import _denied, split_target


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("www.partner.test:443", ("www.partner.test", 443)),
        ("203.0.113.25:1", ("203.0.113.25", 1)),
        ("[2001:db8::1]:65535", ("2001:db8::1", 65535)),
    ],
)
def test_destinations(text: str, target: tuple[str, int]) -> None:
    """A name, an address, and an IPv6 address in brackets, each with its port."""
    assert split_target(text) == target


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host",
        "host:",
        ":80",
        "host:0",
        "host:65536",
        "2001:db8::1:80",
        "a b:80",
        "h:８０",
        "127.1:80",
    ],
)
def test_no_destinations(text: str) -> None:
    """All else is refused in words."""
    with pytest.raises(ValueError, match=r"is no destination|neither an address nor a name"):
        split_target(text)


@pytest.mark.parametrize(
    ("rules", "denied"),
    [
        ("", False),
        ("*", False),
        ("!www.partner.test\n*", True),
        ("203.0.113.0/24", False),
        ("198.51.100.0/24", True),
        ("not a rule", False),
    ],
)
def test_the_list_is_asked(rules: str, denied: bool) -> None:
    """Where the pod has an HTTP list, its refusal is told; a broken list is not judged here."""
    environment = Environment(variables={"EGRESS_HTTP_PROXY_DESTINATION": rules})
    addresses = (ip_address("203.0.113.25"),)
    assert ("denied" in _denied(environment, "www.partner.test:443", addresses)) == denied
