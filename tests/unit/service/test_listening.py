"""Listening sockets of several processes; here both are one, with real sockets between them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import socket
from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import pytest

from egress_router.errors import KernelError
from egress_router.net.binding import Binding, Bound, close_all
from egress_router.service import crew as crew_module
from egress_router.service import listening
from egress_router.service.channel import Channel
from egress_router.service.crew import Crew
from egress_router.service.health import Readiness
from egress_router.service.lifecycle import Lifecycle
from egress_router.service.listening import (
    LentSockets,
    OpenedSockets,
    decode_binding,
    encode_binding,
)
from egress_router.service.parting import Member

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

DEADLINE_S = 10.0
NOBODY = 1 << 23  # above every pid that Linux gives (PID_MAX_LIMIT)
HOST = "127.0.0.1"


def free_binding() -> Binding:
    """A port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        return Binding(addresses=(ip_address(HOST),), port=sock.getsockname()[1])


def is_served(binding: Binding) -> bool:
    """Whether the kernel takes a connection there."""
    try:
        socket.create_connection((HOST, binding.port), timeout=DEADLINE_S).close()
    except ConnectionRefusedError:
        return False
    return True


class Stage:
    """The first process' sockets, a crew of one worker, and that worker's side."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        giving, taking = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for sock in (ours, theirs, giving, taking):
            sock.setblocking(False)
        self.lifecycle = Lifecycle("test", steered=True)
        self.first = OpenedSockets()
        member = Member(number=1, pid=NOBODY, sock=ours, passing=giving)
        self.crew = Crew([member], self.lifecycle, Readiness("test"), self.first)
        self.channel = Channel(theirs, {})
        self.worker = LentSockets(self.channel, taking, self.lifecycle.tasks)
        self.sockets = (ours, theirs, giving, taking)
        self.serving = asyncio.ensure_future(self.channel.serve())

    async def lend(self, binding: Binding) -> Bound:
        """What the worker gets; raises what it is told."""
        come = asyncio.Event()
        found: list[Bound | KernelError | None] = []

        def again() -> None:
            try:
                found.append(self.worker.open(binding, again))
            except KernelError as error:
                found.append(error)
            come.set()

        assert self.worker.open(binding, again) is None
        await come.wait()
        (one,) = found
        if isinstance(one, KernelError):
            raise one
        assert one is not None
        return one


@contextlib.asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    """Two processes that end with the test."""
    one = Stage()
    try:
        yield one
    finally:
        await one.lifecycle.tasks.end(1)
        one.serving.cancel()
        await asyncio.gather(one.serving, return_exceptions=True)
        for sock in one.sockets:
            sock.close()
        for left in one.first._open.values():  # the worker's last word may not have been heard
            close_all(left.sockets)
        one.lifecycle.lag.stop()


async def until(what: Callable[[], Any]) -> None:
    """Waits for something that the other process does."""
    while not what():  # noqa: ASYNC110 - what is waited for has no event
        await asyncio.sleep(0.001)


def run(scene: Callable[[Stage], Coroutine[Any, Any, None]]) -> None:
    """Runs a scene on a stage, with a deadline."""

    async def bounded() -> None:
        async with asyncio.timeout(DEADLINE_S), stage() as one:
            await scene(one)

    asyncio.run(bounded())


def test_both_accept_from_one_queue() -> None:
    """What a worker gets are the very sockets of the first process, ready for a loop."""

    async def scene(one: Stage) -> None:
        binding = free_binding()
        mine = one.first.open(binding, lambda: None)
        its = await one.lend(binding)
        ((near,), (far,)) = (mine.sockets, its.sockets)
        assert os.fstat(near.fileno()).st_ino == os.fstat(far.fileno()).st_ino
        assert not os.get_inheritable(far.fileno())
        assert not far.getblocking()
        for listener in (near, far):
            with socket.create_connection((HOST, binding.port)) as client:
                descriptor, peer = listener._accept()  # type: ignore[attr-defined]
                assert peer == client.getsockname()
                os.close(descriptor)
        mine.close()
        its.close()

    run(scene)


@pytest.mark.parametrize("first_ends", [True, False], ids=["the first", "the worker"])
def test_the_port_is_closed_by_the_last(first_ends: bool) -> None:
    """Whoever ends before leaves it open for the other one."""

    async def scene(one: Stage) -> None:
        binding = free_binding()
        both = [one.first.open(binding, lambda: None), await one.lend(binding)]
        early, late = both if first_ends else reversed(both)
        early.close()
        await one.crew.gather()  # the first process has heard of it by then
        assert is_served(binding)
        late.close()
        await until(lambda: not is_served(binding))
        one.first.open(binding, lambda: None).close()
        again = await one.lend(binding)
        assert is_served(binding)
        again.close()

    run(scene)


def test_a_port_that_is_taken_is_told() -> None:
    """In the words of the first process; it is asked again when there is a reason to."""

    async def scene(one: Stage) -> None:
        binding = free_binding()
        with socket.socket() as other:
            other.bind((HOST, binding.port))
            other.listen()
            with pytest.raises(KernelError, match=rf"{HOST} port {binding.port}.*EADDRINUSE"):
                await one.lend(binding)
            with pytest.raises(KernelError, match="EADDRINUSE"):
                one.first.try_open(binding)
        one.first.try_open(binding)
        lent = await one.lend(binding)
        one.first.try_open(binding)  # it is open already, for the worker
        lent.close()

    run(scene)


def test_what_is_not_wanted_any_more_is_given_back() -> None:
    """A port that was closed while its sockets were on their way stays closed."""

    async def scene(one: Stage) -> None:
        binding = free_binding()
        come = asyncio.Event()
        assert one.worker.open(binding, lambda: pytest.fail("another one has asked since")) is None
        assert one.worker.open(binding, come.set) is None
        await come.wait()
        await until(lambda: not is_served(binding))

    run(scene)


def test_a_worker_without_descriptors() -> None:
    """The kernel would hand over as many as fit; a port is listened on wholly, or not at all."""

    async def scene(one: Stage) -> None:
        places = (ip_address(HOST), ip_address("127.0.0.2"))
        binding = replace(free_binding(), addresses=places)
        mine = one.first.open(binding, lambda: None)
        await one.crew.gather()
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        with socket.socket() as last:
            resource.setrlimit(resource.RLIMIT_NOFILE, (last.fileno() + 2, limits[1]))
            try:
                with pytest.raises(KernelError, match=f"port {binding.port}: too many open files"):
                    await one.lend(binding)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        mine.close()
        await until(lambda: not is_served(binding))

    run(scene)


def test_a_first_process_that_takes_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is one answer to a question, however late: asked again meanwhile, it comes once."""
    passed: list[Binding] = []

    async def scene(one: Stage) -> None:
        go_on, come = asyncio.Event(), asyncio.Event()

        async def pass_late(passing: socket.socket, binding: Binding, sockets: Any) -> None:
            passed.append(binding)
            await go_on.wait()
            await listening.pass_sockets(passing, binding, sockets)

        monkeypatch.setattr(crew_module, "pass_sockets", pass_late)
        binding = free_binding()
        assert one.worker.open(binding, lambda: pytest.fail("another one has asked since")) is None
        await until(lambda: passed)
        assert one.worker.open(binding, come.set) is None
        go_on.set()
        await come.wait()
        await until(lambda: not is_served(binding))
        assert passed == [binding]

    run(scene)


def test_a_first_process_that_is_gone() -> None:
    """What was asked of it is answered: by its end."""

    async def scene(one: Stage) -> None:
        lending = asyncio.ensure_future(one.lend(free_binding()))
        await asyncio.sleep(0)
        one.sockets[0].shutdown(socket.SHUT_RDWR)
        with pytest.raises(KernelError, match="the first process is gone"):
            await lending

    run(scene)


def test_a_worker_that_is_gone() -> None:
    """What it listened on is closed, and it gets nothing more, whatever its last words were."""

    async def scene(one: Stage) -> None:
        held, both = free_binding(), free_binding()
        close_all((await one.lend(held)).sockets)  # as the kernel does at its end
        mine = one.first.open(both, lambda: None)
        close_all((await one.lend(both)).sockets)
        one.sockets[1].shutdown(socket.SHUT_RDWR)
        await until(lambda: not is_served(held))
        assert is_served(both)
        (worker,) = one.crew._workers
        assert await worker.lend({"binding": encode_binding(held)}) == {}
        assert not is_served(held)
        mine.close()
        assert not is_served(both)

    run(scene)


@pytest.mark.parametrize("number", [errno.ETOOMANYREFS, errno.ENOBUFS, errno.EAGAIN])
def test_a_kernel_that_passes_nothing_on_just_now(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Too many descriptors on their way, or no memory: it is tried again (unix(7))."""
    send, refused = socket.send_fds, []

    def refuse_once(*known: Any) -> int:
        if not refused:
            refused.append(number)
            raise OSError(number, "not now")
        return send(*known)

    async def scene(one: Stage) -> None:
        monkeypatch.setattr(socket, "send_fds", refuse_once)
        (await one.lend(free_binding())).close()
        assert refused == [number]

    run(scene)


def test_what_cannot_be_passed_on_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A question is answered even where that fails as nobody expected."""

    def refuse(*_: Any) -> int:
        raise OSError(errno.EPERM, "Operation not permitted")

    async def scene(one: Stage) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        monkeypatch.setattr(socket, "send_fds", refuse)
        binding = free_binding()
        with pytest.raises(KernelError, match=f"port {binding.port}: it failed"):
            await one.lend(binding)

    run(scene)


@pytest.mark.parametrize("first_ends", [True, False], ids=["the first", "the worker"])
def test_who_waits_to_be_accepted_is_taken_by_the_last(first_ends: bool) -> None:
    """The first process lets in who has connected before the kernel closes the port, once."""

    async def scene(one: Stage) -> None:
        binding = free_binding()
        mine, its = one.first.open(binding, lambda: None), await one.lend(binding)
        taken: list[str] = []

        def close_mine() -> None:
            mine.close(lambda: taken.append("first"))

        def close_its() -> None:
            its.close(lambda: taken.append("worker"))

        order = (close_mine, close_its) if first_ends else (close_its, close_mine)
        for number, close in enumerate(order):
            assert is_served(binding)
            assert not taken, number
            close()
            await one.crew.gather()
        await until(lambda: not is_served(binding))
        assert taken == ["first"]

    run(scene)


def test_at_the_end_nobody_is_taken_any_more() -> None:
    """The mode of the first process has ended before a worker lets go."""

    async def scene(one: Stage) -> None:
        binding = free_binding()
        mine, its = one.first.open(binding, lambda: None), await one.lend(binding)
        taken: list[str] = []
        mine.close(lambda: taken.append("nothing is left that could serve it"))
        one.first.end()
        its.close()
        await until(lambda: not is_served(binding))
        assert not taken

    run(scene)


def test_nobody_else_can_listen_there() -> None:
    """Not even a program of the same user that would share the port (socket(7), SO_REUSEPORT)."""

    async def scene(one: Stage) -> None:
        binding = free_binding()
        bound = one.first.open(binding, lambda: None)
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            with pytest.raises(OSError, match="in use"):
                other.bind((HOST, binding.port))
        bound.close()

    run(scene)


def test_a_crowd_of_ports() -> None:
    """All are asked for at once, more than the sockets between the processes hold."""

    async def scene(one: Stage) -> None:
        bindings = [
            Binding(addresses=(ip_address(f"127.0.{number // 250}.{1 + number % 250}"),), port=port)
            for port in (free_binding().port,)
            for number in range(600)
        ]
        lent = await asyncio.gather(*map(one.lend, bindings))
        assert len({os.fstat(bound.sockets[0].fileno()).st_ino for bound in lent}) == 600
        for bound in lent:
            bound.close()

    run(scene)


def test_a_binding_survives_json() -> None:
    """Addresses of both families, zones, and links."""
    texts = ("0.0.0.0", "::", "fe80::1%eth0")
    binding = Binding(addresses=tuple(map(ip_address, texts)), port=53, links=("lo", "eth0"))
    assert decode_binding(encode_binding(binding)) == binding
