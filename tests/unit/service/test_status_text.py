"""The status table, as a person sees it."""

from __future__ import annotations

import pytest

from egress_router.service.status_text import render_bytes, render_duration, render_status

DOCUMENT = {
    "mode": "redirect",
    "version": "0.1.0",
    "ready": False,
    "reasons": ["link: link macvlan0 is down", "table: canary did not answer"],
    "for_s": 3720.5,
    "started": "2026-01-31T23:59:59Z",
    "nat_repair": True,
    "link": "macvlan0",
    "source": ["192.0.2.7", "2001:db8::7"],
    "gateway": "192.0.2.1",
    "destinations": [
        {"port": 80, "protocol": "tcp", "to": "203.0.113.25", "sent_bytes": 12345678},
        {"port": 53, "protocol": "udp", "to": "evil\x1b[2J", "sent_bytes": None},
    ],
    "neighbours": [],
    "conditions": {"link": "link macvlan0 is down", "routes": "ok"},
    "process": {"memory_bytes": 44040192, "loop_lag_s": 0.0012, "open_descriptors": 18},
}

TABLE = """\
mode        redirect (version 0.1.0)
ready       NO, for 1h 2m
            link: link macvlan0 is down
            table: canary did not answer
started     2026-01-31T23:59:59Z
source      192.0.2.7, 2001:db8::7
gateway     192.0.2.1
link        macvlan0
nat repair  yes
neighbours  -

DESTINATIONS
  PORT  PROTOCOL  TO            SENT
  80    tcp       203.0.113.25  11.8 MiB
  53    udp       evil?[2J      -

CONDITIONS
  link    link macvlan0 is down
  routes  ok

PROCESS
  memory            42.0 MiB
  loop lag          0.0012 s
  open descriptors  18
"""


def test_the_golden_table() -> None:
    """What is looked for first stands first; sections are aligned; nothing unprintable gets out."""
    assert render_status(DOCUMENT) == TABLE


def test_a_ready_daemon_is_short() -> None:
    """Ready and for how long is one line, and the least document still has its head."""
    text = render_status(
        {"mode": "dns", "version": "1", "ready": True, "for_s": 59, "started": "x"}
    )
    assert text == "mode     dns (version 1)\nready    yes, for 59s\nstarted  x\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.9, "59s"), (60, "1m 0s"), (3600, "1h 0m"), (90061, "1d 1h"), (1e7, "115d 17h")],
)
def test_durations(seconds: float, text: str) -> None:
    """Two units are enough."""
    assert render_duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (2**30, "1.0 GiB"), (2**51, "2048.0 TiB")],
)
def test_bytes(number: float, text: str) -> None:
    """Sizes are told in binary units."""
    assert render_bytes(number) == text
