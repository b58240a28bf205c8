"""One process becomes several; that they do is seen in tests/process, here is what goes wrong."""

from __future__ import annotations

import gc
import os
import signal
from typing import TYPE_CHECKING

import pytest

from egress_router.errors import KernelError
from egress_router.service.parting import Standing, part
from egress_router.service.place import ALONE

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _collector_restored() -> Iterator[None]:
    yield
    gc.unfreeze()


def test_one_process_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No fork, no lock, no channel."""
    monkeypatch.delattr(os, "fork")
    monkeypatch.delattr(os, "memfd_create")
    assert part(1) == Standing(place=ALONE)


def test_a_kernel_that_gives_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named with the remedy, and stop signals work as before."""

    def refuse() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refuse)
    with pytest.raises(KernelError, match=r"start worker 1: .*EAGAIN.*EGRESS_WORKERS=1"):
        part(2)
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & {signal.SIGTERM, signal.SIGINT}
