"""The check program: what the environment describes, without a look at the kernel."""

from __future__ import annotations

import json
import sys
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from egress_router.config import variables
from egress_router.config.check import Checked
from egress_router.config.init import InitConfig, parse_init
from egress_router.errors import EXIT_OK, ConfigurationError, Problem
from egress_router.plan.desired import cluster_networks
from egress_router.plan.links import HANDED_LINK_NAMES
from egress_router.plan.ruleset import RulesetSpec, render_ruleset

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from egress_router.config.check import Check
    from egress_router.config.settings import Environment

USUAL_CLUSTER_LINK = "eth0"
_NO_MODES: Mapping[str, Callable[[], Check]] = MappingProxyType({})


def run_check(
    environment: Environment,
    programs: list[str],
    *,
    as_json: bool,
    modes: Mapping[str, Callable[[], Check]] = _NO_MODES,
) -> int:
    """Checks the named programs, or every one whose variables are set, and prints what it found.

    `modes` loads the check of a mode by the mode's name. Raises ConfigurationError with the
    problems of all of them together.
    """
    known: dict[str, Callable[[], Check]] = {"init": lambda: check_init, **modes}
    if unknown := [program for program in programs if program not in known]:
        message = f"unknown program '{unknown[0]}': expected {' or '.join(known)}"
        raise ConfigurationError((Problem(variable="check", message=message),))
    chosen = programs or [name for name in known if _is_meant(name, environment)] or ["init"]
    checked: dict[str, Checked] = {}
    problems: list[Problem] = []
    for name in chosen:
        try:
            checked[name] = known[name]()(environment)
        except ConfigurationError as error:
            problems.extend(error.problems)
    if problems:
        raise ConfigurationError(tuple(problems))
    if as_json:
        # The document is a contract of its own: what is only worth a look goes beside it.
        for warning in (warning for one in checked.values() for warning in one.warnings):
            sys.stderr.write(f"warning: {warning}\n")
        documents = {name: one.document for name, one in checked.items()}
        whole = documents if len(documents) > 1 else documents[chosen[0]]
        sys.stdout.write(json.dumps(whole, indent=2) + "\n")
    else:
        sys.stdout.write("\n".join(one.text for one in checked.values()))
    return EXIT_OK


def _is_meant(program: str, environment: Environment) -> bool:
    """Whether a variable is set that this program alone reads."""
    return any(
        variable.programs == (program,) and environment.is_set(variable)
        for variable in variables.VARIABLES
        if variable is not variables.SERVICE_HOST
    )


def check_init(environment: Environment) -> Checked:
    """What init would set up; raises ConfigurationError with every problem.

    Links are named as the pod will most likely have them; nameservers and the cluster link's routes
    are facts of the running pod, so the ruleset here does not hold them.
    """
    config = parse_init(environment)
    identity = config.identity
    document: dict[str, Any] = {
        "mode": str(config.mode),
        "source": [str(source.interface) for source in identity.sources],
        "gateway": [str(gateway) for gateway in identity.gateways],
        "destinations": [
            {
                "line": rule.line,
                "protocol": str(rule.protocol),
                "ports": [rule.first, rule.last],
                "address": str(rule.address),
                "target_port": rule.target_port,
            }
            for rule in config.destinations.rules
        ],
        "fallback": [str(fallback.address) for fallback in config.destinations.fallbacks],
        "ruleset": render_ruleset(_usual_ruleset(config)),
    }
    text = _render_init(document, config.warnings)
    return Checked(document=document, text=text, warnings=config.warnings)


def _render_init(document: dict[str, Any], warnings: tuple[str, ...]) -> str:
    lines = [
        f"mode         {document['mode']}",
        f"source       {', '.join(document['source'])}",
        f"gateway      {', '.join(document['gateway'])}",
    ]
    for rule in document["destinations"]:
        first, last = rule["ports"]
        ports = str(first) if first == last else f"{first}-{last}"
        target = f" port {rule['target_port']}" if rule["target_port"] else ""
        lines.append(f"destination  {rule['protocol']} {ports} to {rule['address']}{target}")
    lines += [f"fallback     everything else to {address}" for address in document["fallback"]]
    lines += [f"warning      {warning}" for warning in warnings]
    return "\n".join([*lines, "", document["ruleset"]])


def _usual_ruleset(config: InitConfig) -> RulesetSpec:
    return RulesetSpec(
        cluster=config.link.cluster or USUAL_CLUSTER_LINK,
        egress=config.link.egress or HANDED_LINK_NAMES[0],
        sources=tuple(source.address for source in config.identity.sources),
        destinations=config.destinations if config.mode.redirects else None,
        cluster_networks=cluster_networks(config),
        admin_port=config.admin_port,
    )
