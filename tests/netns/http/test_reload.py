"""The proxy's list changes while it serves: what a client of the real daemon sees of it."""

from __future__ import annotations

import json
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.configmap import ConfigMap

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.netns

DEADLINE_S = 15.0


class World:
    """A proxy whose list is a mounted ConfigMap."""

    def __init__(self, scene: Any, config: ConfigMap) -> None:
        self.scene = scene
        self.config = config

    def reload_status(self) -> dict[str, Any]:
        """The part of /status that tells of reloads."""
        text = self.scene.lab.router(("status", "--json"), {}).stdout
        return json.loads(text)["reload"]

    def wait_for(self, result: str, generation: int) -> dict[str, Any]:
        """The status once it is so."""
        end = time.monotonic() + DEADLINE_S
        while True:
            status = self.reload_status()
            if (status["result"], status["generation"]) == (result, generation):
                return status
            assert time.monotonic() < end, status

    def connect(self, host: str, port: int) -> tuple[Any, int]:
        """A CONNECT and its status."""
        client = self.scene.connect()
        client.send(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        return client, int(client.until(b"\r\n\r\n").split()[1])

    def events(self, name: str) -> list[dict[str, Any]]:
        """The log lines of one event."""
        return [line for line in self.scene.lines() if line["event"] == name]


@pytest.fixture
def world(build: Any) -> Iterator[World]:
    """A proxy that allows one name."""
    with (
        ConfigMap("www.example.test\n") as config,
        build("", EGRESS_HTTP_PROXY_DESTINATION_FILE=str(config.file)) as scene,
    ):
        yield World(scene, config)


def test_a_swap_changes_the_verdicts_and_cuts_what_is_denied_now(world: World) -> None:
    """Tunnels that stay allowed go on; one that does not is reset, with the line that denies it."""
    origin = world.scene.origin()
    keeps, status = world.connect("www.example.test", origin.port)
    assert status == 200
    far_keeps = origin.accept()
    assert world.connect("other.test", origin.port)[1] == 403
    world.config.swap("www.example.test\nother.test\n")
    report = world.wait_for("applied", 2)
    assert report["changes"] == ["'other.test' added (line 2)"]
    assert report["source"] == str(world.config.file)
    goes, status = world.connect("other.test", origin.port)
    assert status == 200
    far_goes = origin.accept()
    world.config.swap("!other.test\n*.example.test\n*\n")
    world.wait_for("applied", 3)
    with pytest.raises(ConnectionResetError):
        goes.rest()
    with pytest.raises(ConnectionResetError):
        far_goes.rest()
    keeps.send(b"still")
    assert far_keeps.exactly(5) == b"still"
    assert world.connect("other.test", origin.port)[1] == 403
    assert world.connect("a.g.test", origin.port)[1] == 200
    line = next(e for e in world.events("http_allowed") if e["target"].startswith("other.test"))
    assert line["note"].startswith("cut, for the rules changed: line 1 '!other.test' denies")
    assert [event["ended"] for event in world.events("reload_applied")] == [0, 1]


def test_an_invalid_list_leaves_everything_as_it_was(world: World) -> None:
    """All of its problems are in log and status, word by word as `check` has them."""
    origin = world.scene.origin()
    bad = "www.example.test\n!*\n999.1.1.1\n"
    world.config.swap(bad)
    report = world.wait_for("refused", 1)
    assert world.connect("www.example.test", origin.port)[1] == 200
    environment = {"EGRESS_HTTP_PROXY_DESTINATION_FILE": str(world.config.file)}
    checked = world.scene.lab.router(("check", "http"), environment, check=False)
    assert checked.returncode == 2
    told = [line.removeprefix("error: ") for line in checked.stderr.splitlines()]
    assert len(told) == 2
    assert report["problems"] == told
    (line,) = world.events("reload_refused")
    assert line["problems"] == told
    world.config.swap("www.example.test\n")
    assert world.wait_for("applied", 1)["changes"] == []


def test_requests_under_way_keep_their_verdict(world: World) -> None:
    """A request that was allowed is answered; the connection's next one is judged anew."""
    origin = world.scene.origin()
    client = world.scene.connect()
    request = f"GET http://www.example.test:{origin.port}/ HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    client.send(request)
    server = origin.accept()
    server.until(b"\r\n\r\n")
    world.config.swap("other.test\n")
    world.wait_for("applied", 2)
    server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    assert client.answer()[::2] == (200, b"ok")
    client.send(request)
    assert client.answer()[0] == 403


def write_in_place(world: World) -> None:
    """The file behind the links is overwritten."""
    world.config.file.write_text("other.test\n")


def write_slowly(world: World) -> None:
    """Half of a line is there for a second before the rest comes."""
    with world.config.file.open("w") as file:
        file.write("other")
        file.flush()
        time.sleep(1.5)  # the fault itself: a writer that takes its time
        file.write(".test\n")


def rename_over(world: World) -> None:
    """An editor's way: another file is moved over it."""
    new = world.config.folder / "new"
    new.write_text("other.test\n")
    new.replace(world.config.file)


def remove_and_create(world: World) -> None:
    """A careless script's way: removed, and made again a moment later."""
    world.config.file.unlink()
    time.sleep(0.5)  # the fault itself
    world.config.file.write_text("other.test\n")


@pytest.mark.parametrize("change", [write_in_place, write_slowly, rename_over, remove_and_create])
def test_every_way_of_changing_a_file(world: World, change: Any) -> None:
    """Whatever way a file is changed, there is one reload, of the whole file."""
    change(world)
    report = world.wait_for("applied", 2)
    assert report["changes"] == [
        "'www.example.test' removed",
        "'other.test' added (line 1)",
    ]
    assert not world.events("reload_refused")
    assert len(world.events("reload_applied")) == 1


def delete(world: World) -> str:
    """The file is gone."""
    world.config.file.unlink()
    return "cannot be read: No such file or directory"


def empty(world: World) -> str:
    """The file holds nothing."""
    world.config.swap("")
    return "the list has no rule"


def comments(world: World) -> str:
    """The file holds comments only."""
    world.config.swap("# nothing\n")
    return "the list has no rule"


def binary(world: World) -> str:
    """The file is no text."""
    world.config.file.write_bytes(b"\xff\xfe")
    return "expected UTF-8 text, found byte 0xff"


@pytest.mark.parametrize("fault", [delete, empty, comments, binary])
def test_faults_of_a_file(world: World, fault: Any) -> None:
    """Each leaves the old list in force, is named, and is over as soon as the file is sound."""
    words = fault(world)
    (problem,) = world.wait_for("refused", 1)["problems"]
    assert words in problem
    assert world.connect("www.example.test", world.scene.origin().port)[1] == 200
    world.config.file.unlink(missing_ok=True)
    world.config.file.write_text("other.test\n")
    world.wait_for("applied", 2)


def test_sighup_reads_the_file_again(build: Any) -> None:
    """With watching turned off SIGHUP alone reloads; it has an answer even if nothing changed."""
    with ConfigMap("www.example.test\n") as config:
        variables = {
            "EGRESS_HTTP_PROXY_DESTINATION_FILE": str(config.file),
            "EGRESS_RELOAD_SECONDS": "0",
        }
        with build("", **variables) as scene:
            world = World(scene, config)
            scene.daemon.signal(signal.SIGHUP)
            assert world.wait_for("applied", 1)["source"] == "SIGHUP"
            config.swap("other.test\n")
            assert world.connect("other.test", 9)[1] == 403
            scene.daemon.signal(signal.SIGHUP)
            world.wait_for("applied", 2)
            for number in (signal.SIGPIPE, signal.SIGUSR1, signal.SIGUSR2):
                scene.daemon.signal(number)
            assert world.connect("www.example.test", 9)[1] == 403


def test_a_list_in_the_environment_cannot_change(build: Any) -> None:
    """SIGHUP says so, and names the variable that would help."""
    with build("*") as scene:
        scene.daemon.signal(signal.SIGHUP)
        line = json.loads(scene.daemon.wait_for_line("reload_unsupported"))
        assert "EGRESS_HTTP_PROXY_DESTINATION_FILE" in line["problems"][0]
        assert scene.daemon.running


def test_a_subpath_mount_is_told_of(build: Any) -> None:
    """A file that is a mount of its own never changes: said at the start and at a replacement."""
    with ConfigMap("www.example.test\n") as config, ConfigMap("x.test\n") as mounted:
        target = mounted.folder / "single"
        target.touch()
        script = (
            f"mount --bind {config.file.resolve()} {target} && exec setpriv --reuid 65534 "
            '--regid 65534 --clear-groups --bounding-set=-all "$@"'
        )
        wrap = ("unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh")
        with build("*") as scene:
            scene.daemon.stop()
            daemon = scene.lab.start_router(
                ("http",),
                {
                    "EGRESS_HTTP_PROXY_DESTINATION_FILE": str(target),
                    "EGRESS_RELOAD_SECONDS": "0.5",
                },
                wrap=wrap,
            )
            line = json.loads(daemon.wait_for_line("config_file_warning"))
            assert "subPath" in line["reason"]
            daemon.wait_for_line("daemon_ready")
            config.swap("other.test\n")
            line = json.loads(daemon.wait_for_line("reload_unsupported"))
            assert "a subPath mount never changes" in line["problems"][0]
