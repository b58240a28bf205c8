"""The nftables table: ours alone, whole or replaced, and never without a way back."""

import os
import signal
import time
from collections.abc import Callable

import pytest

from egress_router.errors import KernelError
from egress_router.kernel.namespace import Namespace
from egress_router.kernel.nft import Nft
from egress_router.plan.diff import LoadTable, Step
from model.bench import Bench, Failing, KilledError, OpenBench
from model.scenarios import SCENARIOS

pytestmark = pytest.mark.netns

TABLE = ("inet", "egress_router")
TIMEOUT_S = 0.6
LONG, MANY = (
    "\n".join(f"{port} tcp 203.0.113.{port % 250 + 1} 8080" for port in range(1, count + 1))
    for count in (3_000, 10_000)
)
SEVERAL = {
    "EGRESS_DESTINATION": "80 tcp 203.0.113.25\n443 tcp 203.0.113.25\n90-95 udp 203.0.113.26"
}

TAMPERINGS = {
    "element-added": (
        "add element inet egress_router redirect4 { tcp . 81 : 198.51.100.66 . 81 }",
    ),
    "element-deleted": ("delete element inet egress_router redirect4 { tcp . 443 }",),
    "range-added": ("add element inet egress_router ranges4 { udp . 96 : 198.51.100.66 }",),
    "rule-added": ("insert rule inet egress_router guard_forward accept",),
    "rules-flushed": ("flush chain inet egress_router guard_input",),
    "chain-deleted": (
        "flush chain inet egress_router guard_output",
        "delete chain inet egress_router guard_output",
    ),
    "policy-changed": ("add chain inet egress_router guard_forward { policy accept; }",),
    "seal-deleted": ("delete set inet egress_router seal",),
    "chain-added": (
        "add chain inet egress_router other { type filter hook input priority 0; policy drop; }",
    ),
    "set-element-added": ("add element inet egress_router cluster4 { 198.51.100.0/24 }",),
}


def tamper(pod: Bench, name: str) -> None:
    """What a person, or another program, may do to our table."""
    assert pod.real is not None
    for command in TAMPERINGS[name]:
        pod.real.run("nft", command)


def test_tampered_table_is_replaced(on_real: OpenBench) -> None:
    """Whatever is changed in the table, the next run replaces it, and does nothing else."""
    pod = on_real(SCENARIOS["single-port"])
    config = pod.configure(**SEVERAL)
    pod.converge(config)
    before = pod.fingerprint()
    for name in TAMPERINGS:
        tamper(pod, name)
        assert [type(step) for step in pod.converge(config)] == [LoadTable], name
    assert pod.fingerprint() == before


@pytest.mark.parametrize("name", ["element-added", "seal-deleted"])
def test_failed_run_keeps_a_tampered_table_tampered(name: str, on_real: OpenBench) -> None:
    """A failed run puts a tampered table back as it was, and the next run still sees what it is."""
    pod = on_real(SCENARIOS["single-port"])
    pod.converge(pod.configure(**SEVERAL))
    tamper(pod, name)
    before = pod.fingerprint()
    changed = pod.configure(**SEVERAL, EGRESS_MTU="1400")
    with pytest.raises(KilledError):
        pod.converge(changed, kernel=Failing(pod.kernel, 1))
    assert pod.fingerprint() == before
    assert LoadTable in [type(step) for step in pod.converge(pod.configure(**SEVERAL))]


def test_failed_run_keeps_an_intact_table_intact(on_real: OpenBench) -> None:
    """A failed run puts the old table back seal and all, also in the session that loaded it."""
    pod = on_real(SCENARIOS["single-port"])
    pod.converge(pod.configure())
    before = pod.fingerprint()
    changed = pod.configure(**SEVERAL, EGRESS_MTU="1400")
    with pytest.raises(KilledError):
        pod.converge(changed, kernel=Failing(pod.kernel, 1))
    assert pod.fingerprint() == before
    assert pod.converge(pod.configure()) == []


def test_foreign_table_of_our_name(on_real: OpenBench) -> None:
    """A table of our name that we did not make is refused by name, and nothing is touched."""
    pod = on_real(SCENARIOS["single-port"])
    assert pod.real is not None
    pod.real.run("nft", "add", "table", *TABLE, '{ comment "somebody else"; }')
    before = pod.fingerprint()
    with pytest.raises(KernelError, match="`inet egress_router` is there that this program did"):
        pod.converge(pod.configure())
    assert pod.fingerprint() == before


def test_counters_do_not_count_as_tampering(on_real: OpenBench) -> None:
    """Packets that were counted leave the table intact."""
    pod = on_real(SCENARIOS["single-port"])
    config = pod.configure()
    pod.converge(config)
    assert pod.real is not None
    pod.real.run("ip", "route", "add", "172.31.0.0/16", "via", "10.128.0.1", "dev", "eth0")
    pod.converge(config)  # a route of the cluster's: part of the table, too
    pod.real.run("ip", "route", "add", "192.0.2.9", "dev", "eth0", "table", "7")
    pod.real.run("ip", "rule", "add", "to", "192.0.2.9", "lookup", "7")
    pod.real.run("bash", "-c", "echo > /dev/udp/192.0.2.9/9", check=False)
    listed = pod.real.run("nft", "list", "counters", "table", "inet", "egress_router")
    assert "packets 0 bytes 0" in listed
    assert listed.count("packets 0 bytes 0") < listed.count("packets ")
    assert pod.converge(config) == []


def test_ten_thousand_destinations(on_real: OpenBench) -> None:
    """10,000 destinations are checked, loaded and found again in about a second; here ten."""
    pod = on_real(SCENARIOS["single-port"])
    config = pod.configure(EGRESS_DESTINATION=MANY)
    started = time.monotonic()
    pod.converge(config)
    assert pod.converge(config) == []
    assert time.monotonic() - started < 10


def test_what_was_loaded_is_known_without_another_look(
    on_real: OpenBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session knows the table that it has sealed, as another one sees it, and can put it back."""
    pod = on_real(SCENARIOS["single-port"])
    pod.converge(pod.configure(**SEVERAL))
    assert pod.real is not None
    with pod.real.kernel() as (_, nft):
        first = nft.observe_table()
        assert first is not None
        nft.load(f"delete table inet egress_router\n{first.text}")
        nft.settle()
        with monkeypatch.context() as patched:
            patched.setattr(nft, "_request", None)
            known = nft.observe_table()
        assert known is not None
        assert (known.ours, known.digest, known.intact) == (True, first.digest, True)
        nft.load(f"delete table inet egress_router\n{known.text}", seal=False)
        with pod.real.kernel() as (_, other):
            assert other.observe_table() == first


@pytest.mark.parametrize("moment", ["before it is sealed", "between seal and look"])
def test_somebody_else_while_it_is_sealed(moment: str, on_real: OpenBench) -> None:
    """Another's transaction around the seal is noticed: what it changed is not taken for ours."""
    pod = on_real(SCENARIOS["single-port"])
    pod.converge(pod.configure(**SEVERAL))
    real = pod.real
    assert real is not None
    with real.kernel() as (_, nft):
        first = nft.observe_table()
        assert first is not None
        nft.load(f"delete table inet egress_router\n{first.text}")
        if moment == "between seal and look":
            nft.settle()
        tamper(pod, "rule-added")
        found = nft.observe_table()
        assert found is not None
        assert not found.intact
    assert [type(step) for step in pod.converge(pod.configure(**SEVERAL))] == [LoadTable]


def test_what_is_replaced_need_not_be_sealed(on_real: OpenBench) -> None:
    """A table that is loaded over another before that one has its seal is sealed like any."""
    pod = on_real(SCENARIOS["single-port"])
    pod.converge(pod.configure(**SEVERAL))
    real = pod.real
    assert real is not None
    with real.kernel() as (_, nft):
        first = nft.observe_table()
        assert first is not None
        for _ in range(2):
            nft.load(f"delete table inet egress_router\n{first.text}")
        found = nft.observe_table()
        assert found is not None
        assert (found.intact, found.digest) == (True, first.digest)
        nft.load(f"delete table inet egress_router\n{first.text}")
        nft.load(None)
        assert nft.observe_table() is None


class Hanging:
    """A namespace whose nftables worker stops while step `at` is carried out."""

    def __init__(self, kernel: Namespace, nft: Nft, at: int) -> None:
        self.observe, self.check = kernel.observe, kernel.check
        self._kernel, self._nft, self._at = kernel, nft, at

    def apply(self, step: Step) -> None:
        if self._at == 0:
            assert self._nft._worker is not None
            os.kill(self._nft._worker.pid, signal.SIGSTOP)
        self._at -= 1
        self._kernel.apply(step)


@pytest.mark.parametrize(
    ("before", "after", "at"),
    [
        pytest.param(None, {}, 0, id="first-load"),
        pytest.param({}, SEVERAL, 0, id="second-load"),
        pytest.param(None, {"EGRESS_DESTINATION": LONG}, 0, id="request-longer-than-a-pipe"),
        pytest.param(None, {}, 1, id="while-it-lists"),
    ],
)
def test_worker_that_hangs(
    before: dict[str, str] | None, after: dict[str, str], at: int, on_real: OpenBench
) -> None:
    """A hanging worker is an error within its time, and all is undone through another one."""
    pod = on_real(SCENARIOS["single-port"])
    assert pod.real is not None
    if before is not None:
        pod.converge(pod.configure(**before))
    state = pod.fingerprint()
    with pod.real.kernel(timeout_s=TIMEOUT_S) as (kernel, nft):
        kernel.observe()
        started = time.monotonic()
        with pytest.raises(KernelError, match=r"wait for nftables: no answer within 0\.6 s"):
            pod.converge(pod.configure(**after), kernel=Hanging(kernel, nft, at))
        assert time.monotonic() - started < TIMEOUT_S + 5
        assert pod.fingerprint() == state
    pod.converge(pod.configure(**after))


@pytest.mark.parametrize(
    "request_of", [lambda nft: nft.check("list tables"), lambda nft: nft.load(None)]
)
def test_worker_that_died(request_of: Callable[[Nft], object], on_real: OpenBench) -> None:
    """A worker that ended is an error, once; the next request has another one."""
    pod = on_real(SCENARIOS["single-port"])
    assert pod.real is not None
    with pod.real.kernel() as (_, nft):
        assert nft.observe_table() is None
        assert nft._worker is not None
        nft._worker.kill()
        nft._worker.wait()
        with pytest.raises(KernelError, match="talk to nftables: the worker process ended"):
            request_of(nft)
        assert nft.observe_table() is None


def test_kernel_refuses_the_ruleset(on_real: OpenBench) -> None:
    """A ruleset that nft refuses fails the dry run with its first line, before any change."""
    pod = on_real(SCENARIOS["single-port"])
    assert pod.real is not None
    before = pod.fingerprint()
    with pod.real.kernel() as (kernel, _):
        with pytest.raises(KernelError, match=r"check the nftables ruleset: .*syntax error"):
            kernel.check("table inet egress_router { chain mark { } nonsense }")
        kernel.check("table inet egress_router { }")
    assert pod.fingerprint() == before
