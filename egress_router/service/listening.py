"""Listening sockets, where a daemon is several processes: all of them accept from the same ones.

1. The first process opens them, and passes them to the workers that ask (SCM_RIGHTS, unix(7)). So
   there is one queue of connections: the next one is for whoever has time, and none waits for a
   process that is busy, or hangs, while another one is idle.
2. Each process lets go of them by itself. The kernel refuses once all have; the first one keeps
   what it has passed on until then, and lets in who has connected by then.
3. No other program can listen there too, whoever it runs as.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import socket
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Protocol

from egress_router.errors import KernelError
from egress_router.net.binding import Binding, Bound, close_all, nobody, open_listeners

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress_router.net.binding import Sockets
    from egress_router.service.channel import Channel, Fields
    from egress_router.service.tasks import Tasks

OPEN, CLOSED = "open", "closed"  # what a worker says
FIRST = 0

_FULL_S = 0.01  # between two tries to pass sockets on
# A worker that does not take them, or a kernel that holds too many on their way (unix(7)).
_FULL = {errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS}
_BINDING_BYTES = 1 << 16
_SOCKETS_MAX = 253  # SCM_MAX_FD, unix(7)


class Listening(Protocol):
    """Where a mode gets its listening sockets from."""

    def open(self, binding: Binding, again: Callable[[], object]) -> Bound | None:
        """The sockets; None: they are asked for, and `again` is called once they are there.

        Whoever does not open it then is taken not to want it any more. Raises KernelError.
        """

    def try_open(self, binding: Binding) -> None:
        """Raises KernelError if it could not be opened now."""

    def end(self) -> None:
        """Nothing here takes connections any more, not even those that wait to be accepted."""


@dataclass(slots=True, kw_only=True)
class _Open:
    """The sockets of one binding, and the numbers of the processes that listen on them.

    `accept_left`: takes what still waits to be accepted when the last of them has let go.
    """

    sockets: Sockets
    users: set[int] = field(default_factory=set)
    accept_left: Callable[[], object] = nobody


class OpenedSockets:
    """The side of the first process, or of the only one."""

    def __init__(self) -> None:
        self._open: dict[Binding, _Open] = {}

    def open(self, binding: Binding, _again: Callable[[], object]) -> Bound:
        """The sockets, at once; see `Listening`."""
        return Bound(self.lend(binding, FIRST), partial(self._let_go, binding))

    def try_open(self, binding: Binding) -> None:
        """See `Listening`."""
        if binding not in self._open:
            close_all(open_listeners(binding))

    def end(self) -> None:
        """See `Listening`."""
        for found in self._open.values():
            found.accept_left = nobody

    def lend(self, binding: Binding, process: int) -> Sockets:
        """The sockets for one of the processes, opened if need be; raises KernelError."""
        found = self._open.get(binding)
        if found is None:
            found = self._open[binding] = _Open(sockets=open_listeners(binding))
        found.users.add(process)
        return found.sockets

    def take_back(self, binding: Binding, process: int) -> None:
        """One of the processes has let go of them."""
        found = self._open.get(binding)
        if found is None:
            return
        found.users.discard(process)
        if not found.users:
            del self._open[binding]
            try:
                found.accept_left()
            finally:
                close_all(found.sockets)

    def take_all_back(self, process: int) -> None:
        """One of the processes is gone, whether it has let go of them or not."""
        for binding in tuple(self._open):
            self.take_back(binding, process)

    def _let_go(self, binding: Binding, accept_left: Callable[[], object]) -> None:
        self._open[binding].accept_left = accept_left
        self.take_back(binding, FIRST)


class LentSockets:
    """A worker's side; `passing` is where the first process passes sockets to it."""

    def __init__(self, channel: Channel, passing: socket.socket, tasks: Tasks) -> None:
        self._channel = channel
        self._passing = passing
        self._tasks = tasks
        self._asked: dict[Binding, Callable[[], object]] = {}
        self._come: dict[Binding, Sockets] = {}
        self._problems: dict[Binding, KernelError] = {}

    def open(self, binding: Binding, again: Callable[[], object]) -> Bound | None:
        """The sockets, if they have come; see `Listening`."""
        problem = self._problems.pop(binding, None)
        if problem is not None:
            raise problem
        if binding in self._asked:
            self._asked[binding] = again
            return None
        sockets = self._come.pop(binding, None)
        if sockets is not None:
            return Bound(sockets, lambda _: self._give_back(binding, sockets))
        self._asked[binding] = again
        self._tasks.start_handler("listening sockets", self._ask(binding))
        return None

    def try_open(self, _binding: Binding) -> None:
        """The first process tries, for all."""

    def end(self) -> None:
        """What is left is for others."""

    async def _ask(self, binding: Binding) -> None:
        # However long it takes: a second question would bring the same sockets twice.
        try:
            answer = await self._channel.ask(OPEN, None, binding=encode_binding(binding))
            problem = answer.get("problem", "too many open files")
        except TimeoutError:
            problem = "the first process is gone"
        self._take_what_has_come()
        again = self._asked.pop(binding)
        if binding not in self._come:
            self._problems[binding] = KernelError(f"listen on port {binding.port}", problem)
        try:
            again()
        finally:
            self._problems.pop(binding, None)
            for unused in self._come.keys() - self._asked.keys():
                self._give_back(unused, self._come.pop(unused))

    def _take_what_has_come(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                told, descriptors, flags, _ = socket.recv_fds(
                    self._passing, _BINDING_BYTES, _SOCKETS_MAX
                )
                if not told:
                    return  # the first process is gone
                sockets = tuple(socket.SocketType(fileno=number) for number in descriptors)
                for sock in sockets:
                    os.set_inheritable(sock.fileno(), False)
                    sock.setblocking(False)
                binding = decode_binding(json.loads(told))
                if flags & socket.MSG_CTRUNC:  # our limit of descriptors: recvmsg(2)
                    self._give_back(binding, sockets)
                    continue
                self._come[binding] = sockets

    def _give_back(self, binding: Binding, sockets: Sockets) -> None:
        close_all(sockets)
        self._channel.tell(CLOSED, binding=encode_binding(binding))


async def pass_sockets(passing: socket.socket, binding: Binding, sockets: Sockets) -> None:
    """Passes sockets to a worker, which has asked for them; not if it has gone meanwhile."""
    told = json.dumps(encode_binding(binding)).encode()
    while (descriptors := [sock.fileno() for sock in sockets]) and min(descriptors) >= 0:
        try:
            socket.send_fds(passing, [told], descriptors)
        except ConnectionError:
            return
        except OSError as error:
            if error.errno not in _FULL:
                raise
            await asyncio.sleep(_FULL_S)
        else:
            return


def encode_binding(binding: Binding) -> Fields:
    """A binding as JSON has it."""
    return {
        "addresses": list(map(str, binding.addresses)),
        "port": binding.port,
        "links": list(binding.links),
    }


def decode_binding(fields: dict[str, Any]) -> Binding:
    """The binding that was encoded so."""
    return Binding(
        addresses=tuple(map(ip_address, fields["addresses"])),
        port=fields["port"],
        links=tuple(fields["links"]),
    )
