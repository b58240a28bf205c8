"""Ends of connections that never became a relay."""

from __future__ import annotations

import contextlib
import socket
import struct

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER, on, 0 s: close sends RST


def reset(sock: socket.socket) -> None:
    """Closes a connection so that its peer cannot take it for one that served and ended."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    sock.close()
