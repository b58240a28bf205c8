"""What the daemons' containers may do, looked at from outside, while they serve."""

import re
import secrets
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.images.callers import RECORDS
from tests.images.manifests import Document, changed, read_example
from tests.images.pods import PodWorld

WRITE = "open('/usr/local/lib/x', 'w')"
UIDS = range(100_000, 2**31)  # what OpenShift draws from, and beyond


@pytest.mark.parametrize("example", ["redirect-reduced.yaml", "http.yaml", "dns.yaml"])
def test_daemon_has_nothing(play: Callable[..., PodWorld], example: str) -> None:
    """Any uid, no capability, no way to get one, a root that cannot be written; and it is ready."""
    uid = secrets.choice(UIDS)

    def draw(pod: Document) -> None:
        pod["spec"]["containers"][0]["securityContext"]["runAsUser"] = uid

    pod = play(changed(read_example(example), draw))
    pod.lab.start_nameserver(*RECORDS)
    pod.start()
    pod.wait_until_ready()
    status = Path(f"/proc/{pod.state(pod.main)['Pid']}/status").read_text(encoding="ascii")
    facts = dict(re.findall(r"^(\w+):\s*(.*)$", status, re.MULTILINE))
    assert facts["Uid"].split() == [str(uid)] * 4
    for kind in ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb"):
        assert int(facts[kind], 16) == 0, kind
    assert facts["NoNewPrivs"] == "1"
    written = pod.execute("/usr/bin/python3", "-c", WRITE, check=False)
    assert "Read-only file system" in written.stderr


@pytest.mark.parametrize("example", ["redirect-reduced.yaml", "http.yaml", "dns.yaml"])
def test_probe_needs_no_shell(play: Callable[..., PodWorld], example: str) -> None:
    """The exec probe tells why a daemon is not ready; there is no shell it could have used."""
    pod = play(read_example(example))
    pod.lab.start_nameserver(*RECORDS)
    pod.start()
    pod.wait_until_ready()
    pod.lab.run("pod", ("ip", "link", "set", "macvlan0", "down"))
    done = pod.wait_until_not_ready()
    assert done.returncode == 1
    assert "macvlan0" in done.stderr
    assert pod.execute("sh", "-c", "true", check=False).returncode == 127
