"""What the forwarder tells about itself stays bounded by the configuration."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from egress_router.modes.dns.ledger import Dials, PortCounts
from egress_router.modes.dns.names import Knowledge
from egress_router.modes.dns.report import OTHER, SERIES_MAX, merge_status, provide_report
from egress_router.net.servers import ResolverCounts
from egress_router.service import metrics
from egress_router.service.connection_log import ConnectionLog
from egress_router.service.metric_registry import Metrics


def values(serving: Any) -> dict[str, Any]:
    """What each metric reads, by its name."""
    registry = Metrics()
    ignored = {"provide_status": lambda *_, **__: None, "provide_warnings": lambda _: None}
    provide_report(SimpleNamespace(metrics=registry, **ignored), serving)
    return {metric.name: read() for metric, read in registry._sources.items()}


class Open:
    """A connection that has moved some bytes so far."""

    moved = (100, 200)

    def __init__(self, port: Any) -> None:
        self.port = port


class Port(SimpleNamespace):
    """A port that may be a key."""

    __hash__ = object.__hash__
    __eq__ = object.__eq__


def serving(count: int) -> Any:
    """A forwarder with as many ports and names, each with one failed connection."""
    names = {
        f"n{index}.test": SimpleNamespace(
            text=f"n{index}.test", literal=None, state=Knowledge.STALE, age_s=3.0, addresses=(1, 2)
        )
        for index in range(count)
    }
    dials = Dials()
    dials.failed.note(0.2)
    ports = [
        Port(
            destination=SimpleNamespace(port=index + 1),
            counts=PortCounts(failed=1, active=2, bytes_up=3, dials=dials, log=ConnectionLog(1)),
            is_open=True,
            name=names[f"n{index}.test"],
            partners=SimpleNamespace(alive=lambda: (2,)),
        )
        for index in range(count)
    ]
    return SimpleNamespace(
        names=names,
        ports=ports,
        datagrams=(),
        dials=dials,
        carried={Open(ports[0])},
        admission=SimpleNamespace(limit=7, active=0),
        resolver=SimpleNamespace(counts=ResolverCounts(queries=4)),
    )


def test_each_port_and_name_has_its_series() -> None:
    """State, age and count by name; verdicts, bytes and open connections by port."""
    found = values(serving(2))
    assert found[metrics.DNS_QUERIES.name]["queries",] == 4
    assert found[metrics.DNS_CONNECTIONS.name]["1", "failed"] == 1
    assert found[metrics.DNS_ACTIVE.name] == {("1",): 2, ("2",): 2}
    assert found[metrics.DNS_BYTES.name]["2", "up"] == 3
    assert found[metrics.DNS_BYTES.name]["1", "up"] == 103
    assert found[metrics.DNS_BYTES.name]["1", "down"] == 200
    assert found[metrics.DNS_PORT_OPEN.name] == {("1",): 1.0, ("2",): 1.0}
    states = found[metrics.DNS_NAME_STATE.name]
    assert [state for (name, state), on in states.items() if on and name == "n1.test"] == ["stale"]
    assert found[metrics.DNS_NAME_AGE.name]["n0.test",] == 3.0
    assert found[metrics.DNS_NAME_ADDRESSES.name]["n0.test",] == 2
    assert found[metrics.DNS_PARTNER_UP.name]["1", "1"] == 0.0
    assert found[metrics.DNS_PARTNER_UP.name]["1", "2"] == 1.0
    assert found[metrics.DIAL_SECONDS.name]["failed",].total == 0.2


def test_a_long_list_shares_a_label() -> None:
    """What lies beyond the bound is counted together, and no count is lost."""
    found = values(serving(SERIES_MAX + 5))
    for name in (metrics.DNS_CONNECTIONS.name, metrics.DNS_BYTES.name, metrics.DNS_ACTIVE.name):
        assert len({labels[0] for labels in found[name]}) == SERIES_MAX + 1
    assert found[metrics.DNS_CONNECTIONS.name][OTHER, "failed"] == 5
    assert len(found[metrics.DNS_PORT_OPEN.name]) == SERIES_MAX
    assert len(found[metrics.DNS_NAME_AGE.name]) == SERIES_MAX
    assert len(found[metrics.DNS_PARTNER_UP.name]) == SERIES_MAX


def test_several_processes_are_told_as_one() -> None:
    """Counts of a port are added up; its state, and names, are the first process' own."""

    def facts(state: str, active: int, *ports: int) -> dict[str, Any]:
        counted = dict.fromkeys(("active", "forwarded", "failed", "up_bytes", "down_bytes"), active)
        row = {"protocol": "tcp", "state": state, "alive": 1, **counted}
        return {
            "connections": active,
            "connection_limit": 10,
            "ports": [{"port": port, **row} for port in ports],
            "names": [{"name": "a.test", "state": state}],
        }

    told = merge_status(
        facts("open", 1, 80, 81), [facts("closed", 2, 81, 82), facts("open", 4, 80)]
    )
    assert (told["connections"], told["connection_limit"]) == (7, 30)
    assert [(row["port"], row["active"], row["alive"]) for row in told["ports"]] == [
        (80, 5, 1),
        (81, 3, 1),
    ]
    assert {row["state"] for row in (*told["ports"], *told["names"])} == {"open"}
