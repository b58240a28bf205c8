"""What the partner makes of its command line and of a call."""

import json

import pytest

from egress_router.lab.partner import parse_ports, render_line


@pytest.mark.parametrize(
    ("text", "ports"),
    [("", ()), ("80", (80,)), ("80,443", (80, 443)), ("5000-5002,7", (5000, 5001, 5002, 7))],
)
def test_ports(text: str, ports: tuple[int, ...]) -> None:
    """Ports are numbers and ranges, separated by commas."""
    assert parse_ports(text) == ports


def test_line() -> None:
    """A call is answered with one line of JSON that names both ends."""
    line = render_line("tcp", ("2001:db8::1", 4000, 0, 0), ("2001:db8::2", 80, 0, 0))
    assert line.endswith(b"\n")
    assert json.loads(line) == {
        "protocol": "tcp",
        "source": "2001:db8::1",
        "source_port": 4000,
        "local": "2001:db8::2",
        "local_port": 80,
    }
