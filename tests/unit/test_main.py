import json
import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

import egress_router.__main__ as program
from egress_router import __version__
from egress_router.config.variables import PREFIX
from egress_router.errors import (
    AddressConflictError,
    ConfigurationError,
    KernelError,
    Problem,
    RefusalError,
    VerificationError,
)
from model.environments import PLAIN

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line in an environment of its own: `run("check", EGRESS_SOURCE="…")`."""

    def command(*words: str, **variables: str) -> tuple[int, str, str]:
        for name in list(os.environ):
            if name.startswith((PREFIX, "KUBERNETES_")):
                monkeypatch.delenv(name)
        for name, text in variables.items():
            monkeypatch.setenv(name, text)
        code = program.main(words)
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return command


@pytest.mark.parametrize("word", ["-h", "--help", "help"])
def test_help(word: str, run: Run) -> None:
    """Help goes to standard output and is no error."""
    code, out, err = run(word)
    assert (code, err) == (0, "")
    assert out.startswith("usage: egress-router COMMAND")
    for command in program.COMMANDS:
        assert f"\n  {command} " in out


@pytest.mark.parametrize("word", ["--version", "version"])
def test_version(word: str, run: Run, request: pytest.FixtureRequest) -> None:
    """The version is one line, and tells which form of the package it is."""
    form = " (compiled)" if request.config.getoption("--compiled") else ""
    assert run(word) == (0, f"egress-router {__version__}{form}\n", "")


@pytest.mark.parametrize(
    "words", [(), ("bogus",), ("init", "now"), ("redirect", "now"), ("--json",), ("check-init",)]
)
def test_unknown_command(words: tuple[str, ...], run: Run) -> None:
    """What is no command, or has an argument too many, ends with the usage and code 2."""
    code, out, err = run(*words, **PLAIN)
    assert (code, out) == (2, "")
    assert "usage: egress-router COMMAND" in err
    if words:
        assert err.startswith(f"error: unknown command or argument: {' '.join(words)}\n")


def test_unknown_program_of_check(run: Run) -> None:
    """A program that cannot be checked is refused by name."""
    code, out, err = run("check", "web", **PLAIN)
    assert (code, out) == (2, "")
    assert err.startswith("error: check: unknown program 'web'")


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (
            KernelError("add route", "no", errno=1, remedy="do it"),
            4,
            "add route: no (EPERM); do it",
        ),
        (VerificationError(("a", "b")), 4, "the kernel does not show what was applied: a; b"),
        (AddressConflictError("192.0.2.1", "02::", "stop it"), 3, "held by 02::; stop it"),
        (RefusalError(403, "denied"), 5, "denied"),
        (ConfigurationError((Problem(variable="X", message="bad", line=3),)), 2, "X line 3: bad"),
        (KeyboardInterrupt(), 1, ""),
    ],
)
def test_exit_codes(
    error: BaseException, code: int, text: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every error of ours has its exit code, and one line on standard error."""

    def fail(_: list[str]) -> int:
        raise error

    monkeypatch.setitem(program.COMMANDS, "init", fail)
    found, out, err = run("init")
    assert (found, out) == (code, "")
    assert text in err
    assert len(err.splitlines()) == (1 if text else 0)
    assert not text or err.startswith("error: ")


def test_all_problems_on_standard_error(run: Run) -> None:
    """Every problem is a line of its own on standard error; standard output stays empty."""
    code, out, err = run(
        "check", EGRESS_SOURCE="x", EGRESS_GATEWAY="y", EGRESS_DESTINATION="0 tcp 203.0.113.25\nz"
    )
    assert (code, out) == (2, "")
    lines = err.splitlines()
    assert [line.split(":")[1].strip() for line in lines] == [
        "EGRESS_SOURCE unspecified or invalid",
        "EGRESS_GATEWAY unspecified or invalid",
        "EGRESS_DESTINATION line 1",
        "EGRESS_DESTINATION line 2",
    ]
    assert all(line.startswith("error: ") for line in lines)


def test_hostname_is_read_at_the_edge(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's hostname, which is the pod's, decides about the pool; no variable does."""
    monkeypatch.setattr(os, "uname", lambda: types.SimpleNamespace(nodename="egress-1"))
    variables = PLAIN | {"HOSTNAME": "egress-0", "EGRESS_SOURCE": ""}
    pool = "192.168.12.7/24, 192.168.12.8/24"
    code, out, _ = run("check", "--json", **variables, EGRESS_SOURCE_POOL=pool)
    assert code == 0
    assert json.loads(out)["source"] == ["192.168.12.8/24"]


def test_init_validates_before_all_else(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bad environment ends init before it asks for a capability or starts a process."""

    def started(*_: object) -> None:
        raise AssertionError("too early")

    monkeypatch.setattr("egress_router.programs.init.require_capabilities", started)
    monkeypatch.setattr("egress_router.programs.init.Nft", started)
    code, _, err = run("init", **(PLAIN | {"EGRESS_SOURCE": "999.1.1.1"}))
    assert code == 2
    assert "EGRESS_SOURCE unspecified or invalid: '999.1.1.1'" in err


def test_unit_test_mode(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """`init` in unit-test mode is `check init`: it prints, and touches nothing."""

    def touched(*_: object) -> None:
        raise AssertionError("the kernel is none of its business")

    monkeypatch.setattr("egress_router.programs.init.run_init", touched)
    variables = PLAIN | {"EGRESS_ROUTER_MODE": "unit-test"}
    code, out, err = run("init", **variables)
    assert (code, err) == (0, "")
    assert (code, out, err) == run("check", "init", **variables)
    assert "mode         unit-test" in out
    assert run("init", **(variables | {"EGRESS_GATEWAY": "x"}))[0] == 2


def test_legacy_goes_on_as_the_daemon(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """`legacy` replaces init by the redirect daemon once the set-up is done; `init` ends."""
    started: list[list[str]] = []
    monkeypatch.setattr("os.execv", lambda _, words: started.append(words[1:]))
    monkeypatch.setattr("egress_router.programs.init.run_init", lambda e: e.variables["MODE"])
    assert run("init", MODE="init")[0] == 0
    assert started == []
    assert run("init", MODE="legacy")[0] == 0
    assert started == [["-m", "egress_router", "redirect"]]


def test_destination_file(run: Run, tmp_path: Path) -> None:
    """The list may be a mounted file, with what editors leave at the ends of lines."""
    path = tmp_path / "destination"
    path.write_bytes(b"80 tcp 203.0.113.25\r\n\t203.0.113.27\r\n")
    variables = PLAIN | {"EGRESS_DESTINATION": "", "EGRESS_DESTINATION_FILE": f" {path} "}
    code, out, _ = run("check", "--json", **variables)
    assert code == 0
    assert json.loads(out)["fallback"] == ["203.0.113.27"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"80 tcp \xff203.0.113.25", "cannot be read: expected UTF-8 text, found byte 0xff"),
        (b"\xef\xbb\xbf80 tcp 203.0.113.25", "a byte-order mark (U+FEFF)"),
        (b"", "EGRESS_DESTINATION unspecified"),
    ],
    ids=["missing", "not-utf-8", "bom", "empty"],
)
def test_bad_destination_file(
    content: bytes | None, message: str, run: Run, tmp_path: Path
) -> None:
    """A file that is not there, is no text, or holds nothing is a problem in words."""
    path = tmp_path / "destination"
    if content is not None:
        path.write_bytes(content)
    variables = PLAIN | {"EGRESS_DESTINATION": "", "EGRESS_DESTINATION_FILE": str(path)}
    code, out, err = run("check", **variables)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1


def test_directory_as_file(run: Run, tmp_path: Path) -> None:
    """A path that is no file is answered as the system answers it."""
    variables = PLAIN | {"EGRESS_DESTINATION": "", "EGRESS_DESTINATION_FILE": str(tmp_path)}
    code, _, err = run("check", **variables)
    assert code == 2
    assert "cannot be read: Is a directory" in err


def test_variable_and_file(run: Run, tmp_path: Path) -> None:
    """Both at once are refused, whatever the file holds."""
    code, _, err = run("check", **PLAIN, EGRESS_DESTINATION_FILE=str(tmp_path / "absent"))
    assert code == 2
    assert "both EGRESS_DESTINATION and EGRESS_DESTINATION_FILE are set; expected one" in err


def test_environment_that_is_no_utf_8(run: Run) -> None:
    """Bytes that are no text are refused with a line that any terminal can show."""
    code, _, err = run("check", **(PLAIN | {"EGRESS_DESTINATION": "80 tcp \udcff"}))
    assert code == 2
    assert "EGRESS_DESTINATION value '80 tcp ?' is invalid" in err
    err.encode("utf-8")


@pytest.mark.parametrize(
    ("words", "to", "code"),
    [
        ("check init", "", 2),
        ("check init", ">&-", 2),
        ("check init", "2>&-", 2),
        ("check init", ">&- 2>&-", 2),
        ("help", "", 0),
        ("help", ">/dev/full", 1),
    ],
)
def test_exit_code_of_the_process(words: str, to: str, code: int) -> None:
    """The process ends with the command's code, whether anybody can read what it said or not."""
    shell = f'exec "$0" -m egress_router {words} {to}'
    done = subprocess.run(
        ("sh", "-c", shell, sys.executable),
        env={"PYTHONPATH": os.pathsep.join(sys.path), "EGRESS_SOURCE": "nonsense"},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == code
    assert b"Traceback" not in done.stderr
