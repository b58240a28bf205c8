"""Cost of one decision against lists of 10 to 100,000 lines, without network or privilege.

`python -m bench.rules`. Each list is a fifth each of host names, domains, IPv4 addresses, IPv4
networks and lines with ports, ends in `*`, and is asked for targets its lines name and targets they
do not. Processor time of the calls alone.
"""

from __future__ import annotations

import sys
import time
from functools import partial
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from bench.results import LESS, Topic
from bench.run import Options, run_alone, say
from egress_router.config.http_rules import parse_http_rules
from egress_router.policy.rules import Policy, compile_rules
from egress_router.policy.target import Target, parse_authority

if TYPE_CHECKING:
    from collections.abc import Callable

OURS = "egress router"
SIZES = (10, 100, 1_000, 10_000, 100_000)
BATCHES, CALLS = 20, 1_000
TARGETS = (
    ("an allowed name", "www.partner.test:443"),
    ("a domain's line", "a.b.d1.example.org:443"),
    ("a host's line", "host0.example.com:443"),
    ("an address's line", "10.0.0.2:80"),
)
ANSWER = (IPv4Address("203.0.113.9"), IPv4Address("198.51.100.1"))


def measure(options: Options) -> Topic:
    """All of the module's measures."""
    topic = Topic(name="rules", title="Rules of the HTTP mode", sides=(OURS,))
    for size in SIZES:
        say(f"rules: {size:,} lines")
        text = list_of(size)
        for _ in range(options.rounds):
            _measure_list(topic, text, size)
    return topic


def _measure_list(topic: Topic, text: str, size: int) -> None:
    began = time.process_time()
    rules = parse_http_rules(text)
    parsed = time.process_time()
    policy = compile_rules(rules)
    compiled = time.process_time()
    at = (size, "rules")
    topic.note("to parse the list", OURS, parsed - began, unit="s", better=LESS, at=at)
    topic.note("to compile it", OURS, compiled - parsed, unit="s", better=LESS, at=at)
    for name, authority in TARGETS:
        cost = cheapest_us(partial(decide, policy, parse_authority(authority)))
        topic.note(f"one decision, {name}", OURS, cost, unit="us", better=LESS, at=at)


def list_of(size: int) -> str:
    """A list of `size` lines, all different."""
    lines = []
    for n in range(size - 1):
        high, middle, low = n >> 16 & 255, n >> 8 & 255, n & 255
        lines.append(
            (
                f"!host{n}.example.com",
                f"*.d{n}.example.org",
                f"!10.{high}.{middle}.{low}",
                f"!172.{16 + high}.{middle}.0/{24 + n % 8}"
                if n % 2
                else f"!{11 + high}.{middle}.{low}.0/24",
                f"!port{n}.example.net:{1 + n % 65535}",
            )[n % 5]
        )
    return "\n".join([*lines, "*"])


def decide(policy: Policy, target: Target) -> None:
    """One request as the proxy would judge it."""
    policy.decide_name(target)
    policy.decide_addresses(target, ANSWER)


def cheapest_us(run: Callable[[], object]) -> float:
    """Microseconds of processor time per call: the best of some batches, as machines are noisy."""
    best = float("inf")
    for _ in range(BATCHES):
        begin = time.process_time()
        for _ in range(CALLS):
            run()
        best = min(best, time.process_time() - begin)
    return best / CALLS * 1e6


if __name__ == "__main__":
    sys.exit(run_alone(measure, __doc__))
