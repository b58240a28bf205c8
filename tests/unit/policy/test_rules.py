from __future__ import annotations

from ipaddress import ip_address

import pytest

from egress_router.config.http_rules import parse_http_rules
from egress_router.policy.rules import Decision, NeedsAddresses, Policy, compile_rules
from egress_router.policy.target import Name, parse_authority

OWN = (ip_address("10.9.9.9"), ip_address("fd00:9::9"))


def policy_of(*lines: str) -> Policy:
    """The policy of a list, on a router with addresses of its own."""
    return compile_rules(parse_http_rules("\n".join(lines)), OWN)


def decide(policy: Policy, authority: str, *answer: str) -> Decision:
    """The decision on a CONNECT whose name resolves to the answer."""
    return policy.decide_addresses(parse_authority(authority), tuple(map(ip_address, answer)))


def outcome(decision: Decision) -> tuple[int, int | None, list[str]]:
    """Status, deciding line and dialled addresses."""
    line = decision.rule.line if decision.rule else None
    return decision.status, line, list(map(str, decision.addresses))


CONTRACT = ("!www.example.test", "*.g.test", "!203.0.113.7", "*")
OPEN = ("*",)
OTHER = "198.51.100.1"

CASES = [
    # contract.md, known answers
    ("contract 1", CONTRACT, "www.example.test:443", [OTHER], (403, 1, [])),
    ("contract 2", CONTRACT, "a.g.test:443", [OTHER], (200, 2, [OTHER])),
    ("contract 3", CONTRACT, "x.test:443", ["203.0.113.7"], (403, 3, [])),
    ("contract 4", CONTRACT, "x.test:443", [OTHER], (200, 4, [OTHER])),
    ("first match by name", CONTRACT, "a.g.test:443", ["203.0.113.7"], (200, 2, ["203.0.113.7"])),
    # a name's own lines
    ("B1-12 apex", ("*.example.com",), "example.com:80", [OTHER], (200, 1, [OTHER])),
    ("B1-12 below", ("*.example.com",), "a.b.example.com:80", [OTHER], (200, 1, [OTHER])),
    ("B1-12 by labels", ("*.example.com",), "badexample.com:80", [OTHER], (403, None, [])),
    ("host is not below", ("example.com",), "a.example.com:80", [OTHER], (403, None, [])),
    ("B2-20 spelling", ("Example.COM.",), "eXample.com.:80", [OTHER], (200, 1, [OTHER])),
    ("no match denies", ("a.test",), "b.test:80", [OTHER], (403, None, [])),
    # ports
    ("port in range", ("h:80-90", "!*.h"), "h:90", [OTHER], (200, 1, [OTHER])),
    ("port outside", ("h:80-90", "!*.h", "*"), "h:91", [OTHER], (403, 2, [])),
    ("wildcard ports", ("*:80", "*:443"), "h:443", [OTHER], (200, 2, [OTHER])),
    ("B2-33 other port", ("*:80", "*:443"), "h:25", [OTHER], (403, None, [])),
    ("address port", ("!198.51.100.0/24:25", "*"), "h:25", [OTHER], (403, 1, [])),
    ("address other port", ("!198.51.100.0/24:25", "*"), "h:80", [OTHER], (200, 2, [OTHER])),
    # the guard
    ("B2-25 own, literal", OPEN, "10.9.9.9:8080", [], (403, None, [])),
    ("B2-25 own, named", ("10.9.9.9", "*"), "10.9.9.9:8080", [], (403, None, [])),
    ("B2-25 own, by name", ("h",), "h:8080", ["10.9.9.9", "fd00:9::9"], (403, None, [])),
    (
        "B2-25 loopback, named",
        ("127.0.0.1", "127.0.0.0/8", "*"),
        "127.0.0.1:80",
        [],
        (403, None, []),
    ),
    ("B2-26 all refused", OPEN, "h:80", ["127.0.0.1", "::1", "ff02::1"], (403, None, [])),
    ("B2-26 refused dropped", OPEN, "h:80", ["127.0.0.1", OTHER], (200, 1, [OTHER])),
    ("B2-26 metadata", OPEN, "169.254.169.254:80", [], (403, None, [])),
    ("B2-26 metadata, IPv6", OPEN, "[fd00:ec2::254]:80", [], (403, None, [])),
    ("B2-26 metadata, mapped", OPEN, "[::ffff:a9fe:a9fe]:80", [], (403, None, [])),
    (
        "B2-26 private is open",
        OPEN,
        "h:80",
        ["10.0.0.1", "fd00::1"],
        (200, 1, ["10.0.0.1", "fd00::1"]),
    ),
    # opening link-local
    (
        "opened by address",
        ("169.254.169.254", "*"),
        "169.254.169.254:80",
        [],
        (200, 1, ["169.254.169.254"]),
    ),
    ("opened by network", ("169.254.0.0/16",), "169.254.1.1:80", [], (200, 1, ["169.254.1.1"])),
    ("not by a wider one", ("168.0.0.0/6", "*"), "169.254.169.254:80", [], (403, None, [])),
    ("not by carrier-grade", ("100.64.0.0/10",), "100.100.100.200:80", [], (403, None, [])),
    (
        "metadata opened",
        ("100.100.100.200",),
        "100.100.100.200:80",
        [],
        (200, 1, ["100.100.100.200"]),
    ),
    ("not on another port", ("169.254.169.254:80", "*"), "169.254.169.254:81", [], (403, None, [])),
    (
        "not by the name's line",
        ("h", "169.254.169.254"),
        "h:80",
        ["169.254.169.254"],
        (403, None, []),
    ),
    (
        "opened line first",
        ("169.254.169.254", "h"),
        "h:80",
        ["169.254.169.254", OTHER],
        (200, 1, ["169.254.169.254"]),
    ),
    (
        "hidden from wildcard",
        ("!169.254.1.1", "*"),
        "h:80",
        ["169.254.2.2", OTHER],
        (200, 2, [OTHER]),
    ),
    ("denied by name of it", ("!169.254.1.1", "*"), "h:80", ["169.254.1.1", OTHER], (403, 1, [])),
    (
        "denied before opened",
        ("!169.254.1.1", "169.254.0.0/16"),
        "169.254.1.1:80",
        [],
        (403, 1, []),
    ),
    (
        "wrapped stays closed",
        ("169.254.169.254", "64:ff9b::/96"),
        "[64:ff9b::a9fe:a9fe]:80",
        [],
        (403, None, []),
    ),
    # mixed answers
    (
        "B2-28 allow by address",
        ("10.0.0.0/8",),
        "h:80",
        ["10.0.0.1", OTHER],
        (200, 1, ["10.0.0.1"]),
    ),
    ("B2-28 none allowed", ("10.0.0.0/8",), "h:80", [OTHER], (403, None, [])),
    (
        "B2-28 first line wins",
        ("10.0.0.0/8", "*"),
        "h:80",
        [OTHER, "10.0.0.1"],
        (200, 1, ["10.0.0.1"]),
    ),
    (
        "B2-29 deny by address",
        ("!203.0.113.0/24", "*"),
        "h:80",
        [OTHER, "203.0.113.9"],
        (403, 1, []),
    ),
    ("B2-29 deny IPv6", ("!2001:db8::/32", "*"), "h:80", [OTHER, "2001:db8::1"], (403, 1, [])),
    (
        "deny behind an allow",
        ("10.0.0.0/8", f"!{OTHER}", "*"),
        "h:80",
        ["10.0.0.1", OTHER],
        (200, 1, ["10.0.0.1"]),
    ),
    (
        "deny before an allow",
        (f"!{OTHER}", "10.0.0.0/8", "*"),
        "h:80",
        ["10.0.0.1", OTHER],
        (403, 1, []),
    ),
    ("name behind address", ("!10.0.0.0/8", "h"), "h:80", ["10.0.0.1"], (403, 1, [])),
    ("name before address", ("h", "!10.0.0.0/8"), "h:80", ["10.0.0.1"], (200, 1, ["10.0.0.1"])),
    ("answer's order kept", OPEN, "h:80", ["2001:db8::1", OTHER], (200, 1, ["2001:db8::1", OTHER])),
    # literals
    (
        "B2-31 no name lines",
        ("!*.test", "h", "203.0.113.7"),
        "203.0.113.7:80",
        [],
        (200, 3, ["203.0.113.7"]),
    ),
    ("B2-31 but wildcard", ("!*.test", "*"), "203.0.113.7:80", [], (200, 2, ["203.0.113.7"])),
    (
        "literal ignores answers",
        ("!198.51.100.1", "*"),
        "203.0.113.7:80",
        [OTHER],
        (200, 2, ["203.0.113.7"]),
    ),
    ("address and its /32", ("!203.0.113.7/32", "203.0.113.7"), "203.0.113.7:80", [], (403, 1, [])),
    # what an address carries
    ("NAT64 under deny", ("!203.0.113.7", "*"), "[64:ff9b::203.0.113.7]:80", [], (403, 1, [])),
    (
        "NAT64 under allow",
        ("203.0.113.7",),
        "h:80",
        ["64:ff9b::cb00:7107"],
        (200, 1, ["64:ff9b::cb00:7107"]),
    ),
    # no addresses, no lookup
    ("no address", OPEN, "h:80", [], (502, None, [])),
    ("no address, denied anyway", ("!h", "*"), "h:80", [], (403, 1, [])),
    ("localhost", ("localhost", "*"), "localhost:80", [OTHER], (403, None, [])),
    ("below localhost", OPEN, "a.LOCALHOST.:80", [OTHER], (403, None, [])),
]


@pytest.mark.parametrize(
    ("lines", "authority", "answer", "expected"),
    [row[1:] for row in CASES],
    ids=[row[0] for row in CASES],
)
def test_decisions(
    lines: tuple[str, ...],
    authority: str,
    answer: list[str],
    expected: tuple[int, int | None, list[str]],
) -> None:
    """Each case ends with the status, the deciding line and the addresses it should."""
    decision = decide(policy_of(*lines), authority, *answer)
    assert outcome(decision) == expected
    assert decision.allowed is (decision.status == 200)
    assert decision.reason


@pytest.mark.parametrize(
    ("lines", "settled"),
    [
        (("!h", "10.0.0.0/8"), True),
        (("a.test", "!b.test"), True),
        (("!10.0.0.0/8:443", "!h", "*"), True),
        (("!10.0.0.0/8:80", "!h", "*"), False),
        (("!10.0.0.0/8", "*"), False),
        (("h",), False),
        (("*",), False),
    ],
)
def test_a_lookup_is_asked_for_only_where_it_can_matter(
    lines: tuple[str, ...],
    settled: bool,
) -> None:
    """B2-30: a denial before every address line needs no lookup, everything else does."""
    decision = policy_of(*lines).decide_name(parse_authority("h:80"))
    assert isinstance(decision, Decision) is settled
    if not settled:
        assert decision == NeedsAddresses(name=Name("h"))


def test_reasons_quote_the_line_and_what_it_matched() -> None:
    """A reason names line, rule and the address or name that met it."""
    policy = policy_of("# note", "!203.0.113.0/24", "*.g.test", "10.0.0.0/8")
    reasons = [
        decide(policy, "h:80", OTHER, "203.0.113.7").reason,
        decide(policy, "a.g.test:80", OTHER).reason,
        decide(policy, "h:80", "10.0.0.1", "10.0.0.2", OTHER).reason,
        decide(policy, "203.0.113.7:80").reason,
        decide(policy, "h:80", OTHER).reason,
        decide(policy, "h:80", "127.0.0.1").reason,
    ]
    assert reasons == [
        "line 2 '!203.0.113.0/24' denies 203.0.113.7, which h resolves to",
        "line 3 '*.g.test' allows a.g.test:80",
        "line 4 '10.0.0.0/8' allows 10.0.0.1, 10.0.0.2, which h resolves to",
        "line 2 '!203.0.113.0/24' denies 203.0.113.7:80",
        "no line matches h:80",
        "127.0.0.1 is in 127.0.0.0/8: loopback (RFC 1122 §3.2.1.3)",
    ]


def test_a_reload_is_a_new_value() -> None:
    """A policy cannot be changed in place."""
    with pytest.raises(AttributeError):
        policy_of("*").rules = ()  # type: ignore[misc] -- the refusal is what is tested


@pytest.mark.parametrize(
    ("lines", "authority", "families", "hidden"),
    [
        (("!2001:db8::/32", "*"), "h:443", (6,), 1),
        (("!2001:db8::/32", "*"), "h:443", (4,), None),
        (("![2001:db8::/32]:25", "*"), "h:443", (6,), None),
        (("![2001:db8::/32]:400-500", "*"), "h:443", (6,), 1),
        (("!192.0.2.0/24", "*"), "h:443", (4,), 1),
        (("!192.0.2.0/24", "*"), "h:443", (6,), 1),  # 64:ff9b::192.0.2.1 would carry it
        (("h", "!2001:db8::/32", "*"), "h:443", (6,), None),
        (("2001:db8::/32", "!*.g", "*"), "h:443", (6,), None),
    ],
)
def test_a_denial_that_a_failed_lookup_hides(
    lines: tuple[str, ...], authority: str, families: tuple[int, ...], hidden: int | None
) -> None:
    """B2-30: a denying address line ahead of the deciding one, for a family that is not known."""
    policy = policy_of(*lines)
    known = "198.51.100.1" if 4 not in families else "2001:db9::1"
    decision = decide(policy, authority, known)
    assert decision.allowed
    rule = policy.hidden_denial(decision, parse_authority(authority).port, families)
    assert (rule.line if rule else None) == hidden
