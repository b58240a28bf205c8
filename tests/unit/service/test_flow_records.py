"""Records of what the kernel carried, without a kernel."""

from __future__ import annotations

import asyncio
import socket
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from egress_router.service.connection_log import ConnectionLog
from egress_router.service.flow_records import (
    GATHER_S,
    SWEEP_S,
    SWEEP_SHARE,
    FlowRecords,
    sweep_flows,
)

if TYPE_CHECKING:
    from egress_router.kernel.flow_events import FlowEvents
    from egress_router.plan.ended_flow import EndedFlow
    from egress_router.service.daemon import Service


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


@pytest.mark.interpreted
@pytest.mark.parametrize("drained", [True, False])
def test_only_a_socket_that_is_read_out_rests(drained: bool) -> None:
    """What is none of ours has to be read too: few lines do not mean that little waits."""

    async def scene() -> bool:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.send(b"x")
            reads: list[int] = []

            def read_flows(most: int) -> tuple[list[EndedFlow], bool]:
                reads.append(most)
                return [], drained

            service = SimpleNamespace(connection_log=ConnectionLog(1), tasks=None)
            records = FlowRecords(cast("Service", service))
            events = SimpleNamespace(
                fileno=ours.fileno, read_flows=read_flows, lost=lambda: 0, close=lambda: None
            )
            records._events = cast("FlowEvents", events)
            records._listen()
            await asyncio.sleep(GATHER_S / 2)
            records.close()
            return len(reads) > 1

    assert asyncio.run(scene()) is not drained
