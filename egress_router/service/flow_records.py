"""One line for each connection that the kernel has carried, for who used the source address.

1. Only with CAP_NET_ADMIN, and not with EGRESS_CONNECTION_LOG=off: then nothing is listened to.
   What is missing for a whole line is said once, at the start.
2. The kernel tells of an end when it drops the connection, for which it looks through its table
   once a minute. It is made to look every SWEEP_S: so a line comes soon after the connection's time
   is over, and those of a minute do not come in one burst.
3. What has come is read, and then nothing for GATHER_S: a wake for each end would cost as much as
   its line.
4. It never blocks the loop: BATCH messages a turn, RECORDS_PER_S lines a second, and at once what
   was saved of them in SAVED_S; what is beyond that, and what the kernel could not hand over, is
   counted and not told.
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

from egress_router.errors import KernelError
from egress_router.kernel.host import observe_flow_count
from egress_router.net.endpoint import render_endpoint
from egress_router.plan.ended_flow import duration_s
from egress_router.service import events
from egress_router.service.log_lines import render_time
from egress_router.service.logs import log_event, log_fields

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from egress_router.kernel.flow_events import FlowEvents
    from egress_router.plan.ended_flow import EndedFlow, Endpoint
    from egress_router.service.daemon import Service

BATCH: Final = 128  # some 2 ms where each has its line
# 3 % of a processor, and about as much as collectors of logs like to take.
RECORDS_PER_S: Final = 2000
GATHER_S: Final = 0.05  # some hundreds of messages of a busy router; the socket holds 8,000
SWEEP_S: Final = 10.0
SAVED_S: Final = SWEEP_S  # for what ended between two sweeps comes at once
# Of a processor: a look takes 22 ms where the node's table is of 2^18 rows.
SWEEP_SHARE: Final = 1 / 500


class FlowRecords:
    """Listens from `open` to `close`; `describe` adds what the mode knows of a connection."""

    def __init__(
        self,
        service: Service,
        describe: Callable[[EndedFlow], Mapping[str, Any]] = lambda _flow: {},
    ) -> None:
        self._log = service.connection_log
        self._tasks = service.tasks
        self._sweeping: asyncio.Task[None] | None = None
        self._describe = describe
        self._loop = asyncio.get_running_loop()
        self._events: FlowEvents | None = None
        self._at = self._loop.time()
        self._left = RECORDS_PER_S * SAVED_S
        self._resting: asyncio.TimerHandle | None = None

    async def open(self) -> None:
        """Begins to listen, or says why there will be no lines."""
        if not self._log.every:
            return
        missing = await asyncio.to_thread(self._open)
        if self._events is not None:
            self._log.lost = self._events.lost
            self._listen()
            self._sweeping = self._tasks.start_vital("conntrack sweep", sweep_flows())
        if missing:
            log_event(events.CONNECTION_LOG_LIMITED, missing=missing)

    def close(self) -> None:
        """Listens no more."""
        if self._sweeping is not None:
            self._tasks.dismiss(self._sweeping)
            self._sweeping = None
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None
        if self._events is not None:
            lost = self._events.lost()
            self._log.lost = lambda: lost
            self._loop.remove_reader(self._events.fileno())
            self._events.close()
            self._events = None

    def _open(self) -> tuple[str, ...]:
        """Opens the socket; what is missing for whole lines, or for any."""
        from egress_router.kernel.flow_events import (  # noqa: PLC0415 - off the loop's thread
            FlowEvents,
            observe_missing_settings,
        )

        try:
            self._events = FlowEvents()
        except KernelError as error:
            return (str(error),)
        return tuple(
            f"{setting}=1, for {what}"
            for setting in observe_missing_settings()
            for what in ("times" if setting.endswith("timestamp") else "bytes",)
        )

    def _listen(self) -> None:
        self._resting = None
        if self._events is not None:
            self._loop.add_reader(self._events.fileno(), self._read)

    def _read(self) -> None:
        flow_events, log = self._events, self._log
        if flow_events is None:
            return
        now = self._loop.time()
        left = min(self._left + (now - self._at) * RECORDS_PER_S, RECORDS_PER_S * SAVED_S)
        flows, drained = flow_events.read_flows(BATCH)
        for flow in flows:
            if not log.takes():
                continue
            if left < 1:
                log.give_up()
                continue
            left -= 1
            self._write(flow, flow_events.timeouts)
        self._at, self._left = now, left
        if drained:
            self._loop.remove_reader(flow_events.fileno())
            self._resting = self._loop.call_later(GATHER_S, self._listen)

    def _write(self, flow: EndedFlow, timeouts: Mapping[str, int]) -> None:
        seconds = duration_s(flow, timeouts)
        fields = {
            "protocol": flow.protocol,
            "client": _render_endpoint(flow.client),
            "port": flow.port,
            "address": _render_endpoint(flow.server),
            "source": _render_endpoint(flow.source),
            "answered": flow.answered,
            "bytes_up": flow.bytes_sent,
            "packets_up": flow.packets_sent,
            "bytes_down": flow.bytes_received,
            "packets_down": flow.packets_received,
            "started": None if flow.started_s is None else render_time(flow.started_s),
            "seconds": None if seconds is None else int(seconds * 10 + 0.5) / 10,
        }
        fields.update(self._describe(flow))
        log_fields(events.NAT_FORWARDED, fields)


async def sweep_flows(
    expire: Callable[[], float] | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Has the kernel look for connections whose time is over, for ever (rule 2)."""
    while True:
        took_s = await asyncio.to_thread(expire or _expire)
        await sleep(max(SWEEP_S, took_s / SWEEP_SHARE))


def _expire() -> float:
    """The processor's seconds it took; none where there is nothing, or the kernel refuses."""
    from egress_router.kernel.conntrack import expire_flows  # noqa: PLC0415 - off the loop's thread

    if observe_flow_count() == 0:
        return 0.0
    with contextlib.suppress(KernelError):  # the lines come a minute later
        return expire_flows()
    return 0.0


def _render_endpoint(endpoint: Endpoint) -> str:
    packed, port = endpoint
    return f"{_render_host(packed)}:{port}"


@lru_cache(maxsize=4096)
def _render_host(packed: bytes) -> str:
    """Remembered: clients and servers are few, and writing an address out costs 2 µs."""
    return render_endpoint(ip_address(packed), 0).removesuffix(":0")
