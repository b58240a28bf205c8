"""`egress-router lab`: a world on this machine, the real programs in it, and what the partner saw.

Exit code 0: every check held; 1: one did not, or a program did not start.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from egress_router.lab.namespaces import remove_world, require_tools
from egress_router.lab.privileges import UNPRIVILEGED_UID
from egress_router.lab.runner import run_init, start_daemon
from egress_router.lab.scenario import Check, Outcome, Scenario, load_scenario, scenario_names
from egress_router.lab.spec import HOSTS, Cni
from egress_router.lab.world import PROGRAM, Lab

if TYPE_CHECKING:
    from collections.abc import Sequence

OK, FAILED = "ok", "FAILED"


def run_lab(argv: Sequence[str]) -> int:
    """The `lab` command; KernelError if this machine or user cannot carry a lab."""
    parser = _parser()
    options = parser.parse_args(argv)
    require_tools()
    if options.remove is not None:
        try:
            removed = remove_world(options.remove)
        except ValueError as error:
            parser.error(str(error))
        print(f"removed: {', '.join(removed) or 'nothing was left'}")
        return 0
    held = [
        show(_placed(load_scenario(mode), options.cni), keep=options.keep)
        for mode in options.mode or scenario_names()
    ]
    return 0 if all(held) else 1


def show(scenario: Scenario, *, keep: bool = False, program: Sequence[str] = PROGRAM) -> bool:
    """Runs one scenario in a world of its own, prints it, and returns whether everything held."""
    start = time.monotonic()
    print(f"{scenario.mode}: {scenario.summary}")
    with Lab(scenario.spec, program=program) as lab:
        if keep:
            lab.keep()
        print(f"\nworld {lab.prefix} with the {lab.spec.cni} network built", end=" ")
        print(f"in {time.monotonic() - start:.2f} s; init gets:")
        _print_environment(scenario)
        outcomes = _outcomes(lab, scenario)
        broken = sum(not outcome.ok for outcome in outcomes)
        print(
            f"\n{scenario.mode}: {len(outcomes) - broken} of {len(outcomes)} held, "
            f"{time.monotonic() - start:.1f} s"
        )
        if keep:
            _print_ways_in(lab)
    return broken == 0


def _outcomes(lab: Lab, scenario: Scenario) -> list[Outcome]:
    outcomes = [_try(lab, Check(title="start", act=lambda lab: _started(lab, scenario)))]
    if outcomes[0].ok:  # without the programs no other check could tell anything
        outcomes.extend(_try(lab, check) for check in scenario.checks)
    return outcomes


def _started(lab: Lab, scenario: Scenario) -> Outcome:
    scenario.arrange(lab)
    init_s = run_init(lab, scenario.environment)
    start = time.monotonic()
    start_daemon(lab, scenario.mode, scenario.daemon_environment)
    ready_s = time.monotonic() - start
    return Outcome(
        ok=True,
        seen=f"init done in {init_s:.2f} s; {scenario.mode} ready {ready_s:.2f} s after its "
        f"start as uid {UNPRIVILEGED_UID} without capabilities",
    )


def _try(lab: Lab, check: Check) -> Outcome:
    try:
        outcome = check.act(lab)
    except Exception as error:  # noqa: BLE001 - whatever broke is what this check has to say
        outcome = Outcome(ok=False, seen=f"{type(error).__name__}: {error}")
    print(f"{OK if outcome.ok else FAILED:8}{check.title}: {outcome.seen}", flush=True)
    return outcome


def _print_environment(scenario: Scenario) -> None:
    for name, value in scenario.environment.items():
        lines = value.splitlines()
        print(f"    {name}={lines[0]}" if len(lines) == 1 else f"    {name}=")
        for line in lines if len(lines) > 1 else ():
            print(f"        {line}")
    print(flush=True)


def _print_ways_in(lab: Lab) -> None:
    print("\nThe world is left as it is. A shell in each host:")
    for host in HOSTS:
        print(f"    {host:10}{lab.enter(host)}")
    print(f"The logs are in {lab.logs}. To remove it all: egress-router lab --remove {lab.prefix}")


def _placed(scenario: Scenario, cni: str | None) -> Scenario:
    """The same scenario on another cluster network."""
    return replace(scenario, spec=replace(scenario.spec, cni=Cni(cni))) if cni else scenario


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="egress-router lab",
        description="shows the router at work in network namespaces on this machine",
    )
    parser.add_argument("--mode", action="append", choices=scenario_names(), help="default: all")
    parser.add_argument("--cni", choices=[str(cni) for cni in Cni], help="the cluster's network")
    parser.add_argument("--keep", action="store_true", help="leave the world up, and say how in")
    parser.add_argument("--remove", metavar="PREFIX", help="remove a world that was kept")
    return parser
