"""A real Prometheus scrapes real daemons: its rules and the dashboard's expressions find data."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from egress_router.kernel.netns import entered
from egress_router.lab.addresses import ADDRESSES
from egress_router.lab.runner import run_init, start_daemon, wait_until_ready
from egress_router.lab.scenario import load_scenario
from egress_router.lab.scenarios import dns, http
from egress_router.lab.world import Answer
from tests.netns.metrics.conftest import scrape, wait_for
from tests.unit.deploy.test_monitoring import ALERTS, EXPRESSIONS, RULES, SELECTOR

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress_router.lab.world import Lab

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(
        shutil.which("prometheus") is None, reason="prometheus is missing (Debian package)"
    ),
]

ADMIN_PORT = 9100
SCRAPE_S = 1
CALL_S = 15
MODES = ("redirect", "http", "dns")
CONFIG = """
global: {{scrape_interval: {every}s, evaluation_interval: {every}s}}
rule_files: ["{rules}"]
scrape_configs:
- job_name: egress-router
  static_configs: [{{targets: ["{target}"]}}]
"""


@dataclass(slots=True)
class Watched:
    """One router in a lab, and a Prometheus in its client's namespace that scrapes it."""

    world: Lab
    mode: str
    found: dict[str, int] = field(default_factory=dict)
    alerts: frozenset[str] = frozenset()

    def ask(self, path: str, **query: str) -> Any:
        """What Prometheus answers to one request of its API."""
        url = f"http://127.0.0.1:9090/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with (
            entered(f"/run/netns/{self.world.namespace('client')}"),
            urllib.request.urlopen(url, timeout=CALL_S) as answer,
        ):
            document = json.load(answer)
        assert document["status"] == "success", document
        return document["data"]

    def query(self, expression: str) -> list[Any]:
        """The result of an expression as the dashboard would ask it."""
        text = expression.replace("$__rate_interval", "30s").replace("$instance", ".*")
        result: list[Any] = self.ask("query", query=text)["result"]
        return result

    def scraped(self) -> bool:
        """Whether there are some scrapes already."""
        try:
            counts = self.query("count_over_time(egress_router_ready[1m])")
        except OSError:
            return False
        return bool(counts) and float(counts[0]["value"][1]) >= 3


def begin(world: Lab, mode: str, folder: Path) -> Watched:
    """Sets a router up as the demonstration does, and starts a Prometheus."""
    scenario = load_scenario(mode)
    scenario.arrange(world)
    run_init(world, {**scenario.environment, "EGRESS_ADMIN_PORT": str(ADMIN_PORT)})
    environment = {**scenario.daemon_environment, "EGRESS_ADMIN_PORT": str(ADMIN_PORT)}
    if mode == "http":
        path = folder / "list"
        path.write_text(environment.pop("EGRESS_HTTP_PROXY_DESTINATION"))
        environment["EGRESS_HTTP_PROXY_DESTINATION_FILE"] = str(path)
    if mode == "dns":
        environment["EGRESS_DNS_PROXY_DATAPATH"] = "kernel"
    if mode != "http":  # with the privilege that counters, and the kernel's path, need
        wait_until_ready(world, world.start_router((mode,), environment))
    else:
        start_daemon(world, mode, environment)
    config = folder / "prometheus.yaml"
    target = f"{ADDRESSES.pod.v4}:{ADMIN_PORT}"
    config.write_text(CONFIG.format(every=SCRAPE_S, rules=ALERTS, target=target))
    world.start(
        "client",
        (
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'data'}",
            "--web.listen-address=127.0.0.1:9090",
        ),
    )
    return Watched(world, mode)


def use(watched: Watched) -> None:
    """Some connections, some refused, so that every counter has something to tell."""
    world = watched.world
    if watched.mode == "http":
        assert http.curl(world, f"http://{http.NAME}/").returncode == 0
        assert http.curl(world, f"https://{http.NAME}/", "--insecure").returncode == 0
        http.curl(world, f"http://{http.DENIED}/")
        http.curl(world, "http://203.0.113.10:81/")
        return
    port = dns.PORT if watched.mode == "dns" else 80
    assert isinstance(world.ask("client", "tcp", ADDRESSES.pod.v4, port), Answer)


@pytest.fixture(scope="module")
def watched(
    module_lab: Callable[..., Lab], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Watched]:
    """A router of each mode after some use, and what Prometheus has of each expression."""
    routers = {}
    for mode in MODES:
        folder = tmp_path_factory.mktemp(mode)
        part = folder
        while part != Path(tempfile.gettempdir()):  # the daemon runs as another user
            part.chmod(0o755)
            part = part.parent
        routers[mode] = begin(module_lab(load_scenario(mode).spec), mode, folder)
    for one in routers.values():
        use(one)
        wait_for(one.scraped)
        use(one)
    time.sleep(2 * SCRAPE_S)  # for the rates: two more scrapes, which nothing here announces
    for one in routers.values():
        selectors = {
            f"{name}{{{matchers}}}" if matchers else name
            for _, expression in EXPRESSIONS
            for name, matchers in SELECTOR.findall(expression)
        }
        for expression in (*(text for _, text in EXPRESSIONS), *selectors):
            one.found[expression] = len(one.query(expression))
        active = one.ask("alerts")["alerts"]
        one.alerts = frozenset(alert["labels"]["alertname"] for alert in active)
    return routers


def test_prometheus_takes_every_expression(watched: dict[str, Watched]) -> None:
    """Every selector of alerts and dashboard finds series of some mode, as does every panel."""
    silent = [
        expression
        for expression in watched["http"].found
        if not any(one.found[expression] for one in watched.values())
    ]
    # What is asked for trouble alone is silent while there is none; its selectors are not.
    quiet = {rule["expr"] for rule in RULES.values()} | {
        text for _, text in EXPRESSIONS if text.endswith(("> 0", "== 1"))
    }
    assert [expression for expression in silent if expression not in quiet] == []


def test_no_alert_fires_at_a_healthy_router(watched: dict[str, Watched]) -> None:
    """After ordinary use nothing is wrong, but for the name that the scenario leaves unknown."""
    for mode, one in watched.items():
        # Loop lag says how busy the machine is that tests.
        unknown = {"EgressRouterResolutionStale", "EgressRouterPortClosed"}
        allowed = {"EgressRouterLoopBlocked", *(unknown if mode == "dns" else ())}
        assert one.alerts <= allowed, mode


@pytest.mark.parametrize("mode", MODES)
def test_what_is_scraped_is_well_formed(watched: dict[str, Watched], mode: str) -> None:
    """Prometheus' own tool finds nothing to object to in the text."""
    text = scrape(watched[mode].world, mode).text
    done = subprocess.run(
        ("promtool", "check", "metrics"),
        input=text,
        capture_output=True,
        text=True,
        timeout=CALL_S,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_trouble_raises_its_alert(watched: dict[str, Watched]) -> None:
    """A flushed table, a bad list, a dead nameserver and a lost carrier are seen by the rules."""

    def raised(mode: str, alert: str) -> bool:
        return bool(watched[mode].query(RULES[alert]["expr"]))

    proxy = watched["http"].world
    (path,) = {
        row.partition("=")[2]
        for row in proxy.run(
            "pod", ("cat", f"/proc/{proxy.process('http').pid}/environ")
        ).stdout.split("\0")
        if row.startswith("EGRESS_HTTP_PROXY_DESTINATION_FILE=")
    }
    proxy.run("pod", ("sh", "-c", f"echo 'http://no/rule' > {path}"))
    wait_for(lambda: raised("http", "EgressRouterReloadFailed"))
    proxy.run("pod", ("nft", "flush", "ruleset"))
    wait_for(lambda: raised("http", "EgressRouterNotReady"))
    forwarder = watched["dns"].world
    before = len(watched["dns"].query(RULES["EgressRouterResolutionStale"]["expr"]))
    forwarder.process("nameserver").stop(CALL_S)
    wait_for(
        lambda: len(watched["dns"].query(RULES["EgressRouterResolutionStale"]["expr"])) > before
    )
    nat = watched["redirect"].world
    nat.run("lan", ("ip", "link", "set", "node", "down"))
    wait_for(lambda: raised("redirect", "EgressRouterLinkDown"))
