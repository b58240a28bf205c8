"""Probes of what lies within the pod: the kernel's state, the daemons, the environment."""

from __future__ import annotations

import dataclasses
import socket
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from egress_router.config import variables
from egress_router.config.identity import parse_identity
from egress_router.diagnosis.facts import Daemon, Namespace, Place, Untested
from egress_router.kernel.host import observe_forwarding6
from egress_router.kernel.netlink import Netlink
from egress_router.kernel.signs import canary_sings
from egress_router.plan.links import HANDED_LINK_NAMES
from egress_router.plan.snapshot import Router, find_router, snapshot_state
from egress_router.plan.state import Table
from egress_router.service.client import find_daemons
from egress_router.service.status_command import ask_status

if TYPE_CHECKING:
    from egress_router.config.addresses import Address
    from egress_router.config.settings import Environment

# Somewhere outside that nothing is ever sent to (RFC 5737, RFC 3849): only the way there is asked.
_ELSEWHERE = {4: "192.0.2.1", 6: "2001:db8::1"}
_DISCARD_PORT = 9
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


def observe_namespace(interface: str | None) -> Namespace:
    """What the kernel shows of this namespace without privilege."""
    with Netlink() as netlink:
        observed = netlink.observe()
    router = find_router(observed, interface)
    missing = None
    if isinstance(router, Router):
        # The canary speaks for the table, which is a check of its own.
        with_table = dataclasses.replace(observed, table=Table(ours=True, intact=True))
        desired = snapshot_state(with_table, router)
        missing = desired if isinstance(desired, str) else None
    return Namespace(
        observed=observed,
        router=router,
        missing=missing,
        table=canary_sings(),
        leaves=tuple((version, observe_way(address)) for version, address in _ELSEWHERE.items()),
        forwarding6=observe_forwarding6(),
    )


def observe_way(address: str, port: int = _DISCARD_PORT) -> Address | None:
    """The address that a socket bound to nothing would have on the way there; None: no way."""
    version = ip_address(address).version
    with socket.socket(_FAMILIES[version], socket.SOCK_DGRAM) as sock:
        try:
            sock.connect((address, port))
        except OSError:
            return None
        return ip_address(sock.getsockname()[0])


def ask_daemons() -> tuple[dict[str, dict[str, Any]], tuple[str, ...]]:
    """The documents of the daemons here, and what kept others from giving one."""
    documents, problems = ask_status(find_daemons())
    return documents, tuple(problems)


def read_daemon(document: dict[str, Any]) -> Daemon:
    """A daemon's own account; whatever its version left out is as if all were well."""
    mode = str(document.get("mode"))
    conflict = str(document.get("conditions", {}).get("conflict", "ok"))
    reload = document.get("reload") or {}
    return Daemon(
        mode=mode,
        ready=bool(document.get("ready")),
        reasons=tuple(map(str, document.get("reasons", ()))),
        warnings=tuple(map(str, document.get("warnings", ()))),
        refused_reload=tuple(map(str, reload.get("problems", ())))
        if reload.get("result") == "refused"
        else (),
        conflict=None if conflict == "ok" else conflict,
        watches=document.get("conflict_watch") == "on",
        forwards=mode == "redirect" or document.get("data_path") == "kernel",
    )


def find_place(
    environment: Environment,
    space: Namespace | Untested,
    documents: dict[str, dict[str, Any]],
) -> Place:
    """Who and where the router is: from the kernel, else a daemon, else the environment."""
    if not isinstance(space, Untested) and isinstance(space.router, Router):
        router = space.router
        return Place(
            link=router.egress,
            cluster=router.cluster,
            sources=router.sources,
            gateways=router.gateways,
        )
    for document in documents.values():
        if document.get("source") and document.get("link"):
            return Place(
                link=str(document["link"]).partition(" ")[0],
                cluster=document.get("cluster_link"),
                sources=_addresses(document["source"]),
                gateways=_addresses(document.get("gateway", "")),
            )
    identity = parse_identity(environment, [])
    versions = [source.version for source in identity.sources]
    gateways = tuple(identity.gateway(version) for version in versions)
    return Place(
        link=environment.get(variables.INTERFACE) or _handed(space),
        cluster=None,
        sources=tuple(source.address for source in identity.sources),
        gateways=tuple(gateway for gateway in gateways if gateway is not None),
    )


def _handed(space: Namespace | Untested) -> str:
    if isinstance(space, Untested):
        return HANDED_LINK_NAMES[0]
    names = (name for name in HANDED_LINK_NAMES if space.observed.link(name))
    return next(names, HANDED_LINK_NAMES[0])


def _addresses(text: object) -> tuple[Address, ...]:
    return tuple(ip_address(word) for word in str(text).replace(",", " ").split())
