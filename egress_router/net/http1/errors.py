"""Whose fault a bad message is: the client's (a RefusalError) or the upstream's (answered 502)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from egress_router.errors import RefusalError

BAD_GATEWAY = 502  # RFC 9110 §15.6.3: an invalid response from an inbound server


class UpstreamProtocolError(RefusalError):
    """The upstream sent what is no HTTP/1.1 response; the client is owed a 502."""

    def __init__(self, reason: str) -> None:
        super().__init__(BAD_GATEWAY, f"the upstream's answer is refused: {reason}")


Fault: TypeAlias = Callable[[int, str], RefusalError]


def client_fault(status: int, reason: str) -> RefusalError:
    """The error for a bad request."""
    return RefusalError(status, reason)


def upstream_fault(_status: int, reason: str) -> RefusalError:
    """The error for a bad response: 502, whatever a client would be told for the same."""
    return UpstreamProtocolError(reason)
