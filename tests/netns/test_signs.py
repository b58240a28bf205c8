"""Netlink sockets in the loop of a daemon outlive a burst that they cannot hold."""

import asyncio
import socket
import subprocess
from collections.abc import Callable

import pytest
import uvloop

from egress_router.kernel.netns import entered
from egress_router.kernel.signs import drain_route_watch, open_route_watch
from egress_router.lab.world import Lab

pytestmark = pytest.mark.netns

DEADLINE_S = 10.0
BURST = 500


def test_the_route_watch_survives_an_overflow(lab: Callable[..., Lab]) -> None:
    """After more changes than the socket holds, the next change is noticed like any other."""
    world = lab()
    with entered(f"/run/netns/{world.namespace('pod')}"):
        watch = open_route_watch()
        watch.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)

    def change(*commands: str) -> None:
        subprocess.run(
            ("ip", "-n", world.namespace("pod"), "-batch", "-"),
            input="\n".join(commands) + "\n",
            text=True,
            check=True,
            timeout=DEADLINE_S,
        )

    async def scene() -> None:
        noticed = asyncio.Event()

        def changed() -> None:
            drain_route_watch(watch)
            noticed.set()

        asyncio.get_running_loop().add_reader(watch.fileno(), changed)
        # The loop stands still meanwhile, as under load: the socket has to overflow.
        change(*(f"route add 198.51.{n // 250}.{n % 250}/32 dev lo" for n in range(BURST)))
        async with asyncio.timeout(DEADLINE_S):
            await noticed.wait()
            for number in range(3):
                noticed.clear()
                change(f"route add 198.18.0.{number}/32 dev lo")
                await noticed.wait()
        asyncio.get_running_loop().remove_reader(watch.fileno())

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(scene())
    finally:
        watch.close()
