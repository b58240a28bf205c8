import io
import json
import sys
from types import SimpleNamespace

import pytest

from egress_router.kernel import nft_worker


class Library:
    """What the worker needs of the binding; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[object] = []

    def set_stateless_output(self, value: bool) -> None:
        self.asked.append(("stateless", value))

    def set_numeric_proto_output(self, value: bool) -> None:
        self.asked.append(("numbers", value))

    def set_dry_run(self, value: bool) -> None:
        self.asked.append(("dry", value))

    def cmd(self, command: str) -> tuple[int, str, str]:
        self.asked.append(command)
        return (1, "", "refused") if command == "bad" else (0, f"<{command}>", "")


def serve(requests: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The answers of the worker, its exit code last."""
    output = io.StringIO()
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(json.dumps(r) + "\n" for r in requests)))
    monkeypatch.setattr("sys.stdout", output)
    code = nft_worker.main()
    return [*map(json.loads, output.getvalue().splitlines()), code]


def test_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request has one answer; a dry run holds for it alone."""
    library = Library()
    monkeypatch.setitem(sys.modules, "nftables", SimpleNamespace(Nftables=lambda: library))
    answers = serve(
        [
            {"command": "list\n", "check": False},
            {"command": "bad", "check": True},
        ],
        monkeypatch,
    )
    assert answers == [
        {"code": 0, "output": "ready", "error": ""},
        {"code": 0, "output": "<list\n>", "error": ""},
        {"code": 1, "output": "", "error": "refused"},
        0,
    ]
    assert library.asked == [
        ("stateless", True),
        ("numbers", True),
        *(("dry", False), "list\n"),
        *(("dry", True), "bad"),
    ]


def test_binding_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the binding the worker says so instead of a greeting."""
    monkeypatch.setitem(sys.modules, "nftables", None)
    greeting, code = serve([], monkeypatch)
    assert greeting["code"] == -1
    assert greeting["error"].startswith("libnftables is not usable: import of nftables halted")
    assert code == 1


def test_library_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A binding that finds no libnftables.so.1 is the same."""

    def absent() -> None:
        raise OSError("libnftables.so.1: cannot open shared object file")

    monkeypatch.setitem(sys.modules, "nftables", SimpleNamespace(Nftables=absent))
    greeting, code = serve([], monkeypatch)
    assert greeting["error"] == (
        "libnftables is not usable: libnftables.so.1: cannot open shared object file"
    )
    assert code == 1
