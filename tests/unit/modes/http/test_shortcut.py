"""Which heads of CONNECT are kept to be known again."""

from __future__ import annotations

import pytest

from egress_router.modes.http.shortcut import (
    HEAD_MAX_BYTES,
    HEADS_MAX,
    KnownTunnel,
    KnownTunnels,
)
from egress_router.net.http1.head_reader import request_reader
from egress_router.net.http1.lines import HeadLimits
from egress_router.policy.target import parse_authority

LIMITS = HeadLimits(first_line_bytes=8192, header_bytes=8192, headers=100, total_bytes=65536)


def noted(
    tunnels: KnownTunnels, fields: str = "", target: str = "partner.test:443"
) -> tuple[bytes, KnownTunnel]:
    """A head with these fields, offered to the memory."""
    whole = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{fields}\r\n".encode()
    head = request_reader(LIMITS).feed(whole)
    assert head is not None
    known = KnownTunnel(target=parse_authority(target), note=None)
    tunnels.note(whole, head, known)
    return whole, known


@pytest.mark.parametrize(
    "fields",
    ["", "User-Agent: curl/7.88.1\r\nProxy-Connection: Keep-Alive\r\n", "ACCEPT: */*\r\n"],
)
def test_a_plain_head_is_known_again(fields: str) -> None:
    """By its very bytes, and by no others."""
    tunnels = KnownTunnels()
    whole, known = noted(tunnels, fields)
    assert tunnels.get(whole) is known
    assert tunnels.get(whole.replace(b"Host", b"host")) is None
    assert tunnels.get(whole + b"x") is None


@pytest.mark.parametrize(
    "fields",
    [
        "Proxy-Authorization: Basic c2VjcmV0\r\n",
        "X-Token: secret\r\n",
        "Cookie: a=b\r\n",
        f"User-Agent: {'x' * HEAD_MAX_BYTES}\r\n",
    ],
)
def test_what_may_hold_a_secret_or_is_long_is_not_kept(fields: str) -> None:
    """A head with a field that is not on the list is judged anew each time."""
    tunnels = KnownTunnels()
    whole, _ = noted(tunnels, fields)
    assert tunnels.get(whole) is None
    assert len(tunnels) == 0


def test_the_oldest_is_forgotten() -> None:
    """However many targets clients ask for, the memory stays within its bound."""
    tunnels = KnownTunnels()
    first, _ = noted(tunnels, target="first.test:443")
    for number in range(HEADS_MAX):
        last, _ = noted(tunnels, target=f"n{number}.test:443")
    assert len(tunnels) == HEADS_MAX
    assert tunnels.get(first) is None
    assert tunnels.get(last) is not None
