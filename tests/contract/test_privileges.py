"""What init needs, and what it says where it does not have it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import egress_router
from egress_router.lab.privileges import INIT_CAPABILITIES, READ_ONLY_SYSCTLS
from model.bench import Bench, OpenBench
from model.environments import PLAIN
from model.scenarios import SCENARIOS, V6

pytestmark = pytest.mark.netns

ROOT = Path(egress_router.__file__).parent.parent
LIMIT_S = 30
FORWARDING = "/proc/sys/net/ipv6/conf/all/forwarding"


def without(capability: str) -> tuple[str, ...]:
    """A command line that takes one capability away."""
    return ("setpriv", f"--bounding-set=-{capability}", f"--inh-caps=-{capability}")


def init(pod: Bench, *wrap: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """Runs the real program in the pod, behind the words of `wrap`."""
    assert pod.real is not None
    environment = PLAIN | pod.scenario.environment | {"EGRESS_CONFLICT": "takeover"} | changes
    return subprocess.run(
        (
            *("ip", "netns", "exec", pod.real.pod),
            *wrap,
            *(sys.executable, "-m", "egress_router", "init"),
        ),
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def test_reduced_form(on_real: OpenBench) -> None:
    """NET_ADMIN and NET_RAW alone, with /proc/sys read-only, are enough for a link handed over."""
    pod = on_real(SCENARIOS["single-port"])
    done = init(pod, *READ_ONLY_SYSCTLS, *INIT_CAPABILITIES)
    assert done.returncode == 0, done.stderr + done.stdout
    fresh = on_real(SCENARIOS["single-port"])
    fresh.converge(fresh.configure())
    # Rules and table hold this machine's nameservers, too.
    ended, wanted = pod.outcome(), fresh.outcome()
    assert (ended.links, ended.addresses, ended.routes) == (
        wanted.links,
        wanted.addresses,
        wanted.routes,
    )
    assert set(wanted.rules) - set(ended.rules) <= {r for r in wanted.rules if r.destination_port}


@pytest.mark.parametrize("capability", ["net_admin", "net_raw"])
def test_missing_capability(capability: str, on_real: OpenBench) -> None:
    """A missing capability is named before anything is touched."""
    pod = on_real(SCENARIOS["single-port"])
    before = pod.fingerprint()
    done = init(pod, *without(capability))
    assert done.returncode == 4
    assert f"error: check capabilities: CAP_{capability.upper()} missing" in done.stderr
    assert "run init with capabilities NET_ADMIN and NET_RAW" in done.stderr
    assert pod.fingerprint() == before


def test_ipv6_forwarding_cannot_be_set(on_real: OpenBench) -> None:
    """Redirecting IPv6 needs one sysctl; where it cannot be set, init says so and undoes all."""
    pod = on_real(SCENARIOS["ipv6-only"])
    before = pod.fingerprint()
    done = init(pod, *READ_ONLY_SYSCTLS, *INIT_CAPABILITIES)
    assert done.returncode == 4
    assert "set net.ipv6.conf.all.forwarding=1 for redirecting IPv6 connections" in done.stderr
    assert "/proc/sys is read-only here: give the pod this sysctl" in done.stderr
    assert "Traceback" not in done.stderr
    assert pod.fingerprint() == before


def test_ipv6_forwarding_given(on_real: OpenBench) -> None:
    """A sysctl that is right already need not be written."""
    pod = on_real(SCENARIOS["ipv6-only"])
    assert pod.real is not None
    pod.real.run("sh", "-c", f"echo 1 > {FORWARDING}")
    done = init(pod, *READ_ONLY_SYSCTLS, *INIT_CAPABILITIES, **V6)
    assert done.returncode == 0, done.stderr
