"""The grammar of EGRESS_DESTINATION.

1. `PORT[-PORT] PROTOCOL ADDRESS [PORT]`, or `ADDRESS` alone: the fallback for everything else.
2. Fallbacks stand last, one per family; comments may follow them.
3. A range keeps its ports and takes no target port.
4. A port belongs to one line per protocol and family: a dual-stack router may send port 80 of IPv4
   and port 80 of IPv6 to two servers, since which one is meant is never in doubt.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from egress_router.config.addresses import Address, parse_address, unusable
from egress_router.config.text import (
    PORT_MAX,
    Line,
    Problems,
    invalid_port,
    parse_port,
    quote,
    split_lines,
)

if TYPE_CHECKING:
    from egress_router.config.identity import Identity

_EXPECTED = "expected PORT[-PORT] PROTOCOL ADDRESS [PORT], or ADDRESS"


class Protocol(enum.StrEnum):
    """Transport protocols that a destination can name."""

    TCP = "tcp"
    UDP = "udp"
    SCTP = "sctp"


_PROTOCOLS = {str(protocol): protocol for protocol in Protocol}


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Ports `first` to `last` of the pod go to `address`, to `target_port` or unchanged (None)."""

    line: int
    text: str
    protocol: Protocol
    first: int
    last: int
    address: Address
    target_port: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fallback:
    """Every TCP and UDP port of one family that no destination names goes to `address`."""

    line: int
    text: str
    address: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Destinations:
    """All of EGRESS_DESTINATION, in the order of its lines."""

    rules: tuple[Destination, ...] = ()
    fallbacks: tuple[Fallback, ...] = ()

    def fallback(self, version: int) -> Fallback | None:
        """The fallback of a family, 4 or 6."""
        return next((f for f in self.fallbacks if f.address.version == version), None)


def parse_destinations(text: str | None, identity: Identity, problems: Problems) -> Destinations:
    """Text to destinations; what is wrong goes to `problems` and is left out of the result."""
    if text is None or not text.strip():
        problems.add("EGRESS_DESTINATION unspecified: expected at least one destination")
        return Destinations()
    before = len(problems.found)
    lines = split_lines(text, problems)
    if not lines and len(problems.found) == before:
        problems.add("EGRESS_DESTINATION unspecified: the list holds comments only")
    parser = _Parser(identity, problems)
    for line in lines:
        parser.feed(line)
    return Destinations(rules=tuple(parser.rules), fallbacks=tuple(parser.fallbacks))


class _Parser:
    """Holds what one line must know of those before it: used ports and fallbacks."""

    def __init__(self, identity: Identity, problems: Problems) -> None:
        self.rules: list[Destination] = []
        self.fallbacks: list[Fallback] = []
        self._problems = problems
        self._own = {source.version: source.address for source in identity.sources}
        self._used: dict[tuple[Protocol, int], bytearray] = {}
        self._judged: dict[str, Address | str] = {}
        self._misplaced = False

    def feed(self, line: Line) -> None:
        if len(line.fields) == 1 and isinstance(parse_address(line.fields[0]), Address):
            self._feed_fallback(line)
            return
        if self.fallbacks and not self._misplaced:
            self._misplaced = True
            last = self.fallbacks[-1]
            self._problems.add(
                "EGRESS_DESTINATION fallback IP must be the last line: "
                f"{quote(last.text)} is followed by {quote(line.text)}",
                line=last.line,
            )
        self._feed_rule(line)

    def _feed_fallback(self, line: Line) -> None:
        address = self._address(line, line.fields[0])
        if address is None:
            return
        if any(f.address.version == address.version for f in self.fallbacks):
            self._problems.add(
                "EGRESS_DESTINATION fallback IP must be the last line: "
                f"{quote(line.text)} is a second IPv{address.version} fallback; expected one",
                line=line,
            )
            return
        self.fallbacks.append(Fallback(line=line.number, text=line.text, address=address))

    def _feed_rule(self, line: Line) -> None:
        if len(line.fields) not in {3, 4}:
            self._invalid(line, _EXPECTED)
            return
        ports = self._ports(line)
        protocol = self._protocol(line)
        address = self._address(line, line.fields[2])
        target = self._target_port(line)
        if ports is None or protocol is None or address is None or target is _BAD:
            return
        first, last = ports
        if self._claim(line, protocol, address, first, last):
            self.rules.append(
                Destination(
                    line=line.number,
                    text=line.text,
                    protocol=protocol,
                    first=first,
                    last=last,
                    address=address,
                    target_port=target,
                )
            )

    def _ports(self, line: Line) -> tuple[int, int] | None:
        words = line.fields[0].split("-")
        if len(words) > 2 or not all(words):
            self._invalid(line, _EXPECTED)
            return None
        ports = [self._port(line, word) for word in words]
        first, last = ports[0], ports[-1]
        if first is None or last is None:
            return None
        if first > last:
            self._invalid(line, f"the range {quote(line.fields[0])} ends before it begins")
            return None
        return first, last

    def _port(self, line: Line, word: str) -> int | None:
        if (port := parse_port(word)) is None:
            if word.isascii() and word.isdigit():
                self._invalid(line, invalid_port(word))
            else:
                self._invalid(line, f"{_EXPECTED}; {invalid_port(word)}")
        return port

    def _protocol(self, line: Line) -> Protocol | None:
        word = line.fields[1]
        if protocol := _PROTOCOLS.get(word.lower() if word.isascii() else ""):
            return protocol
        self._invalid(line, f"unknown protocol {quote(word)}, expected tcp, udp or sctp")
        return None

    def _address(self, line: Line, word: str) -> Address | None:
        address = self._judged.get(word)  # a long list names few servers, many times
        if address is None:
            address = self._judged[word] = self._judge_address(word)
        if isinstance(address, str):
            self._invalid(line, f"{quote(word)}{address}")
            return None
        return address

    def _judge_address(self, word: str) -> Address | str:
        """The address of a server, or what is wrong with the word, to be read behind it."""
        address = parse_address(word)
        if isinstance(address, str):
            return f": {address}"
        if kind := unusable(address):
            return f" is {kind}, expected a server's address"
        if address.version == 6 and address.is_link_local:
            return " is a link-local address, expected a server's address"
        own = self._own.get(address.version)
        if self._own and own is None:
            return f" needs an IPv{address.version} address in EGRESS_SOURCE"
        if address == own:
            return " is the router's own source address"
        return address

    def _target_port(self, line: Line) -> int | None:
        if len(line.fields) == 3:
            return None
        if "-" in line.fields[0]:
            self._invalid(line, "a range keeps its ports, expected no target port")
            return _BAD
        port = self._port(line, line.fields[3])
        return _BAD if port is None else port

    def _claim(
        self, line: Line, protocol: Protocol, address: Address, first: int, last: int
    ) -> bool:
        used = self._used.setdefault((protocol, address.version), bytearray(PORT_MAX + 1))
        taken = used.find(1, first, last + 1)
        if taken >= 0:
            self._problems.add(
                f"EGRESS_DESTINATION localport {taken} is already used, must be unique for each "
                f"destination: {quote(line.text)}",
                line=line,
            )
            return False
        used[first : last + 1] = b"\x01" * (last + 1 - first)
        return True

    def _invalid(self, line: Line, reason: str) -> None:
        self._problems.add(
            f"EGRESS_DESTINATION value {quote(line.text)} is invalid: {reason}", line=line
        )


_BAD = -1  # a target port that was there and wrong; None means there was none
