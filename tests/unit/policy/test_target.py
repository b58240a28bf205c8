from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_router.errors import RefusalError
from egress_router.policy.target import (
    Name,
    Target,
    check_host_fields,
    parse_absolute_uri,
    parse_authority,
)

LONG = ".".join(["a" * 63] * 4)

REFUSED_AUTHORITIES = [
    (16, "h"),
    (16, "h:"),
    (16, "h:0"),
    (16, "h:65536"),
    (16, "h:007"),
    (16, "h:https"),
    (16, "h:+80"),
    (16, "h:8 0"),
    (16, ":443"),
    (16, "/"),
    (16, "http://h:80"),
    (16, "h:443/p"),
    (16, "h:443?q"),
    (16, "h:443#f"),
    (16, " h:443"),
    (16, "h :443"),
    (16, "h:443 "),
    (16, "h\t:443"),
    (16, "h\x00:443"),
    (16, "h\r\n:443"),
    (16, ""),
    (16, "*:443"),
    (17, "user:pw@h:443"),
    (17, "[h]:443"),
    (17, "[1.2.3.4]:80"),
    (17, "[v1.a]:80"),
    (17, "[::1:80"),
    (17, "[::1]80"),
    (17, "[::1]]:80"),
    (17, "[]:80"),
    (17, "::1:443"),
    (17, "ex%61mple.com:443"),
    (17, "h\\@evil:443"),
    (17, "a@b:80@c"),
    (17, "h:443:443"),
    (17, "h,evil:443"),
    (18, "[fe80::1%25eth0]:443"),
    (18, "[fe80::1%eth0]:443"),
    (19, "0x7f.1:80"),
    (19, "0x7F000001:80"),
    (19, "2130706433:80"),
    (19, "017700000001:80"),
    (19, "127.1:80"),
    (19, "0177.0.0.1:80"),
    (19, "127.0.0.1.:80"),
    (19, "127.0.0.01:80"),
    (19, "127.0.0.0x1:80"),
    (19, "evil.127:80"),
    (19, "１２７.0.0.1:80"),
    (20, "example.com..:443"),
    (20, ".example.com:443"),
    (20, "a..b:443"),
    (20, ".:443"),
    (20, f"{LONG}:443"),
    (20, "-a.test:443"),
    (21, "ß.example:443"),
    (21, "ｅxample.com:443"),
    (21, "example。com:443"),
    (21, "exa\u00admple.com:443"),
    (21, "xn--.example:443"),
    (21, "xn--99999999.example:443"),
    (24, "admin"),
]


@pytest.mark.parametrize(
    "text",
    [text for _, text in REFUSED_AUTHORITIES],
    ids=[f"B2-{n} {t!a}" for n, t in REFUSED_AUTHORITIES],
)
def test_broken_connect_targets_are_400(text: str) -> None:
    """CONNECT takes exactly HOST:PORT; all else is refused with 400, as text and as bytes."""
    for form in (text, text.encode()):
        with pytest.raises(RefusalError) as caught:
            parse_authority(form)
        assert caught.value.status == 400
        assert caught.value.reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("::1:443", "an IPv6 address stands in brackets"),
        ("h", "has no port; expected a number from 1 to 65535"),
        ("h:0", "has port '0'; expected a number from 1 to 65535"),
        ("u@h:1", "holds userinfo"),
        ("127.1:80", "four plain decimal numbers"),
        ("a\x1bb:80", r"target 'a\\x1bb:80' holds a blank or a control character"),
    ],
)
def test_refusals_say_what_is_wrong(text: str, reason: str) -> None:
    """The reason names the fault, and control characters are made visible in it."""
    with pytest.raises(RefusalError, match=reason):
        parse_authority(text)


AUTHORITIES = [
    ("B2-18 loopback", "[::1]:443", IPv6Address("::1"), "[::1]:443"),
    (
        "B2-18 case and zeros",
        "[2001:DB8:0::0001]:443",
        IPv6Address("2001:db8::1"),
        "[2001:db8::1]:443",
    ),
    (
        "B2-18 dotted",
        "[64:ff9b::192.0.2.1]:1",
        IPv6Address("64:ff9b::c000:201"),
        "[64:ff9b::c000:201]:1",
    ),
    ("B2-19 quad", "192.0.2.1:65535", IPv4Address("192.0.2.1"), "192.0.2.1:65535"),
    ("B2-20 case", "EXAMPLE.com:443", Name("example.com"), "example.com:443"),
    ("B2-20 dot", "example.com.:443", Name("example.com"), "example.com:443"),
    (
        "B2-21 A-label",
        "XN--Bcher-kva.example:443",
        Name("xn--bcher-kva.example"),
        "xn--bcher-kva.example:443",
    ),
    ("single label", "www:80", Name("www"), "www:80"),
    ("underscore", "a_b.example:80", Name("a_b.example"), "a_b.example:80"),
    ("hex letters", "abc.de:80", Name("abc.de"), "abc.de:80"),
    ("longest name", f"{LONG[:-2]}.:65535", Name(LONG[:-2]), f"{LONG[:-2]}:65535"),
]


@pytest.mark.parametrize(
    ("text", "host", "authority"),
    [row[1:] for row in AUTHORITIES],
    ids=[row[0] for row in AUTHORITIES],
)
def test_connect_targets_have_one_value_and_one_text(
    text: str, host: Name | IPv4Address | IPv6Address, authority: str
) -> None:
    """A good target becomes a typed host and port, and is written back in one way only."""
    target = parse_authority(text)
    assert target.host == host
    assert target.authority == authority
    assert parse_authority(authority.encode()) == target


REFUSED_URIS = [
    (16, "http://h:0/"),
    (16, "http://h:/"),
    (16, "http://h:65536/"),
    (16, "http://h:007/"),
    (16, "http://:80/"),
    (16, "http:///p"),
    (16, "http://"),
    (17, "http://user@h/"),
    (17, "http://user:pw@h:80/"),
    (17, "http://[h]/"),
    (17, "http://h\\@evil/"),
    (17, "http://h\\evil/"),
    (17, "http://ex%61mple.com/"),
    (18, "http://[fe80::1%25eth0]/"),
    (19, "http://2130706433/"),
    (19, "http://0x7f.1/"),
    (20, "http://example.com../"),
    (21, "http://ß.example/"),
    (24, "/"),
    (24, "//evil/x"),
    (24, "*"),
    (24, "admin"),
    (24, "h:80"),
    (24, "ftp://h/"),
    (24, "https://h/"),
    (24, "http:/h/"),
    (24, "http:h"),
    (24, "://h/"),
    (58, "http://h/#f"),
    (58, "http://h#f"),
    (58, "http://h/a b"),
    (58, "http://h/\r\nX: y"),
    (58, "http://h/\x7f"),
]


@pytest.mark.parametrize(
    "text", [t for _, t in REFUSED_URIS], ids=[f"B2-{n} {t!a}" for n, t in REFUSED_URIS]
)
def test_broken_request_uris_are_400(text: str) -> None:
    """A plain request takes exactly an absolute http URI; all else is refused with 400."""
    for form in (text, text.encode()):
        with pytest.raises(RefusalError) as caught:
            parse_absolute_uri(form)
        assert caught.value.status == 400


def test_https_in_a_plain_request_is_pointed_to_connect() -> None:
    """Who sends an https URI to the proxy is told what to send."""
    with pytest.raises(RefusalError, match="CONNECT"):
        parse_absolute_uri("https://h/")


@pytest.mark.parametrize(
    ("text", "authority", "path", "bare"),
    [
        ("http://h", "h:80", "/", True),
        ("http://h/", "h:80", "/", False),
        ("http://h?q", "h:80", "/?q", False),
        ("HTTP://H.:8080/A?b=/c", "h:8080", "/A?b=/c", False),
        ("http://[2001:DB8::1]/%2e%2E/", "[2001:db8::1]:80", "/%2e%2E/", False),
        ("http://h//x?http://y@z", "h:80", "//x?http://y@z", False),
        ("http://h/a|b\\{c}", "h:80", "/a|b\\{c}", False),
    ],
)
def test_request_uris_keep_their_path(text: str, authority: str, path: str, bare: bool) -> None:
    """Path and query are passed on as written; an empty path becomes `/`."""
    uri = parse_absolute_uri(text)
    assert (uri.target.authority, uri.path, uri.bare) == (authority, path, bare)


@pytest.mark.parametrize(
    ("uri", "field"),
    [
        ("http://Example.com./", "example.com"),
        ("http://h:80/", "h"),
        ("http://h:8080/", "h:8080"),
        ("http://[2001:DB8::1]/", "[2001:db8::1]"),
        ("http://[2001:DB8::1]:81/", "[2001:db8::1]:81"),
    ],
)
def test_the_host_field_comes_from_the_target(uri: str, field: str) -> None:
    """The Host that is sent is the target's, without the default port."""
    assert parse_absolute_uri(uri).target.host_field == field


H80 = Target(host=Name("h"), port=80)


@pytest.mark.parametrize(
    ("values", "agrees"),
    [
        (("h",), True),
        (("H.:80",), True),
        ((b"h:80",), True),
        (("evil",), False),
        (("h:81",), False),
    ],
)
def test_a_host_field_only_agrees_or_not(values: tuple[str | bytes, ...], agrees: bool) -> None:
    """B2-22, B2-23: a Host that differs from the target is reported, never obeyed."""
    assert check_host_fields(H80, values) is agrees


@pytest.mark.parametrize(
    "values",
    [
        ("h", "h"),
        ("x y",),
        ("a@b",),
        ("h:0",),
        ("h:x",),
        ("h:",),
        ("",),
        (b"\xc3\x9f.example",),
        (),
    ],
    ids=repr,
)
def test_broken_host_fields_are_400(values: tuple[str | bytes, ...]) -> None:
    """B2-22: two Hosts, none in HTTP/1.1, or one that is no host are refused."""
    with pytest.raises(RefusalError) as caught:
        check_host_fields(H80, values)
    assert caught.value.status == 400


def test_http_1_0_needs_no_host() -> None:
    """A request of HTTP/1.0 without Host is served (RFC 9112 §3.2)."""
    assert check_host_fields(H80, (), required=False)


@given(st.one_of(st.text(), st.binary(), st.text(alphabet="ah.:[]@%/\\x07f-_#? ", max_size=20)))
def test_any_text_gives_a_target_or_400(text: str | bytes) -> None:
    """No target raises anything but a refusal with 400, and a good one reads back the same."""
    for parse in (parse_authority, lambda t: parse_absolute_uri(t).target):
        try:
            target = parse(text)
        except RefusalError as refusal:
            status = refusal.status
        else:
            status = 400
            assert parse_authority(target.authority) == target
        assert status == 400


NUMBERISH = st.one_of(
    st.from_regex(r"(0[xX])?[0-9a-fA-F]{0,10}(\.(0[xX])?[0-9a-fA-F]{0,8}){0,4}\.?", fullmatch=True),
    st.text(alphabet="0123456789xXaAfF.", min_size=1, max_size=20),
    st.text(min_size=1, max_size=12),
    st.sampled_from(
        ["127.1", "0x7f.1", "2130706433", "0177.0.0.1", "0", "0x", "127.0.0.1", "0.0.0.0"]
    ),
)


@given(NUMBERISH)
def test_no_name_is_an_address_to_the_c_library(text: str) -> None:
    """B2-19: what is accepted as a name is no number for inet_aton and getaddrinfo."""
    try:
        target = parse_authority(f"{text}:80")
    except RefusalError:
        return
    if isinstance(target.host, Name):
        with pytest.raises(socket.gaierror):
            socket.getaddrinfo(target.host.text, 80, flags=socket.AI_NUMERICHOST)
        with pytest.raises(OSError, match="illegal IP address"):
            socket.inet_aton(target.host.text)
    else:
        assert str(target.host) == text


@given(
    name=st.from_regex(r"[a-z][a-z0-9]{0,5}(\.[a-z][a-z0-9]{0,5}){0,3}", fullmatch=True),
    upper=st.lists(st.booleans(), min_size=30, max_size=30),
    dot=st.booleans(),
)
def test_case_and_trailing_dot_do_not_matter(name: str, upper: list[bool], *, dot: bool) -> None:
    """Every spelling of one name is one target."""
    letters = (c.upper() if up else c for c, up in zip(name, upper, strict=False))
    spelled = "".join(letters) + "." * dot
    assert parse_authority(f"{spelled}:443") == parse_authority(f"{name}:443")


@given(st.ip_addresses(v=6))
def test_ipv6_spellings_do_not_matter(address: IPv6Address) -> None:
    """Every spelling of one IPv6 address is one target."""
    low = IPv4Address(int(address) & 0xFFFFFFFF)
    dotted = ":".join(address.exploded.split(":")[:6]) + f":{low}"
    for text in (str(address), address.exploded, address.exploded.upper(), dotted):
        assert parse_authority(f"[{text}]:443") == Target(host=address, port=443)
