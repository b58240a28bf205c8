import json

import pytest

from egress_router.config.check import Checked
from egress_router.config.http import check_http
from egress_router.config.settings import Environment
from egress_router.errors import EXIT_OK, ConfigurationError
from egress_router.plan.ruleset import ruleset_digest
from egress_router.programs.check import check_init, run_check
from model.environments import DUAL, PLAIN, environment

KEYS = ["mode", "source", "gateway", "destinations", "fallback", "ruleset"]  # contract.md
FULL = DUAL | {
    "EGRESS_DESTINATION": (
        "80 tcp 203.0.113.25\n# note\n8080 tcp 203.0.113.26 80\n5000-5010 udp 203.0.113.25\n"
        "443 tcp 2001:db8:25::25\n203.0.113.27\n2001:db8:25::27\n"
    )
}


def test_document(capsys: pytest.CaptureFixture[str]) -> None:
    """`check init --json` is exactly the document that the contract describes."""
    assert run_check(environment(**FULL), ["init"], as_json=True) == EXIT_OK
    shown = capsys.readouterr()
    document = json.loads(shown.out)
    assert shown.err == ""
    assert list(document) == KEYS
    ruleset = document.pop("ruleset")
    assert document == {
        "mode": "init",
        "source": ["192.168.12.99/24", "2001:db8:12::99/64"],
        "gateway": ["192.168.12.1", "2001:db8:12::1"],
        "destinations": [
            _destination(1, "tcp", [80, 80], "203.0.113.25", None),
            _destination(3, "tcp", [8080, 8080], "203.0.113.26", 80),
            _destination(4, "udp", [5000, 5010], "203.0.113.25", None),
            _destination(5, "tcp", [443, 443], "2001:db8:25::25", None),
        ],
        "fallback": ["203.0.113.27", "2001:db8:25::27"],
    }
    assert ruleset_digest(ruleset)
    assert 'iifname "eth0"' in ruleset
    assert 'oifname "macvlan0"' in ruleset


def _destination(
    line: int, protocol: str, ports: list[int], address: str, target_port: int | None
) -> dict[str, object]:
    return {
        "line": line,
        "protocol": protocol,
        "ports": ports,
        "address": address,
        "target_port": target_port,
    }


@pytest.mark.parametrize("mode", ["init", "legacy", "unit-test", "http-proxy", "dns-proxy"])
def test_mode(mode: str) -> None:
    """The document names the mode, and shows NAT where the mode redirects."""
    document = check_init(environment(EGRESS_ROUTER_MODE=mode)).document
    assert document["mode"] == mode
    assert ("dnat ip to" in document["ruleset"]) is not mode.endswith("proxy")


def test_link_names_of_the_environment() -> None:
    """Links that the environment names are the ones in the ruleset."""
    named = environment(EGRESS_INTERFACE="net1", EGRESS_CLUSTER_INTERFACE="ens3")
    ruleset = check_init(named).document["ruleset"]
    assert '"net1"' in ruleset
    assert '"ens3"' in ruleset
    assert '"eth0"' not in ruleset


def test_warnings_stand_beside_the_document(capsys: pytest.CaptureFixture[str]) -> None:
    """What is merely suspicious goes to standard error, and changes neither document nor code."""
    suspicious = environment(EGRESS_GATEWY="x", EGRESS_ROUTER_MODE="http-proxy")
    assert run_check(suspicious, ["init"], as_json=True) == EXIT_OK
    shown = capsys.readouterr()
    assert list(json.loads(shown.out)) == KEYS
    assert shown.err.splitlines() == [
        "warning: unknown variable EGRESS_GATEWY: did you mean EGRESS_GATEWAY?",
        "warning: EGRESS_DESTINATION is not used: EGRESS_ROUTER_MODE=http-proxy redirects nothing",
    ]


def test_text(capsys: pytest.CaptureFixture[str]) -> None:
    """Without --json a person reads what was understood, then the ruleset."""
    assert run_check(environment(**FULL, EGRESS_GATEWY="x"), [], as_json=False) == EXIT_OK
    shown = capsys.readouterr().out
    above, _, below = shown.partition("\n\n")
    assert above.splitlines() == [
        "mode         init",
        "source       192.168.12.99/24, 2001:db8:12::99/64",
        "gateway      192.168.12.1, 2001:db8:12::1",
        "destination  tcp 80 to 203.0.113.25",
        "destination  tcp 8080 to 203.0.113.26 port 80",
        "destination  udp 5000-5010 to 203.0.113.25",
        "destination  tcp 443 to 2001:db8:25::25",
        "fallback     everything else to 203.0.113.27",
        "fallback     everything else to 2001:db8:25::27",
        "warning      unknown variable EGRESS_GATEWY: did you mean EGRESS_GATEWAY?",
    ]
    assert below.startswith("table inet egress_router\n")


def test_every_program_together(capsys: pytest.CaptureFixture[str]) -> None:
    """Several programs give one document with a key each, and all their problems at once."""
    other = {"other": lambda: lambda _: Checked(document={"rules": []}, text="")}
    assert run_check(environment(), ["init", "other"], as_json=True, modes=other) == EXIT_OK
    document = json.loads(capsys.readouterr().out)
    assert list(document) == ["init", "other"]
    assert list(document["init"]) == KEYS
    with pytest.raises(ConfigurationError) as caught:
        run_check(
            environment(EGRESS_SOURCE="x"),
            ["init", "other"],
            as_json=True,
            modes={"other": lambda: check_init},
        )
    assert [problem.variable for problem in caught.value.problems] == ["EGRESS_SOURCE"] * 2
    assert capsys.readouterr().out == ""


def test_a_mode_is_checked_where_its_variables_are_set(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a name those are checked whose own variables are there, and no other is loaded."""

    def unwanted() -> None:
        raise AssertionError

    modes = {"http": lambda: check_http, "redirect": unwanted}
    listed = Environment(variables={"EGRESS_HTTP_PROXY_DESTINATION": "!www.example.com\n*"})
    assert run_check(listed, [], as_json=True, modes=modes) == EXIT_OK
    assert json.loads(capsys.readouterr().out) == {
        "rules": [
            {
                "line": 1,
                "action": "deny",
                "kind": "host",
                "value": "www.example.com",
                "ports": None,
            },
            {"line": 2, "action": "allow", "kind": "any", "value": "*", "ports": None},
        ],
        "default": "allow",
    }


def test_nothing_set_is_checked_as_init() -> None:
    """An empty environment is an init without anything, and says so."""
    with pytest.raises(ConfigurationError) as caught:
        run_check(Environment(variables={}), [], as_json=True)
    found = [str(problem).partition(":")[0] for problem in caught.value.problems]
    assert found == [
        "EGRESS_SOURCE unspecified or invalid",
        "EGRESS_GATEWAY unspecified or invalid",
        "EGRESS_DESTINATION unspecified",
    ]


def test_unknown_program() -> None:
    """A program that is none is named, with those that are."""
    with pytest.raises(ConfigurationError, match="unknown program 'web': expected init"):
        run_check(Environment(variables=PLAIN), ["web"], as_json=False)
