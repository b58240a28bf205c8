"""Who the router is outside: its sources and gateways, from the variables that say so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from egress_router.config import variables
from egress_router.config.addresses import (
    Address,
    Source,
    parse_address,
    parse_source,
    split_words,
    unusable,
)
from egress_router.config.pool import parse_pool, pick_sources
from egress_router.config.text import Problems, quote

if TYPE_CHECKING:
    from egress_router.config.settings import Environment
    from egress_router.errors import Problem

_SOURCE_INVALID = "EGRESS_SOURCE unspecified or invalid"
_GATEWAY_INVALID = "EGRESS_GATEWAY unspecified or invalid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Sources and gateways, at most one of each per family, IPv4 first, paired by family."""

    sources: tuple[Source, ...]
    gateways: tuple[Address, ...]

    def source(self, version: int) -> Source | None:
        """The source of a family, 4 or 6."""
        return next((s for s in self.sources if s.version == version), None)

    def gateway(self, version: int) -> Address | None:
        """The gateway of a family, 4 or 6."""
        return next((g for g in self.gateways if g.version == version), None)


def parse_identity(environment: Environment, found: list[Problem]) -> Identity:
    """Source (or the pod's share of the pool) and gateway; problems are appended to `found`."""
    named = variables.SOURCE
    pool_problems = Problems(variables.SOURCE_POOL.name, found)
    if environment.is_set(variables.SOURCE_POOL) and environment.is_set(variables.SOURCE):
        pool_problems.add(
            f"both {variables.SOURCE.name} and {variables.SOURCE_POOL.name} are set; expected one"
        )
    elif environment.is_set(variables.SOURCE_POOL):
        named = variables.SOURCE_POOL
    if named is variables.SOURCE_POOL:
        known, sources = _share(environment, pool_problems)
    else:
        known = sources = _parse_sources(environment.get(named), Problems(named.name, found))
    gateway_problems = Problems(variables.GATEWAY.name, found)
    gateways = _parse_gateways(environment.get(variables.GATEWAY), gateway_problems)
    if known and gateways:
        _pair(known, gateways, named.name, gateway_problems)
    return Identity(
        sources=tuple(sorted(sources, key=lambda s: s.version)),
        gateways=tuple(sorted(gateways, key=lambda g: g.version)),
    )


def _share(
    environment: Environment, problems: Problems
) -> tuple[tuple[Source, ...], tuple[Source, ...]]:
    """The whole pool, and what of it is this pod's."""
    before = len(problems.found)
    pool = parse_pool(environment.get(variables.SOURCE_POOL), problems)
    if len(problems.found) > before:
        return pool, ()
    return pool, pick_sources(pool, environment.hostname, problems)


def _parse_sources(text: str | None, problems: Problems) -> tuple[Source, ...]:
    sources: list[Source] = []
    words = split_words(text)
    if not words:
        problems.add(f"{_SOURCE_INVALID}: expected ADDRESS[/LEN]")
    for word in words:
        source = parse_source(word)
        if isinstance(source, str):
            problems.add(f"{_SOURCE_INVALID}: {quote(word)}: {source}")
        elif any(other.version == source.version for other in sources):
            problems.add(
                f"{_SOURCE_INVALID}: {quote(word)}: expected one IPv{source.version} address"
            )
        else:
            sources.append(source)
    return tuple(sources)


def _parse_gateways(text: str | None, problems: Problems) -> list[Address]:
    gateways: list[Address] = []
    words = split_words(text)
    if not words:
        problems.add(f"{_GATEWAY_INVALID}: expected ADDRESS")
    for word in words:
        address = parse_address(word)
        if isinstance(address, str):
            problems.add(f"{_GATEWAY_INVALID}: {quote(word)}: {address}")
        elif kind := unusable(address):
            problems.add(f"{_GATEWAY_INVALID}: {quote(word)}: {kind}, expected the gateway's own")
        elif any(other.version == address.version for other in gateways):
            problems.add(
                f"{_GATEWAY_INVALID}: {quote(word)}: expected one IPv{address.version} address"
            )
        else:
            gateways.append(address)
    return gateways


def _pair(
    sources: tuple[Source, ...], gateways: list[Address], named: str, problems: Problems
) -> None:
    """Judges sources (all of a pool) and gateways together; `named` is the sources' variable."""
    first = {source.version: source for source in reversed(sources)}
    for version, source in sorted(first.items()):
        if all(gateway.version != version for gateway in gateways):
            problems.add(
                f"{_GATEWAY_INVALID}: no IPv{version} gateway for source "
                f"{quote(str(source.address))}; expected one address per family of {named}"
            )
    for gateway in gateways:
        if any(gateway == source.address for source in sources):
            problems.add(f"{_GATEWAY_INVALID}: {quote(str(gateway))} is the source address itself")
        elif gateway.version not in first:
            problems.add(
                f"{_GATEWAY_INVALID}: {quote(str(gateway))} has no source: "
                f"{named} names no IPv{gateway.version} address"
            )
