"""What passed a link, as text lines of tcpdump, complete up to the moment of asking."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Self

from egress_router.lab.sentinel import ETHERTYPE, render_mac

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress_router.lab.process import Process

_NUMBERS = itertools.count(1)


def tcpdump_argv(link: str, expression: str) -> tuple[str, ...]:
    """The command that prints each packet that matches, and every sentinel."""
    options = ("-i", link, "-n", "-e", "-l", "-tt", "-p", "--immediate-mode")
    matched = f"ether proto {ETHERTYPE} or ({expression})"
    return ("tcpdump", *options, *((matched,) if expression else ()))  # no expression: everything


class Capture:
    """A running capture; `with` stops it."""

    def __init__(self, process: Process, send_sentinel: Callable[[int], None]) -> None:
        self._process = process
        self._send_sentinel = send_sentinel
        # Printed once the socket is open and the filter attached: nothing is missed from here on.
        process.wait_for_line("listening on")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def packets(self) -> tuple[str, ...]:
        """One line for each packet that matched so far.

        A sentinel is sent over the link and waited for; whatever passed before it has been printed
        by then. The link must be up.
        """
        number = next(_NUMBERS)
        self._send_sentinel(number)
        self._process.wait_for_line(render_mac(number))
        lines = []
        for line in self._process.output().splitlines():
            if render_mac(number) in line:
                break
            if line and not line[0].isspace() and f"0x{ETHERTYPE:04x}" not in line:
                lines.append(line)
        return tuple(lines)

    def stop(self) -> None:
        """Ends it."""
        self._process.stop()
