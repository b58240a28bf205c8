"""Every error the product raises on purpose, and the exit code each one ends a program with.

Two levels deep: what went wrong (`ConfigurationError`, `AddressConflictError`, `KernelError`,
`VerificationError`, `RefusalError`) below the one root. A message says what was tried, on what,
and what to do about it. Adapters chain the original exception and never log; whoever catches logs.
"""

from __future__ import annotations

import errno as errno_names
from dataclasses import dataclass
from typing import ClassVar

EXIT_OK = 0
EXIT_UNEXPECTED = 1
EXIT_CONFIGURATION = 2
EXIT_CONFLICT = 3
EXIT_KERNEL = 4
EXIT_DENIED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing wrong with one variable, in words an operator can act on.

    `line` counts from 1 within the variable's text and is None for a problem of the whole value.
    `message` contains the offending text in quotes, the wording of the original image where there
    was one, and what was expected.
    """

    variable: str
    message: str
    line: int | None = None

    def __str__(self) -> str:
        where = self.variable if self.line is None else f"{self.variable} line {self.line}"
        return f"{where}: {self.message}"


class EgressRouterError(Exception):
    """Root of everything raised on purpose."""

    exit_code: ClassVar[int] = EXIT_UNEXPECTED


class ConfigurationError(EgressRouterError):
    """The environment does not describe a router; carries every problem found, in order."""

    exit_code = EXIT_CONFIGURATION

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class AddressConflictError(EgressRouterError):
    """Another station on the outside network holds the source address (RFC 5227)."""

    exit_code = EXIT_CONFLICT

    def __init__(self, address: object, holder: str | None, detail: str) -> None:
        who = f"held by {holder}" if holder else "held by another station"
        super().__init__(f"address {address} is in use: {who}; {detail}")
        self.address = address
        self.holder = holder


class KernelError(EgressRouterError):
    """The kernel refused a step, or lacks what it needs; `step` names what was tried."""

    exit_code = EXIT_KERNEL

    def __init__(
        self, step: str, cause: str, *, errno: int | None = None, remedy: str = ""
    ) -> None:
        code = f" ({errno_names.errorcode.get(errno, errno)})" if errno else ""
        advice = f"; {remedy}" if remedy else ""
        super().__init__(f"{step}: {cause}{code}{advice}")
        self.step = step
        self.errno = errno


class VerificationError(EgressRouterError):
    """After everything was applied the kernel still differs from what was wanted."""

    exit_code = EXIT_KERNEL

    def __init__(self, left: tuple[str, ...]) -> None:
        super().__init__("the kernel does not show what was applied: " + "; ".join(left))
        self.left = left


class RefusalError(EgressRouterError):
    """A client's request is refused: `status` is the HTTP status to answer with."""

    exit_code = EXIT_DENIED

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
