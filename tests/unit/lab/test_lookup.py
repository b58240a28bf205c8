"""What counts as a nameserver in a resolv.conf."""

from egress_router.lab.lookup import parse_nameservers


def test_nameservers() -> None:
    """Only `nameserver` lines with an address count, in their order."""
    lines = ("search a.test", "nameserver 172.30.0.10", "# nameserver x", "nameserver")
    text = "\n".join((*lines, "nameserver ::1"))
    assert parse_nameservers(text) == ("172.30.0.10", "::1")
