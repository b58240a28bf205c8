from __future__ import annotations

from ipaddress import ip_address

import pytest

from egress_router.config.http_rules import parse_http_rules
from egress_router.policy.explain import Explanation, explain
from egress_router.policy.rules import NeedsAddresses, compile_rules
from egress_router.policy.target import Name

POLICY = compile_rules(
    parse_http_rules("!www.example.test\n*.g.test\n!203.0.113.7\n*:80-443"),
    (ip_address("10.9.9.9"),),
)


def test_an_allowed_name_names_line_and_addresses() -> None:
    """The answer shows target, addresses, what the guard took out, the line and what is dialled."""
    answer = (ip_address("127.0.0.1"), ip_address("198.51.100.1"))
    assert explain(POLICY, "http://A.g.test./x", answer) == Explanation(
        lines=(
            "target   a.g.test:80",
            "answer   127.0.0.1, 198.51.100.1",
            "guarded  127.0.0.1 is in 127.0.0.0/8: loopback (RFC 1122 §3.2.1.3)",
            "rule     line 2: *.g.test",
            "verdict  allowed: line 2 '*.g.test' allows a.g.test:80",
            "dials    198.51.100.1",
        ),
        exit_code=0,
    )


@pytest.mark.parametrize(
    ("text", "answer", "verdict"),
    [
        ("www.example.test:443", None, "denied (403): line 1 '!www.example.test' denies"),
        ("x.test:443", ("203.0.113.7",), "denied (403): line 3 '!203.0.113.7' denies 203.0.113.7"),
        ("x.test:8443", ("198.51.100.1",), "denied (403): no line matches x.test:8443"),
        ("x.test:443", (), "denied (502): x.test has no address"),
        ("10.9.9.9:80", None, "denied (403): 10.9.9.9 is in 10.9.9.9/32: the router itself"),
        ("x.test", None, "refused (400): target 'x.test' has no port"),
        ("https://x.test/", None, "refused (400): target 'https://x.test/' is an https URI"),
        ("http://u@x.test/", None, "refused (400): target 'http://u@x.test/' holds userinfo"),
    ],
)
def test_a_denial_says_why_and_ends_with_5(
    text: str, answer: tuple[str, ...] | None, verdict: str
) -> None:
    """Denied and refused targets give the reason in words and the exit code 5."""
    addresses = None if answer is None else tuple(map(ip_address, answer))
    explanation = explain(POLICY, text, addresses)
    assert isinstance(explanation, Explanation)
    assert explanation.exit_code == 5
    assert any(line.startswith(f"verdict  {verdict}") for line in explanation.lines)


def test_a_name_that_needs_addresses_asks_for_them() -> None:
    """Without addresses nothing is guessed: the caller has to resolve."""
    assert explain(POLICY, "x.test:443") == NeedsAddresses(name=Name("x.test"))


def test_addresses_play_no_part_for_a_literal() -> None:
    """An address is judged as itself, and the reader is told that --address did nothing."""
    explanation = explain(POLICY, "198.51.100.1:80", (ip_address("203.0.113.7"),))
    assert isinstance(explanation, Explanation)
    assert explanation.exit_code == 0
    assert any(line.startswith("note") for line in explanation.lines)
