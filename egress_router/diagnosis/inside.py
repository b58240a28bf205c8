"""Verdicts on what lies within the pod: daemons, links, addresses, routes, table, settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from egress_router.diagnosis import causes
from egress_router.diagnosis.facts import Untested
from egress_router.diagnosis.findings import Finding, fail, ok, untested, warn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from egress_router.diagnosis.facts import Daemon, Facts, Namespace
    from egress_router.plan.state import Link

NEEDS_RAW = (
    "needs CAP_NET_RAW: kubectl debug -it POD --image=IMAGE --profile=netadmin -- "
    "egress-router doctor"
)
STRICT = 1  # rp_filter: RFC 3704 strict


def judge_variables(facts: Facts) -> tuple[Finding, ...]:
    """Names in the environment that are close to ours and are none."""
    if not facts.mistyped:
        return (ok("variables", "no EGRESS_ variable looks mistyped"),)
    return tuple(warn("variables", text, causes.MISTYPED) for text in facts.mistyped)


def judge_daemons(facts: Facts) -> tuple[Finding, ...]:
    """What the running daemons say of themselves."""
    found = [fail("daemon", f"{problem}") for problem in facts.silent_daemons]
    for daemon in facts.daemons:
        found += _judge_daemon(daemon, facts.mistyped)
    if not found:
        why = "no daemon of ours runs in this network namespace; the pod is looked at without it"
        return (untested("daemon", why),)
    return tuple(found)


def _judge_daemon(daemon: Daemon, told: tuple[str, ...]) -> Iterator[Finding]:
    if daemon.ready:
        yield ok("daemon", f"{daemon.mode} is ready")
    else:
        yield fail("daemon", f"{daemon.mode} is not ready: {'; '.join(daemon.reasons)}")
    for warning in (one for one in daemon.warnings if one not in told):
        yield warn("daemon", f"{daemon.mode} warns: {warning}")
    if daemon.refused_reload:
        problems = "; ".join(daemon.refused_reload)
        yield warn("daemon", f"{daemon.mode} goes on with its old configuration: {problems}")


def judge_links(facts: Facts) -> tuple[Finding, ...]:
    """Both links: there, up, with a carrier."""
    space, place = facts.namespace, facts.place
    if isinstance(space, Untested):
        return (untested("link", space.why),)
    egress = space.observed.link(place.link)
    if egress is None:
        return (_no_link(facts, space),)
    found = [_judge_link(egress, "egress")]
    if place.cluster is not None:
        cluster = space.observed.link(place.cluster)
        found.append(
            fail("link", f"the cluster link {place.cluster} is gone", causes.LINK_REMOVED)
            if cluster is None
            else _judge_link(cluster, "cluster")
        )
    return tuple(found)


def _no_link(facts: Facts, space: Namespace) -> Finding:
    others = [link.name for link in space.observed.links if link.name != "lo"]
    summary = f"there is no egress link {facts.place.link}, only {', '.join(others) or 'nothing'}"
    advice = [causes.LINK_NOT_HANDED, causes.LINK_REMOVED]
    if len(others) > 1:
        advice.insert(0, causes.LINK_NAMED_OTHERWISE)
    return fail("link", summary, *advice)


def _judge_link(link: Link, role: str) -> Finding:
    if not link.up:
        return fail("link", f"the {role} link {link.name} is down", causes.LINK_SET_DOWN)
    if not link.carrier:
        return fail("link", f"the {role} link {link.name} has no carrier", causes.PARENT_DOWN)
    kind = f"{link.kind}, " if link.kind else ""
    return ok("link", f"{role} link {link.name} is up ({kind}MTU {link.mtu}, MAC {link.mac})")


def judge_addresses(facts: Facts) -> tuple[Finding, ...]:
    """Whether the egress link has each source."""
    space, place = facts.namespace, facts.place
    if isinstance(space, Untested):
        return (untested("address", space.why),)
    if not place.sources:
        return (fail("address", "no source address was ever set here", causes.INIT_NOT_RUN),)
    held = {one.interface.ip: one for one in space.observed.addresses_on(place.link)}
    found = []
    for source in place.sources:
        one = held.get(source)
        if one is None:
            summary = f"source {source} is not on {place.link}"
            found.append(fail("address", summary, causes.SOURCE_REMOVED))
        elif one.failed:
            summary = f"{source}: duplicate address detection failed, so the kernel does not use it"
            found.append(fail("address", summary, causes.address_taken("one of unknown MAC")))
        else:
            found.append(ok("address", f"source {one.interface} is on {place.link}"))
    return tuple(found)


def judge_conflict(facts: Facts) -> tuple[Finding, ...]:
    """Whether another station answers for a source."""
    complaints = [daemon.conflict for daemon in facts.daemons if daemon.conflict]
    if isinstance(facts.holders, Untested) and complaints:
        found = [
            fail("conflict", text, causes.address_taken("the one named")) for text in complaints
        ]
        return tuple(found)
    if isinstance(facts.holders, Untested):
        watching = [daemon.mode for daemon in facts.daemons if daemon.watches]
        if watching:
            return (ok("conflict", f"the {watching[0]} daemon watches, and has seen nobody else"),)
        return (untested("conflict", facts.holders.why),)
    if facts.holders:
        return tuple(
            fail(
                "conflict",
                f"{one.address} is also used by {one.mac}",
                causes.address_taken(one.mac),
            )
            for one in facts.holders
        )
    return (ok("conflict", "nobody else answers for the source"),)


def judge_routes(facts: Facts) -> tuple[Finding, ...]:
    """Routes and rules as init sets them, and what a plain socket would make of them."""
    space = facts.namespace
    if isinstance(space, Untested):
        return (untested("routes", space.why),)
    if isinstance(space.router, str):
        return (fail("routes", space.router, causes.ROUTES_CHANGED, causes.INIT_NOT_RUN),)
    if space.missing is not None:
        return (fail("routes", space.missing, causes.ROUTES_CHANGED),)
    for source in facts.place.sources:
        chosen = dict(space.leaves).get(source.version)
        # None is no wrong way: IPv6 passes over a gateway that does not answer (RFC 4191 §3.2).
        if chosen is not None and chosen != source:
            summary = f"connections to the outside would leave from {chosen}, not from {source}"
            return (fail("routes", summary, causes.ROUTES_CHANGED),)
    gateways = ", ".join(map(str, facts.place.gateways))
    return (ok("routes", f"all else leaves from the source, via {gateways}, or not at all"),)


def judge_table(facts: Facts) -> tuple[Finding, ...]:
    """Whether the nftables table is in force."""
    space = facts.namespace
    if isinstance(space, Untested):
        return (untested("table", space.why),)
    if space.table:
        return (ok("table", "our nftables table is in force"),)
    summary = "our nftables table is not in force: nothing is translated, and nothing guarded"
    return (fail("table", summary, causes.TABLE_FLUSHED, causes.INIT_NOT_RUN),)


def judge_forwarding(facts: Facts) -> tuple[Finding, ...]:
    """Forwarding where the kernel carries the bytes, and no strict reverse-path filter anywhere."""
    space, place = facts.namespace, facts.place
    if isinstance(space, Untested):
        return (untested("forwarding", space.why),)
    links = [link for link in space.observed.links if link.name in {place.link, place.cluster}]
    strict = [link.name for link in links if link.setting("rp_filter") == STRICT]
    if strict:
        summary = f"strict reverse-path filtering on {', '.join(strict)} drops clients' packets"
        return (fail("forwarding", summary, causes.FORWARDING_RESET),)
    forwards = not facts.daemons or any(daemon.forwards for daemon in facts.daemons)
    if not forwards:
        modes = " and ".join(sorted(facts.modes))
        return (ok("forwarding", f"not needed: {modes} carries the bytes itself"),)
    judged = fail if facts.daemons else warn
    still = [link.name for link in links if link.setting("forwarding") == 0]
    if place.source(4) is not None and still:
        summary = f"the kernel does not forward IPv4 on {', '.join(still)}"
        return (judged("forwarding", summary, causes.FORWARDING_RESET),)
    if place.source(6) is not None and not space.forwarding6:
        return (
            judged("forwarding", "the kernel does not forward IPv6", causes.FORWARDING6_MISSING),
        )
    return (ok("forwarding", "the kernel forwards between both links"),)
