"""The explain program: which rule of the HTTP list decides a target, and why.

Resolves, without `--address`, as the proxy would. Where init has set this pod up, the pod's own
addresses are guarded as the proxy guards them; elsewhere nobody's are.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from ipaddress import ip_address
from typing import TYPE_CHECKING

from egress_router.config import variables
from egress_router.config.http import parse_http_list
from egress_router.errors import EXIT_DENIED, EgressRouterError
from egress_router.policy.explain import explain
from egress_router.policy.rules import NeedsAddresses, compile_rules

if TYPE_CHECKING:
    from collections.abc import Sequence

    from egress_router.config.settings import Environment
    from egress_router.policy.prefixes import IPAddress


def run_explain(environment: Environment, arguments: Sequence[str]) -> int:
    """Prints the explanation; 0 for allowed, 5 for denied, refused, or not to be resolved."""
    options = _parser().parse_args(arguments)
    policy = compile_rules(parse_http_list(environment), _observe_own_addresses(environment))
    explanation = explain(policy, options.target, options.address)
    if isinstance(explanation, NeedsAddresses):
        from egress_router.net.resolution import ResolutionError  # noqa: PLC0415 - 0.2 s of imports

        try:
            addresses = asyncio.run(_resolve(str(explanation.name)))
        except ResolutionError as error:
            sys.stdout.write(f"verdict  failed: {error}\n")
            return EXIT_DENIED
        explanation = explain(policy, options.target, addresses)
    if isinstance(explanation, NeedsAddresses):
        raise TypeError("explain asked for addresses twice")
    sys.stdout.write("".join(f"{line}\n" for line in explanation.lines))
    return explanation.exit_code


async def _resolve(name: str) -> tuple[IPAddress, ...]:
    from egress_router.net.resolver import Resolver, ResolverSettings  # noqa: PLC0415

    resolver = Resolver(ResolverSettings(serve_stale=False))
    try:
        return (await resolver.resolve(name)).addresses
    finally:
        await resolver.close()


def _observe_own_addresses(environment: Environment) -> tuple[IPAddress, ...]:
    from egress_router.kernel.netlink import Netlink  # noqa: PLC0415 - takes a tenth of a second
    from egress_router.plan.snapshot import Router, find_router  # noqa: PLC0415

    try:
        with Netlink() as netlink:
            router = find_router(netlink.observe(), environment.get(variables.INTERFACE))
    except EgressRouterError:
        return ()
    return router.own_addresses if isinstance(router, Router) else ()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="egress-router explain", description="which HTTP rule decides a target, and why"
    )
    parser.add_argument("target", help="http://HOST[:PORT]/... or HOST:PORT")
    parser.add_argument(
        "--address",
        action="append",
        type=ip_address,
        metavar="IP",
        help="what the name resolves to; may be given several times",
    )
    return parser
