"""A router's environment for a world: the same destinations in each of its families (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from egress_router.lab.addresses import ADDRESSES

if TYPE_CHECKING:
    from egress_router.lab.addresses import Address
    from egress_router.lab.spec import LabSpec

FALLBACK_PORT = 7777  # named by no line of the destinations
TCP_PORTS = (80, *range(6000, 6006), FALLBACK_PORT)  # what the partner has to serve
UDP_PORTS = (80, *range(5000, 5011), FALLBACK_PORT)


def router_environment(
    spec: LabSpec, *, fallback: bool = True, **changes: str | None
) -> dict[str, str]:
    """Source, gateway and destinations for `init`; `changes` replace variables, None takes one out.

    The probe for the source is short: every station of a world answers within a millisecond.
    """
    versions = spec.family.versions
    sources = (
        f"{ADDRESSES.source.of(v)}/{ADDRESSES.lan_network.of(v).prefixlen}" for v in versions
    )
    environment: dict[str, str | None] = {
        "EGRESS_SOURCE": ",".join(sources),
        "EGRESS_GATEWAY": ",".join(str(ADDRESSES.gateway.of(v)) for v in versions),
        "EGRESS_DESTINATION": "\n".join(destination_lines(versions, fallback=fallback)),
        "EGRESS_PROBE_SECONDS": "0.1",
        **changes,
    }
    return {name: value for name, value in environment.items() if value is not None}


def destination_lines(versions: tuple[int, ...], *, fallback: bool) -> tuple[str, ...]:
    """One line of every form for each family; the fallbacks come last, as they must."""
    lines, fallbacks = [], []
    for version in versions:
        first, second, third, last = (pair.of(version) for pair in ADDRESSES.partners)
        lines.append(f"80 tcp {first}")
        lines.append(f"80 udp {second}")
        lines.append(f"8080 tcp {second} 80")
        lines.append(f"8080 udp {first} 5000")
        lines.append(f"5000-5010 udp {third}")
        lines.append(f"6000-6005 tcp {third}")
        fallbacks.append(str(last))
    return (*lines, *(fallbacks if fallback else ()))


def expected_calls(version: int) -> tuple[tuple[str, int, Address, int], ...]:
    """Protocol and port to call the pod on, and the server and port that must be reached."""
    first, second, third, last = (pair.of(version) for pair in ADDRESSES.partners)
    return (
        ("tcp", 80, first, 80),
        ("udp", 80, second, 80),
        ("tcp", 8080, second, 80),
        ("udp", 8080, first, 5000),
        ("udp", 5000, third, 5000),
        ("udp", 5010, third, 5010),
        ("tcp", 6003, third, 6003),
        ("tcp", FALLBACK_PORT, last, FALLBACK_PORT),
        ("udp", FALLBACK_PORT, last, FALLBACK_PORT),
    )
