"""How long a connection lasted, from what the kernel remembers of it."""

import pytest

from egress_router.plan.ended_flow import EndedFlow, duration_s

TIMEOUTS = {
    "tcp_timeout_time_wait": 120,
    "tcp_timeout_close": 10,
    "tcp_timeout_established": 432_000,
    "udp_timeout": 30,
    "udp_timeout_stream": 120,
}
HERE = (b"\x0a\x80\x02\x0a", 40000)
FLOW = EndedFlow(
    protocol="tcp",
    client=HERE,
    port=8080,
    server=HERE,
    source=HERE,
    answered=True,
    assured=True,
    started_s=1000.0,
    ended_s=1125.0,
    tcp_state=7,
)


@pytest.mark.parametrize(
    ("changes", "seconds"),
    [
        pytest.param({}, 5.0, id="closed, and forgotten two minutes later"),
        pytest.param({"left_s": 100, "ended_s": 1025.0}, 5.0, id="closed, and deleted 20 s later"),
        pytest.param({"tcp_state": 8}, 115.0, id="reset"),
        pytest.param({"tcp_state": 3, "left_s": 431_990}, 115.0, id="deleted while open"),
        pytest.param({"ended_s": 1119.5}, 0.0, id="never less than nothing"),
        pytest.param({"protocol": "udp", "tcp_state": None}, 5.0, id="datagrams both ways"),
        pytest.param({"protocol": "udp", "assured": False}, 95.0, id="one datagram"),
        pytest.param({"started_s": None}, None, id="no timestamps"),
        pytest.param({"tcp_state": None}, None, id="a kernel that does not tell the state"),
        pytest.param({"protocol": "sctp", "tcp_state": None}, None, id="sctp"),
    ],
)
def test_duration(changes: dict[str, object], seconds: float | None) -> None:
    """The time the kernel waited after the last packet is no part of a connection."""
    assert duration_s(FLOW._replace(**changes), TIMEOUTS) == seconds
