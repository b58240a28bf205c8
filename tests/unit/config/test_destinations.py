import ipaddress
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_router.config.destinations import Destinations, Protocol
from model.environments import DUAL, SERVER, SERVER_6, SOURCE, complaints, configure

LAST = "EGRESS_DESTINATION fallback IP must be the last line"
PORT_RANGE = "must be in the range 1 to 65535"


def destinations(text: str, **changes: str) -> Destinations:
    """What a text describes in a dual-stack router."""
    return configure(**(DUAL | {"EGRESS_DESTINATION": text} | changes)).destinations


def refusals(text: str | None) -> list[str]:
    """Every problem of a text in a dual-stack router."""
    return complaints(**(DUAL | {"EGRESS_DESTINATION": text}))


def shape(found: Destinations) -> list[tuple[object, ...]]:
    """The rules as rows, the fallbacks behind them."""
    rules = [
        (r.line, r.protocol, r.first, r.last, str(r.address), r.target_port) for r in found.rules
    ]
    return [*rules, *((f.line, str(f.address)) for f in found.fallbacks)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("80 tcp 203.0.113.25", [(1, "tcp", 80, 80, "203.0.113.25", None)]),
        ("8080 tcp 203.0.113.26 80", [(1, "tcp", 8080, 8080, "203.0.113.26", 80)]),
        ("53 udp 203.0.113.25", [(1, "udp", 53, 53, "203.0.113.25", None)]),
        ("53 UDP 203.0.113.25", [(1, "udp", 53, 53, "203.0.113.25", None)]),
        ("5000-5010 Tcp 203.0.113.25", [(1, "tcp", 5000, 5010, "203.0.113.25", None)]),
        ("5000-5000 tcp 203.0.113.25", [(1, "tcp", 5000, 5000, "203.0.113.25", None)]),
        ("1-65535 tcp 203.0.113.25", [(1, "tcp", 1, 65535, "203.0.113.25", None)]),
        ("203.0.113.27", [(1, "203.0.113.27")]),
        ("80 tcp 2001:db8::5 8080", [(1, "tcp", 80, 80, "2001:db8::5", 8080)]),
        pytest.param(
            "38412 sctp 203.0.113.25",
            [(1, "sctp", 38412, 38412, "203.0.113.25", None)],
            id="B1-9-sctp",
        ),
        pytest.param(
            "80 tcp 203.0.113.25\r\n\t443\ttcp\t203.0.113.25\r\n  # note\r\n\r\n"
            "203.0.113.27 # rest\r\n",
            [
                (1, "tcp", 80, 80, "203.0.113.25", None),
                (2, "tcp", 443, 443, "203.0.113.25", None),
                (5, "203.0.113.27"),
            ],
            id="B1-7-tabs-crlf-comments",
        ),
        pytest.param(
            "80 tcp 203.0.113.25", [(1, "tcp", 80, 80, "203.0.113.25", None)], id="B1-7-no-newline"
        ),
        pytest.param(
            "203.0.113.27\n# end\n\n", [(1, "203.0.113.27")], id="B1-4-comments-behind-fallback"
        ),
        pytest.param(
            "203.0.113.27\n2001:db8::27",
            [(1, "203.0.113.27"), (2, "2001:db8::27")],
            id="fallback-per-family",
        ),
        pytest.param(
            "53 tcp 203.0.113.25\n53 udp 203.0.113.26",
            [(1, "tcp", 53, 53, "203.0.113.25", None), (2, "udp", 53, 53, "203.0.113.26", None)],
            id="B1-5-tcp-and-udp",
        ),
        pytest.param(
            "80 tcp 203.0.113.25\n80 tcp 2001:db8::5",
            [(1, "tcp", 80, 80, "203.0.113.25", None), (2, "tcp", 80, 80, "2001:db8::5", None)],
            id="one-port-per-family",
        ),
    ],
)
def test_accepted(text: str, expected: list[tuple[object, ...]]) -> None:
    """A valid list means what its lines say, in their order, with their numbers."""
    assert shape(destinations(text)) == expected


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        # Each message of the originals, verbatim.
        pytest.param(None, None, "EGRESS_DESTINATION unspecified", id="unset"),
        pytest.param("", None, "EGRESS_DESTINATION unspecified", id="empty"),
        pytest.param(" \n\t\n", None, "EGRESS_DESTINATION unspecified", id="blank"),
        pytest.param(
            "# only\n# notes", None, "EGRESS_DESTINATION unspecified", id="B1-7-comments-only"
        ),
        pytest.param("nonsense", 1, "EGRESS_DESTINATION value 'nonsense' is invalid", id="value"),
        pytest.param("203.0.113.27\n80 tcp 203.0.113.25", 1, LAST, id="B1-4-not-last"),
        pytest.param("203.0.113.27\nnonsense", 1, LAST, id="B1-4-garbage-behind"),
        pytest.param("203.0.113.27\n203.0.113.28", 2, LAST, id="B1-4-two"),
        pytest.param("0 tcp 203.0.113.25", 1, f"Invalid port: 0, {PORT_RANGE}", id="B1-6-0"),
        pytest.param(
            "65536 tcp 203.0.113.25", 1, f"Invalid port: 65536, {PORT_RANGE}", id="B1-6-65536"
        ),
        pytest.param("80 tcp 203.0.113.25 0", 1, f"Invalid port: 0, {PORT_RANGE}", id="target-0"),
        pytest.param(
            "80 tcp 203.0.113.25 65536", 1, f"Invalid port: 65536, {PORT_RANGE}", id="target-65536"
        ),
        pytest.param("08 tcp 203.0.113.25", 1, f"Invalid port: 08, {PORT_RANGE}", id="B1-6-08"),
        pytest.param(
            "0100 tcp 203.0.113.25", 1, f"Invalid port: 0100, {PORT_RANGE}", id="B1-6-0100"
        ),
        pytest.param("+80 tcp 203.0.113.25", 1, f"Invalid port: +80, {PORT_RANGE}", id="B1-6-plus"),
        pytest.param(
            "80/tcp 203.0.113.25", 1, "value '80/tcp 203.0.113.25' is invalid", id="B1-6-slash"
        ),
        pytest.param(
            "80/tcp tcp 203.0.113.25", 1, f"Invalid port: 80/tcp, {PORT_RANGE}", id="B1-6-slash-3"
        ),
        pytest.param("٨٠ tcp 203.0.113.25", 1, f"Invalid port: ٨٠, {PORT_RANGE}", id="B1-6-arabic"),
        pytest.param(
            "18446744073709551617 tcp 203.0.113.25",
            1,
            "Invalid port: 18446744073709551617",
            id="B1-6-wraps",
        ),
        pytest.param(
            "80 tcp 203.0.113.25\n80 tcp 203.0.113.26",
            2,
            "EGRESS_DESTINATION localport 80 is already used, must be unique for each destination",
            id="B1-5-same-port",
        ),
        pytest.param(
            "80-90 tcp 203.0.113.25\n85 tcp 203.0.113.26",
            2,
            "localport 85 is already used",
            id="port-in-range",
        ),
        pytest.param(
            "85 tcp 203.0.113.25\n80-90 tcp 203.0.113.26",
            2,
            "localport 85 is already used",
            id="range-over-port",
        ),
        pytest.param("90-80 tcp 203.0.113.25", 1, "ends before it begins", id="range-backwards"),
        pytest.param(
            "80-90 tcp 203.0.113.25 80", 1, "expected no target port", id="range-with-target"
        ),
        pytest.param("80- tcp 203.0.113.25", 1, "EGRESS_DESTINATION value", id="open-range"),
        pytest.param(
            "-80 tcp 203.0.113.25", 1, "EGRESS_DESTINATION value", id="range-without-first"
        ),
        pytest.param("1-2-3 tcp 203.0.113.25", 1, "EGRESS_DESTINATION value", id="range-of-three"),
        pytest.param("80 icmp 203.0.113.25", 1, "unknown protocol 'icmp'", id="protocol"),
        pytest.param("80 TCP\u212a 203.0.113.25", 1, "unknown protocol", id="protocol-kelvin"),
        pytest.param("80 tcp", 1, "EGRESS_DESTINATION value '80 tcp' is invalid", id="two-fields"),
        pytest.param("80 tcp 203.0.113.25 80 80", 1, "EGRESS_DESTINATION value", id="five-fields"),
        pytest.param("80 tcp www.example.test", 1, "EGRESS_DESTINATION value", id="name"),
        pytest.param("80 tcp [2001:db8::5]", 1, "EGRESS_DESTINATION value", id="brackets"),
        pytest.param("80 tcp 203.0.113.0/24", 1, "EGRESS_DESTINATION value", id="network"),
        pytest.param("80 tcp ::ffff:203.0.113.25", 1, "IPv4-mapped", id="mapped"),
        pytest.param("80 tcp 127.0.0.1", 1, "a loopback address", id="loopback"),
        pytest.param("80 tcp 224.0.0.1", 1, "a multicast address", id="multicast"),
        pytest.param("80 tcp 0.0.0.0", 1, "the unspecified address", id="unspecified"),
        pytest.param("80 tcp 255.255.255.255", 1, "a reserved address", id="broadcast"),
        pytest.param("80 tcp fe80::5", 1, "a link-local address", id="link-local"),
        pytest.param(f"80 tcp {SOURCE}", 1, "the router's own source address", id="own-source"),
        pytest.param(SOURCE, 1, "the router's own source address", id="own-source-fallback"),
        pytest.param("224.0.0.1", 1, "a multicast address", id="fallback-multicast"),
        pytest.param("\ufeff80 tcp 203.0.113.25", 1, "a byte-order mark (U+FEFF)", id="B1-7-bom"),
        pytest.param("80\u00a0tcp 203.0.113.25", 1, "NO-BREAK SPACE (U+00A0)", id="B1-7-nbsp"),
        pytest.param("10.1.2.3; flush ruleset", 1, "EGRESS_DESTINATION value", id="B1-8-semicolon"),
        pytest.param('80 tcp "203.0.113.25"', 1, "EGRESS_DESTINATION value", id="B1-8-quotes"),
        pytest.param("80 tcp $(id)", 1, "EGRESS_DESTINATION value", id="B1-8-substitution"),
        pytest.param("80 tcp 203.0.113.25\0", 1, "a control character (U+0000)", id="B1-8-nul"),
        pytest.param("80 tcp 203.0.113.25\\", 1, "EGRESS_DESTINATION value", id="B1-8-backslash"),
    ],
)
def test_refused(text: str | None, line: int | None, message: str) -> None:
    """A bad list is refused with the variable, the line's number and the originals' words."""
    found = refusals(text)
    prefix = "EGRESS_DESTINATION" if line is None else f"EGRESS_DESTINATION line {line}: "
    assert any(problem.startswith(prefix) and message in problem for problem in found), found


def test_family_needs_a_source() -> None:
    """A destination of a family in which the router has no address is refused."""
    (found,) = complaints(EGRESS_DESTINATION=f"80 tcp {SERVER_6}")
    assert f"'{SERVER_6}' needs an IPv6 address in EGRESS_SOURCE" in found


def test_all_problems_at_once() -> None:
    """Every bad line and every bad field of it is reported in one run."""
    found = refusals("0 icmp nowhere 0\n80 tcp 203.0.113.25\n\n80 tcp 203.0.113.25\n8\u00a08\nx\n")
    assert sorted(line.partition(":")[0].rpartition(" ")[2] for line in found) == [
        *("1", "1", "1", "1"),
        *("4", "5", "6"),
    ]
    assert sum("Invalid port: 0, must be" in line for line in found) == 2
    assert sum("unknown protocol 'icmp'" in line for line in found) == 1
    assert sum("'nowhere'" in line for line in found) == 1


@pytest.mark.parametrize("tail", ["x", "\n80 x", " 1 2", "-", "\0"])
def test_a_tail_is_never_ignored(tail: str) -> None:
    """A valid line with anything behind it is another line or an error, never the same one."""
    for text in ("80 tcp 203.0.113.25", "80-81 tcp 203.0.113.25", "80 tcp 203.0.113.25 81", SERVER):
        assert refusals(text + tail)


def test_ten_thousand_lines() -> None:
    """10,000 lines take about a second; five here, for a machine under load."""
    text = "\n".join(f"{port} tcp 203.0.113.{port % 250 + 1} {port}" for port in range(1, 10_001))
    started = time.perf_counter()
    assert len(destinations(text).rules) == 10_000
    assert time.perf_counter() - started < 5


PORTS = st.integers(1, 65535)
TARGETS = st.ip_addresses(v=4, network="203.0.113.0/24") | st.ip_addresses(
    v=6, network="2001:db8:25::/64"
)


@given(
    st.lists(
        st.tuples(PORTS, PORTS, st.sampled_from(Protocol), TARGETS, st.none() | PORTS), max_size=8
    ),
    st.lists(TARGETS, max_size=2, unique_by=lambda address: address.version),
)
def test_valid_lines_round_trip(
    rows: list[tuple[int, int, Protocol, ipaddress.IPv4Address, int | None]],
    fallbacks: list[ipaddress.IPv4Address],
) -> None:
    """Whatever valid list is written, it is read back line by line, or a port is taken twice."""
    expected, lines = [], []
    for number, (low, high, protocol, address, target) in enumerate(rows, 1):
        first, last = sorted((low, high))
        if target is not None:
            last = first
        ports = f"{first}" if first == last else f"{first}-{last}"
        behind = f" {target}" if target is not None else ""
        lines.append(f"{ports} {protocol} {address}{behind}")
        expected.append((number, protocol, first, last, str(address), target))
    lines += map(str, fallbacks)
    expected += [(len(rows) + n, str(address)) for n, address in enumerate(fallbacks, 1)]
    if not lines:
        return
    clash = any(
        a[2] is b[2] and a[3].version == b[3].version and max(ra[2], rb[2]) <= min(ra[3], rb[3])
        for i, (a, ra) in enumerate(zip(rows, expected, strict=False))
        for b, rb in list(zip(rows, expected, strict=False))[:i]
    )
    found = refusals("\n".join(lines))
    assert bool(found) is clash
    if not clash:
        assert shape(destinations("\r\n".join(lines))) == expected
    else:
        assert all("is already used, must be unique" in line for line in found)
