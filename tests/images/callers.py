"""What clients, names and the partner of the documented examples need, in a pod's world."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

from egress_router.lab import caller, web
from egress_router.lab.addresses import ADDRESSES
from egress_router.lab.scenarios.http import curl
from egress_router.lab.world import BARE_PYTHON, Answer

if TYPE_CHECKING:
    from egress_router.lab.process import Process
    from egress_router.lab.world import Lab

RECORDS = (
    "www.example.com. 5 IN A 203.0.113.26",
    "api.example.com. 5 IN A 203.0.113.25",
    "denied.example.com. 5 IN A 203.0.113.25",
)
REDIRECTED = {  # the pod's port, and who must be reached by it
    80: ("203.0.113.25", 80),
    8080: ("203.0.113.26", 80),
    8443: ("203.0.113.26", 443),
    7777: ("203.0.113.27", 7777),
}
FORWARDED = {
    80: ("203.0.113.25", 80),
    8080: ("203.0.113.26", 80),
    8443: ("203.0.113.25", 443),
}
CALLS_END_S = 15.0


def start_web(lab: Lab) -> None:
    """Starts the partner's web server, plain and with a certificate made just now."""
    certificate, key = lab.logs / "partner.pem", lab.logs / "partner.key"
    made = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    written = ("-subj", "/CN=partner", "-keyout", str(key), "-out", str(certificate))
    subprocess.run(("openssl", "req", "-x509", *made, *written), check=True, capture_output=True)
    ports = ("--http", "80", "--https", "443")
    files = ("--certificate", str(certificate), "--key", str(key))
    server = lab.start("partner", (*BARE_PYTHON, web.__file__, *ports, *files), name="web")
    server.wait_for_line("ready")


def expect_reached(lab: Lab, calls: dict[int, tuple[str, int]]) -> None:
    """Each port of the pod leads where it should, and the partner sees the source address."""
    for port, (address, there) in calls.items():
        answer = lab.ask("client", "tcp", ADDRESSES.pod.v4, port)
        assert isinstance(answer, Answer), (port, answer)
        assert (str(answer.local), answer.local_port) == (address, there)
        assert answer.source == ADDRESSES.source.v4


def expect_proxied(lab: Lab, url: str) -> None:
    """A client with the proxy in its environment gets the page, fetched from the source address."""
    done = curl(lab, url, "--insecure")
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    assert seen["source"] == str(ADDRESSES.source.v4)
    assert seen["tls"] == url.startswith("https")


def status_of(lab: Lab, url: str) -> str:
    """The proxy's answer to a client, such as `403`; `000` if there is none."""
    return curl(lab, url, "--output", "/dev/null", "--write-out", "%{http_code}").stdout


def start_calls(lab: Lab, port: int, *, rate: float, seconds: float) -> Process:
    """Calls a port of the pod at a steady rate."""
    words = (str(ADDRESSES.pod.v4), str(port), str(rate), str(seconds))
    return lab.start("client", (*BARE_PYTHON, caller.__file__, *words), name="caller")


def finish_calls(process: Process) -> dict[str, Any]:
    """How the calls went; see `egress_router.lab.caller`."""
    assert process.wait(CALLS_END_S) == 0, process.tail()
    return dict(json.loads(process.output()))
