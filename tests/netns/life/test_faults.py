"""Signals, a flushed table, flapping links and standard output (faults 101, 102, 103 and 106)."""

from __future__ import annotations

import json
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from egress_router.lab.addresses import ADDRESSES
from egress_router.lab.privileges import UNPRIVILEGED
from egress_router.lab.runner import wait_until_ready
from tests.configmap import ConfigMap

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

pytestmark = pytest.mark.netns

MODES = ("redirect", "http", "dns")
FLUSH_S, LINK_S = 5.0, 2.0
Build = Any  # the fixture of this folder
Until = Any


@pytest.mark.parametrize("mode", MODES)
def test_signals_that_are_none_of_its_business(router: Build, mode: str) -> None:
    """SIGPIPE, SIGUSR1, SIGUSR2 and SIGHUP end no connection and no daemon."""
    one = router(mode)
    tunnel = one.tunnel()
    for number in (signal.SIGPIPE, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
        one.daemon.signal(number)
    one.daemon.wait_for_line("reload_unsupported")
    tunnel.sendall(b"x")
    assert tunnel.recv(1) == b"x"
    assert one.health()[0] == 0


@pytest.mark.parametrize("mode", MODES)
def test_killed_and_started_again(router: Build, mode: str) -> None:
    """After SIGKILL nothing is left to trip on, and the next one serves within a second of work."""
    one = router(mode)
    for _ in range(3):
        one.daemon.signal(signal.SIGKILL)
        assert one.daemon.wait() == -signal.SIGKILL
        one.start()
        one.tunnel()
        assert one.status()["process"]["cpu_s"] < 1.5, "half a second on an idle machine"


@pytest.mark.parametrize("mode", MODES)
def test_a_flushed_table_shows_within_five_seconds(router: Build, mode: str) -> None:
    """Not ready, named, in the metrics; ready again when init has run again."""
    one = router(mode)
    started = time.monotonic()
    one.lab.run("pod", ("nft", "flush", "ruleset"))
    assert "nftables table" in one.daemon.wait_for_line("daemon_not_ready")
    assert time.monotonic() - started < FLUSH_S
    code, said = one.health()
    assert code == 1
    assert "nftables table" in said
    assert one.metric('egress_router_condition{condition="table"}') == 0
    assert one.metric("egress_router_ready") == 0
    one.lab.router(("init",), one.init)
    wait_until_ready(one.lab, one.daemon)
    one.tunnel()
    assert one.metric('egress_router_condition{condition="table"}') == 1


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        ("link set macvlan0 down", "macvlan0 is down"),
        (
            f"addr del {ADDRESSES.source.v4}/24 dev macvlan0",
            f"source {ADDRESSES.source.v4}/24 is not on macvlan0",
        ),
    ],
    ids=["link", "address"],
)
@pytest.mark.parametrize("mode", ["http", "dns"])  # redirect: tests/netns/test_daemon.py
def test_a_lost_link_or_address_shows_within_two_seconds(
    router: Build, mode: str, break_it: str, reason: str
) -> None:
    """Noticed by the kernel's own word of it, not by the next look; over when init runs again."""
    one = router(mode, EGRESS_WATCH_SECONDS="60")
    started = time.monotonic()
    one.lab.run("pod", ("ip", *break_it.split()))
    one.daemon.wait_for_line(reason)
    assert time.monotonic() - started < LINK_S
    assert one.health()[0] == 1
    one.lab.router(("init",), one.init)
    wait_until_ready(one.lab, one.daemon)
    one.tunnel()


@pytest.mark.parametrize("mode", ["http", "dns"])  # redirect: tests/netns/test_fail_closed.py
def test_a_flap_of_the_parent_is_waited_out(router: Build, mode: str, until: Until) -> None:
    """The node's NIC goes and comes back: an open connection lives through it, new ones work."""
    one = router(mode)
    tunnel = one.tunnel()
    one.lab.run("node", ("ip", "link", "set", "ens4", "down"))
    one.daemon.wait_for_line("daemon_not_ready")
    one.lab.run("node", ("ip", "link", "set", "ens4", "up"))
    until(lambda: one.health()[0] == 0)
    tunnel.sendall(b"x")
    assert tunnel.recv(1) == b"x"
    until(lambda: one.lab.ask("client", "tcp", ADDRESSES.pod.v4, 8080) != "ECONNREFUSED")
    one.tunnel()


def redirected(to: str) -> tuple[str, ...]:
    """The daemon with another standard output."""
    return ("sh", "-c", f'exec "$@" {to}', "sh", *UNPRIVILEGED)


@pytest.mark.parametrize(
    ("to", "mode"),
    [(">&-", "http"), (">/dev/full", "http"), (">/dev/full", "dns"), (">/dev/full", "redirect")],
    ids=["closed", "disk-full-http", "disk-full-dns", "disk-full-redirect"],
)
def test_output_that_cannot_be_written(router: Build, until: Until, to: str, mode: str) -> None:
    """A closed output or a full disk costs the lines, which are counted, and nothing else."""
    one = router(mode, wrap=redirected(to))
    one.tunnel()
    until(lambda: one.status()["process"]["log_lines_dropped"] > 0)
    one.daemon.signal(signal.SIGTERM)
    for sock in one.opened:
        sock.close()
    assert one.daemon.wait(15) == 0


def test_a_flood_of_lines_that_nobody_reads(router: Build, tmp_path: Path, until: Until) -> None:
    """With a blocked output the proxy answers each of thousands of refused requests, in time."""
    fifo = tmp_path / "fifo"
    one = router("http", wrap=("sh", "-c", f'mkfifo {fifo}; exec "$@" 1<>{fifo}', "sh"))
    request = b"GET http://denied.test/ HTTP/1.1\r\nHost: x\r\n\r\n"
    sock = one.connect()
    batch, count = 50, 0
    while one.metric("egress_router_log_lines_dropped_total") == 0:
        for _ in range(20):
            sock.sendall(request * batch)
            answered = 0
            while answered < batch:
                answered += sock.recv(1 << 20).count(b"HTTP/1.1 403 ")
            count += answered
        assert count < 100_000, "the queue is bounded"
    assert one.status()["process"]["loop_lag_s"] < 1
    assert one.health()[0] == 0
    sock.close()
    one.daemon.signal(signal.SIGTERM)
    assert one.daemon.wait(15) == 0, "its last lines cannot be written, and do not hold it up"


def read_only(folder: Path) -> Sequence[str]:
    """Any uid, no capability, and not one writable file system."""
    script = (
        f"mount --bind {folder} {folder}; mount -o remount,bind,ro {folder}; "
        'mount -o remount,bind,ro /; exec "$@"'
    )
    return ("unshare", "-m", "--propagation", "private", "sh", "-ec", script, "sh", *UNPRIVILEGED)


@pytest.mark.parametrize("mode", ["http", "dns"])
def test_nothing_is_written_and_the_list_is_followed(
    router: Build, until: Until, mode: str
) -> None:
    """On a read-only root, as any uid, a ConfigMap mounted read-only is followed all the same."""
    (variable, text), *_ = {
        "http": {"EGRESS_HTTP_PROXY_DESTINATION": "www.partner.test\n"},
        "dns": {"EGRESS_DNS_PROXY_DESTINATION": "8080 www.partner.test 80\n"},
    }[mode].items()
    with ConfigMap(text) as config:
        more = {variable: "", f"{variable}_FILE": str(config.file)}
        one = router(mode, wrap=read_only(config.folder), **more)
        one.tunnel()
        config.swap(f"# another\n{text}")
        until(lambda: one.status()["reload"]["generation"] == 2)
        one.tunnel()
        assert not one.lines("config_file_warning")
        assert not one.lines("reload_refused")


@pytest.mark.parametrize("mode", MODES)
def test_as_pid_1_it_reaps_orphans(router: Build, until: Until, mode: str) -> None:
    """Processes that somebody else's child leaves behind do not stay as zombies."""
    script = '(sleep 1 & sleep 1 & :) ; exec "$@"'
    wrap = ("unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", script, "sh")
    one = router(mode, wrap=wrap)
    listing = ("ps", "-o", "stat=", "--ppid", str(only_child(one.daemon.pid)))

    def zombies() -> int:
        return one.lab.run("pod", listing, check=False).stdout.count("Z")

    until(lambda: zombies() == 2)
    until(lambda: zombies() == 0)
    assert one.health()[0] == 0


def only_child(pid: int) -> int:
    """The one child of a process."""
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:  # noqa: PTH123
        (child,) = file.read().split()
    return int(child)


def test_the_log_is_json_whatever_happened(router: Build) -> None:
    """Every line of a life with a reload, a fault and an end can be read by a program."""
    one = router("redirect")
    one.daemon.signal(signal.SIGHUP)
    one.lab.run("pod", ("nft", "flush", "ruleset"))
    one.daemon.wait_for_line("daemon_not_ready")
    one.daemon.signal(signal.SIGTERM)
    assert one.daemon.wait(15) == 0
    for line in one.daemon.output().splitlines():
        assert {"timestamp", "level", "event"} <= set(json.loads(line))
