"""conntrack's messages, made by hand: bytes in, a connection out."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_router.kernel.flow_messages import LAYOUTS, FlowReader
from egress_router.kernel.nfnetlink import (
    find_attribute,
    pack_attribute,
    read_attributes,
    walk_attributes,
    walk_messages,
)
from egress_router.plan.ended_flow import EndedFlow
from egress_router.plan.state import MARK

CLIENT, POD = ip_address("10.128.2.10"), ip_address("10.128.0.5")
SERVER, SOURCE = ip_address("203.0.113.10"), ip_address("192.168.12.99")
NESTED = 0x8000
TRANSLATED, SEEN_REPLY, ASSURED = 0x20, 0x2, 0x4
U64 = st.integers(0, 2**64 - 1)


def u32(number: int) -> bytes:
    """A number in the kernel's order of bytes."""
    return number.to_bytes(4, "big")


def u64(number: int) -> bytes:
    """As above, of eight bytes."""
    return number.to_bytes(8, "big")


def nest(kind: int, *parts: bytes) -> bytes:
    """A nested attribute."""
    return pack_attribute(kind | NESTED, b"".join(parts))


def side(kind: int, source: object, source_port: int, target: object, port: int) -> bytes:
    """One direction of a connection over TCP."""
    first = 1 if source.version == 4 else 3
    return nest(
        kind,
        nest(1, pack_attribute(first, source.packed), pack_attribute(first + 1, target.packed)),
        nest(
            2,
            pack_attribute(1, b"\x06"),
            pack_attribute(2, source_port.to_bytes(2, "big")),
            pack_attribute(3, port.to_bytes(2, "big")),
        ),
    )


def message(*more: bytes, status: int = TRANSLATED | SEEN_REPLY, mark: int = MARK) -> bytes:
    """The end of one connection: a client, the pod, a server, the source address."""
    return b"".join(
        (
            side(1, CLIENT, 40000, POD, 8080),
            side(2, SERVER, 80, SOURCE, 40001),
            pack_attribute(3, u32(status)),
            *((pack_attribute(8, u32(mark)),) if mark else ()),
            *more,
        )
    )


def parse(data: bytes) -> EndedFlow | None:
    """What a reader that has seen nothing yet makes of a message."""
    return FlowReader().parse(data)


def counts(kind: int, packets: int, size: int) -> bytes:
    """What one direction has carried."""
    return nest(kind, pack_attribute(1, u64(packets)), pack_attribute(2, u64(size)))


def test_a_whole_message() -> None:
    """Both ends, counts, times and state are where the kernel puts them."""
    flow = parse(
        message(
            counts(9, 5, 500),
            counts(10, 3, 3000),
            nest(20, pack_attribute(1, u64(10**18)), pack_attribute(2, u64(10**18 + 10**9))),
            nest(4, nest(1, pack_attribute(1, b"\x07"))),
            pack_attribute(7, u32(12)),
            status=TRANSLATED | SEEN_REPLY | ASSURED,
        )
    )
    assert flow is not None
    assert (flow.protocol, flow.client, flow.port) == ("tcp", (CLIENT.packed, 40000), 8080)
    assert (flow.server, flow.source) == ((SERVER.packed, 80), (SOURCE.packed, 40001))
    assert (flow.answered, flow.assured) == (True, True)
    assert (flow.packets_sent, flow.bytes_sent) == (5, 500)
    assert (flow.packets_received, flow.bytes_received) == (3, 3000)
    assert (flow.started_s, flow.ended_s) == (10**9, 10**9 + 1)
    assert (flow.tcp_state, flow.left_s) == (7, 12)


def test_a_bare_message() -> None:
    """Without accounting and timestamps there are no counts and no times, and no guesses."""
    flow = parse(message(status=TRANSLATED))
    assert flow is not None
    assert (flow.bytes_sent, flow.packets_received) == (None, None)
    assert (flow.started_s, flow.ended_s, flow.tcp_state, flow.left_s) == (None, None, None, 0)
    assert not flow.answered


@pytest.mark.parametrize(
    ("status", "mark", "ours"),
    [
        (TRANSLATED, MARK, True),
        (TRANSLATED, MARK | 0x1, True),
        (SEEN_REPLY, MARK, False),  # the pod's own, or a client of a proxy
        (TRANSLATED, 0x1, False),  # somebody else's translation
        (TRANSLATED, 0, False),  # as above; the kernel leaves a mark of 0 out
    ],
)
def test_only_our_translations_are_told(status: int, mark: int, ours: bool) -> None:
    """A connection counts if it came from the cluster and was translated."""
    assert (parse(message(status=status, mark=mark)) is not None) is ours


def test_other_protocols_are_not_told() -> None:
    """Whatever has no ports was not redirected by us."""
    other = message().replace(pack_attribute(1, b"\x06"), pack_attribute(1, b"\x2f"))
    assert other != message()
    assert parse(other) is None


PARTS = st.lists(
    st.one_of(
        st.builds(counts, st.sampled_from((9, 10)), U64, U64),
        st.builds(lambda number: pack_attribute(7, u32(number)), st.integers(0, 2**32 - 1)),
        st.builds(lambda data: pack_attribute(99, data), st.binary(max_size=8)),
        st.just(nest(4, nest(1, pack_attribute(1, b"\x07"), pack_attribute(2, b"\x00")))),
    ),
    max_size=4,
)


@given(st.lists(PARTS, min_size=1, max_size=8))
def test_what_was_read_before_does_not_matter(many: list[list[bytes]]) -> None:
    """A known layout is never taken for another one of the same length."""
    reader = FlowReader()
    for parts in many:
        data = message(*parts)
        assert reader.parse(memoryview(data)) == parse(data)


def test_layouts_are_kept_within_bounds() -> None:
    """However many kinds of messages come, the later ones are read as well."""
    reader = FlowReader()
    for kind in range(100, 100 + 3 * LAYOUTS):
        assert reader.parse(message(pack_attribute(kind, b""))) == parse(message())
        assert sum(map(len, reader._layouts.values())) <= LAYOUTS


@given(st.binary(max_size=200))
def test_broken_messages_end(data: bytes) -> None:
    """Whatever bytes come, walking them ends, and finds nothing beyond them."""
    assert sum(len(content) for _, content in walk_attributes(data)) <= len(data)
    assert sum(len(content) for _, _, content in walk_messages(data)) <= len(data)
    read_attributes(data)
    found = find_attribute(data, 1, 2)
    assert found is None or 0 <= found.start <= found.stop <= len(data)
    assert parse(data) is None


@given(st.integers(0), st.integers(0, 255))
def test_damaged_messages_harm_nobody(place: int, value: int) -> None:
    """One byte that is another one: a connection, or none, and no error."""
    data = bytearray(message(counts(9, 5, 500)))
    data[place % len(data)] = value
    parse(bytes(data))
