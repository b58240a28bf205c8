"""`status` and `doctor`, as a new user would try them, on a healthy router and on broken ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from egress_router.lab.addresses import ADDRESSES
from egress_router.lab.privileges import UNPRIVILEGED

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress_router.lab.world import Lab

Admit = Any  # the fixture that sets a pod up; its Patient lives in conftest
Failures = Any

pytestmark = pytest.mark.netns

MODES = ("redirect", "http", "dns")
NET_RAW = ("setpriv", "--bounding-set=-all,+net_raw")
NAME = "www.partner.test"
PARTNER = f"{ADDRESSES.partner.v4}:80"
WRONG_GATEWAYS = "192.168.12.250,2001:db8:12::250"


def checks(report: dict[str, Any], *statuses: str) -> set[str]:
    """The names of the checks that have a finding of these statuses."""
    return {check["check"] for check in report["checks"] if check["status"] in statuses}


@pytest.mark.parametrize("mode", MODES)
def test_healthy(mode: str, patient: Admit) -> None:
    """Without privilege nothing is amiss, and what could not be tested says what it needs."""
    pod = patient(mode)
    seen = pod.status_until(lambda told: all(one["mac"] for one in told["gateways"]))
    table = pod.status()
    assert "ready" in table.splitlines()[1]
    assert f"{ADDRESSES.gateway.v4} ({seen['gateways'][0]['mac']}, " in table
    assert "warning" not in table
    report = pod.doctor("--to", f"{NAME}:80", "--to", PARTNER)
    assert report["ok"]
    assert checks(report, "warn", "fail") == set()
    untested = [check for check in report["checks"] if check["status"] == "not tested"]
    assert {check["check"] for check in untested} == {"conflict", "mtu"}
    assert all("CAP_NET_RAW" in check["summary"] for check in untested)
    reached = [c["summary"] for c in report["checks"] if c["check"] == "destination"]
    assert all(f"from {ADDRESSES.source.v4}" in summary for summary in reached)
    assert len(reached) == 2


def test_healthy_with_privilege(patient: Admit) -> None:
    """With NET_RAW everything is tested, and holds."""
    report = patient("http").doctor("--to", PARTNER, wrap=NET_RAW)
    assert checks(report, "warn", "fail", "not tested") == set()


def test_as_text(patient: Admit) -> None:
    """Without --json it is text; one line for each check, and how many ended how."""
    done = patient("http").ask("doctor")
    assert done.returncode == 0
    assert done.stdout.startswith(f"{ADDRESSES.source.v4}, {ADDRESSES.source.v6} by macvlan0 via ")
    assert "not tested  destination" in done.stdout
    assert "--to HOST:PORT" in done.stdout


@pytest.mark.parametrize("mode", MODES)
def test_link_down(mode: str, patient: Admit, failures: Failures) -> None:
    """Both name the link, and nothing that follows from it."""
    pod = patient(mode)
    pod.run("ip", "link", "set", "macvlan0", "down")
    pod.status_until(lambda told: not told["ready"])
    table = pod.status().splitlines()
    assert table[1].startswith("ready")
    assert "NO" in table[1]
    assert any("macvlan0 is down" in line for line in table)
    told = failures(pod.doctor("--to", PARTNER))
    assert told.keys() == {"daemon", "link"}
    assert "macvlan0 is down" in told["link"]
    assert "delete the pod" in told["link"]


@pytest.mark.parametrize("mode", MODES)
def test_wrong_gateway(mode: str, patient: Admit, failures: Failures) -> None:
    """The router is ready all the same; status warns by itself, and the doctor gives the causes."""
    pod = patient(mode, EGRESS_GATEWAY=WRONG_GATEWAYS)
    pod.status_until(lambda told: len(told["warnings"]) == 2)
    assert "gateway 192.168.12.250 does not answer on macvlan0" in pod.status()
    assert "192.168.12.250 (NO ANSWER)" in pod.status()
    told = failures(pod.doctor("--to", PARTNER))
    assert told.keys() == {"gateway", "destination"}
    assert "192.168.12.250 does not answer on macvlan0" in told["gateway"]
    for words in ("EGRESS_GATEWAY is wrong", "forged transmits", "allowed-address", "wrong NIC"):
        assert words in told["gateway"]
    assert "gateway that does not answer" in told["destination"]
    assert failures(pod.doctor(wrap=NET_RAW)).keys() == {"gateway"}


@pytest.mark.parametrize("mode", MODES)
def test_address_taken(
    mode: str, patient: Admit, failures: Failures, taker: Callable[[Lab], str]
) -> None:
    """With NET_RAW in the daemon or in the doctor both name the holder."""
    pod = patient(mode, wrap=NET_RAW)
    holder = taker(pod.lab)
    pod.status_until(lambda told: told["conditions"].get("conflict", "ok") != "ok")
    assert f"{ADDRESSES.source.v4} is also used by {holder}" in pod.status()
    for wrap in (UNPRIVILEGED, NET_RAW):
        told = failures(pod.doctor(wrap=wrap))
        assert holder in told["conflict"]
        assert "two stations use one address" in told["conflict"]


def test_address_taken_without_privilege(patient: Admit, taker: Callable[[Lab], str]) -> None:
    """Nobody there may ask: it says how to ask, and a silent destination names the suspicion."""
    pod = patient("redirect")
    taker(pod.lab)
    barred = (
        "add table ip t; add chain ip t f { type filter hook forward priority 0; policy drop; }"
    )
    pod.lab.run("gw", ("nft", barred))
    report = pod.doctor("--to", PARTNER)
    (conflict,) = [check for check in report["checks"] if check["check"] == "conflict"]
    assert conflict["status"] == "not tested"
    assert "kubectl debug" in conflict["summary"]
    (lost,) = [check for check in report["checks"] if check["check"] == "destination"]
    causes = [advice["cause"] for advice in lost["advice"]]
    assert any("another station uses it" in cause for cause in causes)
    assert any("firewall on the way" in cause for cause in causes)


@pytest.mark.parametrize("mode", MODES)
def test_table_flushed(mode: str, patient: Admit, failures: Failures) -> None:
    """Both name the table, and who may have done it."""
    pod = patient(mode)
    pod.run("nft", "flush", "ruleset")
    pod.status_until(lambda told: not told["ready"])
    assert "nftables table" in pod.status()
    told = failures(pod.doctor("--to", PARTNER))
    assert told.keys() == {"daemon", "table"}
    assert "nft flush ruleset" in told["table"]


@pytest.mark.parametrize("mode", ["http", "dns"])
def test_dns_dead(mode: str, patient: Admit, failures: Failures) -> None:
    """Status names the silent servers once one was asked; the doctor asks by itself."""
    pod = patient(mode)
    pod.lab.process("nameserver").stop()
    if mode == "http":
        proxy = ("-x", f"http://{ADDRESSES.pod.v4}:8080", "http://never-asked.partner.test/")
        pod.lab.run("client", ("curl", "-s", "-m", "10", *proxy), check=False)
    pod.status_until(lambda told: any("no nameserver answers" in w for w in told["warnings"]))
    assert "172.30.0.10" in pod.status()
    report = pod.doctor("--to", f"{NAME}:80")
    told = failures(report)
    assert told.keys() == {"dns", "destination"}
    assert "cluster's DNS is down" in told["dns"]
    assert "NetworkPolicy" in told["dns"]


def test_dns_dead_beside_redirect(patient: Admit) -> None:
    """A redirect router needs no DNS: a warning, and no failure."""
    pod = patient("redirect")
    pod.lab.process("nameserver").stop()
    report = pod.doctor()
    assert report["ok"]
    assert checks(report, "warn") == {"dns"}


@pytest.mark.parametrize(
    ("wrap", "groups"),
    [(NET_RAW, "1 0"), (UNPRIVILEGED, "0 2147483647")],
    ids=["NET_RAW", "sysctl"],
)
def test_large_packets_lost(
    wrap: tuple[str, ...], groups: str, patient: Admit, failures: Failures
) -> None:
    """Where the outside carries less than the link says, the doctor names the MTU."""
    pod = patient("http")
    pod.run("sysctl", "-q", "-w", f"net.ipv4.ping_group_range={groups}")
    assert "mtu" in checks(pod.doctor(wrap=wrap), "ok")
    pod.lab.run("gw", ("ip", "link", "set", "eth0", "mtu", "1400"))
    told = failures(pod.doctor(wrap=wrap))
    assert told.keys() == {"mtu"}
    assert "packets of 1500 bytes do not come back" in told["mtu"]


def test_no_init(lab: Callable[..., Lab]) -> None:
    """In a pod that was never set up it says so, and what to look at."""
    world = lab()
    done = world.router(("doctor",), {}, wrap=UNPRIVILEGED, check=False)
    assert done.returncode == 1
    assert "macvlan0 is down" in done.stdout
    assert "no daemon of ours runs in this network namespace" in done.stdout


def test_mistyped_variables(patient: Admit) -> None:
    """A daemon tells of a mistyped variable in its log and in status, and the doctor does."""
    pod = patient("http", daemon={"EGRESS_LOG_LEVL": "debug"})
    words = "unknown variable EGRESS_LOG_LEVL: did you mean EGRESS_LOG_LEVEL?"
    assert words in pod.daemon.wait_for_line("configuration_warning")
    assert words in pod.status()
    (found,) = [one for one in pod.doctor()["checks"] if one["status"] == "warn"]
    assert (found["check"], found["summary"]) == ("variables", words)


@pytest.mark.parametrize("words", [("--to", "nonsense"), ("--bogus",), ("extra",)])
def test_wrong_calls(words: tuple[str, ...], lab: Callable[..., Lab]) -> None:
    """A wrong call ends with 2 and says what was expected."""
    done = lab().router(("doctor", *words), {}, wrap=UNPRIVILEGED, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage: egress-router doctor" in done.stderr


def test_denials_are_shown(patient: Admit) -> None:
    """What the proxy refused lately stands in its status, repetition counted."""
    pod = patient("http")
    proxy = ("-x", f"http://{ADDRESSES.pod.v4}:8080")
    for url in ("http://198.51.100.1/", "http://198.51.100.1/", "http://no.partner.test/"):
        pod.lab.run("client", ("curl", "-s", "-o", "/dev/null", *proxy, url))
    document = pod.status_until(lambda told: told["recent_failures"])
    (denial,) = document["recent_denials"]
    assert (denial["times"], denial["target"]) == (2, "198.51.100.1:80")
    assert denial["client"] == str(ADDRESSES.client.v4)
    (failure,) = document["recent_failures"]
    assert failure["target"] == "no.partner.test:80"
    assert "RECENT DENIALS" in pod.status()
