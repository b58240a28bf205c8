"""DNS: ports that lead to names, while a partner, a record and the DNS server fail or change."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from egress_router.lab import checks
from egress_router.lab.addresses import ADDRESSES
from egress_router.lab.checks import Calls
from egress_router.lab.runner import run_init, wait_until_ready
from egress_router.lab.scenario import Act, Check, Outcome, Scenario
from egress_router.lab.world import Answer

if TYPE_CHECKING:
    from pathlib import Path

    from egress_router.lab.world import Lab

MODE = "dns"
NAME, LATE = "www.partner.test", "late.partner.test"
PORT, FIXED_PORT, SIX_PORT, LATE_PORT = 8080, 8443, 8486, 8888
CHANGE_LIMIT_S = 5 + 2.5  # the record's TTL, and what a loaded machine takes
STALE_LIMIT_S = 12.0
ENVIRONMENT = {
    "EGRESS_ROUTER_MODE": "dns-proxy",
    "EGRESS_SOURCE": "192.168.12.99/24,2001:db8:12::99/64",
    "EGRESS_GATEWAY": "192.168.12.1,2001:db8:12::1",
}
DAEMON = {
    "EGRESS_DNS_PROXY_DESTINATION": f"""\
{PORT} {NAME} 80
{FIXED_PORT} 203.0.113.12 443
{SIX_PORT} 2001:db8:113::11 443
{LATE_PORT} {LATE} 80
""",
    "EGRESS_WORKERS": "2",
}
FIRST, SECOND, THIRD, FOURTH = (pair.v4 for pair in ADDRESSES.partners)
BARRED = "barred"  # the partner's own table that stops one of its addresses


def arrange(lab: Lab) -> None:
    """Starts the partner's ports and the cluster's DNS, whose records will change."""
    lab.start_partner(tcp=(80, 443))
    _zone(lab).write_text(_records(FIRST, SECOND))
    lab.start_nameserver(path=_zone(lab))


def uses(*servers: object, calls: int = 6) -> Act:
    """All of these addresses of the partner are reached by some calls, and no other."""

    def act(lab: Lab) -> Outcome:
        return _outcome(_reached(lab, calls), servers, f"{calls} calls to port {PORT}")

    return act


def partner_stopped(lab: Lab) -> Outcome:
    """One of two addresses refuses; every call reaches the other one."""
    lab.run("partner", ("nft", f"add table ip {BARRED}"))
    hook = "{ type filter hook input priority 0; }"
    lab.run("partner", ("nft", f"add chain ip {BARRED} in {hook}"))
    rule = f"ip daddr {FIRST} tcp dport 80 reject with tcp reset"
    lab.run("partner", ("nft", f"add rule ip {BARRED} in {rule}"))
    reached = _reached(lab, 6)
    lab.run("partner", ("nft", f"delete table ip {BARRED}"))
    return _outcome(reached, (SECOND,), f"{FIRST} refused; 6 calls")


def record_changed(lab: Lab) -> Outcome:
    """The name gets a third address and loses the first; within its TTL that is in use."""
    _zone(lab).write_text(_records(SECOND, THIRD))
    start = time.monotonic()
    while THIRD not in (reached := _reached(lab, 3)) and (
        time.monotonic() - start < CHANGE_LIMIT_S
    ):
        continue
    took = time.monotonic() - start
    return _outcome(reached, (SECOND, THIRD), f"{took:.1f} s after the change, with a TTL of 5 s")


def unknown_name(lab: Lab) -> Outcome:
    """The port of a name that does not exist refuses, and serves once the name is there."""
    before = lab.ask("client", "tcp", ADDRESSES.pod.v4, LATE_PORT)
    zone = _zone(lab)
    zone.write_text(f"{zone.read_text()}{LATE}. 5 IN A {FOURTH}\n")
    start = time.monotonic()
    after = before
    while isinstance(after, str) and time.monotonic() - start < STALE_LIMIT_S:
        after = lab.ask("client", "tcp", ADDRESSES.pod.v4, LATE_PORT)
    arrived = after.local if isinstance(after, Answer) else after
    return Outcome(
        ok=before == "ECONNREFUSED" and arrived == FOURTH,
        seen=f"client got {before}; the name was made known, and it reached {arrived}",
    )


def nameserver_killed(lab: Lab) -> Outcome:
    """Without DNS, and after the record's TTL, every call succeeds."""
    lab.process("nameserver").stop()
    start = time.monotonic()
    while '"dns_name_stale"' not in lab.process(MODE).output():
        if time.monotonic() - start > STALE_LIMIT_S:
            return Outcome(ok=False, seen="the daemon did not notice that DNS is dead")
        time.sleep(0.1)
    reached = _reached(lab, 6)
    lab.start_nameserver(path=_zone(lab))
    return _outcome(reached, (SECOND, THIRD), "the nameserver was dead beyond the TTL; 6 calls")


def egress_link_down(lab: Lab) -> Outcome:
    """With the egress link down the port refuses, and nothing leaves by the cluster link."""
    outside = f"dst net {ADDRESSES.partner_network.v4} or dst net {ADDRESSES.partner_network.v6}"
    with lab.capture("pod", "eth0", outside) as capture:
        lab.run("pod", ("ip", "link", "set", lab.spec.egress_link, "down"))
        answers = _reached(lab, 3)
        packets = capture.packets()
    run_init(lab, ENVIRONMENT)
    wait_until_ready(lab, lab.process(MODE))
    back = _reached(lab, 2)
    return Outcome(
        ok=not packets
        and all(isinstance(answer, str) for answer in answers)
        and not any(isinstance(answer, str) for answer in back),
        seen=f"{_listed(answers)}; {len(packets)} packets left by eth0; "
        f"after another init {_listed(back)}",
    )


def _zone(lab: Lab) -> Path:
    return lab.logs / "zone"


def _records(*addresses: object) -> str:
    return "".join(f"{NAME}. 5 IN A {address}\n" for address in addresses)


def _reached(lab: Lab, calls: int) -> Counter[object]:
    """Which addresses of the partner some calls reached; a wrong source counts as an error."""
    reached: Counter[object] = Counter()
    for _ in range(calls):
        answer = lab.ask("client", "tcp", ADDRESSES.pod.v4, PORT)
        if isinstance(answer, Answer) and answer.source != ADDRESSES.source.v4:
            answer = f"the partner saw {answer.source}"
        reached[answer.local if isinstance(answer, Answer) else answer] += 1
    return reached


def _outcome(reached: Counter[object], servers: tuple[object, ...], story: str) -> Outcome:
    return Outcome(
        ok=set(reached) == set(servers),
        seen=f"{story}: {_listed(reached)}, from {ADDRESSES.source.v4}",
    )


def _listed(reached: Counter[object]) -> str:
    return ", ".join(f"{server} {count} times" for server, count in reached.items())


SCENARIO = Scenario(
    mode=MODE,
    summary="ports lead to names, from the source address, whatever becomes of DNS",
    arrange=arrange,
    environment=ENVIRONMENT,
    daemon_environment=DAEMON,
    checks=(
        Check(title="name with two addresses", act=uses(FIRST, SECOND)),
        Check(
            title="written address",
            act=Calls(protocol="tcp", ports=(FIXED_PORT,), server=THIRD, server_ports=(443,)),
        ),
        Check(
            title="IPv6",
            act=Calls(
                protocol="tcp",
                ports=(SIX_PORT,),
                server=ADDRESSES.partners[1].v6,
                server_ports=(443,),
            ),
        ),
        Check(title="name that does not exist", act=unknown_name),
        Check(title="partner stopped", act=partner_stopped),
        Check(title="record changed", act=record_changed),
        Check(title="DNS server killed", act=nameserver_killed),
        Check(title="outsider cannot connect", act=checks.outsider_cannot_connect((PORT,))),
        Check(title="outsider cannot route", act=checks.outsider_cannot_route),
        Check(title="egress link down", act=egress_link_down),
    ),
)
