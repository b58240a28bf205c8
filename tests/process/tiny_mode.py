"""A mode that does what TINY_BEHAVIOUR says; conftest installs it as a distribution of its own.

Each method is one behaviour. Some do on purpose what a mode must never do, such as blocking the
event loop.
"""

# ruff: noqa: ASYNC110, ASYNC220, ASYNC221, ASYNC251 - bad behaviour is what this module is for

from __future__ import annotations

import asyncio
import ipaddress
import os
import subprocess
import sys
import time
import warnings
from typing import TYPE_CHECKING

from egress_router.service import crew, events, metrics, orphans
from egress_router.service.logs import log_event

if TYPE_CHECKING:
    from egress_router.config.settings import Environment
    from egress_router.modes import Service

if os.environ["TINY_BEHAVIOUR"] == "slow-import":
    os.write(1, b'{"event": "importing"}\n')
    time.sleep(30)


async def die() -> None:
    """Fails as a task of a mode might."""
    raise ValueError("a task's\nlast words")


async def pass_gate() -> None:
    """Returns when the test has made the file."""
    while not os.path.exists(os.environ["TINY_GATE"]):  # noqa: ASYNC240, PTH110
        await asyncio.sleep(0.01)


class TinyMode:
    name = os.environ["TINY_NAME"]

    def may_share(self, _config: str) -> bool:
        return os.environ.get("TINY_SHARES") != "no"

    def preload(self) -> None:
        pass

    def parse(self, environment: Environment) -> str:
        return environment.variables["TINY_BEHAVIOUR"].replace("-", "_")

    async def serve(self, config: str, service: Service) -> None:
        service.readiness.declare("link")
        service.provide_status(lambda: {"source": ["192.0.2.7"], "destinations": [{"port": 80}]})
        service.metrics.provide(metrics.REPAIRS, lambda: {("link",): 2, ("route",): 0})
        await getattr(self, config)(service)

    async def serve_plainly(self, service: Service) -> None:
        service.open_admin_port([ipaddress.ip_address("127.0.0.1")])
        service.readiness.hold("link")
        service.started()
        await service.stopping.wait()

    async def plain(self, service: Service) -> None:
        await self.serve_plainly(service)

    async def slow_start(self, service: Service) -> None:
        service.readiness.fail("link", "link macvlan0 is down")
        time.sleep(30)

    async def never_ready(self, service: Service) -> None:
        service.readiness.fail("link", "link macvlan0 is down")
        service.started()
        await service.stopping.wait()

    async def drain_forever(self, service: Service) -> None:
        await self.serve_plainly(service)
        await asyncio.Event().wait()

    async def drain_hanging(self, service: Service) -> None:
        await self.serve_plainly(service)
        while True:
            time.sleep(0.05)

    async def hanging_thread(self, service: Service) -> None:
        thread = asyncio.get_running_loop().run_in_executor(None, time.sleep, 30)
        await self.serve_plainly(service)
        thread.cancel()

    async def vital(self, service: Service) -> None:
        service.tasks.start_vital("watcher", die())
        await self.serve_plainly(service)

    async def handler(self, service: Service) -> None:
        service.tasks.start_handler("connection 1", die())
        loop = asyncio.get_running_loop()
        for _ in range(5):
            loop.call_soon(lambda: 1 / 0)
        await self.serve_plainly(service)

    async def reload(self, service: Service) -> None:
        service.lifecycle.on_reload(lambda: service.readiness.fail("link", "was reloaded"))
        await self.serve_plainly(service)

    async def block_loop(self, service: Service) -> None:
        service.started()
        await asyncio.sleep(0.05)
        time.sleep(0.4)
        await self.serve_plainly(service)

    async def flood(self, service: Service) -> None:
        service.readiness.hold("link")
        service.started()
        await asyncio.sleep(0)
        for number in range(int(os.environ["TINY_LINES"])):
            log_event(events.DRIFT_FOUND, kind="link", detail=f"{number:06d} " + "x" * 400)
            if number % 100 == 0:
                await asyncio.sleep(0)
        service.readiness.fail("link", "flooded")
        while not service.stopping.is_set():
            log_event(events.DRIFT_FOUND, kind="link", detail="after")
            await asyncio.sleep(0.05)

    async def long_lines(self, service: Service) -> None:
        await self.serve_until_told(service)
        for number in range(int(os.environ["TINY_LINES"])):
            reason = f"{number:06d} " + "x" * (number * 37 % 20_000)
            log_event(events.HTTP_ALLOWED, id=f"{service.place.id_prefix}{number}", reason=reason)
            if number % 50 == 0:
                await asyncio.sleep(0.01)
        await service.stopping.wait()

    async def serve_until_told(self, service: Service) -> None:
        service.readiness.hold("link")
        service.started()

    async def worker_waits(self, service: Service) -> None:
        if not service.place.first:
            service.readiness.fail("link", "link macvlan0 is down")
            service.tasks.start_handler("gate", self.hold_at_the_gate(service))
        else:
            service.readiness.hold("link")
        service.started()
        await service.stopping.wait()

    async def hold_at_the_gate(self, service: Service) -> None:
        await pass_gate()
        service.readiness.hold("link")

    async def drain_until_gate(self, service: Service) -> None:
        await self.serve_plainly(service)
        await pass_gate()
        log_event(events.HTTP_ALLOWED, id=f"{service.place.id_prefix}drained")

    async def worker_hangs(self, service: Service) -> None:
        crew.PULSE_S, crew.SILENT_S, crew.DEAD_S = 0.1, 0.5, 6.0
        await self.serve_until_told(service)
        if not service.place.first:
            await asyncio.sleep(0.3)
            time.sleep(30)
        await service.stopping.wait()

    async def worker_hangs_draining(self, service: Service) -> None:
        await self.serve_until_told(service)
        await service.stopping.wait()
        if not service.place.first:
            time.sleep(30)
        await asyncio.Event().wait()

    async def worker_dies(self, service: Service) -> None:
        await self.serve_until_told(service)
        if not service.place.first:
            raise ValueError("a worker's last words")
        await service.stopping.wait()

    async def chatter(self, service: Service) -> None:
        log_event(events.DRIFT_FOUND, kind="link", detail="\x1b[2J\r\nevil\x7f\u2028\x9b")
        warnings.warn("from a library", stacklevel=1)
        await self.serve_plainly(service)

    async def orphans(self, service: Service) -> None:
        orphans.LOOK_S, orphans.LEAVE_S = 0.1, 0.4
        script = (
            "import os, sys\nif os.fork():\n os._exit(0)\nif os.fork():\n os._exit(0)\nos._exit(3)"
        )
        subprocess.run([sys.executable, "-c", script], check=True)
        while not orphans.observe_exited_children():
            await asyncio.sleep(0.01)
        own = await asyncio.create_subprocess_exec(sys.executable, "-c", "raise SystemExit(7)")
        other = subprocess.Popen([sys.executable, "-c", "raise SystemExit(8)"])
        codes = [await own.wait(), await asyncio.to_thread(other.wait)]
        while orphans.observe_exited_children():
            await asyncio.sleep(0.01)
        log_event(events.DRIFT_FOUND, kind="link", detail=str(codes))
        await self.serve_plainly(service)
