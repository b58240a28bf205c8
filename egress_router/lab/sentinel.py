"""Sends one frame that nobody understands, so that a capture can tell what came before it.

`python -I -S sentinel.py LINK NUMBER`: the frame's source MAC carries the number, its type is the
one set aside for local experiments (IEEE 802, 88b5), and it leaves by LINK.
"""

from __future__ import annotations

import socket
import sys

ETHERTYPE = 0x88B5
SHORTEST_FRAME_BYTES = 60  # IEEE 802.3 without its checksum


def render_mac(number: int) -> str:
    """The locally administered source MAC of a sentinel, `02:00:00:00:00:07`."""
    return (b"\x02" + number.to_bytes(5, "big")).hex(":")


def main() -> None:
    """Sends it."""
    link, number = sys.argv[1], int(sys.argv[2])
    source = bytes.fromhex(render_mac(number).replace(":", ""))
    frame = b"\xff" * 6 + source + ETHERTYPE.to_bytes(2, "big")
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind((link, 0))
        sock.send(frame.ljust(SHORTEST_FRAME_BYTES, b"\0"))


if __name__ == "__main__":
    main()
