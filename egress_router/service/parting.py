"""One process becomes several: before there is a thread, an event loop or a line of log.

1. Memory is shared until somebody writes to it; so what all of them need is imported before, and
   the collector is kept from touching what there is by then.
2. Each worker has a channel to the first process, and nobody else holds an end of it: when it ends,
   one of the two has. Beside it goes a pair of sockets by which descriptors are passed.
3. No worker outlives the first process: the kernel kills it, and the channel's end would tell too.
4. Descriptors made here are never 0, 1 or 2, even where a pod's runtime has left those closed.
"""

from __future__ import annotations

import fcntl
import gc
import mmap
import os
import signal
import socket
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import chain

from egress_router.config.variables import WORKERS
from egress_router.errors import KernelError
from egress_router.kernel.parent import die_with_parent
from egress_router.net.listen import Loads
from egress_router.service import signals
from egress_router.service.log_writer import WriteLock
from egress_router.service.place import ALONE, Place

_COUNT_BYTES = 4  # of an unsigned int


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A worker, as the first process knows it: its number, pid, and the channel to it.

    `passing`: by which it gets descriptors.
    """

    number: int
    pid: int
    sock: socket.socket
    passing: socket.socket


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where this process stands after the parting.

    `loads`: what each of them has to do, for all to see.
    `members`: the workers, if this is the first one; if it is not, `sock` is the channel to it, and
    `passing` the socket by which it passes descriptors.
    `turn`: held while something is written to the descriptor that all have in common.
    """

    place: Place = ALONE
    turn: AbstractContextManager[None] | None = None
    loads: Loads | None = None
    members: tuple[Member, ...] = ()
    sock: socket.socket | None = None
    passing: socket.socket | None = None


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
    counts = memoryview(mmap.mmap(-1, count * _COUNT_BYTES)).cast("I")
    gc.collect()
    gc.freeze()
    parent = os.getpid()
    members: list[Member] = []
    for number in range(1, count):
        ours, theirs = _make_pair(socket.SOCK_STREAM)
        giving, taking = _make_pair(socket.SOCK_SEQPACKET)
        first_ends = (ours, giving, *chain(*((one.sock, one.passing) for one in members)))
        try:
            pid = _fork(number)
        except KernelError:
            for sock in (*first_ends, theirs, taking):
                sock.close()
            raise
        if pid == 0:
            for sock in first_ends:
                sock.close()
            signals.ignore_stop_signals()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.STOP_SIGNALS)
            die_with_parent(parent)
            place = Place(number=number, count=count)
            loads = Loads(counts, number)
            return Standing(place=place, turn=turn, loads=loads, sock=theirs, passing=taking)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.STOP_SIGNALS)
        theirs.close()
        taking.close()
        members.append(Member(number=number, pid=pid, sock=ours, passing=giving))
    place = Place(count=count)
    loads = Loads(counts, place.number)
    return Standing(place=place, turn=turn, loads=loads, members=tuple(members))


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


def _make_pair(kind: int) -> tuple[socket.socket, socket.socket]:
    first, second = socket.socketpair(socket.AF_UNIX, kind)
    return _above_standard(first), _above_standard(second)


def _above_standard(sock: socket.socket) -> socket.socket:
    moved = socket.socket(fileno=fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD_CLOEXEC, 3))
    sock.close()
    moved.setblocking(False)
    return moved
