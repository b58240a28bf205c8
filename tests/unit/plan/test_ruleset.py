"""The table's text: what nft accepts, made of parsed values alone."""

import re
import subprocess
from collections.abc import Iterator
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from egress_router.config.destinations import Destination, Destinations, Fallback, Protocol
from egress_router.config.init import parse_init
from egress_router.config.settings import Environment
from egress_router.errors import ConfigurationError
from egress_router.plan.ruleset import (
    CANARY_ADDRESS,
    RulesetSpec,
    render_removal,
    render_ruleset,
    ruleset_digest,
)
from model.environments import SERVER, SERVER_6, SOURCE, SOURCE_6, configure
from model.real import RealWorld, real_world
from model.worlds import BARE

V4, V6 = st.ip_addresses(v=4), st.ip_addresses(v=6)
LINK_NAMES = st.from_regex(r"[a-zA-Z][a-zA-Z0-9._@#{};$'()-]{0,14}", fullmatch=True)
NETWORKS = st.builds(
    lambda address, length: ip_network((address, min(length, address.max_prefixlen)), strict=False),
    V4 | V6,
    st.integers(1, 128),
)


@st.composite
def destinations(draw: st.DrawFn) -> Destinations:
    """Any list that the grammar allows: no port twice for one protocol and family."""
    rules = []
    for addresses in (V4, V6):
        for protocol in Protocol:
            cuts = sorted(draw(st.sets(st.integers(1, 65535), max_size=6)))
            for first, last in zip(cuts[::2], cuts[1::2], strict=False):
                single = draw(st.booleans())
                rules.append(
                    Destination(
                        line=len(rules) + 1,
                        text="",
                        protocol=protocol,
                        first=first,
                        last=first if single else last,
                        address=draw(addresses),
                        target_port=draw(st.none() | st.integers(1, 65535)) if single else None,
                    )
                )
    fallbacks = [
        Fallback(line=9, text="", address=draw(addresses))
        for addresses in (V4, V6)
        if draw(st.booleans())
    ]
    return Destinations(rules=tuple(rules), fallbacks=tuple(fallbacks))


@st.composite
def specs(draw: st.DrawFn) -> RulesetSpec:
    """Anything that a table's text can depend on."""
    sources = draw(st.sampled_from([(V4,), (V6,), (V4, V6)]))
    return RulesetSpec(
        cluster=draw(LINK_NAMES),
        egress=draw(LINK_NAMES),
        sources=tuple(draw(addresses) for addresses in sources),
        destinations=draw(st.none() | destinations()),
        cluster_networks=tuple(draw(st.lists(NETWORKS, max_size=6))),
        nameservers=tuple(draw(st.lists(V4 | V6, max_size=3))),
        admin_port=draw(st.none() | st.integers(1, 65535)),
    )


@pytest.fixture(scope="module")
def namespace() -> Iterator[RealWorld]:
    """A fresh network namespace to check rulesets in."""
    with real_world(BARE) as world:
        yield world


@pytest.mark.netns
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(spec=specs())
def test_nft_accepts_every_ruleset(spec: RulesetSpec, namespace: RealWorld) -> None:
    """Whatever valid configuration there is, nft and the kernel accept its table."""
    checked = subprocess.run(
        ("ip", "netns", "exec", namespace.pod, "nft", "-c", "-f", "-"),
        input=render_ruleset(spec),
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr


@given(specs())
def test_digest(spec: RulesetSpec) -> None:
    """The text carries a digest of itself, which any change of it changes."""
    text = render_ruleset(spec)
    assert re.fullmatch(r"[0-9a-f]{32}", ruleset_digest(text))
    assert render_ruleset(spec) == text
    other = render_ruleset(RulesetSpec(cluster="x", egress="y", sources=(), destinations=None))
    assert (ruleset_digest(other) == ruleset_digest(text)) is (other == text)
    assert ruleset_digest("table inet egress_router { }") == ""
    assert text.startswith(render_removal())


NASTY = st.text("10.2:/-, \t\n;{}\"'$()\\#%*xflush ruleset", max_size=20)
NAMES = (
    "EGRESS_SOURCE",
    "EGRESS_GATEWAY",
    "EGRESS_DESTINATION",
    "EGRESS_INTERFACE",
    "EGRESS_CLUSTER_INTERFACE",
    "EGRESS_CLUSTER_CIDRS",
    "KUBERNETES_SERVICE_HOST",
    "EGRESS_ADMIN_PORT",
)
VALID = {
    "EGRESS_SOURCE": f"{SOURCE}/24 {SOURCE_6}",
    "EGRESS_GATEWAY": "192.168.12.1 fe80::1",
    "EGRESS_DESTINATION": f"80 tcp {SERVER}\n81-82 udp {SERVER_6}\n{SERVER}",
}
KNOWN = re.compile(r"(?:[a-z0-9_ .:,/{}@|&!=<>()+;\t\n-]|\"[!-~ ]*?\")*", re.IGNORECASE)


def environment_ruleset(variables: dict[str, str]) -> str | None:
    """The table of an environment as `check` shows it; None if the environment is refused."""
    try:
        config = parse_init(Environment(variables=variables))
    except ConfigurationError:
        return None
    return render_ruleset(
        RulesetSpec(
            cluster=config.link.cluster or "eth0",
            egress=config.link.egress or "macvlan0",
            sources=tuple(source.address for source in config.identity.sources),
            destinations=config.destinations,
            cluster_networks=config.cluster_networks,
            admin_port=config.admin_port,
        )
    )


@given(st.sampled_from(NAMES), st.sampled_from(NAMES), NASTY, NASTY)
def test_nothing_is_injected(first: str, second: str, text: str, other: str) -> None:
    """B1-8: whatever is put around or into a valid value, no word of it reaches nft as syntax."""
    value = VALID.get(first, "10.0.0.0/8")
    for injected in (text, value + text, text + value, value.replace(" ", text)):
        ruleset = environment_ruleset(VALID | {second: other} | {first: injected})
        if ruleset is not None:
            assert KNOWN.fullmatch(ruleset)
            assert "flush" not in re.sub(r'"[^"]*"', "", ruleset)
            assert len(re.findall(r"^table ", ruleset, re.MULTILINE)) == 2
            assert len(re.findall(r"^\tchain ", ruleset, re.MULTILINE)) == 10


@pytest.mark.parametrize(
    "text",
    [
        "fe80::%};flush/64",
        '10.0.0.0/8"',
        "10.0.0.0/8;10.1.0.0/16",
        "10.0.0.0/8 }",
        "$x",
    ],
)
def test_bad_networks_never_render(text: str) -> None:
    """B1-8: what is no network is refused before there is any ruleset."""
    assert environment_ruleset(VALID | {"EGRESS_CLUSTER_CIDRS": text}) is None


def spec_of(text: str | None, **changes: object) -> RulesetSpec:
    """The table of an IPv4 router with these destinations."""
    found = None if text is None else configure(EGRESS_DESTINATION=text).destinations
    fields: dict[str, object] = {
        "cluster": "eth0",
        "egress": "macvlan0",
        "sources": (ip_address(SOURCE),),
        "destinations": found,
    }
    return RulesetSpec(**(fields | changes))


@pytest.mark.parametrize(
    ("spec", "there", "absent"),
    [
        pytest.param(
            spec_of("80 tcp 203.0.113.25\n443 tcp 203.0.113.25 8443"),
            ["elements = { tcp . 80 : 203.0.113.25 . 80,", "tcp . 443 : 203.0.113.25 . 8443 }"],
            ["@ranges4", "redirect6", "sctp"],
            id="ports",
        ),
        pytest.param(
            spec_of("80-90 udp 203.0.113.25"),
            [
                "flags interval\n\t\tcounter\n\t\telements = { udp . 80-90 : 203.0.113.25 }",
                "@ranges4",
            ],
            ["@redirect4"],
            id="range",
        ),
        pytest.param(
            spec_of("203.0.113.27"),
            [
                "meta nfproto ipv4 meta l4proto { tcp, udp } counter name fallback4 dnat ip to",
            ],
            ["map redirect4", "map ranges4", "_by_port", "_by_range"],
            id="fallback-only",
        ),
        pytest.param(
            spec_of("9 sctp 203.0.113.25\n203.0.113.27"),
            ["meta l4proto != { tcp, udp, sctp } accept"],
            [],
            id="sctp",
        ),
        pytest.param(
            spec_of(None), ["snat ip to 192.168.12.99"], ["dnat ip", "nat_prerouting"], id="proxy"
        ),
        pytest.param(
            spec_of("203.0.113.27", admin_port=9099),
            ["tcp dport 9099 accept\n\t\tmeta nfproto ipv4 meta l4proto"],
            [],
            id="admin-port-before-fallback",
        ),
        pytest.param(
            spec_of(None, cluster_networks=(*map(ip_network, ("10.0.0.0/8", "10.1.0.0/16")),)),
            ["elements = { 10.0.0.0/8, 224.0.0.0/4"],
            ["10.1.0.0/16"],
            id="overlapping-networks",
        ),
        pytest.param(
            spec_of(None, nameservers=(ip_address("172.30.0.10"), ip_address("fd00::10"))),
            [
                "ip daddr { 172.30.0.10 } meta l4proto { tcp, udp } th dport 53 accept",
                "ip6 daddr { fd00::10 }",
                f"ip daddr {CANARY_ADDRESS} tcp dport 86 reject with icmp admin-prohibited",
            ],
            [],
            id="nameservers",
        ),
    ],
)
def test_text(spec: RulesetSpec, there: list[str], absent: list[str]) -> None:
    """Each part of the configuration shows in the table, and nothing that was not asked for."""
    text = render_ruleset(spec)
    assert [part for part in there if part not in text] == []
    assert [part for part in absent if part in text] == []
