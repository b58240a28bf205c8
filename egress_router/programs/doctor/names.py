"""Probes of names and destinations: each nameserver by itself, and connections from the source."""

from __future__ import annotations

import asyncio
import errno
import secrets
import socket
import time
from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING

from egress_router.config import variables
from egress_router.config.http import parse_http_list
from egress_router.diagnosis.facts import Attempt, NameserverProbe, Target
from egress_router.errors import EgressRouterError
from egress_router.net.egress import bind_to
from egress_router.net.endpoint import family_of, socket_address
from egress_router.net.names import parse_name
from egress_router.net.resolution import ResolutionError
from egress_router.net.resolver import Resolver, ResolverSettings
from egress_router.net.scan import MalformedAnswerError, RecordType
from egress_router.net.wire import (
    UDP_ANSWER_MAX_BYTES,
    ForeignAnswerError,
    Query,
    Rcode,
    parse_answer,
    render_query,
)
from egress_router.policy.explain import explain
from egress_router.policy.rules import NeedsAddresses, compile_rules
from egress_router.programs.doctor.link import egress_of
from egress_router.programs.doctor.together import Together

if TYPE_CHECKING:
    from egress_router.config.addresses import Address
    from egress_router.config.settings import Environment
    from egress_router.diagnosis.facts import Place

DNS_PORT = 53
QUERY_S, QUERIES = 1.5, 2  # how long one datagram's answer is waited for, and how many are sent
CONNECT_S = 6.0  # the second SYN again comes after 3 s: two lost ones are no verdict
ADDRESSES_MAX = 4
# In every cluster, and a cheap question elsewhere: any answer shows that the server lives.
USUAL_NAME = "kubernetes.default.svc.cluster.local"


def probe_nameserver(server: Address, name: str, port: int = DNS_PORT) -> NameserverProbe:
    """Asks one nameserver for a name, over UDP, from a socket bound to nothing."""
    labels = parse_name(name) or parse_name(USUAL_NAME)
    assert labels is not None  # noqa: S101 (the usual name is a name)
    query = Query(id=secrets.randbits(16), name=labels, type=RecordType.A)
    started = time.monotonic()
    trouble = f"no answer within {QUERY_S * QUERIES:g} s"
    with socket.socket(family_of(server), socket.SOCK_DGRAM) as sock:
        leaves = None
        try:
            sock.connect(socket_address(server, port))
            leaves = ip_address(sock.getsockname()[0])
            for _ in range(QUERIES):
                sock.send(render_query(query))
                answer = _await_answer(sock, query)
                if answer is not None:
                    took_s = time.monotonic() - started
                    return NameserverProbe(
                        server=server, name=name, answer=answer, took_s=took_s, leaves=leaves
                    )
        except ConnectionRefusedError:
            trouble = "the port is closed: no nameserver runs there"
        except OSError as error:
            trouble = error.strerror or str(error)
    return NameserverProbe(server=server, name=name, answer=None, trouble=trouble, leaves=leaves)


def _await_answer(sock: socket.socket, query: Query) -> str | None:
    deadline = time.monotonic() + QUERY_S
    while (left := deadline - time.monotonic()) > 0:
        sock.settimeout(left)
        try:
            data = sock.recv(UDP_ANSWER_MAX_BYTES + 1)
            code = parse_answer(data, query, limit=UDP_ANSWER_MAX_BYTES).rcode
        except TimeoutError:
            return None
        except ForeignAnswerError:
            continue
        except MalformedAnswerError as error:
            return f"nonsense: {error}"
        return Rcode(code).name if code in tuple(Rcode) else f"code {code}"
    return None


def probe_target(place: Place, environment: Environment, text: str, deadline: float) -> Target:
    """Resolves a destination as the daemons do, and connects to its addresses side by side."""
    host, port = split_target(text)
    addresses: tuple[Address, ...]
    try:
        addresses = (ip_address(host),)
    except ValueError:
        try:
            addresses = asyncio.run(_resolve(host))
        except ResolutionError as error:
            return Target(text=text, unresolved=str(error))
    usable = tuple(one for one in addresses if place.source(one.version) is not None)
    if not usable:
        told = ", ".join(map(str, addresses))
        return Target(text=text, unresolved=f"only {told}, of a family without a source address")
    attempts = Together([partial(attempt, place, one, port) for one in usable[:ADDRESSES_MAX]])
    return Target(
        text=text,
        attempts=tuple(one for one in attempts.results(deadline) if isinstance(one, Attempt)),
        denied=_denied(environment, text, addresses),
    )


def split_target(text: str) -> tuple[str, int]:
    """`host:port`, an IPv6 address in brackets; raises ValueError."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    if not colon or not host or not port.isascii() or not port.isdigit():
        raise ValueError(f"'{text}' is no destination: expected HOST:PORT or [IPV6]:PORT")
    if not 1 <= int(port) <= 65535 or (":" in host and not text.startswith("[")):
        raise ValueError(f"'{text}' is no destination: expected HOST:PORT or [IPV6]:PORT")
    try:
        ip_address(host)
    except ValueError:
        if parse_name(host) is None or len(host.split()) != 1:
            raise ValueError(f"'{host}' is neither an address nor a name") from None
    return host, int(port)


def attempt(place: Place, address: Address, port: int) -> Attempt:
    """One connection from the source."""
    source = place.source(address.version)
    started = time.monotonic()
    with socket.socket(family_of(address), socket.SOCK_STREAM) as sock:
        sock.settimeout(CONNECT_S)
        try:
            bind_to(sock, egress_of(place), address)
            sock.connect(socket_address(address, port))
            outcome = "connected"
        except TimeoutError:
            outcome = "ETIMEDOUT"
        except OSError as error:
            outcome = errno.errorcode.get(error.errno or 0, str(error))
    took_s = time.monotonic() - started
    return Attempt(address=address, source=source, outcome=outcome, took_s=took_s)


def _denied(environment: Environment, text: str, addresses: tuple[Address, ...]) -> str:
    """Why the HTTP list of this environment refuses the destination; empty if it does not."""
    lists = (variables.HTTP_DESTINATION, variables.HTTP_DESTINATION_FILE)
    if not any(environment.is_set(variable) for variable in lists):
        return ""
    try:
        explanation = explain(compile_rules(parse_http_list(environment)), text, addresses)
    except EgressRouterError:
        return ""  # `check` and the daemon itself tell what is wrong with the list
    if isinstance(explanation, NeedsAddresses) or explanation.exit_code == 0:
        return ""
    verdicts = [line for line in explanation.lines if line.startswith("verdict")]
    return verdicts[0].partition(" ")[2].strip() if verdicts else "denied"


async def _resolve(name: str) -> tuple[Address, ...]:
    resolver = Resolver(ResolverSettings(serve_stale=False))
    try:
        return (await resolver.resolve(name)).addresses
    finally:
        await resolver.close()
