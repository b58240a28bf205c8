"""The relay between real sockets: every byte, every end, nothing held, nobody starved."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import random
import select
import socket
import struct
import time
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from egress_router.net.endpoint import hold_ack, open_stream, tune_stream
from egress_router.net.flow import Flow
from egress_router.net.pipes import PIPE_BYTES, PipePool
from egress_router.net.poller import Poller
from egress_router.net.relay import Carrier, EndReason, Relay
from egress_router.net.wheel import IdleWheel
from tests.loopback.loops import LOOPS, connected_pair, reset, run_on

PIPES = [pytest.param(8, id="splice"), pytest.param(0, id="copy")]


@asynccontextmanager
async def relaying(
    *,
    pipes=8,
    buffer_bytes=None,
    tick_s=1.0,
    early_up=b"",
    early_down=b"",
    before=lambda _client, _upstream: None,
    far_type=None,
    **limits,
):
    """A client and an upstream with a relay between them; `it.end` is a future of its end.

    `before`: what the two do before the relay begins. `far_type`: of the upstream's near end.
    """
    loop = asyncio.get_running_loop()
    poller = Poller(loop)
    carrier = Carrier(
        poller, pipes=PipePool(limit=pipes), wheel=IdleWheel(loop, tick_s=tick_s), **limits
    )
    client, near = connected_pair(buffer_bytes)
    upstream, far = connected_pair(buffer_bytes)
    for sock in (near, far):
        tune_stream(sock)
    if far_type is not None:
        far = far_type(fileno=far.detach())
    before(client, upstream)
    end = loop.create_future()
    relay = carrier.carry(near, far, end.set_result, early_up=early_up, early_down=early_down)
    try:
        yield SimpleNamespace(
            client=client, upstream=upstream, far=far, relay=relay, carrier=carrier, end=end
        )
    finally:
        carrier.close()
        assert carrier.pipes.lent == 0
        assert len(carrier.wheel) == 0
        assert near.fileno() == far.fileno() == -1
        assert len(poller) == 0
        poller.close()
        client.close()
        upstream.close()
        await end


async def send(sock, data):
    await asyncio.get_running_loop().sock_sendall(sock, data)


async def receive(sock, count):
    data = bytearray()
    while len(data) < count:
        piece = await asyncio.get_running_loop().sock_recv(sock, count - len(data))
        if not piece:
            break
        data += piece
    return bytes(data)


async def receive_all(sock):
    """All bytes up to the end, and whether that was a FIN (not a reset)."""
    data = bytearray()
    try:
        while piece := await asyncio.get_running_loop().sock_recv(sock, 1 << 16):
            data += piece
    except ConnectionResetError:
        return bytes(data), False
    return bytes(data), True


def noise(count, seed=1):
    return random.Random(seed).randbytes(count)  # noqa: S311 -- noise, no secret


@pytest.mark.parametrize("pipes", PIPES)
@pytest.mark.parametrize("first", ["client", "upstream"], ids=lambda one: f"B6-80-{one}")
def test_half_close_goes_on_behind_the_last_byte(run, first, pipes):
    """The FIN arrives after all bytes, and the other direction lives on for as long as it likes."""

    async def scene():
        async with relaying(pipes=pipes) as it:
            one, other = it.client, it.upstream
            if first == "upstream":
                one, other = other, one
            there, back = noise(3_000_000), noise(2_000_000, seed=2)
            sending = asyncio.create_task(send(one, there))
            sending.add_done_callback(lambda _: one.shutdown(socket.SHUT_WR))
            assert await receive_all(other) == (there, True)
            await send(other, b"still here?")
            assert await receive(one, 11) == b"still here?"
            answering = asyncio.create_task(send(other, back))
            answering.add_done_callback(lambda _: other.close())
            assert await receive_all(one) == (back, True)
            end = await it.end
            sizes = (len(there), len(back) + 11)
            assert (end.bytes_up, end.bytes_down) == (sizes if first == "client" else sizes[::-1])
            assert end.reason == EndReason.CLOSED

    run(scene())


def test_both_half_close_at_once(run):
    """B6-80: two FINs that cross on the way end the relay cleanly."""

    async def scene():
        async with relaying() as it:
            await send(it.client, b"up")
            await send(it.upstream, b"down")
            it.client.shutdown(socket.SHUT_WR)
            it.upstream.shutdown(socket.SHUT_WR)
            assert await receive_all(it.upstream) == (b"up", True)
            assert await receive_all(it.client) == (b"down", True)
            end = await it.end
            assert (end.reason, end.bytes_up, end.bytes_down) == (EndReason.CLOSED, 2, 4)

    run(scene())


@pytest.mark.parametrize("pipes", PIPES)
@pytest.mark.parametrize("who", ["client", "upstream"], ids=lambda one: f"B6-81-{one}")
def test_reset_goes_on_as_a_reset(run, who, pipes):
    """The other end of a torn connection sees a reset, after what had arrived before."""

    async def scene():
        async with relaying(pipes=pipes) as it:
            one, other = it.client, it.upstream
            if who == "upstream":
                one, other = other, one
            sending = asyncio.create_task(send(one, noise(1_000_000)))
            got = await receive(other, 400_000)
            assert got == noise(1_000_000)[:400_000]
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sending
            reset(one)
            rest, clean = await receive_all(other)
            assert not clean
            assert noise(1_000_000)[400_000:].startswith(rest)
            assert (await it.end).reason == f"reset by {who}"

    run(scene())


def test_reset_during_a_blocked_write_is_noticed(run):
    """B6-81: a peer that stops reading and then resets ends the relay, with bytes still held."""

    async def scene():
        async with relaying(buffer_bytes=8192) as it:
            sending = asyncio.create_task(send(it.client, noise(4_000_000)))
            await settled(it.relay)
            reset(it.upstream)
            with pytest.raises(ConnectionError):
                await sending
            assert (await it.end).reason == EndReason.RESET_BY_UPSTREAM

    run(scene())


def test_last_words_before_a_reset_arrive(run):
    """B6-81: an upstream that answers, closes and resets what still comes in is heard."""

    async def scene():
        async with relaying() as it:
            await send(it.client, b"x")
            assert await receive(it.upstream, 1) == b"x"
            await send(it.client, b"never read")
            await until(lambda: it.relay.bytes_up == 11)
            await send(it.upstream, b"413 too large")
            it.upstream.close()  # with unread bytes: the kernel sends RST
            with contextlib.suppress(ConnectionError):
                assert await receive(it.client, 13) == b"413 too large"
            assert (await it.end).reason == EndReason.RESET_BY_UPSTREAM
            assert (await it.end).bytes_down == 13

    run(scene())


async def settled(relay):
    """Until the relay has moved nothing for a while: both of its sides are blocked."""
    moved = -1
    while moved != relay.bytes_up + relay.bytes_down:
        moved = relay.bytes_up + relay.bytes_down
        await asyncio.sleep(0.05)


async def until(condition):
    while not condition():  # noqa: ASYNC110 -- what is waited for is the kernel's doing
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("pipes", PIPES)
def test_slow_reader_holds_up_its_writer_and_nothing_else(run, pipes):
    """B6-82: what is held stays within a pipe, the loop is idle, and other tunnels move."""

    async def scene():
        async with relaying(pipes=pipes, buffer_bytes=16384) as it, relaying() as unhurt:
            data = noise(8_000_000)
            sending = asyncio.create_task(send(it.client, data))
            await settled(it.relay)
            flow = it.relay._up
            assert flow._held + len(flow._pending) <= PIPE_BYTES
            before = time.process_time()
            await asyncio.sleep(0.3)
            assert time.process_time() - before < 0.1
            assert not sending.done()
            await send(unhurt.client, b"ping")
            assert await receive(unhurt.upstream, 4) == b"ping"
            assert await receive(it.upstream, len(data)) == data
            await sending
            assert it.relay.bytes_up == len(data)

    run(scene())


def test_idle_tunnel_ends_in_time_and_a_busy_one_does_not(run):
    """B6-83: the idle limit counts from the last byte, either way."""

    async def scene():
        async with relaying(tick_s=0.02, idle_s=0.2) as it:
            started = time.monotonic()
            for _ in range(6):
                await asyncio.sleep(0.08)
                await send(it.upstream, b".")
                await receive(it.client, 1)
            assert not it.end.done()
            last = time.monotonic()
            assert await receive_all(it.client) == (b"", True)
            assert 0.2 <= time.monotonic() - last < 1
            assert time.monotonic() - started > 0.6
            assert (await it.end).reason == EndReason.IDLE

    run(scene())


def test_keepalive_begins_with_the_first_silence(run, monkeypatch):
    """A silent tunnel's peers are asked whether they live, 60/10/6; a busy one's are not."""
    monkeypatch.setattr("egress_router.net.relay.SILENT_S", 0.2)
    options = (
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
    )

    async def scene():
        async with relaying(tick_s=0.02, idle_s=0.8) as it:
            near, far = it.relay.ends
            for _ in range(6):
                await asyncio.sleep(0.08)
                await send(it.client, b".")
                await receive(it.upstream, 1)
            assert not far.getsockopt(*options[0])
            await asyncio.sleep(0.4)
            for sock in (near, far):
                assert [sock.getsockopt(*option) for option in options] == [1, 60, 10, 6]
            assert not it.end.done()
            assert (await it.end).reason == EndReason.IDLE

    run(scene())


@contextlib.asynccontextmanager
async def held():
    """A client, and a server that has not been told of its connection yet; `it.carry` relays."""
    loop = asyncio.get_running_loop()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        listener.setblocking(False)
        dialled = open_stream(socket.AF_INET)
        hold_ack(dialled)
        assert dialled.connect_ex(listener.getsockname()) == errno.EINPROGRESS
        while select.select([], [dialled], [], 1)[1] != [dialled]:
            pass
        with pytest.raises(BlockingIOError):
            listener.accept()
        client, near = connected_pair()
        carrier = Carrier(Poller(loop))
        end = loop.create_future()

        def carry(**known):
            carrier.carry(near, dialled, end.set_result, ack_held=True, **known)

        async def accept():
            server, _ = await asyncio.wait_for(loop.sock_accept(listener), 0.1)
            return server

        yield SimpleNamespace(client=client, carry=carry, accept=accept, end=end, listener=listener)
        await end
        assert len(carrier.handshakes) == 0
        carrier.close()
        carrier.poller.close()


def test_held_handshake_goes_with_what_the_client_has_said(run):
    """The server gets its connection and the first bytes in one segment."""

    async def scene():
        async with held() as it:
            it.client.send(b"hello")
            it.carry()
            server = await it.accept()
            assert segments_in(server) == 2  # SYN, and the one that ends the handshake
            assert await receive(server, 5) == b"hello"
            await send(server, b"welcome")
            assert await receive(it.client, 7) == b"welcome"
            it.client.close()
            server.close()
            assert (await it.end).client_first

    run(scene())


@pytest.mark.parametrize("early", [b"", b"hello"], ids=["read here", "read before"])
def test_answers_in_pieces_are_not_slower_after_a_held_handshake(run, early):
    """A server's second small write waits for our acknowledgement of the first: Nagle, RFC 896."""

    async def answer():
        async with held() as it:
            if not early:
                it.client.send(b"hello")
            it.carry(early_up=early)
            server = await it.accept()
            assert await receive(server, 5) == b"hello"
            started = time.monotonic()
            server.send(b"head")
            server.send(b"body")
            assert await receive(it.client, 8) == b"headbody"
            took_s = time.monotonic() - started
            it.client.close()
            server.close()
            return took_s

    async def scene():
        took_s = sorted([await answer() for _ in range(5)])
        assert took_s[2] < 0.03, "the kernel delays an acknowledgement by 40 ms"

    run(scene())


def test_held_handshake_ends_at_once_for_a_client_that_says_nothing(run):
    """A server that speaks first is not kept waiting."""

    async def scene():
        async with held() as it:
            it.carry()
            with it.listener.dup() as listener:
                listener.accept()[0].close()
            assert not (await asyncio.wait_for(close_behind(it), 1)).client_first

    run(scene())


async def close_behind(it):
    """The end of a relay whose server has gone."""
    assert await receive_all(it.client) == (b"", True)
    it.client.close()
    return await it.end


def test_a_client_known_to_be_silent_gets_a_moment(run):
    """A few milliseconds later the server is told all the same; what it says passes as ever."""

    async def scene():
        async with held() as it:
            it.carry(client_read_out=True)
            with pytest.raises(BlockingIOError):
                it.listener.accept()
            server = await it.accept()
            server.send(b"220 ready")
            assert await receive(it.client, 9) == b"220 ready"
            await send(it.client, b"helo")
            assert await receive(server, 4) == b"helo"
            it.client.close()
            server.close()
            assert not (await it.end).client_first

    run(scene())


def test_nothing_of_an_ended_relay_is_left_for_the_collector(run):
    """No circles: its memory is free when it ends, and not some thousand connections later."""

    async def scene():
        for client_first in (True, False):
            async with relaying() as it:
                one, other = (it.client, it.upstream)[:: 1 if client_first else -1]
                await send(one, b"one")
                assert await receive(other, 3) == b"one"
                one.close()
                assert await receive_all(other) == (b"", True)
                other.close()
                await it.end

    gc.collect()
    gc.disable()
    try:
        run(scene())
        kinds = (Relay, Flow)
        assert [one for one in gc.get_objects() if isinstance(one, kinds)] == []
    finally:
        gc.enable()


def segments_in(sock):
    """How many segments a TCP socket has got, those of the handshake included (tcp(7))."""
    return struct.unpack_from("=I", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 200), 140)[
        0
    ]


def test_last_bytes_and_the_end_go_together(run):
    """An answer whose end is known is sent on with the FIN in one segment."""

    async def scene():
        async with relaying() as it:
            await send(it.upstream, b"first")
            assert await receive(it.client, 5) == b"first"
            before = segments_in(it.client)
            it.upstream.send(b"last")
            it.upstream.shutdown(socket.SHUT_WR)
            assert await receive_all(it.client) == (b"last", True)
            assert segments_in(it.client) == before + 1

    run(scene())


def say_last(_client, upstream):
    """The upstream's last bytes and its end, both there before the relay is."""
    upstream.send(b"last")
    upstream.shutdown(socket.SHUT_WR)


class Torn(socket.socket):
    """A socket that is reset behind what it has already brought: one buffer full."""

    reads = 0

    def recv_into(self, buffer):
        self.reads += 1
        if self.reads > 1:
            raise ConnectionResetError(errno.ECONNRESET, "reset")
        buffer[:] = bytes(len(buffer))
        return len(buffer)


def test_last_bytes_are_not_lost_to_a_reset(run):
    """What waited for the FIN is sent on although a reset comes in its place."""

    async def scene():
        async with relaying(pipes=0, before=say_last, far_type=Torn) as it:
            assert await receive(it.client, PIPE_BYTES) == bytes(PIPE_BYTES)
            assert (await it.end).reason == EndReason.RESET_BY_UPSTREAM
            assert await receive_all(it.client) == (b"", False)

    run(scene())


def test_half_closed_tunnel_has_a_limit_of_its_own(run):
    """B6-80, B6-83: once one side has ended, a shorter silence ends the other."""

    async def scene():
        async with relaying(tick_s=0.02, idle_s=100, half_closed_idle_s=0.2) as it:
            await asyncio.sleep(0.3)
            it.client.shutdown(socket.SHUT_WR)
            assert await receive_all(it.upstream) == (b"", True)
            started = time.monotonic()
            assert (await it.end).reason == EndReason.HALF_CLOSED_IDLE
            assert 0.15 <= time.monotonic() - started < 1

    run(scene())


def test_many_tunnels_at_once(run):
    """B6-84: hundreds of tunnels share the pipes, move their bytes, and leave no descriptor."""

    async def scene():
        loop = asyncio.get_running_loop()
        poller = Poller(loop)
        carrier = Carrier(poller, pipes=PipePool(limit=4))
        ends = []

        async def tunnel(number):
            client, near = connected_pair()
            far, upstream = connected_pair()
            end = loop.create_future()
            carrier.carry(near, far, end.set_result)
            data = noise(100_000, seed=number)
            sending = asyncio.create_task(send(client, data))
            assert await receive(upstream, len(data)) == data
            await sending
            client.close()
            upstream.close()
            ends.append(await end)

        await asyncio.gather(*(tunnel(number) for number in range(200)))
        assert {end.bytes_up for end in ends} == {100_000}
        assert not carrier.relays
        assert carrier.pipes.lent == 0
        carrier.close()
        poller.close()

    run(scene())


def test_cut_resets_both_ends(run):
    """A relay that is cut, at the end of a drain, shows both ends that it was torn."""

    async def scene():
        async with relaying() as it:
            await send(it.client, b"half a")
            await receive(it.upstream, 6)
            it.carrier.cut_all()
            assert await receive_all(it.client) == (b"", False)
            assert await receive_all(it.upstream) == (b"", False)
            assert (await it.end).reason == EndReason.CUT
            it.relay.cut()

    run(scene())


def test_early_bytes_go_first(run):
    """What was read before the relay began goes first, also when it does not fit at once."""

    async def scene():
        early = noise(3_000_000)
        async with relaying(buffer_bytes=16384, early_up=early, early_down=b"200 ok") as it:
            assert await receive(it.client, 6) == b"200 ok"
            await send(it.client, b"tail")
            it.client.shutdown(socket.SHUT_WR)
            assert await receive_all(it.upstream) == (early + b"tail", True)

    run(scene())


def test_peer_that_is_gone_at_the_start(run):
    """A relay between a live and a dead connection ends at once, and not within `carry`."""

    async def scene():
        poller = Poller(asyncio.get_running_loop())
        carrier = Carrier(poller)
        client, near = connected_pair()
        far, upstream = connected_pair()
        reset(upstream)
        await asyncio.sleep(0.01)
        ends = []
        carrier.carry(near, far, ends.append, early_up=b"hello")
        assert not ends
        assert (await receive_all(client))[1] is False
        await until(lambda: ends)
        assert ends[0].reason == EndReason.RESET_BY_UPSTREAM
        client.close()
        poller.close()

    run(scene())


@pytest.mark.parametrize("pipes", PIPES)
def test_slices_of_one_byte(run, pipes):
    """B6-87: a stream cut into single bytes arrives unchanged, in both directions at once."""

    async def scene():
        async with relaying(pipes=pipes) as it:
            data = noise(3000)

            async def drip(sock):
                for byte in data:
                    await send(sock, bytes([byte]))

            await asyncio.gather(drip(it.client), drip(it.upstream))
            assert await receive(it.upstream, 3000) == data
            assert await receive(it.client, 3000) == data

    run(scene())


@pytest.mark.parametrize("pipes", PIPES)
def test_bursts_with_pauses(run, pipes):
    """B6-87: bursts of a megabyte, small talk between them, arrive unchanged."""

    async def scene():
        async with relaying(pipes=pipes) as it:
            for number in range(8):
                burst = noise(1_000_000, seed=number)
                sending = asyncio.create_task(send(it.client, burst))
                assert await receive(it.upstream, len(burst)) == burst
                await sending
                await send(it.upstream, b"ok")
                assert await receive(it.client, 2) == b"ok"
                assert it.carrier.pipes.lent == 0

    run(scene())


@pytest.mark.parametrize("pipes", PIPES)
def test_urgent_data_stays_in_the_stream_and_does_not_spin(run, pipes):
    """B6-87: an urgent byte in the middle of a bulk flow is one of its bytes."""

    async def scene():
        async with relaying(pipes=pipes) as it:
            before, after = noise(500_000), noise(500_000, seed=2)
            expected = before + b"!" + after

            async def talk():
                await send(it.client, before)
                it.client.send(b"!", socket.MSG_OOB)
                await send(it.client, after)

            talking = asyncio.create_task(talk())
            assert await receive(it.upstream, len(expected)) == expected
            await talking
            busy = time.process_time()
            await asyncio.sleep(0.2)
            assert time.process_time() - busy < 0.1

    run(scene())


@pytest.mark.parametrize("pipes", PIPES)
def test_the_end_behind_an_urgent_byte(run, pipes):
    """What has come as a whole, an urgent byte and the end with it, goes on as a whole."""

    def before(client, _upstream):
        for piece, flags in ((b"before", 0), (b"!", socket.MSG_OOB), (b"after", 0)):
            client.send(piece, flags)
        client.shutdown(socket.SHUT_WR)

    async def scene():
        async with relaying(pipes=pipes, before=before) as it:
            assert await receive_all(it.upstream) == (b"before!after", True)
            it.upstream.close()
            assert (await it.end).reason == EndReason.CLOSED

    run(scene())


class Counting(socket.socket):
    """Counts how often it is read."""

    reads = 0

    def recv_into(self, *args):
        self.reads += 1
        return super().recv_into(*args)


def test_an_end_that_is_known_is_not_read(run):
    """Behind the last bytes there is nothing but the end: one system call less."""

    async def scene():
        async with relaying(before=say_last, far_type=Counting) as it:
            assert await receive_all(it.client) == (b"last", True)
            it.client.close()
            await it.end
            assert it.far.reads == 1

    run(scene())


def test_unforeseen_error_kills_one_relay_alone(run):
    """An error of our own ends its relay, is reported, and leaves the others alone."""

    async def scene():
        reported = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: reported.append(context["exception"])
        )
        async with relaying() as it, relaying() as unhurt:
            it.carrier.buffer = None  # the fault
            await send(it.client, b"x")
            assert (await receive_all(it.client))[1] is False
            await send(unhurt.client, b"y")
            assert await receive(unhurt.upstream, 1) == b"y"
        assert [type(error) for error in reported] == [TypeError]

    run(scene())


def test_who_hears_of_an_end_and_fails_harms_nobody(run):
    """It is reported, and the ends of the same turn of the wheel are told all the same."""

    async def scene():
        loop = asyncio.get_running_loop()
        reported, heard = [], []
        loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))
        poller = Poller(loop)
        carrier = Carrier(poller, wheel=IdleWheel(loop, tick_s=0.02), idle_s=0.1)
        pairs = [(connected_pair(), connected_pair()) for _ in range(3)]

        def fail(_end):
            raise ZeroDivisionError

        listeners = (heard.append, fail, heard.append)
        for ((_, near), (_, far)), on_end in zip(pairs, listeners, strict=True):
            carrier.carry(near, far, on_end)
        for (client, _), (server, _) in pairs:
            assert await receive_all(client) == (b"", True)
            assert await receive_all(server) == (b"", True)
        assert [end.reason for end in heard] == [EndReason.IDLE] * 2
        assert [type(error) for error in reported] == [ZeroDivisionError]
        assert not carrier.relays
        carrier.close()
        poller.close()
        for pair in pairs:
            for client, _ in pair:
                client.close()

    run(scene())


SIDES = st.sampled_from(["client", "upstream"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), SIDES, st.sampled_from([1, 7, 1000, 20_000, 70_000, 300_000])),
        st.tuples(st.just("read"), SIDES, st.sampled_from([1, 100, 5000, 200_000])),
        st.tuples(st.just("fin"), SIDES, st.just(0)),
        st.tuples(st.just("turn"), SIDES, st.sampled_from([1, 5, 20])),
        st.tuples(st.just("rst"), SIDES, st.just(0)),
    ),
    max_size=25,
)


@pytest.mark.parametrize("loop", sorted(LOOPS))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS, pipes=st.sampled_from([0, 1, 8]), small=st.booleans())
def test_any_schedule_delivers_the_stream(loop, steps, pipes, small):
    """Each side gets a prefix of the other's stream, all of it and its end if nobody reset."""

    async def scene():
        async with relaying(pipes=pipes, buffer_bytes=8192 if small else None) as it:
            sides = {"client": Side(it.client), "upstream": Side(it.upstream)}
            torn = await play(steps, sides)
            left = [side for name, side in sides.items() if name != torn]
            await asyncio.gather(*(side.finish() for side in left))
            end = await it.end
            client, upstream = sides.values()
            for one, other in ((client, upstream), (upstream, client)):
                assert other.sent.startswith(one.got)
            if torn is None:
                assert (client.got, upstream.got) == (upstream.sent, client.sent)
                assert client.clean
                assert upstream.clean
                assert end.reason == EndReason.CLOSED
                assert (end.bytes_up, end.bytes_down) == (len(client.sent), len(upstream.sent))

    run_on(loop, scene())


class Side:
    """One end of the tunnel, and the model of what it has said and heard."""

    def __init__(self, sock):
        self.sock = sock
        self.sent, self.got = bytearray(), bytearray()
        self.ended = False
        self.clean = None

    def send(self, amount):
        if not self.ended:
            piece = noise(amount, seed=len(self.sent))
            with contextlib.suppress(BlockingIOError):
                self.sent += piece[: self.sock.send(piece)]

    def read(self, amount):
        with contextlib.suppress(BlockingIOError):
            self.got += self.sock.recv(amount)

    def fin(self, _):
        if not self.ended:
            self.ended = True
            with contextlib.suppress(OSError):  # the other side may have reset already
                self.sock.shutdown(socket.SHUT_WR)

    def rst(self, _):
        reset(self.sock)

    async def finish(self):
        self.fin(0)
        rest, self.clean = await receive_all(self.sock)
        self.got += rest


async def play(steps, sides):
    """Plays the schedule; the name of the side that reset, if one did."""
    for action, name, amount in steps:
        if action == "turn":
            for _ in range(amount):
                await asyncio.sleep(0)
        else:
            getattr(sides[name], action)(amount)
        if action == "rst":
            return name
    return None
