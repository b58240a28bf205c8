"""Cost of one decision against lists of 10 to 100,000 lines: `python bench/policy_rules.py`.

Each list is a fifth each of host names, domains, IPv4 addresses, IPv4 networks and lines with
ports, ends in `*`, and is asked for targets its lines name and targets they do not.
"""

from __future__ import annotations

import time
from functools import partial
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from egress_router.config.http_rules import parse_http_rules
from egress_router.policy.rules import Policy, compile_rules
from egress_router.policy.target import Target, parse_authority

if TYPE_CHECKING:
    from collections.abc import Callable

SIZES = (10, 100, 1_000, 10_000, 100_000)
ROUNDS, CALLS = 20, 1_000
TARGETS = (
    "www.partner.test:443",
    "a.b.d1.example.org:443",
    "host0.example.com:443",
    "10.0.0.2:80",
)
ANSWER = (IPv4Address("203.0.113.9"), IPv4Address("198.51.100.1"))


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
    """Microseconds of processor time per call: the best of some rounds, as machines are noisy."""
    best = float("inf")
    for _ in range(ROUNDS):
        begin = time.process_time()
        for _ in range(CALLS):
            run()
        best = min(best, time.process_time() - begin)
    return best / CALLS * 1e6


def main() -> None:
    """Prints one line per size."""
    targets = tuple(map(parse_authority, TARGETS))
    print(f"{'lines':>8} {'parse s':>8} {'compile s':>9}  µs per decision: {', '.join(TARGETS)}")
    for size in SIZES:
        text = list_of(size)
        start = time.process_time()
        rules = parse_http_rules(text)
        parsed = time.process_time()
        policy = compile_rules(rules)
        compiled = time.process_time()
        costs = (cheapest_us(partial(decide, policy, target)) for target in targets)
        shown = "  ".join(f"{cost:7.2f}" for cost in costs)
        print(f"{size:>8} {parsed - start:8.3f} {compiled - parsed:9.3f}  {shown}")
    print(f"parse_authority: {cheapest_us(partial(parse_authority, TARGETS[0])):.2f} µs")


if __name__ == "__main__":
    main()
