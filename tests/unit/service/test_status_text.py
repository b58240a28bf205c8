"""The status table, as a person sees it."""

from __future__ import annotations

import pytest

from egress_router.service.status_text import ROWS, order_rows, render_status

DOCUMENT = {
    "mode": "redirect",
    "version": "0.1.0",
    "ready": False,
    "reasons": ["link: link macvlan0 is down", "table: canary did not answer"],
    "for_s": 3720.5,
    "warnings": ["unknown variable EGRESS_SOURC: did you mean EGRESS_SOURCE?", "evil\x1b[2J"],
    "started": "2026-01-31T23:59:59Z",
    "nat_repair": True,
    "link": "macvlan0",
    "source": ["192.0.2.7", "2001:db8::7"],
    "gateway": "192.0.2.1",
    "gateways": [
        {"address": "192.0.2.1", "mac": "02:00:00:00:00:01", "state": "reachable"},
        {"address": "2001:db8::1", "mac": None, "state": "failed"},
        {"address": "2001:db8::2", "mac": None, "state": "unknown"},
    ],
    "process": {"memory_bytes": 44040192, "loop_lag_s": 0.0012, "open_descriptors": 18},
    "destinations": [
        {"port": 80, "protocol": "tcp", "to": "203.0.113.25", "sent_bytes": 12345678},
        {"port": 53, "protocol": "udp", "to": "evil\x1b[2J", "sent_bytes": None},
    ],
    "neighbours": [],
    "conditions": {"link": "link macvlan0 is down", "routes": "ok"},
}

TABLE = """\
mode        redirect (version 0.1.0)
ready       NO, for 1h 2m
            link: link macvlan0 is down
            table: canary did not answer
warning     unknown variable EGRESS_SOURC: did you mean EGRESS_SOURCE?
            evil?[2J
started     2026-01-31T23:59:59Z
source      192.0.2.7, 2001:db8::7
gateway     192.0.2.1 (02:00:00:00:00:01, reachable), 2001:db8::1 (NO ANSWER), 2001:db8::2 (not asked yet)
link        macvlan0
nat repair  yes
neighbours  -

DESTINATIONS
  PORT  PROTOCOL  TO            SENT
  80    tcp       203.0.113.25  11.8 MiB
  53    udp       evil?[2J      -

PROCESS
  memory            42.0 MiB
  loop lag          0.0012 s
  open descriptors  18
"""  # noqa: E501 - a line of the terminal


def test_the_golden_table() -> None:
    """What is looked for first stands first; sections are aligned; nothing unprintable gets out."""
    assert render_status(DOCUMENT) == TABLE


def test_a_ready_daemon_is_short() -> None:
    """Ready and for how long is one line, and the least document still has its head."""
    text = render_status(
        {"mode": "dns", "version": "1", "ready": True, "for_s": 59, "started": "x"}
    )
    assert text == "mode     dns (version 1)\nready    yes, for 59s\nstarted  x\n"


RELOADS = [
    ({"result": "none", "generation": 1, "at": None}, ["reload   none since the start"]),
    (
        {"result": "applied", "generation": 4, "at": "2026-01-31T00:00:00Z", "source": "/c/list"},
        ["reload   applied at 2026-01-31T00:00:00Z, generation 4, from /c/list"],
    ),
    (
        {
            "result": "refused",
            "generation": 4,
            "at": "2026-01-31T00:00:00Z",
            "source": "/c/list",
            "changes": [],
            "problems": ["line 3: Bad destination 'x\x1b'", "line 9: no"],
        },
        [
            "RELOAD",
            "  refused at 2026-01-31T00:00:00Z, generation 4, from /c/list",
            "  line 3: Bad destination 'x?'",
            "  line 9: no",
        ],
    ),
]


@pytest.mark.parametrize(("reload", "lines"), RELOADS)
def test_the_last_reload(reload: dict[str, object], lines: list[str]) -> None:
    """A reload is one line; one that was refused shows each of its problems."""
    text = render_status({"mode": "dns", "version": "1", "ready": True, "reload": reload})
    assert set(lines) <= set(text.splitlines())


def rows(count: int) -> list[dict[str, object]]:
    """Ports that are open and idle, but for two."""
    table: list[dict[str, object]] = [
        {"port": port, "state": "open", "active": 0, "up_bytes": 0} for port in range(count)
    ]
    table[count // 2] |= {"active": 3, "up_bytes": 99}
    table[count - 1]["state"] = "name is not known"
    return table


def test_long_tables_are_cut() -> None:
    """Of ten thousand rows those in trouble and the busiest are shown, and the rest is counted."""
    document = {"mode": "dns", "ready": True, "ports": rows(10_000)}
    lines = render_status(document).splitlines()
    shown = lines[lines.index("PORTS") + 2 :]
    assert shown[0].split()[0] == "9999"
    assert shown[1].split()[0] == "5000"
    assert shown[2].split()[0] == "0"
    assert shown[ROWS:] == [f"  … and {10_000 - ROWS} more; --all shows them"]
    whole = render_status(document, rows=None).splitlines()
    assert [line.split()[0] for line in whole[-10_000:]] == [str(n) for n in range(10_000)]


def test_short_tables_keep_their_order() -> None:
    """What fits is shown as it is configured."""
    text = render_status({"mode": "dns", "ready": True, "ports": rows(ROWS)})
    assert [line.split()[0] for line in text.splitlines()[-ROWS:]] == [str(n) for n in range(ROWS)]


def test_order_is_stable() -> None:
    """Rows that are alike stay as they stood: the latest refusal stays on top."""
    table = [{"at": str(number), "reason": "x"} for number in range(5)]
    assert order_rows(table) == table
