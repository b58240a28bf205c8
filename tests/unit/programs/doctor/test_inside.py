"""What daemons, kernel and environment tell the doctor about the pod."""

from __future__ import annotations

import dataclasses
from ipaddress import ip_address
from typing import Any

import pytest

from egress_router.config.settings import Environment
from egress_router.diagnosis.facts import Daemon, Place, Untested
from egress_router.programs.doctor.inside import find_place, read_daemon
from model.patients import PLACE, SPACE

NOTHING = Untested(why="no result in time")
DOCUMENT = {
    "source": "192.168.12.99, 2001:db8:12::99",
    "gateway": "192.168.12.1, 2001:db8:12::1",
    "link": "macvlan0 (02:e6:c0:a8:0c:63)",
    "cluster_link": "eth0",
}
VARIABLES = {"EGRESS_SOURCE": "192.168.12.99/24", "EGRESS_GATEWAY": "192.168.12.1"}


def place(space: object, documents: dict[str, Any], **variables: str) -> Place:
    """Where the router is."""
    return find_place(Environment(variables=variables), space, documents)  # type: ignore[arg-type]


def test_the_kernel_knows_best() -> None:
    """A router that the kernel shows is that one, whatever others say."""
    assert place(SPACE, {"http": {"source": "1.2.3.4", "link": "x"}}) == PLACE


@pytest.mark.parametrize("space", [NOTHING, dataclasses.replace(SPACE, router="gone")])
def test_the_daemon_remembers(space: object) -> None:
    """With the routes gone, the daemon's last account is used."""
    assert place(space, {"http": {}, "redirect": DOCUMENT}) == PLACE


def test_the_environment_is_the_last_resort() -> None:
    """Without kernel and daemon the variables say what was meant."""
    found = place(NOTHING, {}, **VARIABLES, EGRESS_INTERFACE="net7")
    assert found.link == "net7"
    assert found.sources == (ip_address("192.168.12.99"),)
    assert found.gateways == (ip_address("192.168.12.1"),)


def test_nothing_is_known() -> None:
    """Where nobody knows anything the usual link is looked for."""
    assert place(NOTHING, {}) == Place(link="macvlan0", cluster=None)


def test_a_daemon_s_account() -> None:
    """A full document is read; what is missing in an older one is as if all were well."""
    full = {
        "mode": "dns",
        "ready": False,
        "reasons": ["table: gone"],
        "warnings": ["DNS: silent"],
        "data_path": "kernel",
        "conflict_watch": "on",
        "conditions": {"conflict": "also used by 02::", "table": "gone"},
        "reload": {"result": "refused", "problems": ["line 3"]},
    }
    assert read_daemon(full) == Daemon(
        mode="dns",
        ready=False,
        reasons=("table: gone",),
        warnings=("DNS: silent",),
        refused_reload=("line 3",),
        conflict="also used by 02::",
        watches=True,
        forwards=True,
    )
    assert read_daemon({"mode": "http", "ready": True}) == Daemon(mode="http", ready=True)
    assert read_daemon({"mode": "redirect", "reload": {"result": "none"}}).forwards
