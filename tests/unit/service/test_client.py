"""Finding the daemons of a network namespace."""

from __future__ import annotations

from egress_router.service.client import parse_unix_sockets

TABLE = """\
Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 20101 @egress-router/http
0000000000000000: 00000003 00000000 00000000 0001 03 20102 @egress-router/http
0000000000000000: 00000003 00000000 00000000 0001 03 20103 @egress-router/gone
0000000000000000: 00000002 00000000 00010000 0001 01 20104 @egress-router/dns
0000000000000000: 00000002 00000000 00010000 0001 01 20105 /run/egress-router/redirect
0000000000000000: 00000002 00000000 00010000 0001 01 20106 @other
0000000000000000: 00000003 00000000 00000000 0001 03 20107
"""


def test_only_listening_admin_sockets_count() -> None:
    """Open connections, files and other programs' sockets are no daemons."""
    assert parse_unix_sockets(TABLE) == ("dns", "http")


def test_no_sockets_no_daemons() -> None:
    """A namespace without sockets has no daemon."""
    assert parse_unix_sockets(TABLE.splitlines()[0]) == ()
    assert parse_unix_sockets("") == ()
