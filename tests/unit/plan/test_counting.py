"""What the table counts: every destination once, in both directions."""

import re

import pytest

from egress_router.config.destinations import Destinations
from egress_router.plan.counting import (
    DIRECTIONS,
    DROP_REASONS,
    DROPPED,
    render_chains,
    render_counters,
    render_sets,
    without_state,
)
from egress_router.plan.ruleset import RulesetSpec, render_ruleset
from model.environments import configure

LIST = """\
80 tcp 203.0.113.25
80 udp 203.0.113.25
443 tcp 203.0.113.25 8443
5000-5010 udp 203.0.113.27
203.0.113.28"""


def destinations(text: str = LIST) -> Destinations:
    """A list as init reads it."""
    found = configure(EGRESS_DESTINATION=text).destinations
    assert found is not None
    return found


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_each_destination_has_one_element_in_each_direction(direction: str) -> None:
    """Ports stand in a hash, ranges in an interval set, the fallback has a counter of its own."""
    text = "\n".join(render_sets(destinations()))
    chains = "\n".join(render_chains(destinations()))
    ports, ranges = (
        re.search(rf"set {direction}_by_{kind} {{(.*?)\n\t}}", text, re.DOTALL)
        for kind in ("port", "range")
    )
    assert ports is not None
    assert ranges is not None
    assert re.findall(r"ipv4 \. \S+ \. [0-9]+", ports[1]) == [
        "ipv4 . tcp . 80",
        "ipv4 . udp . 80",
        "ipv4 . tcp . 443",
    ]
    assert "ipv4 . udp . 5000-5010" in ranges[1]
    assert f"counter name {direction}_fallback4 accept" in chains
    assert f"@{direction}_by_port accept" in chains
    assert f"@{direction}_by_range accept" in chains


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_without_a_fallback_packets_make_their_elements(direction: str) -> None:
    """What passes then is of a range, which is asked first, or of one of the list's ports."""
    found = destinations(LIST.rpartition("\n")[0])
    text, chains = "\n".join(render_sets(found)), "\n".join(render_chains(found))
    declared = re.search(rf"set {direction}_by_port {{(.*?)\n\t}}", text, re.DOTALL)
    assert declared is not None
    assert "elements" not in declared[1]
    assert "\t\tflags dynamic\n" in declared[1]
    assert int(re.search(r"size ([0-9]+)", declared[1])[1]) > len(found.rules)
    chain = re.search(rf"chain count_{direction} {{(.*?)\n\t}}", chains, re.DOTALL)
    assert chain is not None
    by_range, by_port = (chain[1].index(f"{direction}_by_{kind}") for kind in ("range", "port"))
    assert by_range < by_port
    assert f"add @{direction}_by_port {{ meta nfproto . " in chain[1]


LISTED = """\
table inet egress_router {
	map redirect4 {
		type inet_proto . inet_service : ipv4_addr . inet_service
		counter
		elements = { 6 . 80 counter : 203.0.113.25 . 80 }
	}

	set sent_by_port {
		type nf_proto . inet_proto . inet_service
		size 1025
		flags dynamic
		counterMADE
	}

	set sent_by_range {
		type nf_proto . inet_proto . inet_service
		flags interval
		counter
		elements = { ipv4 . 17 . 5000-5010 counter }
	}
}
"""


@pytest.mark.parametrize(
    "made", ["ipv4 . 6 . 80 counter", "ipv4 . 6 . 80,\n\t\t\t     ipv6 . 6 . 80"]
)
def test_made_elements_are_state(made: str) -> None:
    """A listing without state lacks what packets have made, and nothing else."""
    listing = LISTED.replace("MADE", f"\n\t\telements = {{ {made} }}")
    assert without_state(listing) == LISTED.replace("MADE", "")
    newer = listing.replace("size 1025\n", "size 1025\t# count 2\n")  # as nft 1.1.4 lists it
    assert newer != listing
    assert without_state(newer) == LISTED.replace("MADE", "")
    assert without_state(LISTED.replace("MADE", "")) == LISTED.replace("MADE", "")


def test_nothing_that_enters_a_counting_chain_is_dropped() -> None:
    """Each counting chain ends with accept: it is entered only by what is let pass."""
    for chain in "\n".join(render_chains(destinations())).split("\tchain ")[1:]:
        assert chain.rstrip().endswith("accept\n\t}")
        assert "drop" not in chain


def test_every_counter_that_is_used_is_declared() -> None:
    """The table names no counter that it does not have, and has none that it does not use."""
    for text in (LIST, "80 tcp 203.0.113.25", None):
        found = None if text is None else destinations(text)
        spec = RulesetSpec(cluster="eth0", egress="macvlan0", sources=(), destinations=found)
        table = render_ruleset(spec)
        declared = set(re.findall(r"^\tcounter (\S+) ", table, re.MULTILINE))
        assert declared == set(re.findall(r"counter name (\S+)", table))
        assert {f"{DROPPED}{reason}" for reason in DROP_REASONS} <= declared


def test_a_proxy_has_no_destinations_to_count() -> None:
    """Without destinations there are the counters of the whole, and no sets."""
    assert "fallback" not in "\n".join(render_counters(None))
