"""The nameservers as /status tells of them, for the modes that look names up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from egress_router.net.resolver import Resolver
    from egress_router.net.servers import ServerState

_STATES = {True: "answers", False: "silent", None: "not asked yet"}


def nameserver_rows(states: Iterable[ServerState]) -> list[dict[str, Any]]:
    """One row for each nameserver."""
    return [
        {"nameserver": str(one.server.address), "state": _STATES[one.answered]} for one in states
    ]


def nameserver_warnings(resolver: Resolver) -> tuple[str, ...]:
    """What is wrong with them, if anything is."""
    states = resolver.nameservers()
    if not states:
        return ("DNS: /etc/resolv.conf names no nameserver",)
    silent = [str(one.server.address) for one in states if one.answered is False]
    if not silent:
        return ()
    none_is_left = len(silent) == len(states)
    who = "no nameserver answers" if none_is_left else "a nameserver does not answer"
    return (f"DNS: {who}: {', '.join(silent)}",)
