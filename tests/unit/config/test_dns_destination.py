"""The lines of EGRESS_DNS_PROXY_DESTINATION, and every message about them."""

import time
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_router.config.dns_destination import (
    Protocol,
    parse_dns_destinations,
    render_dns_check,
)
from egress_router.config.text import QUOTE_LIMIT
from egress_router.errors import ConfigurationError


def parse(text: str | None, **options: Any) -> list[tuple[object, ...]]:
    """What a list means, in short."""
    return [
        (one.protocol, one.port, one.host, one.target_port)
        for one in parse_dns_destinations(text, **options)
    ]


def messages(text: str | None, **options: Any) -> list[str]:
    """What is said about a list that is refused."""
    with pytest.raises(ConfigurationError) as raised:
        parse_dns_destinations(text, **options)
    return [str(problem) for problem in raised.value.problems]


@pytest.mark.parametrize(
    ("line", "port", "host", "target_port"),
    [
        ("80 203.0.113.25", 80, ip_address("203.0.113.25"), 80),
        ("8080 203.0.113.26 80", 8080, ip_address("203.0.113.26"), 80),
        ("8443 foobar.com 443", 8443, "foobar.com", 443),
        ("5000 WWW.Example.com.", 5000, "www.example.com", 5000),
        ("\t80\texample.com\t 81  # a note", 80, "example.com", 81),
        ("80 example.com\r", 80, "example.com", 80),
        ("80 2001:DB8::1 443", 80, ip_address("2001:db8::1"), 443),
        ("80 tcp example.com", 80, "example.com", 80),
        ("1 a.b 65535", 1, "a.b", 65535),
        ("80 a_b.example.com", 80, "a_b.example.com", 80),
        ("80 abc.de", 80, "abc.de", 80),
        ("80 169.254.1.1", 80, ip_address("169.254.1.1"), 80),
        (f"80 {'a' * 63}.example.com", 80, f"{'a' * 63}.example.com", 80),
    ],
)
def test_a_line_names_a_port_a_host_and_a_target_port(
    line: str, port: int, host: object, target_port: int
) -> None:
    """Blanks, tabs, case, a final dot and a note behind do not matter; the target port may miss."""
    assert parse(line) == [(Protocol.TCP, port, host, target_port)]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("80", "a host is missing"),
        ("80 a.b 81 82", "it has too many fields"),
        ("80 www", "a name of one label"),
        ("80 localhost", "a name of one label"),
        ("80 _http.example.com", "begins with an underscore"),
        ("80 www._tcp.example.com", "begins with an underscore"),
        ("80 *.example.com", "a wildcard"),
        ("80 1.2.3", "'1.2.3' is no host's address"),
        ("80 010.0.0.1", "no host's address"),
        ("80 999.1.1.1", "no host's address"),
        ("80 127.1", "no host's address"),
        ("80 0x7f.1", "its last label is a number"),
        ("80 2130706433", "no host's address"),
        ("80 127.0.0.1", "a loopback address"),
        ("80 0.0.0.0", "the unspecified address"),
        ("80 224.0.0.1", "a multicast address"),
        ("80 ::1", "a loopback address"),
        ("80 ::ffff:192.0.2.1", "IPv4-mapped"),
        ("80 fe80::1%eth0", "zone id"),
        ("80 example..com", "an empty label"),
        ("80 .example.com", "an empty label"),
        ("80 -a.example.com", "hyphen"),
        (f"80 {'a' * 64}.example.com", "a label has at most 63"),
        (f"80 {'.'.join(['abcdefg'] * 33)}", "a name has at most 253"),
        ("80 b\xfccher.example", "it is not ASCII"),
        ("80 http://example.com/", "no host's address"),
        ("http example.com", "'http' is no port"),
        ("+80 example.com", "'+80' is no port"),
        ("80/tcp example.com", "'80/tcp' is no port"),
        ("\u0661 example.com", "is no port"),
        ("80 example.com https", "'https' is no port"),
        ("80 sctp example.com", "'example.com' is no port"),
        ("80 203.0.113.1; flush ruleset", "it has too many fields"),
        ("80 $(id).example.com", "a host name is made of"),
    ],
)
def test_a_bad_line_is_refused_in_the_originals_words_with_the_reason(
    line: str, fault: str
) -> None:
    """`Bad destination` quotes the line and says what is wrong with it."""
    (message,) = messages(f"# one\n{line}")
    assert message.startswith(
        f"EGRESS_DNS_PROXY_DESTINATION line 2: Bad destination '{line[:QUOTE_LIMIT]}"
    )
    assert fault in message
    assert "expected PORT HOST [PORT]" in message


@pytest.mark.parametrize(
    ("line", "number"),
    [
        ("0 example.com", "0"),
        ("65536 example.com", "65536"),
        ("080 example.com", "080"),
        ("18446744073709551617 example.com", "18446744073709551617"),
        ("80 example.com 0", "0"),
        ("80 203.0.113.1 070", "070"),
        ("80 203.0.113.1 99999", "99999"),
    ],
)
def test_a_number_that_is_no_port_has_the_originals_message(line: str, number: str) -> None:
    """Ports are 1 to 65535 in plain decimal; what the originals' shell made of others is gone."""
    (message,) = messages(line)
    assert f"Invalid port: {number}, must be in the range 1 to 65535" in message
    assert f"'{line}'" in message


@pytest.mark.parametrize("text", [None, "", " \n\t\n", "# nothing\n# at all"])
def test_an_empty_list_has_the_originals_message(text: str | None) -> None:
    """A list of comments only is no router that forwards nothing."""
    (message,) = messages(text)
    assert "Must specify EGRESS_DNS_PROXY_DESTINATION" in message


def test_a_port_stands_once() -> None:
    """A port that repeats is refused, named with the line that has it already."""
    (message,) = messages("80 a.b\n81 a.b\n80 c.d 90")
    assert message == (
        "EGRESS_DNS_PROXY_DESTINATION line 3: Proxy port 80 already used, must be unique for each "
        "destination: '80 c.d 90' repeats line 1"
    )


def test_the_admin_port_is_taken() -> None:
    """A destination cannot have the port of the admin endpoint."""
    (message,) = messages("9000 a.b", admin_port=9000)
    assert "Proxy port 9000 already used" in message
    assert "EGRESS_ADMIN_PORT" in message


def test_udp_is_for_the_kernels_path() -> None:
    """A udp line is refused in userspace, and shares its port number with a tcp one otherwise."""
    (message,) = messages("53 udp ns.example.com")
    assert "Bad destination '53 udp ns.example.com': udp takes the kernel's data path" in message
    assert parse("53 UDP ns.example.com 5353\n53 ns.example.com", udp=True) == [
        (Protocol.UDP, 53, "ns.example.com", 5353),
        (Protocol.TCP, 53, "ns.example.com", 53),
    ]


def test_all_problems_come_at_once_in_the_order_of_the_lines() -> None:
    """One run tells everything that is wrong with a list."""
    found = messages("80 www\n0 a.b\n81 a.b\n81 a.b\n\xa080 a.b\n53 udp a.b")
    assert [message.partition(":")[0][-1] for message in found] == ["1", "2", "4", "5", "6"]


def test_the_document_is_the_contracts() -> None:
    """`check dns --json` prints line, port, host and target port of each listener."""
    document = render_dns_check(parse_dns_destinations("# x\n80 Foo.com.\n81 203.0.113.1 82"))
    assert document == {
        "listeners": [
            {"line": 2, "port": 80, "host": "foo.com", "target_port": 80},
            {"line": 3, "port": 81, "host": "203.0.113.1", "target_port": 82},
        ]
    }


def test_ten_thousand_lines_take_about_a_second() -> None:
    """A long list is parsed in the time that the contract gives it."""
    text = "\n".join(f"{port} host-{port}.example.com 443" for port in range(1, 10_001))
    started = time.process_time()
    assert len(parse(text)) == 10_000
    assert time.process_time() - started < 2


@given(st.text(max_size=60))
def test_any_text_gives_destinations_or_the_one_error(text: str | None) -> None:
    """No text breaks the parser in another way."""
    try:
        found = parse(text)
    except ConfigurationError:
        return
    assert found
