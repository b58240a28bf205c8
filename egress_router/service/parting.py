"""One process becomes several: before there is a thread, an event loop or a line of log.

1. Memory is shared until somebody writes to it; so what all of them need is imported before, and
   the collector is kept from touching what there is by then.
2. Each worker has a channel to the first process, and nobody else holds an end of it: when it ends,
   one of the two has.
3. No worker outlives the first process: the kernel kills it, and the channel's end would tell too.
4. Descriptors made here are never 0, 1 or 2, even where a pod's runtime has left those closed.
"""

from __future__ import annotations

import fcntl
import gc
import os
import signal
import socket
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from egress_router.config.variables import WORKERS
from egress_router.errors import KernelError
from egress_router.kernel.parent import die_with_parent
from egress_router.service import signals
from egress_router.service.log_writer import WriteLock
from egress_router.service.place import ALONE, Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A worker, as the first process knows it: its number, pid, and the channel to it."""

    number: int
    pid: int
    sock: socket.socket


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where this process stands after the parting.

    `members`: the workers, if this is the first one; `sock`: the channel to it, if this is not.
    `turn`: held while something is written to the descriptor that all have in common.
    """

    place: Place = ALONE
    turn: AbstractContextManager[None] | None = None
    members: tuple[Member, ...] = ()
    sock: socket.socket | None = None


def part(count: int) -> Standing:
    """Becomes `count` processes; each one returns with its own standing.

    Raises KernelError in the first one if the kernel gives no more; workers made by then end.
    """
    if count == 1:
        return Standing()
    try:
        turn: AbstractContextManager[None] = WriteLock()
    except OSError:  # forbidden; lines of more than PIPE_BUF bytes may then mix
        turn = nullcontext()
    gc.collect()
    gc.freeze()
    parent = os.getpid()
    members: list[Member] = []
    for number in range(1, count):
        ours, theirs = _make_pair()
        try:
            pid = _fork(number)
        except KernelError:
            for sock in (ours, theirs, *(member.sock for member in members)):
                sock.close()
            raise
        if pid == 0:
            for sock in (ours, *(member.sock for member in members)):
                sock.close()
            signals.ignore_stop_signals()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.STOP_SIGNALS)
            die_with_parent(parent)
            place = Place(number=number, count=count)
            return Standing(place=place, turn=turn, sock=theirs)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.STOP_SIGNALS)
        theirs.close()
        members.append(Member(number=number, pid=pid, sock=ours))
    return Standing(place=Place(count=count), turn=turn, members=tuple(members))


def _fork(number: int) -> int:
    # A worker must not run the first process' handlers, not even in its first microseconds.
    signal.pthread_sigmask(signal.SIG_BLOCK, signals.STOP_SIGNALS)
    try:
        return os.fork()
    except OSError as error:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.STOP_SIGNALS)
        raise KernelError(
            f"start worker {number}",
            str(error.strerror),
            errno=error.errno,
            remedy=f"set {WORKERS.name}=1, or allow the pod more processes",
        ) from error


def _make_pair() -> tuple[socket.socket, socket.socket]:
    first, second = socket.socketpair()
    return _above_standard(first), _above_standard(second)


def _above_standard(sock: socket.socket) -> socket.socket:
    moved = socket.socket(fileno=fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD_CLOEXEC, 3))
    sock.close()
    moved.setblocking(False)
    return moved
