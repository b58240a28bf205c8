"""Brings a namespace to the desired state, or leaves it as it was.

1. Observe, desire, diff; the ruleset is checked by the kernel before the first change.
2. Apply step by step; when one fails, or `applied` raises because the process is to end, undo the
   earlier ones in reverse and raise what happened.
3. Observe again. Side effects of the kernel (an address takes its routes along) show up as a new,
   smaller diff; it is applied too. A diff that does not become empty is an error.
4. What is left to do in a namespace that is as desired, `conclude` does; if it raises, all that was
   applied is undone like after any other failure.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from egress_router.errors import (
    AddressConflictError,
    EgressRouterError,
    KernelError,
    VerificationError,
)
from egress_router.plan.diff import LoadTable, Step, diff_state, inverse
from egress_router.plan.drift import render_step

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress_router.plan.state import Desired, Observed

ROUNDS = 4  # two are usual: the change, and the look that finds nothing left
DAD_TIMEOUT_S = 10.0
_DAD_POLL_S = 0.05


class Kernel(Protocol):
    """What converging needs of a namespace, real or not."""

    def observe(self) -> Observed:
        """Everything the plan wants to know."""

    def check(self, ruleset: str) -> None:
        """Has the kernel look at a ruleset without loading it."""

    def apply(self, step: Step) -> None:
        """Carries out one step."""


def converge(
    kernel: Kernel,
    desire: Callable[[Observed], Desired],
    *,
    applied: Callable[[Step], None],
    undo_failed: Callable[[Step, EgressRouterError], None],
    conclude: Callable[[Desired], None] | None = None,
) -> tuple[Desired, Observed]:
    """Applies what `desire` makes of the observed state until nothing is left to do; returns both.

    `applied` hears of every step, `undo_failed` of every inverse step that failed while a failed
    run was undone. Raises the first failure, or VerificationError.
    """
    undo: list[Step] = []
    try:
        desired, observed = _converge(kernel, desire, undo, applied)
        if conclude is not None:
            conclude(desired)
    except BaseException:
        _undo(kernel, undo, undo_failed)
        raise
    return desired, observed


def _converge(
    kernel: Kernel,
    desire: Callable[[Observed], Desired],
    undo: list[Step],
    applied: Callable[[Step], None],
) -> tuple[Desired, Observed]:
    left: tuple[Step, ...] = ()
    for turn in range(ROUNDS):
        observed, desired = _settled(kernel, desire)
        left = diff_state(observed, desired)
        if not left:
            return desired, observed
        if turn == 0 and any(isinstance(step, LoadTable) for step in left):
            kernel.check(desired.table)
        for step in left:
            back = inverse(step, observed)
            if back is not None and isinstance(step, LoadTable):
                undo.append(back)  # two requests: it may have failed between them
            kernel.apply(step)
            if back is not None and not isinstance(step, LoadTable):
                undo.append(back)
            applied(step)
    raise VerificationError(tuple(map(render_step, left)))


def _settled(kernel: Kernel, desire: Callable[[Observed], Desired]) -> tuple[Observed, Desired]:
    """Observes until no wanted address is in duplicate address detection any more (RFC 4862)."""
    deadline = time.monotonic() + DAD_TIMEOUT_S
    while True:
        observed = kernel.observe()
        desired = desire(observed)
        wanted = {address.interface.ip for address in desired.addresses}
        for address in observed.addresses:
            if address.interface.ip in wanted and address.failed:
                raise AddressConflictError(
                    address.interface.ip,
                    None,
                    f"duplicate address detection failed on {address.link}",
                )
        if not any(a.tentative and a.interface.ip in wanted for a in observed.addresses):
            return observed, desired
        if time.monotonic() > deadline:
            raise KernelError(
                "wait for duplicate address detection", f"still tentative after {DAD_TIMEOUT_S:g} s"
            )
        time.sleep(_DAD_POLL_S)


def _undo(
    kernel: Kernel, undo: list[Step], undo_failed: Callable[[Step, EgressRouterError], None]
) -> None:
    for step in reversed(undo):
        try:
            kernel.apply(step)
        except EgressRouterError as error:
            undo_failed(step, error)
