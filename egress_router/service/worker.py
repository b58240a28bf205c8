"""A worker's own side: it serves as it is told, tells what it is asked, and ends with the daemon.

It has no admin endpoint, mends nothing and handles no signals; what all processes see alike is
written to the log by the first one alone.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
from typing import TYPE_CHECKING

from egress_router.errors import EXIT_UNEXPECTED, EgressRouterError
from egress_router.service import events
from egress_router.service.channel import Channel, Fields
from egress_router.service.lifecycle import CUT_S, arm_last_resort
from egress_router.service.listening import LentSockets
from egress_router.service.logs import log_event

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

    from egress_router.config.settings import Environment
    from egress_router.service.daemon import Service


class Worker:
    """One worker; `serve` runs the mode once the daemon serves."""

    def __init__(
        self,
        service: Service,
        sock: socket.socket,
        passing: socket.socket,
        environment: Environment,
    ) -> None:
        """`sock` is the channel to the first process, which passes descriptors by `passing`."""
        self._service = service
        self._environment = environment
        self._told: tuple[str, ...] | None = None
        self._go = asyncio.Event()
        handlers = {
            "serve": self._serve,
            "drain": self._drain,
            "cut": self._cut,
            "reload": self._reload,
            "facts": self._facts,
            "pulse": self._pulse,
        }
        self._channel = Channel(sock, handlers)
        service.listening = LentSockets(self._channel, passing, service.tasks)
        service.readiness.follow(self._tell)
        service.on_started(self._started)

    async def serve(self, serve: Callable[[], Awaitable[None]]) -> None:
        """Runs the mode to its end."""
        self._service.tasks.start_vital("channel", self._follow())
        await self._go.wait()
        await serve()

    def _started(self) -> None:
        place = self._service.place
        log_event(events.WORKER_STARTED, worker=place.number, pid=os.getpid())
        self._tell()

    async def _follow(self) -> None:
        await self._channel.serve()
        # The first process is gone, and with it whatever could be ended in order.
        arm_last_resort(EXIT_UNEXPECTED, CUT_S)
        self._end()
        await asyncio.Event().wait()

    def _end(self) -> None:
        self._service.stopping.set()
        self._service.lifecycle.cut("told to")

    def _tell(self) -> None:
        if not self._service.lifecycle.serves:
            return  # "not looked at yet" is no news
        reasons = self._service.readiness.snapshot().reasons
        if reasons != self._told:
            self._told = reasons
            self._channel.tell("ready", reasons=reasons)

    async def _serve(self, _message: Fields) -> None:
        self._go.set()

    async def _drain(self, _message: Fields) -> None:
        self._service.lifecycle.drain("")

    async def _cut(self, _message: Fields) -> None:
        self._end()

    async def _reload(self, message: Fields) -> Fields:
        environment = dataclasses.replace(
            self._environment, files=message["files"], unreadable=message["unreadable"]
        )
        try:
            return {"ended": await self._service.reload.obey(environment)}
        except EgressRouterError as error:
            return {"problem": str(error)}

    async def _facts(self, _message: Fields) -> Fields:
        service = self._service
        return {
            "metrics": service.metrics.export(),
            "status": service.status_parts(),
            "process": service.process_facts(),
        }

    async def _pulse(self, _message: Fields) -> Fields:
        return {}
