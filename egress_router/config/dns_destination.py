"""EGRESS_DNS_PROXY_DESTINATION: text becomes ports and where each of them leads.

1. A line is `PORT HOST [PORT]`: listen on the first, connect to HOST on the second, by default the
   same one. `PORT udp HOST [PORT]` (and `tcp`, for symmetry) names the protocol.
2. HOST is an address, or a name with at least one dot. A name is absolute: no search list applies.
3. A port stands once for each protocol. The admin port is taken already.
4. Underscores within a label pass, as hosts on the wire carry them; one in front names a service
   (RFC 2782), which has no address.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, TypeAlias

from egress_router.config.addresses import parse_address, unusable
from egress_router.config.names import parse_name
from egress_router.config.text import Line, Problems, invalid_port, parse_port, quote, split_lines

if TYPE_CHECKING:
    from egress_router.errors import Problem

VARIABLE = "EGRESS_DNS_PROXY_DESTINATION"
EXPECTED = "expected PORT HOST [PORT], HOST an address or a name with a dot in it"
_NO_UDP = "udp takes the kernel's data path; expected EGRESS_DNS_PROXY_DATAPATH=kernel or auto"

Host: TypeAlias = str | IPv4Address | IPv6Address


class Protocol(StrEnum):
    """What a port carries."""

    TCP = "tcp"
    UDP = "udp"


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsDestination:
    """One line: connections to `port` go to `host` at `target_port`.

    A name is in normal form: lower case, no dot at its end.
    """

    line: int
    text: str
    protocol: Protocol
    port: int
    host: Host
    target_port: int


def parse_dns_destinations(
    text: str | None, *, variable: str = VARIABLE, admin_port: int | None = None, udp: bool = False
) -> tuple[DnsDestination, ...]:
    """The destinations a list describes, None if it is not set; messages name `variable`.

    `udp`: whether the data path carries it.
    Raises ConfigurationError with every problem of the list.
    """
    problems = Problems(variable)
    lines = split_lines(text or "", problems)
    if not lines and not problems.found:
        problems.add(f"Must specify {VARIABLE}: the list has no line, {EXPECTED}")
    parsed = [_parse_line(line, problems) for line in lines]
    found = tuple(filter(None, parsed))
    for one in found:
        if one.protocol is Protocol.UDP and not udp:
            problems.add(f"Bad destination {quote(one.text)}: {_NO_UDP}", line=one.line)
    _check_ports(found, admin_port, problems)
    problems.found.sort(key=_line_of)
    problems.raise_if_any()
    return found


def render_dns_check(destinations: tuple[DnsDestination, ...]) -> dict[str, object]:
    """The object that `check dns --json` prints; `protocol` stands with udp ports alone."""
    return {
        "listeners": [
            {
                "line": one.line,
                "port": one.port,
                "host": str(one.host),
                "target_port": one.target_port,
            }
            | ({} if one.protocol is Protocol.TCP else {"protocol": str(one.protocol)})
            for one in destinations
        ]
    }


def _parse_line(line: Line, problems: Problems) -> DnsDestination | None:
    try:
        protocol, port_text, host_text, target_text = _split(line)
        host = _parse_host(host_text)
    except ValueError as fault:
        problems.add(f"Bad destination {quote(line.text)}: {fault}; {EXPECTED}", line=line)
        return None
    port = parse_port(port_text)
    target_port = port if target_text is None else parse_port(target_text)
    if port is None or target_port is None:
        wrong = port_text if port is None else target_text or ""
        problems.add(f"{invalid_port(wrong)}: {quote(line.text)}", line=line)
        return None
    return DnsDestination(
        line=line.number,
        text=line.text,
        protocol=protocol,
        port=port,
        host=host,
        target_port=target_port,
    )


def _split(line: Line) -> tuple[Protocol, str, str, str | None]:
    """Protocol, port, host and target port, the last one None where it is left out."""
    port, *rest = line.fields
    if not port.isascii() or not port.isdecimal():
        raise ValueError(f"{quote(port)} is no port")
    protocol = Protocol.TCP
    # A host of one label is no destination, so these words can stand for nothing else.
    if rest and rest[0].lower() in tuple(Protocol):
        protocol = Protocol(rest.pop(0).lower())
    match rest:
        case [host]:
            return protocol, port, host, None
        case [host, target] if target.isascii() and target.isdecimal():
            return protocol, port, host, target
        case [_, target]:
            raise ValueError(f"{quote(target)} is no port")
    raise ValueError("a host is missing" if not rest else "it has too many fields")


def _parse_host(text: str) -> Host:
    if ":" in text or text.replace(".", "").isdecimal():
        address = parse_address(text)
        wrong = address if isinstance(address, str) else unusable(address)
        if isinstance(address, str) or wrong is not None:
            raise ValueError(f"{quote(text)} is no host's address: {wrong}")
        return address
    if "*" in text:
        raise ValueError("a wildcard names no host")
    if text.startswith("_") or "._" in text:
        raise ValueError("a label that begins with an underscore names a service, not a host")
    name = parse_name(text, underscores=True)
    if "." not in name:
        raise ValueError("a name of one label needs a search list, and none is used")
    return name


def _check_ports(
    destinations: tuple[DnsDestination, ...], admin_port: int | None, problems: Problems
) -> None:
    used: dict[tuple[Protocol, int], DnsDestination] = {}
    for one in destinations:
        first = used.setdefault((one.protocol, one.port), one)
        if first is not one:
            problems.add(
                f"Proxy port {one.port} already used, must be unique for each destination: "
                f"{quote(one.text)} repeats line {first.line}",
                line=one.line,
            )
        if one.protocol is Protocol.TCP and one.port == admin_port:
            problems.add(
                f"Proxy port {one.port} already used, must be unique for each destination: "
                f"{quote(one.text)} names the port of EGRESS_ADMIN_PORT",
                line=one.line,
            )


def _line_of(problem: Problem) -> int:
    return problem.line or 0
