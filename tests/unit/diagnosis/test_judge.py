"""Every fault has its finding, its cause in words, and one fault is one failure."""

from __future__ import annotations

import dataclasses
from ipaddress import ip_interface
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_router.diagnosis import causes
from egress_router.diagnosis.facts import Daemon, Facts, Holder, SizeProbe, Untested
from egress_router.diagnosis.findings import Advice, Finding, Status
from egress_router.diagnosis.judge import CHECKS, judge
from egress_router.plan.state import LinkAddress
from model.patients import (
    GATEWAY,
    GATEWAY6,
    HEALTHY,
    PLACE,
    SERVER,
    SOURCE,
    SPACE,
    changed,
    gateway,
    in_space,
    nameserver,
    target,
)

HTTP = Daemon(mode="http", ready=True)
TAKEN = "02:bb:bb:bb:bb:bb"
UNTESTED = Untested(why="needs CAP_NET_RAW")

# What is wrong, the check that fails or warns, and what its line and its causes must say.
FAULTS: dict[str, tuple[Facts, str, Status, str, str]] = {
    "mistyped": (
        changed(mistyped=("unknown variable EGRESS_SOURC: did you mean EGRESS_SOURCE?",)),
        "variables",
        Status.WARN,
        "EGRESS_SOURC:",
        "no effect",
    ),
    "daemon not ready": (
        changed(daemons=(Daemon(mode="http", ready=False, reasons=("link: no", "table: no")),)),
        "daemon",
        Status.FAIL,
        "http is not ready: link: no; table: no",
        "",
    ),
    "daemon mute": (
        changed(silent_daemons=("dns: no answer within 3 s",)),
        "daemon",
        Status.FAIL,
        "dns: no answer",
        "",
    ),
    "daemon warns": (
        changed(daemons=(Daemon(mode="http", ready=True, warnings=("DNS: silent",)),)),
        "daemon",
        Status.WARN,
        "http warns: DNS: silent",
        "",
    ),
    "reload refused": (
        changed(daemons=(Daemon(mode="http", ready=True, refused_reload=("line 3: bad",)),)),
        "daemon",
        Status.WARN,
        "old configuration: line 3: bad",
        "",
    ),
    "no link": (
        in_space(egress=None),
        "link",
        Status.FAIL,
        "no egress link macvlan0",
        "annotation",
    ),
    "link down": (in_space(egress={"up": False}), "link", Status.FAIL, "macvlan0 is down", "set"),
    "no carrier": (
        in_space(egress={"carrier": False}),
        "link",
        Status.FAIL,
        "no carrier",
        "parent NIC",
    ),
    "cluster link gone": (in_space(cluster=None), "link", Status.FAIL, "eth0 is gone", "removed"),
    "cluster link down": (
        in_space(cluster={"up": False}),
        "link",
        Status.FAIL,
        "cluster link eth0 is down",
        "",
    ),
    "no source": (
        in_space(addresses=SPACE.observed.addresses[1:]),
        "address",
        Status.FAIL,
        "99 is not on macvlan0",
        "removed",
    ),
    "never set up": (
        changed(place=dataclasses.replace(PLACE, sources=())),
        "address",
        Status.FAIL,
        "no source",
        "init container has not run",
    ),
    "duplicate address": (
        in_space(
            addresses=(
                LinkAddress(link="macvlan0", interface=ip_interface("192.168.12.99/24")),
                LinkAddress(
                    link="macvlan0", interface=ip_interface("2001:db8:12::99/64"), failed=True
                ),
            )
        ),
        "address",
        Status.FAIL,
        "duplicate address detection",
        "two stations",
    ),
    "address taken": (
        changed(holders=(Holder(address=SOURCE, mac=TAKEN),)),
        "conflict",
        Status.FAIL,
        f"192.168.12.99 is also used by {TAKEN}",
        "two stations use one address",
    ),
    "address taken, as a daemon says": (
        changed(
            holders=UNTESTED,
            daemons=(Daemon(mode="dns", ready=True, conflict=f"also used by {TAKEN}"),),
        ),
        "conflict",
        Status.FAIL,
        TAKEN,
        "two stations",
    ),
    "no default route": (
        in_space(router="there is no default route of ours by macvlan0"),
        "routes",
        Status.FAIL,
        "no default route",
        "changed its routes",
    ),
    "rule missing": (
        in_space(missing="the IPv4 rule for answers to the cluster is missing"),
        "routes",
        Status.FAIL,
        "rule for answers",
        "changed its routes",
    ),
    "another way out": (
        in_space(leaves=((4, SERVER), (6, None))),
        "routes",
        Status.FAIL,
        "would leave from 172.30.0.10, not from 192.168.12.99",
        "changed its routes",
    ),
    "table flushed": (
        in_space(table=False),
        "table",
        Status.FAIL,
        "not in force",
        "nft flush ruleset",
    ),
    "not forwarding": (
        in_space(egress={"inet": (("forwarding", 0),)}),
        "forwarding",
        Status.FAIL,
        "does not forward IPv4 on macvlan0",
        "came up anew",
    ),
    "not forwarding IPv6": (
        in_space(forwarding6=False),
        "forwarding",
        Status.FAIL,
        "IPv6",
        "net.ipv6.conf.all.forwarding=1",
    ),
    "strict filter": (
        in_space(cluster={"inet": (("rp_filter", 1),)}),
        "forwarding",
        Status.FAIL,
        "strict reverse-path filtering on eth0",
        "",
    ),
    "wrong gateway": (
        changed(gateways=(gateway(None, others=2),), targets=()),
        "gateway",
        Status.FAIL,
        "192.168.12.1 does not answer on macvlan0; 2 other stations answer there",
        "EGRESS_GATEWAY is wrong",
    ),
    "frames dropped": (
        changed(gateways=(gateway(None, heard=0),), targets=()),
        "gateway",
        Status.FAIL,
        "has received 0 packets",
        "forged transmits",
    ),
    "large packets": (
        changed(sizes=(SizeProbe(gateway=GATEWAY, size_bytes=9000, passed=False),)),
        "mtu",
        Status.FAIL,
        "9000 bytes do not come back",
        "EGRESS_MTU",
    ),
    "dns dead": (
        changed(daemons=(HTTP,), nameservers=(nameserver(None, trouble="no answer within 3 s"),)),
        "dns",
        Status.FAIL,
        "nameserver 172.30.0.10: no answer",
        "NetworkPolicy",
    ),
    "one of two dead": (
        changed(daemons=(HTTP,), nameservers=(nameserver(None, trouble="closed"), nameserver())),
        "dns",
        Status.WARN,
        "172.30.0.10: closed",
        "DNS is down",
    ),
    "dns dead, redirect alone": (
        changed(nameservers=(nameserver(None, trouble="closed"),)),
        "dns",
        Status.WARN,
        "closed",
        "DNS is down",
    ),
    "dns useless": (
        changed(nameservers=(nameserver("SERVFAIL"),)),
        "dns",
        Status.WARN,
        "answers SERVFAIL",
        "upstream",
    ),
    "dns by the wrong link": (
        changed(daemons=(HTTP,), nameservers=(nameserver(None, leaves=SOURCE),)),
        "dns",
        Status.FAIL,
        "leave from 192.168.12.99",
        "EGRESS_CLUSTER_CIDRS",
    ),
    "no nameserver": (changed(nameservers=()), "dns", Status.WARN, "names no", "dnsPolicy"),
    "partner silent": (
        changed(targets=(target("ETIMEDOUT"),)),
        "destination",
        Status.FAIL,
        "203.0.113.25 no answer",
        "firewall on the way",
    ),
    "port closed": (
        changed(targets=(target("ECONNREFUSED", "ECONNREFUSED"),)),
        "destination",
        Status.FAIL,
        "203.0.113.25 refused, 203.0.113.26 refused",
        "nothing listens",
    ),
    "no route": (
        changed(targets=(target("EHOSTUNREACH"),)),
        "destination",
        Status.FAIL,
        "no route to the host",
        "has no route",
    ),
    "forbidden inside": (
        changed(targets=(target("EPERM"),)),
        "destination",
        Status.FAIL,
        "forbidden by the pod",
        "rule of the pod",
    ),
    "one address of two": (
        changed(targets=(target("ETIMEDOUT", "connected"),)),
        "destination",
        Status.WARN,
        "is reached at 203.0.113.26 from 192.168.12.99 (4 ms); 203.0.113.25 no answer",
        "firewall",
    ),
    "unknown name": (
        changed(targets=(target(unresolved="name not found"),)),
        "destination",
        Status.FAIL,
        "www.partner.test:443: name not found",
        "mistyped",
    ),
    "denied by the list": (
        changed(targets=(target("connected", denied="line 1 denies"),)),
        "destination",
        Status.WARN,
        "the proxy refuses www.partner.test:443: line 1 denies",
        "",
    ),
}


def of(findings: tuple[Finding, ...], *statuses: Status) -> list[Finding]:
    """Those of some statuses."""
    return [finding for finding in findings if finding.status in statuses]


def test_a_healthy_pod() -> None:
    """Every check holds."""
    findings = judge(HEALTHY)
    assert {finding.check for finding in findings} == {check.name for check in CHECKS}
    assert {finding.status for finding in findings} == {Status.OK}
    assert not any(finding.advice for finding in findings)


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_named(fault: str) -> None:
    """One fault is one thing wrong, at its check, with the cause in words."""
    facts, check, status, words, cause = FAULTS[fault]
    (finding,) = of(judge(facts), Status.FAIL, Status.WARN)
    assert (finding.check, finding.status) == (check, status)
    assert words in finding.summary
    assert any(cause in f"{one.cause} {one.remedy}" for one in finding.advice) or not cause


@pytest.mark.parametrize("fault", FAULTS)
def test_every_check_speaks(fault: str) -> None:
    """Whatever is broken, each check has a line, if only why it was not tested."""
    facts = FAULTS[fault][0]
    assert {finding.check for finding in judge(facts)} == {check.name for check in CHECKS}


def test_every_check_can_fail() -> None:
    """The table of faults breaks each check."""
    assert {check for _, check, *_ in FAULTS.values()} == {check.name for check in CHECKS}


def test_every_cause_is_told() -> None:
    """No cause is worded that no finding ever gives."""
    told = {
        advice.cause for facts, *_ in FAULTS.values() for f in judge(facts) for advice in f.advice
    }
    named = {name: value for name, value in vars(causes).items() if isinstance(value, Advice)}
    optional = {"LINK_NAMED_OTHERWISE"}
    assert {name for name, value in named.items() if value.cause not in told} <= optional


def test_a_link_of_another_name() -> None:
    """Where a third link is there, its name is the first suspect."""
    facts = changed(place=dataclasses.replace(PLACE, link="net1"))
    (finding,) = of(judge(facts), Status.FAIL)
    assert finding.summary == "there is no egress link net1, only eth0, macvlan0"
    assert "EGRESS_INTERFACE" in finding.advice[0].remedy


@pytest.mark.parametrize("modes", [("http",), ("dns",), ("dns", "http")])
def test_proxies_need_no_forwarding(modes: tuple[str, ...]) -> None:
    """Where daemons carry the bytes, the kernel need not forward."""
    daemons = tuple(Daemon(mode=mode, ready=True) for mode in modes)
    facts = dataclasses.replace(in_space(egress={"inet": (("forwarding", 0),)}), daemons=daemons)
    assert of(judge(facts), Status.FAIL, Status.WARN) == []


def test_a_mute_gateway_explains_the_destination() -> None:
    """A destination behind it is no second riddle: no causes of its own."""
    facts = changed(gateways=(gateway(None),), targets=(target("EHOSTUNREACH"),))
    first, second = of(judge(facts), Status.FAIL)
    assert (first.check, second.check, second.advice) == ("gateway", "destination", ())
    assert "gateway that does not answer" in second.summary


def test_one_family_alone_is_mute() -> None:
    """The other gateway's destinations are judged as always."""
    mute = gateway(None)
    mute = dataclasses.replace(
        mute, neighbour=dataclasses.replace(mute.neighbour, address=GATEWAY6)
    )
    facts = changed(gateways=(gateway(), mute), targets=(target("ETIMEDOUT"),))
    assert [bool(one.advice) for one in of(judge(facts), Status.FAIL)] == [True, True]


NOTHING: dict[str, Any] = {
    "namespace": Untested(why="no result in time"),
    "holders": UNTESTED,
    "gateways": (UNTESTED,),
    "sizes": (UNTESTED,),
    "nameservers": (UNTESTED,),
    "targets": (UNTESTED,),
    "daemons": (),
}


def test_nothing_could_be_tested() -> None:
    """What was not tested is neither well nor ill, and says why."""
    untested = of(judge(changed(**NOTHING)), Status.UNTESTED)
    assert {finding.check for finding in untested} == {
        check.name for check in CHECKS if check.name != "variables"
    }
    assert all(finding.summary for finding in untested)


@pytest.mark.parametrize(
    ("daemons", "status"),
    [
        ((Daemon(mode="redirect", ready=True, watches=True),), Status.OK),
        ((Daemon(mode="redirect", ready=True),), Status.UNTESTED),
    ],
)
def test_a_watching_daemon_vouches(daemons: tuple[Daemon, ...], status: Status) -> None:
    """Without privilege the daemon's own watch for a conflict counts, if it has one."""
    findings = judge(changed(holders=UNTESTED, daemons=daemons))
    assert [one.status for one in findings if one.check == "conflict"] == [status]


def test_a_daemon_s_warning_is_not_told_twice() -> None:
    """A mistyped variable that the daemon told of is one finding."""
    text = "unknown variable EGRESS_SOURC: did you mean EGRESS_SOURCE?"
    daemon = Daemon(mode="http", ready=True, warnings=(text,))
    facts = changed(mistyped=(text,), daemons=(daemon,))
    assert [one.check for one in of(judge(facts), Status.WARN)] == ["variables"]


def test_a_mute_gateway_is_no_fault_of_the_routes() -> None:
    """IPv6 has no way while its gateway does not answer; the gateway is what is to blame."""
    facts = in_space(leaves=((4, SOURCE), (6, None)))
    assert of(judge(facts), Status.FAIL, Status.WARN) == []


def test_needs_come_first() -> None:
    """A check is judged after those it needs."""
    seen: set[str] = set()
    for check in CHECKS:
        assert set(check.needs) <= seen
        seen.add(check.name)
    assert SPACE.table


FIELDS = tuple(field.name for field in dataclasses.fields(Facts))


@given(st.fixed_dictionaries({name: st.sampled_from(sorted(FAULTS)) for name in FIELDS}))
def test_faults_in_any_mixture(sources: dict[str, str]) -> None:
    """Whatever comes together, each check has its say, and only on its ground."""
    facts = Facts(**{name: getattr(FAULTS[fault][0], name) for name, fault in sources.items()})
    findings = judge(facts)
    assert {finding.check for finding in findings} == {check.name for check in CHECKS}
    assert len(set(findings)) == len(findings)
    failed = {finding.check for finding in of(findings, Status.FAIL)}
    for check in CHECKS:
        if failed & set(check.needs):
            (finding,) = [one for one in findings if one.check == check.name]
            assert finding.status is Status.UNTESTED
