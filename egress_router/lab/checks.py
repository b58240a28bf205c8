"""Promises that every mode makes, as checks to choose from.

Each public function returns what a `Check` needs to act; a check that is passed in a world where
the promise is broken would be worth nothing, so the tests run them in both.
"""

from __future__ import annotations

import json
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from egress_router.lab.addresses import ADDRESSES, Address
from egress_router.lab.runner import run_init, start_daemon, wait_until_ready
from egress_router.lab.scenario import Act, Outcome
from egress_router.lab.spec import Host
from egress_router.lab.world import Answer, Lab

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence


class Binding(TypedDict, total=False):
    """What a calling socket is bound to."""

    source: Address
    source_port: int
    device: str


Call = tuple[Host, str, Address, int]  # who calls, protocol, address, port
BoundCall = tuple[Host, str, Address, int, Binding]

CALL_TIMEOUT_S = 1.0
REFUSED_TIMEOUT_S = 0.5  # the lab answers in a millisecond
RETRY_TIMEOUT_S = 1.0  # one lost SYN is sent again after a second
RECOVERY_LIMIT_S = 10.0
STOP_LIMIT_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """Calls that must arrive at `server`, one for each pair of ports, from the source address."""

    protocol: str
    ports: tuple[int, ...]
    server: Address
    server_ports: tuple[int, ...]
    host: Host = "client"
    address: Address | None = None  # None: the pod's, of the server's family

    def __call__(self, lab: Lab) -> Outcome:
        """Makes the calls."""
        address = self.address or ADDRESSES.pod.of(self.server.version)
        answers = ask_all(
            lab, [(self.host, self.protocol, address, port) for port in self.ports], CALL_TIMEOUT_S
        )
        ok = all(
            isinstance(answer, Answer)
            and answer.source == ADDRESSES.source.of(self.server.version)
            and (answer.local, answer.local_port) == (self.server, port)
            for answer, port in zip(answers, self.server_ports, strict=True)
        )
        asked = f"{self.host} called {self.protocol} {address} port {_listed(self.ports)}"
        return Outcome(ok=ok, seen=f"{asked}; {_told(answers)}")


def dns_stays_inside(name: str) -> Act:
    """The pod's question reaches each cluster nameserver from the pod's cluster address."""

    def act(lab: Lab) -> Outcome:
        nameserver = lab.process("nameserver")
        before = len(nameserver.output().splitlines())
        answers = lab.lookup("pod", name)
        asked = map(json.loads, nameserver.output().splitlines()[before:])
        clients = [question["client"] for question in asked]
        wanted = [str(ADDRESSES.pod.of(version)) for version in lab.spec.family.versions]
        got = [", ".join(answer.get("answers", [answer.get("error")])) for answer in answers]
        return Outcome(
            ok=clients == wanted and all(answer.get("answers") for answer in answers),
            seen=f"pod asked for {name} and got {_listed(got)}; "
            f"the cluster's nameservers saw {_listed(clients)}",
        )

    return act


def outsider_cannot_connect(ports: tuple[int, ...]) -> Act:
    """A host on the outside network finds no open port on the source address."""

    def act(lab: Lab) -> Outcome:
        calls: list[Call] = [
            ("outsider", protocol, source, port)
            for source in map(ADDRESSES.source.of, lab.spec.family.versions)
            for port in ports
            for protocol in ("tcp", "udp")
        ]
        answers = ask_all(lab, calls, REFUSED_TIMEOUT_S)
        return Outcome(
            ok=all(isinstance(answer, str) for answer in answers),
            seen=f"outsider called ports {_listed(ports)} of the source; {_told(answers)}",
        )

    return act


def outsider_cannot_route(lab: Lab) -> Outcome:
    """A host on the outside network that makes the pod its next hop reaches nobody."""
    versions = lab.spec.family.versions
    routes = [(str(ADDRESSES.cluster_network.of(v)), str(ADDRESSES.source.of(v))) for v in versions]
    for network, hop in routes:
        lab.run("outsider", ("ip", "route", "replace", network, "via", hop))
    calls: list[Call] = [
        ("outsider", protocol, target.of(version), 80)
        for version in versions
        for target in (ADDRESSES.client, ADDRESSES.pod_gateway, ADDRESSES.pod)
        for protocol in ("tcp", "udp")
    ]
    from_outsider = " or ".join(f"src host {ADDRESSES.outsider.of(v)}" for v in versions)
    with lab.capture("pod", "eth0", from_outsider) as capture:
        answers = ask_all(lab, calls, REFUSED_TIMEOUT_S)
        packets = capture.packets()
    for network, _ in routes:
        lab.run("outsider", ("ip", "route", "del", network))
    return Outcome(
        ok=not packets and all(isinstance(answer, str) for answer in answers),
        seen=f"outsider called client, node and pod with the pod as next hop; {_told(answers)}; "
        f"{len(packets)} of its packets entered the cluster",
    )


def cable_out(port: int) -> Act:
    """Without the outside network nothing leaves by the cluster link, and it heals by itself."""

    def breaks(lab: Lab) -> None:
        lab.run("lan", ("ip", "link", "set", "node", "down"))

    def repairs(lab: Lab) -> None:
        lab.run("lan", ("ip", "link", "set", "node", "up"))

    return _link_loss(port, "the node's NIC lost its carrier", breaks, repairs)


def egress_link_down(port: int, mode: str, environment: Mapping[str, str]) -> Act:
    """With the egress link down nothing leaves by the cluster link; another init repairs it."""

    def breaks(lab: Lab) -> None:
        lab.run("pod", ("ip", "link", "set", lab.spec.egress_link, "down"))

    def repairs(lab: Lab) -> None:
        run_init(lab, environment)
        wait_until_ready(lab, lab.process(mode))

    return _link_loss(port, "the egress link was down until init ran again", breaks, repairs)


def stops(mode: str, environment: Mapping[str, str], *, limit_s: float = STOP_LIMIT_S) -> Act:
    """SIGTERM ends the daemon in time and with 0; afterwards another one is started."""

    def act(lab: Lab) -> Outcome:
        daemon = lab.process(mode)
        start = time.monotonic()
        daemon.signal(signal.SIGTERM)
        code = daemon.wait()
        took = time.monotonic() - start
        start_daemon(lab, mode, environment)
        return Outcome(
            ok=code == 0 and took <= limit_s,
            seen=f"{mode} ended with {code}, {took:.2f} s after SIGTERM; started again",
        )

    return act


def _link_loss(
    port: int, story: str, breaks: Callable[[Lab], None], repairs: Callable[[Lab], None]
) -> Act:
    def act(lab: Lab) -> Outcome:
        versions = lab.spec.family.versions
        outside = " or ".join(f"dst net {ADDRESSES.partner_network.of(v)}" for v in versions)
        with lab.capture("pod", "eth0", outside) as capture:
            breaks(lab)
            answers = _calls_out(lab, port, REFUSED_TIMEOUT_S)
            packets = capture.packets()
            repairs(lab)
        start = time.monotonic()
        back = _calls_out(lab, port, RETRY_TIMEOUT_S)
        while any(isinstance(late, str) for late in back) and (
            time.monotonic() - start < RECOVERY_LIMIT_S
        ):
            back = _calls_out(lab, port, RETRY_TIMEOUT_S)
        took = time.monotonic() - start
        sources = {ADDRESSES.source.of(version) for version in versions}
        healed = all(isinstance(late, Answer) and late.source in sources for late in back)
        return Outcome(
            ok=healed and not packets and all(isinstance(answer, str) for answer in answers),
            seen=f"{story}; {_told(answers)}; {len(packets)} packets left by eth0; "
            f"then {_told(back)}, {took:.1f} s after the repair",
        )

    return act


def _calls_out(lab: Lab, port: int, timeout: float) -> list[Answer | str]:
    calls: list[Call] = []
    for version in lab.spec.family.versions:
        calls.append(("client", "tcp", ADDRESSES.pod.of(version), port))
        calls.append(("pod", "tcp", ADDRESSES.partner.of(version), port))
    return ask_all(lab, calls, timeout)


def ask_all(lab: Lab, calls: Sequence[Call | BoundCall], timeout: float) -> list[Answer | str]:
    """Makes calls side by side, so that many timeouts take the time of one."""

    def ask(call: Call | BoundCall) -> Answer | str:
        options: Binding = call[4] if len(call) == 5 else {}
        return lab.ask(*call[:4], timeout=timeout, **options)

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(ask, calls))


def _told(answers: Iterable[Answer | str]) -> str:
    """The errors, and what each server saw: `203.0.113.10 port 80, 443 saw 192.168.12.99`."""
    errors: set[str] = set()
    ports: dict[tuple[Address, Address], set[int]] = {}
    for answer in answers:
        if isinstance(answer, str):
            errors.add(answer)
        else:
            ports.setdefault((answer.local, answer.source), set()).add(answer.local_port)
    saw = [
        f"{server} port {_listed(sorted(reached))} saw {source}"
        for (server, source), reached in ports.items()
    ]
    return "; ".join((*saw, *sorted(errors)))


def _listed(values: Iterable[object]) -> str:
    return ", ".join(map(str, values)) or "nothing"
