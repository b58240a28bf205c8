from ipaddress import ip_address

import pytest

from egress_router.config.destinations import Protocol
from egress_router.plan.flows import Flow, FlowJudge
from model.environments import SERVER, SOURCE, configure

POD, CLIENT = "10.128.0.5", "10.128.0.9"
TEXT = f"""
80 tcp {SERVER}
8080 tcp 203.0.113.26 80
53 udp 203.0.113.26
500-510 tcp 203.0.113.28
9 sctp 203.0.113.29
"""


def flow(
    port: int,
    answers: str,
    answers_port: int,
    *,
    protocol: Protocol = Protocol.TCP,
    source: str = CLIENT,
    destination: str = POD,
    answers_to: str = SOURCE,
) -> Flow:
    """A connection to `port` of `destination` that `answers` answers to `answers_to`."""
    return Flow(
        protocol=protocol,
        source=ip_address(source),
        source_port=40000,
        destination=ip_address(destination),
        destination_port=port,
        answers=ip_address(answers),
        answers_port=answers_port,
        answers_to=ip_address(answers_to),
        answers_to_port=40000,
    )


def judge(text: str) -> FlowJudge:
    """A judge of a router with these destinations."""
    config = configure(EGRESS_DESTINATION=text)
    return FlowJudge(
        config.destinations,
        local=(ip_address(POD),),
        sources=(ip_address(SOURCE),),
        admin_port=9099,
    )


UDP, SCTP = Protocol.UDP, Protocol.SCTP
WITHOUT_FALLBACK = [
    pytest.param(flow(80, SERVER, 80), False, id="as-the-table-says"),
    pytest.param(flow(80, "203.0.113.99", 80), True, id="old-server"),
    pytest.param(flow(80, SERVER, 8080), True, id="old-target-port"),
    pytest.param(flow(8080, "203.0.113.26", 80), False, id="target-port"),
    pytest.param(flow(8080, "203.0.113.26", 8080), True, id="target-port-unchanged"),
    pytest.param(flow(53, "203.0.113.26", 53, protocol=UDP), False, id="udp"),
    pytest.param(flow(53, "203.0.113.26", 53), True, id="same-port-other-protocol"),
    pytest.param(flow(505, "203.0.113.28", 505), False, id="inside-a-range"),
    pytest.param(flow(511, "203.0.113.28", 511), True, id="behind-a-range"),
    pytest.param(flow(9, "203.0.113.29", 9, protocol=SCTP), False, id="sctp"),
    pytest.param(flow(80, POD, 80, answers_to=CLIENT), True, id="not-translated-but-should-be"),
    pytest.param(flow(22, POD, 22, answers_to=CLIENT), False, id="not-translated-rightly"),
    pytest.param(flow(22, SERVER, 22), True, id="translated-but-should-not-be"),
    pytest.param(flow(80, SERVER, 80, answers_to="192.168.12.98"), True, id="old-source"),
    pytest.param(flow(80, SERVER, 80, answers_to=CLIENT), True, id="without-our-source"),
    pytest.param(flow(9099, POD, 9099, answers_to=CLIENT), False, id="admin-port"),
    pytest.param(flow(80, "192.0.2.1", 80, destination="192.0.2.1"), False, id="not-to-the-pod"),
    pytest.param(flow(80, POD, 80, source=POD, answers_to=POD), False, id="of-the-pod-itself"),
    pytest.param(
        flow(80, "fd00::5", 80, source="fd00::9", destination="fd00::5", answers_to="fd00::9"),
        False,
        id="other-family",
    ),
]
WITH_FALLBACK = [
    pytest.param(flow(80, SERVER, 80), False, id="rule-before-fallback"),
    pytest.param(flow(22, "203.0.113.27", 22), False, id="fallback"),
    pytest.param(flow(22, POD, 22, answers_to=CLIENT), True, id="before-the-fallback"),
    pytest.param(flow(22, "203.0.113.27", 22, protocol=UDP), False, id="fallback-udp"),
    pytest.param(
        flow(22, POD, 22, protocol=SCTP, answers_to=CLIENT), False, id="fallback-never-sctp"
    ),
    pytest.param(flow(9099, POD, 9099, answers_to=CLIENT), False, id="admin-port"),
    pytest.param(flow(9099, "203.0.113.27", 9099), True, id="admin-port-redirected"),
    pytest.param(flow(9099, "203.0.113.27", 9099, protocol=UDP), False, id="admin-port-udp"),
]


@pytest.mark.parametrize(("tracked", "contradicts"), WITHOUT_FALLBACK)
def test_without_fallback(tracked: Flow, contradicts: bool) -> None:
    """A tracked connection stays exactly if the table would treat it the same today."""
    assert judge(TEXT).contradicts(tracked) is contradicts


@pytest.mark.parametrize(("tracked", "contradicts"), WITH_FALLBACK)
def test_with_fallback(tracked: Flow, contradicts: bool) -> None:
    """With a fallback every other TCP and UDP port has a destination, too."""
    assert judge(f"{TEXT}203.0.113.27").contradicts(tracked) is contradicts
