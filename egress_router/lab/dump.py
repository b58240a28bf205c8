"""The state of one host as text, for the report of a failed test."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

from egress_router.lab.namespaces import inside

if TYPE_CHECKING:
    from egress_router.lab.spec import Host

LIMIT_S = 5.0
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("ip", "-d", "link"),
    ("ip", "addr"),
    ("ip", "rule"),
    ("ip", "-6", "rule"),
    ("ip", "route", "show", "table", "all"),  # of both families
    ("ip", "neigh"),
    ("nft", "list", "ruleset"),
    ("conntrack", "-L"),
    ("ss", "-tuanp"),
)
ESSENTIAL = ("addr", "route", "neigh")  # enough of the hosts that no router runs in


def observe_host(host: Host, namespace: str) -> str:
    """Links, addresses, rules, routes of all tables, ruleset, flows and sockets of a host."""
    sections = [f"==== {host}"]
    for command in COMMANDS:
        if host not in {"pod", "node"} and not set(ESSENTIAL) & set(command):
            continue
        if shutil.which(command[0]) is None:
            continue
        sections.append(f"-- {' '.join(command)}\n{_output(namespace, command)}")
    return "\n".join(sections)


def _output(namespace: str, command: tuple[str, ...]) -> str:
    try:
        done = subprocess.run(
            inside(namespace, command),
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT_S,
        )
    except subprocess.TimeoutExpired:
        return f"no answer in {LIMIT_S} s"
    return (done.stdout + done.stderr).rstrip()
