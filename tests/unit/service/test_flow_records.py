"""Records of what the kernel carried, without a kernel."""

from __future__ import annotations

import asyncio

import pytest

from egress_router.service.flow_records import SWEEP_S, SWEEP_SHARE, sweep_flows


class EndError(Exception):
    """Ends a task that never does."""


def test_the_kernel_is_made_to_look_for_its_share_of_a_processor() -> None:
    """At once, again and again, and less often where a look takes long."""
    costs = iter((0.0, SWEEP_S * SWEEP_SHARE / 2, SWEEP_S * SWEEP_SHARE * 3, 0.0))
    naps: list[float] = []

    async def sleep(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 4:
            raise EndError

    with pytest.raises(EndError):
        asyncio.run(sweep_flows(lambda: next(costs), sleep))
    assert naps == pytest.approx([SWEEP_S, SWEEP_S, 3 * SWEEP_S, SWEEP_S])
