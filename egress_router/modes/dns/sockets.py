"""Ends of connections that never became a relay."""

from __future__ import annotations

from typing import TYPE_CHECKING

from egress_router.net.endpoint import arm_reset

if TYPE_CHECKING:
    import socket


def reset(sock: socket.SocketType) -> None:
    """Closes a connection so that its peer cannot take it for one that served and ended."""
    arm_reset(sock)
    sock.close()
