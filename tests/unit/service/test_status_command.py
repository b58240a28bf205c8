"""The command line of `status`."""

from __future__ import annotations

import pytest

from egress_router.service.status_command import WATCH_S, Options, parse_options


@pytest.mark.parametrize(
    ("line", "options"),
    [
        ("", Options()),
        ("dns", Options(mode="dns")),
        ("--json dns --all", Options(mode="dns", as_json=True, whole=True)),
        ("--watch", Options(watch_s=WATCH_S)),
        ("--watch dns", Options(mode="dns", watch_s=WATCH_S)),
        ("--watch 0.5 http --json", Options(mode="http", as_json=True, watch_s=0.5)),
    ],
)
def test_options(line: str, options: Options) -> None:
    """Options come in any order; the interval only behind its own."""
    assert parse_options(line.split()) == options


@pytest.mark.parametrize(
    "line", ["--jsn", "dns http", "--watch 0", "--watch 1e9", "--watch 5s", "--watch 1 dns 2", "-w"]
)
def test_wrong_calls(line: str) -> None:
    """What is no option, and an interval that makes no sense, is a wrong call."""
    assert parse_options(line.split()) is None
