"""The resolver against nameservers that answer well, badly, late or not at all."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import itertools
import struct
import time
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import ip_address
from types import SimpleNamespace

import pytest
from dnslib import CNAME, QTYPE, RR, A, DNSLabel

from egress_router.net.hosts import parse_hosts
from egress_router.net.lookup import LookupLimits
from egress_router.net.resolution import ResolutionCause, ResolutionError, Source, State
from egress_router.net.resolv_conf import FixedServers, Nameserver, watch_resolv_conf
from egress_router.net.resolver import Resolver, ResolverSettings
from tests.loopback.nameserver import Asked, ScriptedNameserver, Send

LIMITS = LookupLimits(try_s=0.4, lookup_s=2.5)
SOA_TEXT = "example.test. 300 IN SOA ns.example.test. host.example.test. 1 60 60 60 {minimum}"
LOOP_BLOCKED_MAX_S = 0.05


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def resolving(*scripts, hosts="", stale=False, limits=LIMITS, **settings):
    """A resolver and one scripted nameserver for each script (a dict gives its options too)."""
    clock = Clock()
    async with AsyncExitStack() as stack:
        peers = []
        for script in scripts:
            options = script if isinstance(script, dict) else {"script": script}
            peers.append(await stack.enter_async_context(ScriptedNameserver(**options)))
        table = parse_hosts(hosts)
        resolver = Resolver(
            ResolverSettings(serve_stale=stale, limits=limits, **settings),
            servers=FixedServers(servers=tuple(peer.server for peer in peers)),
            hosts=SimpleNamespace(current=lambda: table),
            clock=clock,
        )
        try:
            yield SimpleNamespace(resolver=resolver, peers=peers, clock=clock)
        finally:
            await resolver.close()


def addresses(*texts: str) -> tuple:
    return tuple(map(ip_address, texts))


def honest(asked: Asked) -> Send:
    """An A record 192.0.2.1 for every name, no AAAA."""
    if asked.type == "A":
        return asked.reply(f"{asked.name} 60 IN A 192.0.2.1")
    return asked.reply(auth=SOA_TEXT.format(minimum=30))


def silent(_: Asked) -> list[Send]:
    return []


def failing(rcode: int):
    return lambda asked: asked.reply(rcode=rcode)


async def cause_of(resolver: Resolver, name: str = "www.example.test", families=(4,)):
    with pytest.raises(ResolutionError) as caught:
        await resolver.resolve(name, families)
    return caught.value.cause


def altered(asked: Asked, change) -> Send:
    data = bytearray(honest(asked).data)
    change(data)
    return Send(data=bytes(data))


def other_question(asked: Asked, name: str | None = None, qtype: int = QTYPE.A, qclass: int = 1):
    message = asked.message
    message.q.qname = DNSLabel(name or asked.name)
    message.q.qtype = qtype
    message.q.qclass = qclass
    reply = message.reply(ra=1)
    reply.add_answer(RR(message.q.qname, QTYPE.A, 1, 60, A("198.51.100.66")))
    return Send(data=bytes(reply.pack()))


FOREIGN = {
    "id": lambda asked: altered(asked, lambda data: data.__setitem__(0, data[0] ^ 1)),
    "qr": lambda asked: altered(asked, lambda data: data.__setitem__(2, data[2] & 0x7F)),
    "opcode": lambda asked: altered(asked, lambda data: data.__setitem__(2, data[2] | 0x08)),
    "name": lambda asked: other_question(asked, name="evil.example.test"),
    "type": lambda asked: other_question(asked, qtype=QTYPE.TXT),
    "class": lambda asked: other_question(asked, qclass=3),
    "empty": lambda _: Send(data=b""),
    "short": lambda asked: Send(data=asked.data[:11]),
}


@pytest.mark.parametrize("kind", FOREIGN, ids=lambda kind: f"B5-63-{kind}")
def test_foreign_answers_are_passed_over_and_counted(run, kind):
    """A message that does not belong to the query neither ends the wait nor the lookup."""

    async def scene():
        async with resolving(lambda asked: [FOREIGN[kind](asked), honest(asked)]) as it:
            found = await it.resolver.resolve("www.example.test", (4,))
            assert found.addresses == addresses("192.0.2.1")
            assert len(it.peers[0].asked) == 1
            assert it.resolver.counts.foreign == 1

    run(scene())


def test_answers_from_another_source_never_arrive(run):
    """B5-63: what another address or port sends to the query's socket is dropped by the kernel."""

    async def scene():
        async with ScriptedNameserver(silent) as stranger:

            def script(asked: Asked) -> list[Send]:
                forged = asked.reply(f"{asked.name} 60 IN A 198.51.100.66").data
                stranger._datagram.sendto(forged, asked.source)
                return [dataclasses.replace(honest(asked), after_s=0.05)]

            async with resolving(script) as it:
                found = await it.resolver.resolve("www.example.test", (4,))
                assert found.addresses == addresses("192.0.2.1")

    run(scene())


def test_late_duplicate_does_not_reach_the_next_query(run):
    """B5-63: a second answer to an old query goes nowhere."""

    async def scene():
        def script(asked: Asked) -> list[Send]:
            return [honest(asked), dataclasses.replace(honest(asked), after_s=0.05)]

        async with resolving(script) as it:
            await it.resolver.resolve("a.example.test", (4,))
            found = await it.resolver.resolve("b.example.test", (4,))
            assert found.addresses == addresses("192.0.2.1")
            assert it.resolver.counts.foreign == 0

    run(scene())


def test_every_query_has_its_own_id_and_port(run):
    """B5-64: neither the id nor the source port repeats or counts up."""

    async def scene():
        async with resolving(honest) as it:
            names = [f"n{number}.example.test" for number in range(40)]
            await asyncio.gather(*(it.resolver.resolve(name, (4,)) for name in names))
            asked = it.peers[0].asked
            ids = [one.message.header.id for one in asked]
            ports = [one.source[1] for one in asked]
            assert len(set(ids)) > 35
            assert len(set(ports)) > 20
            steps = {after - before for before, after in itertools.pairwise(ids)}
            assert len(steps) > 30

    run(scene())


@pytest.mark.parametrize("spelling", ["asked", "lower", "upper"], ids=lambda s: f"B5-65-{s}")
def test_case_of_the_answer_does_not_matter(run, spelling):
    """Names are asked in lower case and compared without case."""

    async def scene():
        def script(asked: Asked) -> Send:
            owner = getattr(asked.name, spelling, lambda: asked.name)()
            reply = asked.message.reply(ra=1)
            reply.q.qname = DNSLabel(owner)
            reply.add_answer(*RR.fromZone(f"{owner} 60 IN A 192.0.2.9"))
            return Send(data=bytes(reply.pack()))

        async with resolving(script) as it:
            found = await it.resolver.resolve("WWW.Example.TEST.", (4,))
            assert found.addresses == addresses("192.0.2.9")
            assert it.peers[0].asked[0].name == "www.example.test."

    run(scene())


def test_truncated_answer_is_asked_again_over_tcp(run):
    """B5-66: TC sends the query to the same server over TCP."""

    async def scene():
        def script(asked: Asked) -> Send:
            return asked.truncated() if asked.transport == "udp" else honest(asked)

        async with resolving(script) as it:
            found = await it.resolver.resolve("www.example.test", (4,))
            assert found.addresses == addresses("192.0.2.1")
            assert [one.transport for one in it.peers[0].asked] == ["udp", "tcp"]

    run(scene())


def test_truncated_then_tcp_refused_goes_to_the_next_server(run):
    """B5-66: a server that truncates and does not listen on TCP is passed over."""

    async def scene():
        first = {"script": lambda asked: asked.truncated(), "tcp": False}
        async with resolving(first, honest) as it:
            found = await it.resolver.resolve("www.example.test", (4,))
            assert found.addresses == addresses("192.0.2.1")

    run(scene())


def test_truncated_over_tcp_too_is_no_answer(run):
    """B5-66: TC over TCP makes no sense, and above all does not mean that there is no address."""

    async def scene():
        async with resolving(lambda asked: asked.truncated(), honest) as it:
            found = await it.resolver.resolve("www.example.test", (4,))
            assert found.addresses == addresses("192.0.2.1")

    run(scene())


@pytest.mark.parametrize("udp", [True, False], ids=["B5-66-dropped", "B5-66-refused"])
def test_tcp_only_resolver_works_and_is_remembered(run, udp):
    """A server reached by TCP alone works, and the next lookup does not wait for UDP again."""

    async def scene():
        def script(asked: Asked) -> list[Send]:
            return [] if asked.transport == "udp" else [honest(asked)]

        async with resolving({"script": script, "udp": udp}) as it:
            for name in ("a.example.test", "b.example.test"):
                found = await it.resolver.resolve(name, (4,))
                assert found.addresses == addresses("192.0.2.1")
            transports = [one.transport for one in it.peers[0].asked]
            assert transports == (["udp", "tcp", "tcp"] if udp else ["tcp", "tcp"])

    run(scene())


def test_pipelined_answers_over_tcp_are_matched_by_id(run):
    """B5-66: an answer to something else comes first on the connection, in pieces."""

    async def scene():
        def script(asked: Asked) -> list[Send]:
            if asked.transport == "udp":
                return [asked.truncated()]
            return [FOREIGN["id"](asked), dataclasses.replace(honest(asked), drip_s=0.0005)]

        async with resolving(script) as it:
            found = await it.resolver.resolve("www.example.test", (4,))
            assert found.addresses == addresses("192.0.2.1")
            assert it.resolver.counts.foreign == 1

    run(scene())


def header_of(asked: Asked, *counts: int) -> bytes:
    question = asked.data[12 : asked.data.index(b"\0", 12) + 5]
    return struct.pack("!HHHHHH", asked.message.header.id, 0x8180, 1, *counts) + question


def pointer_chain(asked: Asked) -> bytes:
    """A name behind 1,000 pointers, each to the one before."""
    data = bytearray(header_of(asked, 2, 0, 0))
    start = len(data) + 12
    data += b"\xc0\x0c" + struct.pack("!HHIH", QTYPE.TXT, 1, 60, 2000) + b"\xc0\x0c"
    for number in range(999):
        data += struct.pack("!H", 0xC000 | (start + 2 * number))
    data += struct.pack("!H", 0xC000 | (start + 1998))
    return bytes(data + struct.pack("!HHIH", QTYPE.A, 1, 60, 4) + b"\xc0\x00\x02\x01")


def compressed_crowd(asked: Asked, size: int) -> bytes:
    """As many CNAME records with long compressed names as fit."""
    name = b"".join(b"\x3f" + b"a" * 63 for _ in range(3)) + b"\xc0\x0c"
    data = bytearray(header_of(asked, 1, 0, 0))
    long_at = 0xC000 | (len(data) + 12)
    data += b"\xc0\x0c" + struct.pack("!HHIH", QTYPE.CNAME, 1, 60, len(name)) + name
    count = 1
    while len(data) + 14 <= size:
        data += struct.pack("!HHHIHH", long_at, QTYPE.CNAME, 1, 60, 2, long_at)
        count += 1
    data[6:8] = struct.pack("!H", count)
    return bytes(data)


GARBAGE = {
    "no-records": lambda asked: Send(data=header_of(asked, 3, 0, 0)),
    "counts-lie": lambda asked: Send(data=header_of(asked, 65535, 65535, 65535)),
    "forward-pointer": lambda asked: Send(
        data=header_of(asked, 1, 0, 0) + b"\xc1\x00" + struct.pack("!HHIH", 1, 1, 60, 4) + b"abcd"
    ),
    "self-pointer": lambda asked: Send(
        data=(head := header_of(asked, 1, 0, 0))
        + struct.pack("!H", 0xC000 | len(head))
        + struct.pack("!HHIH", 1, 1, 60, 4)
        + b"abcd"
    ),
    "bad-label": lambda asked: Send(
        data=header_of(asked, 1, 0, 0) + b"\x80a\0" + struct.pack("!HHIH", 1, 1, 60, 4) + b"abcd"
    ),
    "short-address": lambda asked: Send(
        data=header_of(asked, 1, 0, 0) + b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 3) + b"abc"
    ),
    "not-text": lambda asked: Send(
        data=header_of(asked, 1, 0, 0)
        + b"\xc0\x0c"
        + struct.pack("!HHIH", QTYPE.CNAME, 1, 60, 3)
        + b"\x01\xff\0"
    ),
    "crowd-1232": lambda asked: Send(data=compressed_crowd(asked, 1232)),
    "too-long": lambda asked: Send(data=honest(asked).data + bytes(1400)),
}
TCP_GARBAGE = {
    "pointer-chain": lambda asked: Send(data=pointer_chain(asked)),
    "crowd-4096": lambda asked: Send(data=compressed_crowd(asked, 4096)),
    "junk-64k": lambda asked: Send(data=compressed_crowd(asked, 0xFFFF)),
    "zeros-64k": lambda _: Send(data=bytes(0xFFFF)),
    "length-0": lambda _: Send(data=b""),
    "half-length": lambda _: Send(data=b"\0", bare=True),
    "cut": lambda asked: Send(data=b"\x01\x00" + asked.data, bare=True),
    "drip": lambda asked: dataclasses.replace(honest(asked), drip_s=0.1),
}
HOSTILE = [
    *(pytest.param(one, "udp", id=f"B5-67-udp-{kind}") for kind, one in GARBAGE.items()),
    *(
        pytest.param(one, "tcp", id=f"B5-67-tcp-{kind}")
        for kind, one in (GARBAGE | TCP_GARBAGE).items()
        if kind != "too-long"
    ),
]


@pytest.mark.parametrize(("hostile", "transport"), HOSTILE)
def test_hostile_answers_are_rejected_at_once_and_the_next_server_asked(run, hostile, transport):
    """No answer keeps the loop busy for 50 ms, and none is the last word."""

    async def scene():
        def script(asked: Asked) -> Send:
            if asked.transport == transport:
                return hostile(asked)
            return asked.truncated()

        async with resolving(script, honest) as it:
            await it.resolver.resolve("warm.up.example.test", (4,))
            async with watching_the_loop() as busy:
                found = await it.resolver.resolve("www.example.test", (4,))
            assert found.addresses == addresses("192.0.2.1")
            assert busy.longest_s < LOOP_BLOCKED_MAX_S

    run(scene())


@asynccontextmanager
async def watching_the_loop():
    """Measures the CPU time between two turns of the loop: other processes do not count.

    Nor do the collector's visits to what other tests left.
    """
    seen = SimpleNamespace(longest_s=0.0)

    async def watch():
        while True:
            before = time.thread_time()
            await asyncio.sleep(0)
            seen.longest_s = max(seen.longest_s, time.thread_time() - before)

    task = asyncio.create_task(watch())
    gc.disable()
    try:
        yield seen
    finally:
        gc.enable()
        task.cancel()


def chain(length: int, *, order=iter) -> str:
    """The zone text of a chain of CNAME records from www to an address."""
    names = ["www", *(f"c{number}" for number in range(1, length + 1))]
    lines = [
        f"{a}.example.test. 60 IN CNAME {b}.example.test." for a, b in itertools.pairwise(names)
    ]
    lines.append(f"{names[-1]}.example.test. 60 IN A 192.0.2.5")
    return "\n".join(order(lines))


GOOD, STRANGE = "192.0.2.5", "198.51.100.66"
CHAINS = {
    "deep-1": (chain(1), (GOOD,)),
    "deep-11": (chain(11), (GOOD,)),
    "deep-12": (chain(12), None),
    "backwards": (chain(5, order=reversed), (GOOD,)),
    "self": ("www.example.test. 60 IN CNAME www.example.test.", None),
    "loop": (
        (
            "www.example.test. 60 IN CNAME a.example.test.\n"
            "a.example.test. 60 IN CNAME www.example.test."
        ),
        None,
    ),
    "off-chain": (
        f"{chain(1)}\nevil.example.test. 60 IN A {STRANGE}\nwww2.example.test. 9 IN A {STRANGE}",
        (GOOD,),
    ),
    "only-off-chain": (f"evil.example.test. 60 IN A {STRANGE}", "no address"),
    "alias-to-nothing": ("www.example.test. 60 IN CNAME a.example.test.", "no address"),
    "alias-and-address": (
        (
            f"www.example.test. 60 IN CNAME a.example.test.\nwww.example.test. 60 IN A {GOOD}\n"
            f"a.example.test. 60 IN A {STRANGE}"
        ),
        (GOOD,),
    ),
    "dname": (
        (
            "example.test. 60 IN DNAME other.test.\nwww.example.test. 0 IN CNAME www.other.test.\n"
            f"www.other.test. 60 IN A {GOOD}"
        ),
        (GOOD,),
    ),
}


@pytest.mark.parametrize("kind", CHAINS, ids=lambda kind: f"B5-68-{kind}")
def test_chains_are_followed_by_owner_within_the_answer(run, kind):
    """Up to 11 aliases lead to the addresses, in any order; records off the chain do not count."""
    zone, expected = CHAINS[kind]

    async def scene():
        async with resolving(lambda asked: send_zone(asked, zone)) as it:
            if isinstance(expected, tuple):
                found = await it.resolver.resolve("www.example.test", (4,))
                assert found.addresses == addresses(*expected)
            else:
                assert await cause_of(it.resolver) == (expected or "server failure")
            assert len(it.peers[0].asked) == 1

    run(scene())


def send_zone(asked: Asked, zone: str) -> Send:
    """As `Asked.reply`, with DNAME records put in by hand: dnslib's zone parser knows none."""
    lines = [line for line in zone.splitlines() if " DNAME " not in line]
    reply = asked.message.reply(ra=1)
    reply.add_answer(*RR.fromZone("\n".join(lines)))
    if len(lines) != len(zone.splitlines()):
        reply.add_answer(RR("example.test", 39, 1, 60, CNAME("other.test")))
    return Send(data=bytes(reply.pack()))


def test_label_with_a_dot_is_not_two_labels(run):
    """B5-69: an owner whose one label reads `www.example` does not own www.example.test."""

    async def scene():
        def script(asked: Asked) -> Send:
            reply = asked.message.reply(ra=1)
            reply.add_answer(RR(DNSLabel((b"www.example", b"test")), QTYPE.A, 1, 60, A(STRANGE)))
            return Send(data=bytes(reply.pack()))

        async with resolving(script) as it:
            assert await cause_of(it.resolver) == ResolutionCause.NO_ADDRESS

    run(scene())


TTLS = {"0": 0, "1": 5, "5": 5, "60": 60, "86401": 86400, "2147483648": 86400, "4294967295": 86400}


@pytest.mark.parametrize("ttl", TTLS, ids=lambda ttl: f"B5-70-{ttl}")
def test_ttl_is_clamped(run, ttl):
    """5 s to a day; 0 is for those who waited; the top bit means long, not negative."""

    async def scene():
        async with resolving(lambda asked: asked.reply(f"{asked.name} {ttl} IN A {GOOD}")) as it:
            first = await it.resolver.resolve("www.example.test", (4,))
            assert first.ttl_s == TTLS[ttl]
            it.clock.now += max(0, TTLS[ttl] - 0.5)
            again = await it.resolver.resolve("www.example.test", (4,))
            assert again.source == (Source.CACHE if TTLS[ttl] else Source.DNS)
            it.clock.now += 1
            assert (await it.resolver.resolve("www.example.test", (4,))).source == Source.DNS

    run(scene())


def test_least_ttl_on_the_chain_counts(run):
    """B5-70: an alias with a short TTL shortens the whole."""

    async def scene():
        zone = f"www.example.test. 7 IN CNAME a.example.test.\na.example.test. 900 IN A {GOOD}"
        async with resolving(lambda asked: asked.reply(zone)) as it:
            assert (await it.resolver.resolve("www.example.test", (4,))).ttl_s == 7

    run(scene())


NOES = [
    pytest.param(3, "name not found", 30, 30, id="B5-71-nxdomain"),
    pytest.param(0, "no address", 30, 30, id="B5-71-nodata"),
    pytest.param(3, "name not found", 3600, 60, id="B5-71-minimum-capped"),
    pytest.param(3, "name not found", None, 5, id="B5-71-no-soa"),
]


@pytest.mark.parametrize(("rcode", "cause", "minimum", "kept_s"), NOES)
def test_a_no_is_cached_by_its_soa_minimum(run, rcode, cause, minimum, kept_s):
    """A no is final, not asked of another server, and kept for at most a minute."""

    async def scene():
        def script(asked: Asked) -> Send:
            auth = "" if minimum is None else SOA_TEXT.format(minimum=minimum)
            return asked.reply(rcode=rcode, auth=auth)

        async with resolving(script, honest) as it:
            for advance in (0, kept_s - 1, 2):
                it.clock.now += advance
                assert await cause_of(it.resolver) == cause
            assert len(it.peers[0].asked) == 2
            assert not it.peers[1].asked

    run(scene())


@pytest.mark.parametrize("stale", [True, False], ids=["B5-71-stale", "B5-71-strict"])
def test_last_good_addresses_outlive_a_no_by_thirty_seconds(run, stale):
    """With stale serving a name that ceased to exist keeps its addresses for 30 s, then none."""

    async def scene():
        def script(asked: Asked) -> Send:
            if asked.number == 1:
                return honest(asked)
            return asked.reply(rcode=3, auth=SOA_TEXT.format(minimum=1))

        async with resolving(script, stale=stale) as it:
            await it.resolver.resolve("www.example.test", (4,))
            it.clock.now += 61
            if not stale:
                assert await cause_of(it.resolver) == ResolutionCause.NAME_NOT_FOUND
                return
            for _ in range(2):
                found = await it.resolver.resolve("www.example.test", (4,))
                assert (found.state, found.addresses) == (State.STALE, addresses("192.0.2.1"))
                it.clock.now += 29
            it.clock.now -= 27
            assert await cause_of(it.resolver) == ResolutionCause.NAME_NOT_FOUND

    run(scene())


@pytest.mark.parametrize(
    "rcode", [2, 4, 5], ids=["B5-72-servfail", "B5-72-notimp", "B5-72-refused"]
)
def test_refusing_server_sends_the_query_to_the_next(run, rcode):
    """A server that will not or cannot answer costs one round trip."""

    async def scene():
        async with resolving(failing(rcode), honest) as it:
            found = await it.resolver.resolve("www.example.test", (4,))
            assert found.addresses == addresses("192.0.2.1")
            assert [len(peer.asked) for peer in it.peers] == [1, 1]

    run(scene())


def bare_header(asked: Asked) -> Send:
    return Send(data=struct.pack("!HHHHHH", asked.message.header.id, 0x8181, 0, 0, 0, 0))


def bad_version(asked: Asked) -> Send:
    reply = asked.message.reply(ra=1)
    option = b"\0" + struct.pack("!HHIH", QTYPE.OPT, 1232, 1 << 24, 0)
    data = bytearray(reply.pack())
    data[10:12] = b"\0\x01"
    return Send(data=bytes(data) + option)


@pytest.mark.parametrize(
    "refusal",
    [failing(1), bare_header, bad_version],
    ids=["B5-72-formerr", "B5-72-formerr-bare-header", "B5-72-badvers"],
)
def test_server_without_edns_is_asked_without_it(run, refusal):
    """FORMERR and BADVERS repeat the query plainly to the same server, and later ones start so."""

    async def scene():
        async with resolving(lambda asked: refusal(asked) if asked.edns else honest(asked)) as it:
            for name in ("a.example.test", "b.example.test"):
                found = await it.resolver.resolve(name, (4,))
                assert found.addresses == addresses("192.0.2.1")
            assert [one.edns for one in it.peers[0].asked] == [True, False, False]

    run(scene())


def test_formerr_to_a_plain_query_ends_with_this_server(run):
    """B5-72: a server that finds every query malformed is not asked for ever."""

    async def scene():
        async with resolving(failing(1)) as it:
            assert await cause_of(it.resolver) == ResolutionCause.SERVER_FAILURE
            assert len(it.peers[0].asked) == 2

    run(scene())


def test_failure_is_cached_for_seconds(run):
    """B5-72: a crowd does not repeat a failed lookup at once, yet it is repeated soon."""

    async def scene():
        async with resolving(failing(2)) as it:
            for advance, asked in ((0, 1), (0.9, 1), (5, 2)):
                it.clock.now += advance
                assert await cause_of(it.resolver) == ResolutionCause.SERVER_FAILURE
                assert len(it.peers[0].asked) == asked

    run(scene())


@pytest.mark.parametrize("dead", [0, 1, 2], ids=lambda dead: f"B5-73-dead-{dead}")
def test_one_dead_server_of_three_costs_one_try_and_then_none(run, dead):
    """A silent server delays one lookup by its try at most, and goes behind the others."""

    async def scene():
        scripts = [honest, honest, honest]
        scripts[dead] = silent
        async with resolving(*scripts) as it:
            started = time.monotonic()
            await it.resolver.resolve("a.example.test", (4,))
            assert time.monotonic() - started < LIMITS.try_s + 0.5
            for name in ("b.example.test", "c.example.test"):
                await it.resolver.resolve(name, (4,))
            assert len(it.peers[dead].asked) == (1 if dead == 0 else 0)
            it.clock.now += 31
            await it.resolver.resolve("d.example.test", (4,))
            assert len(it.peers[dead].asked) == (2 if dead == 0 else 0)

    run(scene())


def test_all_dead_is_a_timeout_and_heals_by_itself(run):
    """B5-73: with no server alive the lookup times out in time, and works again once one is."""

    async def scene():
        alive = False

        def script(asked: Asked) -> list[Send]:
            return [honest(asked)] if alive else []

        async with resolving(script, script, script) as it:
            started = time.monotonic()
            assert await cause_of(it.resolver) == ResolutionCause.TIMED_OUT
            assert time.monotonic() - started < LIMITS.lookup_s + 0.5
            alive = True
            it.clock.now += 6
            found = await it.resolver.resolve("www.example.test", (4,))
            assert found.addresses == addresses("192.0.2.1")

    run(scene())


def test_no_nameserver_at_start_is_an_error_not_a_crash(run):
    """B5-73, B5-79: a resolver that knows no nameserver says so."""

    async def scene():
        async with resolving() as it:
            assert await cause_of(it.resolver) == ResolutionCause.SERVER_FAILURE

    run(scene())


@pytest.mark.parametrize("trouble", ["silent", "servfail"], ids=lambda t: f"B5-73-stale-{t}")
def test_stale_addresses_are_served_for_a_day(run, trouble):
    """With all servers dead the last good addresses come in time, marked stale, for a day."""

    async def scene():
        def script(asked: Asked) -> list[Send]:
            if asked.number == 1:
                return [honest(asked)]
            return [] if trouble == "silent" else [asked.reply(rcode=2)]

        async with resolving(script, stale=True, stale_answer_s=0.3) as it:
            await it.resolver.resolve("www.example.test", (4,))
            for advance in (61, 6, 86_000):
                it.clock.now += advance
                started = time.monotonic()
                found = await it.resolver.resolve("www.example.test", (4,))
                assert time.monotonic() - started < 0.3 + 1
                assert (found.state, found.addresses) == (State.STALE, addresses("192.0.2.1"))
            (state,) = it.resolver.states()
            assert (state.name, state.family, state.state) == ("www.example.test", 4, State.STALE)
            assert state.age_s == pytest.approx(86_007)
            it.clock.now += 500
            assert await cause_of(it.resolver) in {"timed out", "server failure"}

    run(scene())


FAMILIES = [
    pytest.param("192.0.2.1", None, ("192.0.2.1",), id="B5-74-a-only"),
    pytest.param(None, "2001:db8::1", ("2001:db8::1",), id="B5-74-aaaa-only"),
    pytest.param("192.0.2.1", "2001:db8::1", ("192.0.2.1", "2001:db8::1"), id="B5-74-both"),
]


@pytest.mark.parametrize(("a", "aaaa", "expected"), FAMILIES)
def test_both_families_are_asked_side_by_side(run, a, aaaa, expected):
    """IPv4 comes first in the answer, IPv6 is there if it is all there is."""

    async def scene():
        both_asked = asyncio.Event()

        def script(asked: Asked) -> Send:
            if asked.number == 2:
                both_asked.set()
            value = {"A": a, "AAAA": aaaa}[asked.type]
            zone = f"{asked.name} 60 IN {asked.type} {value}" if value else ""
            return dataclasses.replace(asked.reply(zone), until=both_asked)

        async with resolving(script) as it:
            found = await it.resolver.resolve("www.example.test")
            assert len(it.peers[0].asked) == 2
            assert found.addresses == addresses(*expected)
            assert found.failed_families == ()

    run(scene())


@pytest.mark.parametrize("trouble", ["silent", "servfail"], ids=lambda t: f"B5-74-aaaa-{t}")
def test_family_that_cannot_be_looked_up_is_named(run, trouble):
    """A broken AAAA does not hold the A up for long, and the caller learns of the gap."""

    async def scene():
        def script(asked: Asked) -> list[Send]:
            if asked.type == "A":
                return [honest(asked)]
            return [] if trouble == "silent" else [asked.reply(rcode=2)]

        async with resolving(script, other_family_s=0.2) as it:
            started = time.monotonic()
            found = await it.resolver.resolve("www.example.test")
            assert time.monotonic() - started < 1.2
            assert found.addresses == addresses("192.0.2.1")
            assert found.failed_families == (6,)
            assert found.ttl_s > 0

    run(scene())


def test_family_that_failed_last_time_is_hardly_waited_for(run):
    """B5-74: nameservers that drop AAAA delay the first lookup of a name, not every one."""

    async def scene():
        def script(asked: Asked) -> list[Send]:
            return [honest(asked)] if asked.type == "A" else []

        limits = LookupLimits(try_s=0.2, lookup_s=1.0)
        async with resolving(script, limits=limits, other_family_s=3) as it:
            await it.resolver.resolve("www.example.test")
            it.clock.now += 6
            queries = it.resolver.counts.queries
            started = time.monotonic()
            found = await it.resolver.resolve("www.example.test")
            assert time.monotonic() - started < 0.5
            assert it.resolver.counts.queries > queries
            assert found.failed_families == (6,)

    run(scene())


def test_all_addresses_of_a_large_answer_come_through_and_the_set_may_grow(run):
    """B5-75: 30 addresses in the order of the answer, and more of them after the TTL."""

    async def scene():
        def script(asked: Asked) -> Send:
            count = 30 if asked.number == 1 else 40
            lines = (f"{asked.name} 5 IN A 192.0.2.{number}" for number in range(1, count + 1))
            return asked.reply("\n".join(lines))

        async with resolving(script) as it:
            for count in (30, 40):
                found = await it.resolver.resolve("www.example.test", (4,))
                expected = tuple(f"192.0.2.{number}" for number in range(1, count + 1))
                assert found.addresses == addresses(*expected)
                it.clock.now += 6

    run(scene())


def test_a_thousand_callers_make_one_query(run):
    """B5-77: one cold name, asked for by a crowd, is one query; some of the crowd may leave."""

    async def scene():
        async with resolving(lambda asked: dataclasses.replace(honest(asked), after_s=0.1)) as it:
            tasks = [
                asyncio.create_task(it.resolver.resolve("www.example.test", (4,)))
                for _ in range(1000)
            ]
            await asyncio.sleep(0)
            for task in tasks[:300]:
                task.cancel()
            found = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(one, asyncio.CancelledError) for one in found[:300])
            assert {one.addresses for one in found[300:]} == {addresses("192.0.2.1")}
            assert len(it.peers[0].asked) == 1

    run(scene())


def test_query_goes_on_when_its_only_caller_leaves(run):
    """B5-77: what a cancelled caller asked for is there for the next."""

    async def scene():
        answered = asyncio.Event()

        def script(asked: Asked) -> Send:
            answered.set()
            return honest(asked)

        async with resolving(script) as it:
            task = asyncio.create_task(it.resolver.resolve("www.example.test", (4,)))
            await asyncio.sleep(0)
            task.cancel()
            await answered.wait()
            found = await it.resolver.resolve("www.example.test", (4,))
            assert found.addresses == addresses("192.0.2.1")
            assert len(it.peers[0].asked) == 1

    run(scene())


UNASKED = ["localhost", "a.localhost.", "x.invalid", "printer.local", "a.onion", "b.c.alt"]
NO_NAMES = ["127.1", "0x7f.1", "2130706433", "192.0.2.1", "", ".", "a..b", "ümlaut.test", "a b\n.x"]


@pytest.mark.parametrize("name", [*UNASKED, *NO_NAMES], ids=lambda name: f"B5-78-{name!r}")
def test_names_that_must_not_be_asked_for_are_not(run, name):
    """Special names and numbers in disguise are refused without a query."""

    async def scene():
        async with resolving(honest) as it:
            assert await cause_of(it.resolver, name) == ResolutionCause.NAME_NOT_FOUND
            assert not it.peers[0].asked

    run(scene())


def test_hosts_table_wins_over_dns(run):
    """A name of the hosts table is not asked for, not even one that DNS may not be asked about."""

    async def scene():
        hosts = (
            "192.0.2.7 db.example.test DB2 # note\n2001:db8::7 db.example.test\n192.0.2.8 x.local"
        )
        async with resolving(honest, hosts=hosts) as it:
            found = await it.resolver.resolve("DB.example.test.")
            assert found.addresses == addresses("192.0.2.7", "2001:db8::7")
            assert found.source == Source.HOSTS
            assert (await it.resolver.resolve("db2")).addresses == addresses("192.0.2.7")
            assert (await it.resolver.resolve("x.local")).addresses == addresses("192.0.2.8")
            assert not it.peers[0].asked

    run(scene())


def test_search_list_is_not_applied_and_servers_are_read_again(run, tmp_path):
    """B5-79: names are absolute, and a rewritten resolv.conf is in use a second later."""

    async def scene():
        clock = Clock()
        path = tmp_path / "resolv.conf"
        path.write_text("search evil.test\noptions ndots:5\n# none yet\n")
        watched = watch_resolv_conf(clock, path)
        async with ScriptedNameserver(honest) as peer:
            # The file knows no ports: the port of the peer is put in here.
            servers = SimpleNamespace(
                current=lambda: tuple(
                    Nameserver(address=one.address, port=peer.server.port)
                    for one in watched.current()
                )
            )
            resolver = Resolver(
                ResolverSettings(serve_stale=False, limits=LIMITS),
                servers=servers,
                hosts=SimpleNamespace(current=dict),
                clock=clock,
            )
            assert await cause_of(resolver) == ResolutionCause.SERVER_FAILURE
            path.write_text(
                f"search evil.test\nnameserver {peer.server.address}\noptions ndots:5\n"
            )
            clock.now += 6
            found = await resolver.resolve("www.example.test", (4,))
            assert found.addresses == addresses("192.0.2.1")
            assert [one.name for one in peer.asked] == ["www.example.test."]
            await resolver.close()

    run(scene())


def test_closing_ends_what_is_in_flight(run):
    """A closed resolver leaves no task and no socket behind."""

    async def scene():
        async with resolving(silent) as it:
            task = asyncio.create_task(it.resolver.resolve("www.example.test", (4,)))
            await asyncio.sleep(0.05)
            await it.resolver.close()
            with pytest.raises(asyncio.CancelledError):
                await task

    run(scene())
