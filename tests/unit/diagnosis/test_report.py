"""The doctor's report, as a person and as a program sees it."""

from __future__ import annotations

import json

from egress_router.diagnosis.facts import Place
from egress_router.diagnosis.findings import Advice, fail, ok, untested, warn
from egress_router.diagnosis.report import WIDTH, is_sound, render_document, render_report
from model.patients import PLACE

FINDINGS = (
    ok("link", "macvlan0 is up"),
    warn("variables", "unknown variable EGRESS_SOURC"),
    fail(
        "gateway",
        "192.168.12.1 does not answer\x1b[2J",
        Advice(cause="it is off", remedy="switch it on, and see that " + "it stays on " * 8),
        Advice(cause="it is elsewhere", remedy="look for it"),
    ),
    untested("mtu", "says nothing before `gateway` holds"),
)

TEXT = """\
192.168.12.99, 2001:db8:12::99 by macvlan0 via 192.168.12.1, 2001:db8:12::1

ok          link       macvlan0 is up
WARN        variables  unknown variable EGRESS_SOURC
FAIL        gateway    192.168.12.1 does not answer?[2J
            cause  it is off
            do     switch it on, and see that it stays on it stays on it stays on it stays on it
                   stays on it stays on it stays on it stays on
            cause  it is elsewhere
            do     look for it
not tested  mtu        says nothing before `gateway` holds

1 ok, 1 warn, 1 fail, 1 not tested; 2.3 s
"""


def test_the_golden_report() -> None:
    """One line for each check, causes and remedies below, wrapped; nothing unprintable gets out."""
    text = render_report(PLACE, FINDINGS, 2.34)
    assert text == TEXT
    assert max(map(len, text.splitlines())) <= WIDTH


def test_the_document() -> None:
    """The same as an object that is plain JSON."""
    document = json.loads(json.dumps(render_document(PLACE, FINDINGS, 2.345)))
    assert document["ok"] is False
    assert document["source"] == ["192.168.12.99", "2001:db8:12::99"]
    assert document["seconds"] == 2.35
    assert [one["status"] for one in document["checks"]] == ["ok", "warn", "fail", "not tested"]
    assert document["checks"][2]["advice"][1] == {
        "cause": "it is elsewhere",
        "remedy": "look for it",
    }


def test_warnings_are_no_failure() -> None:
    """Only what failed makes a pod unsound."""
    assert is_sound(FINDINGS[:2])
    assert not is_sound(FINDINGS)


def test_a_pod_without_anything() -> None:
    """Where nothing is known the head says so."""
    text = render_report(Place(link="macvlan0", cluster=None), FINDINGS, 0)
    assert text.startswith("no source by macvlan0 via no gateway\n")
