"""HTTP: real curl through the proxy, plain and by CONNECT, and what the partner saw of it."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

from egress_router.lab import checks, web
from egress_router.lab.addresses import ADDRESSES
from egress_router.lab.runner import run_init, wait_until_ready
from egress_router.lab.scenario import Act, Check, Outcome, Scenario
from egress_router.lab.world import BARE_PYTHON

if TYPE_CHECKING:
    from egress_router.lab.world import Lab

MODE = "http"
PORT = 8080
NAME, NAME6, DENIED, INSIDE = (
    f"{label}.partner.test" for label in ("www", "six", "denied", "inside")
)
RECORDS = (
    f"{NAME}. 5 IN A {ADDRESSES.partner.v4}",
    f"{NAME6}. 5 IN AAAA {ADDRESSES.partner.v6}",
    f"{DENIED}. 5 IN A {ADDRESSES.partner.v4}",
    f"{INSIDE}. 5 IN A {ADDRESSES.pod.v4}",
)
ENVIRONMENT = {
    "EGRESS_ROUTER_MODE": "http-proxy",
    "EGRESS_SOURCE": "192.168.12.99/24,2001:db8:12::99/64",
    "EGRESS_GATEWAY": "192.168.12.1,2001:db8:12::1",
}
DAEMON = {
    "EGRESS_HTTP_PROXY_DESTINATION": f"!{DENIED}\n*.partner.test\n203.0.113.0/24",
    "EGRESS_WORKERS": "2",
}
CURL_LIMIT_S = 5
DAYS = 2


def arrange(lab: Lab) -> None:
    """Starts the cluster's DNS and the partner's web server, with a certificate made just now."""
    lab.start_nameserver(*RECORDS)
    certificate, key = lab.logs / "partner.pem", lab.logs / "partner.key"
    subject = ("-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME},DNS:{NAME6}")
    made = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    written = ("-days", str(DAYS), "-keyout", str(key), "-out", str(certificate))
    subprocess.run(
        ("openssl", "req", "-x509", *made, *subject, *written),
        check=True,
        capture_output=True,
    )
    ports = ("--http", "80", "--https", "443")
    files = ("--certificate", str(certificate), "--key", str(key))
    server = lab.start("partner", (*BARE_PYTHON, web.__file__, *ports, *files), name="web")
    server.wait_for_line("ready")


def curl(lab: Lab, url: str, *options: str, version: int = 4) -> subprocess.CompletedProcess[str]:
    """Runs curl in the client, with the proxy in its environment as applications have it."""
    address = ADDRESSES.pod.of(version)
    proxy = f"http://{f'[{address}]' if version == 6 else address}:{PORT}"
    command = ("curl", "-sS", "--max-time", str(CURL_LIMIT_S), *options, url)
    return lab.run("client", command, {"http_proxy": proxy, "https_proxy": proxy}, check=False)


def seen_by_partner(url: str, *options: str, source: int = 4, client: int = 4) -> Act:
    """The partner answers, and saw the source address of that family and no X-Forwarded-For."""

    def act(lab: Lab) -> Outcome:
        certificate = ("--cacert", str(lab.logs / "partner.pem"))
        done = curl(lab, url, *certificate, *options, version=client)
        if done.returncode:
            return Outcome(ok=False, seen=f"curl {url}: {done.stderr.strip()}")
        seen: dict[str, Any] = json.loads(done.stdout)
        ok = (
            seen["source"] == str(ADDRESSES.source.of(source))
            and seen["tls"] == url.startswith("https:")
            and seen["forwarded_for"] is None
        )
        return Outcome(ok=ok, seen=f"curl {url}; partner saw {seen['source']}")

    return act


def refused(url: str, status: int, words: str) -> Act:
    """Curl gets this status with these words, and the partner hears nothing."""

    def act(lab: Lab) -> Outcome:
        arrived = f"dst net {ADDRESSES.partner_network.v4}"
        with lab.capture("gw", "to-partner", arrived) as capture:
            done = curl(lab, url, "-w", "%{http_code} %{http_connect}")
            packets = capture.packets()
        answer, _, codes = done.stdout.rpartition("\n")
        told = answer or done.stderr.strip()
        plain = codes.startswith(f"{status} ") and words in answer
        tunnel = codes.endswith(f" {status}") and done.returncode != 0
        return Outcome(
            ok=(plain or tunnel) and not packets,
            seen=f"curl {url}; '{told}'; {len(packets)} packets reached the partner",
        )

    return act


def link_down(lab: Lab) -> Outcome:
    """With the egress link down the answer is a 502 that names it; init repairs it."""
    outside = " or ".join(f"dst net {ADDRESSES.partner_network.of(v)}" for v in (4, 6))
    with lab.capture("pod", "eth0", outside) as capture:
        lab.run("pod", ("ip", "link", "set", lab.spec.egress_link, "down"))
        done = curl(lab, f"http://{NAME}/", "-w", "%{http_code}")
        packets = capture.packets()
    run_init(lab, ENVIRONMENT)
    wait_until_ready(lab, lab.process(MODE))
    answer, _, code = done.stdout.rpartition("\n")
    back = seen_by_partner(f"http://{NAME}/")(lab)
    return Outcome(
        ok=code == "502" and lab.spec.egress_link in answer and not packets and back.ok,
        seen=f"'{answer}'; {len(packets)} packets left by eth0; after init ran again: {back.seen}",
    )


SCENARIO = Scenario(
    mode=MODE,
    summary="applications that set HTTP_PROXY and HTTPS_PROXY leave from the source address",
    arrange=arrange,
    environment=ENVIRONMENT,
    daemon_environment=DAEMON,
    checks=(
        Check(title="plain", act=seen_by_partner(f"http://{NAME}/")),
        Check(title="HTTPS through CONNECT", act=seen_by_partner(f"https://{NAME}/")),
        Check(title="a body", act=seen_by_partner(f"http://{NAME}/", "-d", "x=1")),
        Check(title="plain, IPv6", act=seen_by_partner(f"http://{NAME6}/", source=6, client=6)),
        Check(title="HTTPS, IPv6", act=seen_by_partner(f"https://{NAME6}/", source=6, client=6)),
        Check(title="denied host", act=refused(f"http://{DENIED}/", 403, f"'!{DENIED}' denies")),
        Check(title="denied host, HTTPS", act=refused(f"https://{DENIED}/", 403, "")),
        Check(title="no rule", act=refused("http://198.51.100.1/", 403, "no line matches")),
        Check(title="the pod itself", act=refused(f"http://{INSIDE}/", 403, "the router itself")),
        Check(title="no such name", act=refused("http://no.partner.test/", 502, "not found")),
        Check(title="DNS stays in the cluster", act=checks.dns_stays_inside(f"{NAME}.")),
        Check(title="outsider cannot connect", act=checks.outsider_cannot_connect((PORT,))),
        Check(title="egress link down", act=link_down),
        Check(title="stop", act=checks.stops(MODE, DAEMON, limit_s=4.0)),
    ),
)
