"""What a lookup ends with: addresses and how good they still are, or the error that says why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

from egress_router.errors import EgressRouterError

if TYPE_CHECKING:
    from egress_router.net.endpoint import IPAddress


class ResolutionCause(StrEnum):
    """Why there is no address; a proxy answers 504 to a timeout and 502 to the others."""

    NAME_NOT_FOUND = "name not found"
    NO_ADDRESS = "no address"
    TIMED_OUT = "timed out"
    SERVER_FAILURE = "server failure"


class Source(StrEnum):
    """Where an answer came from."""

    HOSTS = "hosts"
    DNS = "dns"
    CACHE = "cache"


class State(StrEnum):
    """How good an answer is: within its TTL, beyond it (RFC 8767), or none at all."""

    FRESH = "fresh"
    STALE = "stale"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Addresses of one family. `ttl_s` is the least one on the chain, a day at most."""

    addresses: tuple[IPAddress, ...]
    ttl_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """An authoritative no. `ttl_s` is None where no SOA record came along."""

    cause: ResolutionCause
    ttl_s: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """No usable answer from any server."""

    cause: ResolutionCause
    detail: str


Outcome: TypeAlias = Found | Absent | Failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """The addresses of one name, IPv4 before IPv6.

    After `ttl_s` it is worth asking again (0: at once); `expires` is the same moment on the
    resolver's clock. `failed_families` are those that were asked for and could not be looked up,
    for whoever must not take silence for a no: e.g. `(6,)`.
    """

    name: str
    addresses: tuple[IPAddress, ...]
    ttl_s: float
    expires: float
    source: Source
    state: State
    failed_families: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NameState:
    """One family of one name as the cache has it, for metrics and status."""

    name: str
    family: int
    state: State
    addresses: tuple[IPAddress, ...]
    age_s: float


class ResolutionError(EgressRouterError):
    """A name has no address that could be used; `cause` says in which of the four ways."""

    def __init__(self, name: str, cause: ResolutionCause, detail: str) -> None:
        super().__init__(f"looking up {name}: {cause}: {detail}")
        self.name = name
        self.cause = cause
