"""The command line: names the programs, reads the environment once, maps errors to exit codes.

Imports nothing heavy at the top: a health probe runs every few seconds, and init is waited for.
"""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING, NoReturn

from egress_router import __version__
from egress_router.config.variables import UNIT_TEST, UNIT_TEST_SWITCHES
from egress_router.errors import (
    EXIT_CONFIGURATION,
    EXIT_OK,
    EXIT_UNEXPECTED,
    ConfigurationError,
    EgressRouterError,
)
from egress_router.service.environment import read_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from egress_router.config.settings import Environment

USAGE = """\
usage: egress-router COMMAND [ARGUMENT]...

set up and serve
  init                    set the pod's network namespace up from the environment, and exit
  redirect                keep the redirect NAT alive and healthy (daemon)
  http                    serve as an HTTP proxy that leaves from the source address (daemon)
  dns                     forward TCP ports to names, from the source address (daemon)

look
  check [PROGRAM] [--json]
                          validate the environment and print the plan; touches nothing
  explain TARGET [--address IP]...
                          which HTTP rule decides http://HOST/... or HOST:PORT, and why
  health [MODE]           exit 0 if the running daemon is ready (for probes)
  status [MODE] [--json] [--all] [--watch [SECONDS]]
                          what the running daemon does, how it is, and what is wrong
  doctor [--to HOST:PORT]... [--json]
                          test this pod from the inside: what is wrong, why, what to do;
                          exit 1 if something failed
  lab [--keep]            demonstrate it all in network namespaces of this machine

exit codes: 0 done, 1 unexpected, 2 configuration, 3 address conflict,
            4 kernel or capability, 5 denied
"""


def run() -> NoReturn:
    """Runs one command, and ends the process with its exit code.

    The interpreter is not taken apart before: that takes 0.05 s, for which init is waited for and
    each probe keeps a processor busy.
    """
    # None where the descriptor was closed from the start; what is said there, nobody reads.
    sys.stdout, sys.stderr = sys.stdout or io.StringIO(), sys.stderr or io.StringIO()
    code = main()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            code = code or EXIT_UNEXPECTED  # whoever reads has gone
    os._exit(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0] in {"-h", "--help", "help"}:
        sys.stdout.write(USAGE)
        return EXIT_OK
    if words and words[0] in {"--version", "version"}:
        return _version()
    command = COMMANDS.get(words[0], _mode) if words else _usage
    try:
        return command(words)
    except ConfigurationError as error:
        for problem in error.problems:
            sys.stderr.write(f"error: {problem}\n")
        return error.exit_code
    except EgressRouterError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_UNEXPECTED


def read_environ() -> Environment:
    """os.environ, and the text of every file that one of our variables points to."""
    # Bytes that are no UTF-8 come as lone surrogates; as `?` they can be printed, and are refused.
    return read_environment(
        {k: v.encode("utf-8", "replace").decode() for k, v in os.environ.items()}
    )


def _version() -> int:
    from egress_router.service.build import COMPILED  # noqa: PLC0415

    sys.stdout.write(f"egress-router {__version__}{' (compiled)' if COMPILED else ''}\n")
    return EXIT_OK


def _usage(words: list[str]) -> int:
    if words:
        sys.stderr.write(f"error: unknown command or argument: {' '.join(words)}\n\n")
    sys.stderr.write(USAGE)
    return EXIT_CONFIGURATION


def _init(words: list[str]) -> int:
    if words[1:]:
        return _usage(words)
    environment = read_environ()
    if _is_unit_test("init", environment):
        return _check(["check", "init"])
    from egress_router.programs.init import run_init  # noqa: PLC0415

    mode = run_init(environment)
    if mode == "legacy":
        # A new process: the daemon starts as it would in a container of its own.
        os.execv(sys.executable, [sys.executable, "-m", "egress_router", "redirect"])  # noqa: S606
    return EXIT_OK


def _check(words: list[str]) -> int:
    from egress_router.modes import mode_checks  # noqa: PLC0415
    from egress_router.programs.check import run_check  # noqa: PLC0415

    as_json = "--json" in words
    programs = [word for word in words[1:] if word != "--json"]
    return run_check(read_environ(), programs, as_json=as_json, modes=mode_checks())


def _explain(words: list[str]) -> int:
    from egress_router.programs.explain import run_explain  # noqa: PLC0415

    return run_explain(read_environ(), words[1:])


def _health(words: list[str]) -> int:
    from egress_router.service.client import health_command  # noqa: PLC0415

    return health_command(words[1:])


def _status(words: list[str]) -> int:
    from egress_router.service.client import status_command  # noqa: PLC0415

    return status_command(words[1:])


def _doctor(words: list[str]) -> int:
    from egress_router.programs.doctor.command import run_doctor  # noqa: PLC0415

    return run_doctor(read_environ(), words[1:])


def _lab(words: list[str]) -> int:
    from egress_router.lab.demo import run_lab  # noqa: PLC0415

    return run_lab(words[1:])


def _mode(words: list[str]) -> int:
    from egress_router.modes import has_mode, run_mode  # noqa: PLC0415

    if words[1:] or not has_mode(words[0]):
        return _usage(words)
    environment = read_environ()
    if _is_unit_test(words[0], environment):
        return _check(["check", words[0]])
    return run_mode(words[0], environment)


def _is_unit_test(program: str, environment: Environment) -> bool:
    """Whether the originals' own tests would run this: the environment is checked, no more."""
    switch = UNIT_TEST_SWITCHES.get(program)
    return switch is not None and environment.get(switch) == UNIT_TEST


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "init": _init,
    "check": _check,
    "explain": _explain,
    "health": _health,
    "status": _status,
    "doctor": _doctor,
    "lab": _lab,
}

if __name__ == "__main__":
    run()
