"""The benchmark's arithmetic and its page; what it measures is no test's business."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from bench.__main__ import TOPICS
from bench.load import compile_tunnels
from bench.machine import PROCESSORS, observe_idle_s, observe_memory_bytes, observe_tree
from bench.report import README, render_topic, replace_tables
from bench.results import IDLE, LESS, OF_THE_LOAD, Topic, from_json, to_json
from bench.run import in_turn

if TYPE_CHECKING:
    from collections.abc import Iterator

OPTIONS = {"rounds": 2, "seconds": 1.0, "ours": {"EGRESS_WORKERS": "1"}}


def test_each_side_is_first_once() -> None:
    """As many rounds as sides, and nobody profits from who came before."""
    orders = [in_turn(("a", "b", "c"), turn) for turn in range(3)]
    assert orders == [("a", "b", "c"), ("b", "c", "a"), ("c", "a", "b")]
    assert in_turn(("a", "b"), 2) == ("a", "b")


@pytest.fixture
def topic() -> Topic:
    """Two rounds of two sides, a curve, and what the load took."""
    topic = Topic(name="http", title="HTTP", sides=("peer", "ours", "absent"))
    for peer, ours in ((100, 300), (200, 300)):
        topic.note("rate", "peer", peer)
        topic.note("rate", "ours", ours)
        topic.note(f"rate{OF_THE_LOAD}", "ours", 0.25)
    topic.note("memory", "ours", 2.5, unit="MiB", better=LESS, at=(1000, "held"))
    topic.note("memory", "ours", 1.5, unit="MiB", better=LESS, at=(10, "held"))
    return topic


def test_ratios_are_taken_within_a_round(topic: Topic) -> None:
    """3 and 1.5 make 2.25; the ratio of the medians, 2, would mix rounds."""
    assert "| rate | more | 150 | **2.25** (1.50 to 3.00); 300 |" in topic.render()


def test_rows_are_in_the_order_of_their_curves(topic: Topic) -> None:
    """Whatever order the points were measured in; sides without a value have no column."""
    lines = topic.render().splitlines()
    assert lines[0] == "| measure | better | peer | ours |"
    assert [line.split("|")[1].strip() for line in lines[2:]] == [
        "rate",
        "memory, 10 held, MiB",
        "memory, 1,000 held, MiB",
    ]


def test_what_the_load_takes_is_told_and_is_no_row(topic: Topic) -> None:
    """A reader can see whether the load was the limit."""
    assert OF_THE_LOAD not in topic.render()
    assert "took 0.25 processors" in topic.render_load()


def test_where_one_process_was_the_limit_is_told(topic: Topic) -> None:
    """Of processors that nobody took: those cells by name that left half a one, and no row."""
    assert topic.render_idle() == ""
    for peer, ours in ((0.75, 0.1), (0.5, 0.0)):
        topic.note(f"rate{IDLE}", "peer", peer, at=(10, "ports"))
        topic.note(f"rate{IDLE}", "ours", ours, at=(10, "ports"))
    assert IDLE not in topic.render()
    assert topic.render_idle() == (
        "Processors idle meanwhile: 0.30 (0.00 to 0.75); "
        "0.5 and more: peer in rate, 10 ports (0.62)."
    )
    assert topic.render_idle() in render_topic(topic, {"Linux": "6"}, OPTIONS)


def test_tables_can_be_made_again_from_the_json(topic: Topic) -> None:
    """Nothing of a run is lost on the way through a file."""
    document = json.loads(json.dumps(to_json({"Linux": "6"}, OPTIONS, [topic])))
    machine, options, topics = from_json(document)
    assert topics == [topic]
    assert "EGRESS_WORKERS=1; Linux 6." in render_topic(topics[0], machine, options)


def test_a_table_is_put_between_its_markers() -> None:
    """The rest of the page stays; a topic without a place is an error, not a lost table."""
    page = "a\n<!-- one -->\nold\n<!-- /one -->\nb <!-- two -->x<!-- /two -->"
    replaced = replace_tables(page, {"one": "new"})
    assert replaced == "a\n<!-- one -->\nnew\n<!-- /one -->\nb <!-- two -->x<!-- /two -->"
    assert replace_tables(replaced, {"one": "new"}) == replaced
    with pytest.raises(KeyError, match="three"):
        replace_tables(page, {"three": ""})


def test_the_page_has_a_place_for_every_topic() -> None:
    """`make bench` ends by writing there."""
    text = README.read_text(encoding="utf-8")
    replaced = replace_tables(text, dict.fromkeys(TOPICS, "a table"))
    assert replaced.count("a table\n") == len(TOPICS)


def test_a_tree_holds_children_and_theirs() -> None:
    """A proxy's workers count as the proxy."""
    sleeper = "import time; print(flush=True); time.sleep(60)"
    code = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', {sleeper!r}], stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\n"
        "print(child.pid, flush=True)\n"
        "try: sys.stdin.read()\n"
        "finally: child.kill(); child.wait()\n"
    )
    argv = (sys.executable, "-c", code)
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert observe_tree(parent.pid) == (parent.pid, child)
        assert observe_memory_bytes(parent.pid) > observe_memory_bytes(child) > 0
        parent.communicate()


def test_idle_time_is_told_of_all_processors_together() -> None:
    """No more passes in a second than there are processors; none of it is ever taken back."""
    began, before = time.monotonic(), observe_idle_s()
    for _ in range(1000):
        after = observe_idle_s()
        assert before <= after
    machine = os.cpu_count() or 1
    assert machine >= PROCESSORS
    assert after - before <= (time.monotonic() - began) * machine + 0.1


@pytest.fixture(scope="module")
def tunnels(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The load generator, compiled."""
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    return compile_tunnels(tmp_path_factory.mktemp("tunnels"))


@pytest.fixture
def port(tunnels: str) -> Iterator[int]:
    """A server of two processes on loopback; it leaves none of them behind."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    argv = (tunnels, "-2", "serve", str(port))
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        assert len(observe_tree(server.pid)) == 3
        yield port
        server.terminate()
        assert server.wait(10) == 0
    with socket.create_server(("127.0.0.1", port)):
        """The port is free at once."""


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_a_load_is_the_sum_of_its_processes(tunnels: str, port: int, processes: int) -> None:
    """Paced, so that it is known what comes out: the rate is shared out, and not multiplied."""
    argv = (tunnels, f"-{processes}", "open", "127.0.0.1", str(port), "-", "1", "64", "60")
    done = subprocess.run(argv, capture_output=True, check=True, timeout=30)
    seen = json.loads(done.stdout)
    assert seen["failed"] == 0
    assert 30 <= seen["rate"] <= 63
    assert 0 < seen["p50"] <= seen["p99"] < 1000
    assert 0 < seen["own_cpu_s"] < 1


def test_a_load_has_no_more_processes_than_places(tunnels: str, port: int) -> None:
    """One stream is one stream, however many processors there are."""
    argv = (tunnels, "-9", "fill", "127.0.0.1", str(port), "-", "0.2", "1")
    done = subprocess.run(argv, capture_output=True, check=True, timeout=30)
    assert json.loads(done.stdout)["rate"] > 0


def test_a_load_that_cannot_go_on_is_no_figure(tunnels: str, port: int) -> None:
    """A process that died would be missing in the sum."""
    argv = (tunnels, "-2", "open", "255.255.255.255", str(port), "-", "1", "4")
    done = subprocess.run(argv, capture_output=True, check=False, timeout=30)
    assert done.returncode == 1
    assert done.stdout == b""
    assert b"connect:" in done.stderr
