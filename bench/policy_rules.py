"""Cost of one decision against lists of 10 to 100,000 lines: `python bench/policy_rules.py`.

Each list is a fifth each of host names, domains, IPv4 addresses, IPv4 networks and lines with
ports, ends in `*`, and is asked for targets its lines name and targets they do not.
"""

from __future__ import annotations

import time
from ipaddress import IPv4Address

from egress_router.config.http_rules import parse_http_rules
from egress_router.policy.rules import Policy, compile_rules
from egress_router.policy.target import Target, parse_authority

SIZES = (10, 100, 1_000, 10_000, 100_000)
ROUNDS = 20_000
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


def main() -> None:
    """Prints one line per size."""
    texts = (
        "www.partner.test:443",
        "a.b.d1.example.org:443",
        "host0.example.com:443",
        "10.0.0.2:80",
    )
    print(f"{'lines':>8} {'parse s':>8} {'compile s':>9}  µs per decision: {', '.join(texts)}")
    for size in SIZES:
        text = list_of(size)
        start = time.perf_counter()
        rules = parse_http_rules(text)
        parsed = time.perf_counter()
        policy = compile_rules(rules)
        compiled = time.perf_counter()
        costs = []
        for authority in texts:
            target = parse_authority(authority)
            begin = time.perf_counter()
            for _ in range(ROUNDS):
                decide(policy, target)
            costs.append((time.perf_counter() - begin) / ROUNDS * 1e6)
        shown = "  ".join(f"{cost:7.2f}" for cost in costs)
        print(f"{size:>8} {parsed - start:8.3f} {compiled - parsed:9.3f}  {shown}")
    begin = time.perf_counter()
    for _ in range(ROUNDS):
        parse_authority("www.partner.test:443")
    print(f"parse_authority: {(time.perf_counter() - begin) / ROUNDS * 1e6:.2f} µs")


if __name__ == "__main__":
    main()
