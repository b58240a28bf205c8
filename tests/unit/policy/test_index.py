"""The index against a walk over the lines, on random lists, targets and answers."""

from __future__ import annotations

import sys
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, TypeAlias

from hypothesis import given, settings
from hypothesis import strategies as st

from egress_router.config.http_destination import Kind
from egress_router.config.http_rules import Action, HttpRule, parse_http_rules
from egress_router.policy.guard import REFUSED
from egress_router.policy.rules import Decision, Policy, compile_rules
from egress_router.policy.target import Name, Target, parse_authority

if TYPE_CHECKING:
    from collections.abc import Callable

IPAddress: TypeAlias = IPv4Address | IPv6Address

OWN = (ip_address("10.9.9.9"), ip_address("fd00:9::9"))


def outcome(decision: Decision) -> tuple[int, int | None, list[str]]:
    """Status, deciding line and dialled addresses."""
    line = decision.rule.line if decision.rule else None
    return decision.status, line, list(map(str, decision.addresses))


# The reference: the numbered rules of policy/rules.py, walked line by line.


def carried(address: IPAddress) -> list[IPAddress]:
    """The IPv4 addresses inside, read from the bytes."""
    packed = address.packed
    if packed.startswith(bytes.fromhex("0064ff9b0000000000000000")):
        return [IPv4Address(packed[12:])]
    if packed.startswith(bytes.fromhex("2002")) and len(packed) == 16:
        return [IPv4Address(packed[2:6])]
    if packed.startswith(bytes.fromhex("20010000")):
        return [IPv4Address(packed[4:8]), IPv4Address(bytes(255 - byte for byte in packed[12:]))]
    return []


def guarded(address: IPAddress) -> list[object]:
    """Empty if the address passes, else the networks whose lines may open it, or None for never."""
    if address in OWN:
        return [None]
    rows = [row for row in REFUSED if address in row.network]
    if rows:
        row = max(rows, key=lambda row: row.network.prefixlen)
        return [row.network if row.openable else None]
    return [None] if any(guarded(inner) for inner in carried(address)) else []


def holds(rule: HttpRule, address: IPAddress) -> bool:
    """Rules 3 to 5."""
    network = ip_network(rule.value)
    match guarded(address):
        case []:
            return any(inner in network for inner in (address, *carried(address)))
        case [None]:
            return False
        case [refused]:
            same = network.version == refused.version and network.subnet_of(refused)
            return same and address in network


def names(rule: HttpRule, host: Name | IPAddress) -> bool:
    """Rule 2."""
    if rule.kind is Kind.ANY:
        return True
    if not isinstance(host, Name):
        return False
    labels, listed = host.text.split("."), rule.value.split(".")
    return labels == listed or (rule.kind is Kind.DOMAIN and labels[-len(listed) :] == listed)


def walk(
    rules: tuple[HttpRule, ...], target: Target, answer: tuple[IPAddress, ...]
) -> tuple[int, int | None, list[str]]:
    """The outcome that the numbered rules ask for."""
    host = target.host
    lines = [r for r in rules if r.ports is None or r.ports[0] <= target.port <= r.ports[1]]
    by_address = {Kind.ADDRESS, Kind.NETWORK}
    if isinstance(host, Name):
        first = next((r for r in lines if r.kind in by_address or names(r, host)), None)
        if first is None or (first.kind not in by_address and first.action is Action.DENY):
            return 403, first.line if first else None, []
        if not answer:
            return 502, None, []
    else:
        answer = (host,)
    left = [a for a in answer if not guarded(a)]
    if not left and not any(holds(r, a) for r in lines if r.kind in by_address for a in answer):
        return 403, None, []
    for rule in lines:
        if rule.kind in by_address:
            chosen = [a for a in answer if holds(rule, a)]
            if not chosen:
                continue
        elif names(rule, host):
            chosen = left
        else:
            continue
        if rule.action is Action.DENY:
            return 403, rule.line, []
        return (200, rule.line, list(map(str, chosen))) if chosen else (403, None, [])
    return 403, None, []


ADDRESS_TEXTS = (
    "10.0.0.1",
    "10.0.0.2",
    "10.9.9.9",
    "203.0.113.7",
    "127.0.0.1",
    "169.254.169.254",
    "169.254.1.1",
    "100.100.100.200",
    "2001:db8::1",
    "2001:db8::2",
    "fd00:9::9",
    "fe80::1",
    "fd00:ec2::254",
    "fd20:ce::254",
    "::1",
    "::ffff:10.0.0.1",
    "64:ff9b::10.0.0.1",
    "64:ff9b::203.0.113.7",
    "64:ff9b::169.254.169.254",
    "64:ff9b:1::1",
    "2002:a00:1::1",
    "2002:7f00:1::1",
    "2001:0:a00:1::1",
)
LABELS = st.sampled_from("abc")
NAMES = st.lists(LABELS, min_size=1, max_size=3).map(".".join)
PORT_TEXTS = st.sampled_from(["", "", "", ":80", ":443", ":80-443", ":1-100"])
NETWORKS = st.builds(
    lambda text, cut: str(
        ip_network((ip_address(text), max(1, ip_address(text).max_prefixlen - cut)), strict=False)
    ),
    st.sampled_from(ADDRESS_TEXTS),
    st.sampled_from([0, 0, 1, 2, 8, 16, 24, 31, 64, 96, 118]),
)
BRACKETED = st.one_of(NETWORKS, st.sampled_from(ADDRESS_TEXTS)).map(
    lambda text: f"[{text}]" if ":" in text else text
)
DESTINATIONS = st.one_of(NAMES, NAMES.map("*.{}".format), BRACKETED, BRACKETED)
LINES = st.builds("{}{}{}".format, st.sampled_from(["", "", "!"]), DESTINATIONS, PORT_TEXTS)
TAILS = st.sampled_from([[], [], ["*"], ["*:80"], ["*:443", "*"]])
LISTS = st.builds(lambda lines, tail: lines + tail, st.lists(LINES, max_size=8), TAILS).filter(bool)
TARGETS = st.builds(
    lambda host, port: Target(host=host, port=port),
    st.one_of(NAMES.map(Name), NAMES.map(Name), st.sampled_from(ADDRESS_TEXTS).map(ip_address)),
    st.sampled_from([80, 443, 8080]),
)
ANSWERS = st.lists(st.sampled_from(ADDRESS_TEXTS).map(ip_address), max_size=4, unique=True).map(
    tuple
)


@settings(max_examples=600, deadline=None)
@given(LISTS, TARGETS, ANSWERS)
def test_the_index_decides_as_a_walk_over_the_lines_would(
    lines: list[str], target: Target, answer: tuple[IPAddress, ...]
) -> None:
    """B2-34: compiled and walked decisions agree in status, line and addresses."""
    rules = parse_http_rules("\n".join(lines))
    decision = compile_rules(rules, OWN).decide_addresses(target, answer)
    assert outcome(decision) == walk(rules.rules, target, answer)


@settings(max_examples=300, deadline=None)
@given(LISTS, TARGETS, ANSWERS)
def test_the_way_to_a_decision_does_not_matter(
    lines: list[str], target: Target, answer: tuple[IPAddress, ...]
) -> None:
    """What is decided without a lookup is decided the same with any answer."""
    policy = compile_rules(parse_http_rules("\n".join(lines)), OWN)
    early = policy.decide_name(target)
    if isinstance(early, Decision):
        assert policy.decide_addresses(target, answer) == early


@settings(max_examples=300, deadline=None)
@given(LISTS, TARGETS, ANSWERS)
def test_no_refused_address_is_dialled_unless_a_line_names_it(
    lines: list[str], target: Target, answer: tuple[IPAddress, ...]
) -> None:
    """What may be dialled came from the answer, and passed the guard or was opened by its line."""
    decision = compile_rules(parse_http_rules("\n".join(lines)), OWN).decide_addresses(
        target, answer
    )
    for address in decision.addresses:
        assert address in ((target.host,) if not isinstance(target.host, Name) else answer)
        match guarded(address):
            case []:
                pass
            case [refused]:
                assert refused is not None
                assert decision.rule is not None
                assert ip_network(decision.rule.value).subnet_of(refused)


@given(LISTS, NAMES, ANSWERS, st.sampled_from([str.upper, str.title, "{}.".format]))
def test_verdicts_do_not_depend_on_spelling(
    lines: list[str], name: str, answer: tuple[IPAddress, ...], respell: Callable[[str], str]
) -> None:
    """Case and trailing dot change nothing, in the list or in the request."""
    plain = compile_rules(parse_http_rules("\n".join(lines)), OWN)
    upper = compile_rules(parse_http_rules("\n".join(lines).upper()), OWN)
    target = parse_authority(f"{name}:80")
    respelled = parse_authority(f"{respell(name)}:80")
    expected = outcome(plain.decide_addresses(target, answer))
    assert outcome(plain.decide_addresses(respelled, answer)) == expected
    assert outcome(upper.decide_addresses(target, answer)) == expected


def calls_to_decide(policy: Policy, target: Target, answer: tuple[IPAddress, ...]) -> int:
    """How many Python and C functions one decision calls."""
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event.endswith("call")

    previous = sys.getprofile()
    sys.setprofile(count)
    try:
        policy.decide_name(target)
        policy.decide_addresses(target, answer)
    finally:
        sys.setprofile(previous)
    return calls


def test_many_lines_cost_no_more_per_request_than_few() -> None:
    """B2-34: a decision makes as many calls with 20,000 lines as with 10."""
    kinds = ("!h{}.test", "!*.d{}.test", "!10.0.{}.{}", "!11.{}.{}.0/24", "p.test:{}")

    def costs(size: int) -> list[int]:
        lines = [
            kinds[n % 5].format(*((n // 256, n % 256) if n % 5 in {2, 3} else (n + 1,)))
            for n in range(size)
        ]
        policy = compile_rules(parse_http_rules("\n".join([*lines, "*"])), OWN)
        return [
            calls_to_decide(
                policy,
                parse_authority(text),
                (ip_address("198.51.100.1"), ip_address("10.200.0.1")),
            )
            for text in ("other.test:443", "h0.test:443", "p.test:5", "p.test:9", "10.0.0.2:80")
        ]

    assert costs(20_000) == costs(10)
