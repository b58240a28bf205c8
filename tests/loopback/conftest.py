"""Tests here use sockets on loopback addresses, each on asyncio's own loop and on uvloop."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.loopback.loops import LOOPS, run_on

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(params=sorted(LOOPS))
def run(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Runs a coroutine on the loop under test, to its end or to a deadline."""
    return partial(run_on, request.param)
