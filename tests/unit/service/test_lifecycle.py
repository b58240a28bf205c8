"""What ends a daemon and with which exit code; the process around it is tested in tests/process."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from egress_router.errors import KernelError
from egress_router.service import lifecycle as lifecycle_module
from egress_router.service.lifecycle import Lifecycle

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

Lines = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lines]:
    """Every event of the lifecycle; the signal handlers it sets are undone."""
    lines: Lines = []
    monkeypatch.setattr(
        lifecycle_module, "log_event", lambda event, **fields: lines.append((event.name, fields))
    )
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    yield lines
    for number, handler in before.items():
        signal.signal(number, handler)


def run(serve: Callable[[Lifecycle], Awaitable[None]]) -> int:
    """The exit code of a daemon with that mode."""

    async def live() -> int:
        lifecycle = Lifecycle("test")

        async def mode() -> None:
            await serve(lifecycle)

        return await lifecycle.run(mode())

    return asyncio.run(live())


async def return_at_once(_lifecycle: Lifecycle) -> None:
    """Ends though nobody asked for it."""


async def meet_the_kernel(_lifecycle: Lifecycle) -> None:
    """Raises an error of the product's own."""
    raise KernelError("look at the link", "no such device")


async def crash(_lifecycle: Lifecycle) -> None:
    """Raises an error nobody foresaw."""
    raise ValueError("what")


@pytest.mark.parametrize(
    ("serve", "code", "error", "traced"),
    [
        (return_at_once, 1, "the mode ended by itself", False),
        (meet_the_kernel, 4, "look at the link: no such device", False),
        (crash, 1, "ValueError: what", True),
    ],
)
def test_an_end_nobody_asked_for_is_an_error(
    logged: Lines, serve: Any, code: int, error: str, *, traced: bool
) -> None:
    """Foreseen errors carry their own exit code and no traceback, others 1 and where it was."""
    assert run(serve) == code
    ((name, fields),) = logged
    assert (name, fields["error"], fields["exit_code"]) == ("daemon_failed", error, code)
    assert ("traceback" in fields) == traced


def test_a_stop_that_drains_in_time_is_no_error(logged: Lines) -> None:
    """The first signal calls back, sets `stopping`, and the mode ends in its own time."""
    called: list[str] = []

    async def serve(lifecycle: Lifecycle) -> None:
        lifecycle.on_drain(lambda: called.append("drain"))
        lifecycle.started()
        os.kill(os.getpid(), signal.SIGTERM)
        await lifecycle.stopping.wait()
        called.append("mode")

    assert run(serve) == 0
    assert called == ["drain", "mode"]
    assert logged == [("daemon_stopping", {"mode": "test", "signal": "SIGTERM", "drain_s": 25.0})]


def test_the_drain_time_cuts(logged: Lines) -> None:
    """What has not drained in the drain time is cancelled, may clean up, and the exit code is 0."""
    cleaned: list[str] = []

    async def serve(lifecycle: Lifecycle) -> None:
        lifecycle.drain_s = 0.05
        lifecycle.started()
        os.kill(os.getpid(), signal.SIGTERM)
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append("up")

    assert run(serve) == 0
    assert cleaned == ["up"]
    assert logged[-1] == (
        "daemon_cut",
        {"mode": "test", "reason": "0.05 s of draining are over"},
    )


def test_an_error_while_draining_is_told(logged: Lines) -> None:
    """A mode that breaks during its drain does not pass for a clean end."""

    async def serve(lifecycle: Lifecycle) -> None:
        lifecycle.started()
        os.kill(os.getpid(), signal.SIGTERM)
        await lifecycle.stopping.wait()
        raise ValueError("while draining")

    assert run(serve) == 1
    assert logged[-1][1]["error"] == "ValueError: while draining"


def test_hangup_calls_back(logged: Lines) -> None:
    """SIGHUP runs the reload callback in the loop; without one it does nothing."""
    reloaded = asyncio.Event()

    async def serve(lifecycle: Lifecycle) -> None:
        lifecycle.started()
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.sleep(0)
        lifecycle.on_reload(reloaded.set)
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.wait_for(reloaded.wait(), 5)
        os.kill(os.getpid(), signal.SIGTERM)
        await lifecycle.stopping.wait()

    assert run(serve) == 0
    assert [name for name, _ in logged] == ["reload_requested", "daemon_stopping"]
