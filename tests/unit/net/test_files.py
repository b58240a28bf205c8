"""resolv.conf, hosts, names, and watching the files."""

from __future__ import annotations

import os
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_router.net.endpoint import socket_address
from egress_router.net.hosts import parse_hosts, watch_hosts
from egress_router.net.names import parse_name
from egress_router.net.resolv_conf import parse_resolv_conf, watch_resolv_conf

if TYPE_CHECKING:
    from pathlib import Path

RESOLV = [
    ("", []),
    ("# nameserver 192.0.2.1\n; nameserver 192.0.2.2", []),
    ("nameserver 192.0.2.1", ["192.0.2.1"]),
    ("\tnameserver\t192.0.2.1  # note\r\n", ["192.0.2.1"]),
    ("nameserver fe80::1%lo\nnameserver 2001:db8::1", ["fe80::1%lo", "2001:db8::1"]),
    ("nameserver\nnameserver x\nnameserver 192.0.2.300\nnameserver 192.0.2.4", ["192.0.2.4"]),
    (
        "\n".join(f"nameserver 192.0.2.{number}" for number in range(1, 6)),
        ["192.0.2.1", "192.0.2.2", "192.0.2.3"],
    ),
    ("search a.test\noptions ndots:5\nnameserver 192.0.2.1\nsortlist x", ["192.0.2.1"]),
    ("nameserver 192.0.2.1\nnameserver 192.0.2.1", ["192.0.2.1"]),
]


@pytest.mark.parametrize(("text", "expected"), RESOLV, ids=lambda _: "B5-79")
def test_resolv_conf_is_read(text: str, expected: list[str]) -> None:
    """The first three good nameservers, in order; everything else is passed over."""
    servers = parse_resolv_conf(text)
    assert [str(server.address) for server in servers] == expected
    assert {server.port for server in servers} <= {53}


@given(st.text())
def test_no_file_raises(text: str) -> None:
    """Any text is a resolv.conf and a hosts file, if an empty one."""
    parse_resolv_conf(text)
    parse_hosts(text)


def test_zone_becomes_an_interface_index() -> None:
    """B5-79: a link-local nameserver is reached through the link it names."""
    assert socket_address(ip_address("fe80::1%lo"), 53) == ("fe80::1", 53, 0, 1)
    assert socket_address(ip_address("fe80::1%7"), 53) == ("fe80::1", 53, 0, 7)
    with pytest.raises(OSError, match="no interface"):
        socket_address(ip_address("fe80::1%gone0"), 53)


def test_hosts_are_read() -> None:
    """Names in any case, several on a line, one on several lines; bad lines do not count."""
    text = (
        "127.0.0.1\tlocalhost\n192.0.2.1 DB.example.test db # the database\n"
        "2001:db8::1 db\nnonsense db\n192.0.2.9\n192.0.2.2 db.example.test.\n"
    )
    table = parse_hosts(text)
    assert list(map(str, table[b"db",])) == ["192.0.2.1", "2001:db8::1"]
    assert list(map(str, table[b"db", b"example", b"test"])) == ["192.0.2.1", "192.0.2.2"]


class Clock:
    """Seconds that pass when they are added."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_rewritten_files_are_read_again(tmp_path: Path) -> None:
    """B5-79: in place or by rename; what empties or disappears leaves the old nameservers."""
    clock = Clock()
    path = tmp_path / "resolv.conf"
    watched = watch_resolv_conf(clock, path)
    assert watched.current() == ()

    def seen() -> list[str]:
        clock.now += 1
        return [str(server.address) for server in watched.current()]

    path.write_text("nameserver 192.0.2.1\n")
    assert seen() == ["192.0.2.1"]
    path.write_text("nameserver 192.0.2.22\n")
    assert seen() == ["192.0.2.22"]
    fresh = tmp_path / "new"
    fresh.write_text("nameserver 192.0.2.33\n")
    fresh.replace(path)
    assert seen() == ["192.0.2.33"]
    path.write_text("")
    assert seen() == ["192.0.2.33"]
    path.unlink()
    assert seen() == ["192.0.2.33"]
    path.write_bytes(b"nameserver 192.0.2.44\n\xff\xfe")
    assert seen() == ["192.0.2.44"]


def test_same_size_in_the_same_moment_is_noticed(tmp_path: Path) -> None:
    """A file replaced by one of equal size and time is another file all the same."""
    clock = Clock()
    path = tmp_path / "hosts"
    path.write_text("192.0.2.1 a.test")
    os.utime(path, ns=(1, 1))
    watched = watch_hosts(clock, path)
    assert str(watched.current()[b"a", b"test"][0]) == "192.0.2.1"
    fresh = tmp_path / "new"
    fresh.write_text("192.0.2.2 a.test")
    os.utime(fresh, ns=(1, 1))
    fresh.replace(path)
    clock.now += 1
    assert str(watched.current()[b"a", b"test"][0]) == "192.0.2.2"


def test_file_is_not_looked_at_for_every_connection(tmp_path: Path) -> None:
    """Within a second the last value is used without a look."""
    clock = Clock()
    path = tmp_path / "hosts"
    path.write_text("192.0.2.1 a.test")
    watched = watch_hosts(clock, path)
    assert watched.current()
    path.write_text("192.0.2.1 b.test")
    clock.now += 0.5
    assert (b"a", b"test") in watched.current()
    clock.now += 0.5
    assert (b"a", b"test") not in watched.current()


NAMES = [
    ("WWW.Example.test.", (b"www", b"example", b"test")),
    ("db", (b"db",)),
    ("_srv.example.test", (b"_srv", b"example", b"test")),
    ("xn--zca.example", (b"xn--zca", b"example")),
    ("1.2.example", (b"1", b"2", b"example")),
    ("a" * 63 + ".test", (b"a" * 63, b"test")),
    ("a" * 64 + ".test", None),
    (".".join(["a" * 49] * 5) + ".ab", (*[b"a" * 49] * 5, b"ab")),
    (".".join(["a" * 50] * 5), None),
    ("", None),
    (".", None),
    ("a..b", None),
    ("a.test..", None),
    ("127.1", None),
    ("0x7f.0x1", None),
    ("2130706433", None),
    ("straße.test", None),
    ("a b.test\n", None),
]


@pytest.mark.parametrize(("text", "expected"), NAMES)
def test_names_are_parsed(text: str, expected: tuple[bytes, ...] | None) -> None:
    """Lower-case labels without the final dot; what is no name, or a number, is None."""
    assert parse_name(text) == expected
