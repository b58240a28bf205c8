"""The name of the admin socket, shared by the endpoint and by the programs that ask it.

A module of its own, without imports: an exec probe must not pay for what the endpoint needs.
"""

from __future__ import annotations

SOCKET_PREFIX = "egress-router/"


def socket_name(mode: str) -> str:
    r"""The abstract address of a mode's endpoint, as `bind` takes it: `\0egress-router/http`."""
    return f"\0{SOCKET_PREFIX}{mode}"
