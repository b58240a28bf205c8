"""Verdicts on what lies outside the pod: gateways, packet sizes, nameservers, destinations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from egress_router.diagnosis import causes
from egress_router.diagnosis.facts import Untested
from egress_router.diagnosis.findings import Advice, Finding, fail, ok, untested, warn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from egress_router.diagnosis.facts import (
        Attempt,
        Facts,
        GatewayProbe,
        NameserverProbe,
        SizeProbe,
        Target,
    )

CONNECTED = "connected"
NO_TARGET = "give a destination: --to HOST:PORT, as often as you like"
_UNUSABLE = frozenset({"SERVFAIL", "REFUSED", "NOTIMP", "FORMERR"})
_WORDS: Mapping[str, str] = {
    "ECONNREFUSED": "refused",
    "ETIMEDOUT": "no answer",
    "EHOSTUNREACH": "no route to the host",
    "ENETUNREACH": "no route to the network",
    "EACCES": "forbidden by the pod itself",
    "EPERM": "forbidden by the pod itself",
    "ENETDOWN": "the link is down",
}


def judge_gateways(facts: Facts) -> tuple[Finding, ...]:
    """Whether each gateway answers on the link."""
    if not facts.gateways:
        return (untested("gateway", "no gateway is known"),)
    return tuple(
        untested("gateway", probe.why)
        if isinstance(probe, Untested)
        else _judge_gateway(probe, facts)
        for probe in facts.gateways
    )


def _judge_gateway(probe: GatewayProbe, facts: Facts) -> Finding:
    one, place = probe.neighbour, facts.place
    if probe.how is not None:
        mac = f" as {one.mac}" if one.mac else ""
        return ok("gateway", f"{one.address} answers{mac} ({probe.how})")
    heard = (
        f"{probe.others} other stations answer there"
        if probe.others
        else f"the link has received {probe.heard} packets in all"
    )
    mac = "MAC"
    if not isinstance(facts.namespace, Untested):
        link = facts.namespace.observed.link(place.link)
        mac = link.mac or mac if link else mac
    sources = place.source(one.address.version) or "SOURCE"
    advice = [
        causes.gateway_wrong(one.address),
        causes.WRONG_PARENT,
        causes.FORGED,
        causes.address_pairs(sources, mac),
        causes.MAC_LIMIT,
        causes.CLOUD,
    ]
    if not probe.others:  # then the address is less suspect than the way to it
        advice = [*advice[1:], advice[0]] if not probe.heard else advice
    summary = f"{one.address} does not answer on {place.link}; {heard}"
    return fail("gateway", summary, *advice)


def judge_sizes(facts: Facts) -> tuple[Finding, ...]:
    """Whether packets as large as the link allows arrive at the gateway."""
    if not facts.sizes:
        return (untested("mtu", "no gateway is known"),)
    return tuple(
        untested("mtu", probe.why) if isinstance(probe, Untested) else _judge_size(probe)
        for probe in facts.sizes
    )


def _judge_size(probe: SizeProbe) -> Finding:
    if probe.passed:
        return ok("mtu", f"packets of {probe.size_bytes} bytes come back from {probe.gateway}")
    summary = f"packets of {probe.size_bytes} bytes do not come back from {probe.gateway}"
    return fail("mtu", f"{summary}, small ones do", causes.PATH_MTU)


def judge_nameservers(facts: Facts) -> tuple[Finding, ...]:
    """Whether the nameservers answer, on the cluster's side; one that does is enough to live."""
    if not facts.nameservers:
        return (warn("dns", "/etc/resolv.conf names no nameserver", causes.NO_NAMESERVER),)
    alive = any(not isinstance(probe, Untested) and probe.answer for probe in facts.nameservers)
    # A redirect router asks nobody itself; the pod's other programs may.
    needed = not facts.daemons or bool(facts.modes - {"redirect"})
    return tuple(
        untested("dns", probe.why)
        if isinstance(probe, Untested)
        else _judge_nameserver(probe, facts, dead=needed and not alive)
        for probe in facts.nameservers
    )


def _judge_nameserver(probe: NameserverProbe, facts: Facts, *, dead: bool) -> Finding:
    judged = fail if dead else warn
    if probe.leaves is not None and probe.leaves in facts.place.sources:
        summary = f"queries to {probe.server} leave from {probe.leaves}, to the outside"
        return judged("dns", summary, causes.DNS_MOVED)
    if probe.answer is None:
        advice = [causes.DNS_SERVERS_DOWN, causes.DNS_POLICY]
        return judged("dns", f"nameserver {probe.server}: {probe.trouble}", *advice)
    if probe.answer in _UNUSABLE:
        summary = f"nameserver {probe.server} answers {probe.answer} for {probe.name}"
        return warn("dns", summary, causes.DNS_UPSTREAM)
    took = f"{probe.took_s * 1000:.0f} ms"
    return ok("dns", f"nameserver {probe.server} answers ({probe.answer} for {probe.name}, {took})")


def judge_targets(facts: Facts) -> tuple[Finding, ...]:
    """Whether each destination can be connected to from the source."""
    if not facts.targets:
        return (untested("destination", NO_TARGET),)
    found: list[Finding] = []
    for target in facts.targets:
        if isinstance(target, Untested):
            found.append(untested("destination", target.why))
            continue
        if target.denied:
            found.append(warn("destination", f"the proxy refuses {target.text}: {target.denied}"))
        found.append(_judge_target(target, _mute_versions(facts)))
    return tuple(found)


def _mute_versions(facts: Facts) -> frozenset[int]:
    """The families whose gateway was asked and did not answer."""
    return frozenset(
        probe.neighbour.address.version
        for probe in facts.gateways
        if not isinstance(probe, Untested) and probe.how is None
    )


def _judge_target(target: Target, mute: frozenset[int]) -> Finding:
    if target.unresolved:
        summary = f"{target.text}: {target.unresolved}"
        return fail("destination", summary, causes.NAME_WRONG, causes.DNS_UPSTREAM)
    reached = [one for one in target.attempts if one.outcome == CONNECTED]
    failed = [one for one in target.attempts if one.outcome != CONNECTED]
    told = ", ".join(f"{one.address} {_WORDS.get(one.outcome, one.outcome)}" for one in failed)
    if not reached and all(one.address.version in mute for one in failed):
        return fail(
            "destination", f"{target.text}: its way leads by a gateway that does not answer"
        )
    if not reached:
        advice = [advice for one in failed for advice in _advise(one, target)]
        return fail("destination", f"{target.text}: {told}", *dict.fromkeys(advice))
    one = reached[0]
    took = f"{one.took_s * 1000:.0f} ms"
    summary = f"{target.text} is reached at {one.address} from {one.source} ({took})"
    if failed:
        advice = [advice for one in failed for advice in _advise(one, target)]
        return warn("destination", f"{summary}; {told}", *dict.fromkeys(advice))
    return ok("destination", summary)


def _advise(attempt: Attempt, target: Target) -> tuple[Advice, ...]:
    source = attempt.source or "the source"
    match attempt.outcome:
        case "ECONNREFUSED":
            return (causes.PORT_CLOSED,)
        case "EHOSTUNREACH" | "ENETUNREACH":
            return (causes.NO_ROUTE,)
        case "EACCES" | "EPERM":
            return (causes.OWN_TABLE,)
        case _:
            return (
                causes.partner_firewall(source, target.text),
                causes.way_back(source),
                causes.NETWORK_DROPS,
            )
