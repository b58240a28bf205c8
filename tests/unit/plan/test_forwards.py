"""The text of DNS mode's table, and which datagram flows contradict it."""

import dataclasses
from ipaddress import ip_address

from egress_router.config.destinations import Protocol
from egress_router.config.dns_destination import Protocol as DnsProtocol
from egress_router.plan.flows import Flow
from egress_router.plan.forwards import (
    Forward,
    ForwardJudge,
    RevokedForwards,
    forwards_digest,
    map_names,
    render_forwards,
    render_forwards_removal,
)

FIRST, SECOND, SIX = map(ip_address, ("203.0.113.10", "203.0.113.11", "2001:db8::1"))
POD, CLIENT = ip_address("10.128.0.5"), ip_address("10.128.2.10")


def forward(port: int, *addresses: object, udp: bool = False, target_port: int = 80) -> Forward:
    """A port and its addresses."""
    return Forward(
        protocol=DnsProtocol.UDP if udp else DnsProtocol.TCP,
        port=port,
        addresses=addresses,
        target_port=target_port,
    )


def flow(answers: object, *, protocol: Protocol = Protocol.UDP, port: int = 53) -> Flow:
    """A client's flow to a port of the pod."""
    return Flow(
        protocol=protocol,
        source=CLIENT,
        source_port=40000,
        destination=POD,
        destination_port=port,
        answers=answers,
        answers_port=53,
        answers_to=ip_address("192.168.12.99"),
        answers_to_port=40000,
    )


def test_the_whole_text() -> None:
    """Ports with as many addresses share a map; a family without addresses has none."""
    text = render_forwards(
        "eth0",
        (
            forward(80, FIRST, SECOND),
            forward(443, FIRST, target_port=8443),
            forward(53, SECOND, FIRST, udp=True, target_port=53),
            forward(81, SIX),
            forward(82),
        ),
    )
    body = text.partition('"\n')[2]
    assert text.startswith(render_forwards_removal())
    assert body == GOLDEN


def test_nothing_to_forward_is_a_table_without_maps() -> None:
    """An empty list still is a valid table, so that its absence means that somebody flushed it."""
    text = render_forwards("eth0", ())
    assert "map" not in text
    assert "chain forward_prerouting" in text


def test_what_counts_by_port_is_found_again() -> None:
    """The maps' names are read from the text; no set of the table is taken for one."""
    text = render_forwards("eth0", (forward(80, FIRST, SECOND), forward(81, SIX)))
    assert map_names(text) == ("forward4_2", "forward6_1")


def test_the_digest_changes_with_what_is_forwarded_and_with_nothing_else() -> None:
    """A listing that carries the digest of the text is the table of that text."""
    one = render_forwards("eth0", (forward(80, FIRST),))
    assert forwards_digest(one) == forwards_digest(render_forwards("eth0", (forward(80, FIRST),)))
    assert forwards_digest(one) != forwards_digest(render_forwards("eth0", (forward(80, SECOND),)))
    assert forwards_digest(one) != forwards_digest(render_forwards("net1", (forward(80, FIRST),)))
    assert forwards_digest("table inet egress_router_dns {\n}\n") == ""


def test_a_datagram_flow_to_an_address_that_is_not_in_use_is_forgotten() -> None:
    """TCP stays, so do other ports, other hosts and flows that lead to where new ones would."""
    judge = ForwardJudge((forward(53, FIRST, udp=True), forward(80, FIRST)), local=(POD,))
    assert judge.concerned
    assert judge.contradicts(flow(SECOND))
    assert judge.contradicts(flow(POD))
    assert not judge.contradicts(flow(FIRST))
    assert not judge.contradicts(flow(SECOND, protocol=Protocol.TCP))
    assert not judge.contradicts(flow(SECOND, port=54))
    elsewhere = ForwardJudge((forward(53, FIRST, udp=True),), local=())
    assert not elsewhere.contradicts(flow(SECOND))
    nowhere = ForwardJudge((forward(53, udp=True),), local=(POD,))
    assert not nowhere.contradicts(flow(SECOND)), "a name that is lost does not end what goes on"
    assert not ForwardJudge((forward(80, FIRST),), local=(POD,)).concerned


def test_flows_that_a_new_list_does_not_allow() -> None:
    """Of ports whose line is gone or changed: what is translated to where no line leads now."""
    forwards = (dataclasses.replace(forward(53, FIRST, udp=True), target_port=53),)
    judge = RevokedForwards({("udp", 53), ("tcp", 80)}, forwards, local=(POD,))
    assert judge.contradicts(flow(SECOND))
    assert not judge.contradicts(flow(FIRST))
    assert judge.contradicts(flow(FIRST, port=80, protocol=Protocol.TCP))
    assert not judge.contradicts(flow(POD, port=80, protocol=Protocol.TCP)), "the daemon's own"
    assert not judge.contradicts(flow(SECOND, port=81, protocol=Protocol.TCP)), "unchanged"
    elsewhere = RevokedForwards({("udp", 53)}, forwards, local=())
    assert not elsewhere.contradicts(flow(SECOND))


COUNTED = "ct status dnat meta l4proto { tcp, udp } meta l4proto . ct original proto-dst"
GOLDEN = """\
	map forward4_1 {
		typeof numgen inc mod 1 . meta l4proto . th dport : ip daddr . th dport
		counter
		elements = { 0 . tcp . 443 : 203.0.113.10 . 8443 }
	}
	map forward4_2 {
		typeof numgen inc mod 2 . meta l4proto . th dport : ip daddr . th dport
		counter
		elements = { 0 . tcp . 80 : 203.0.113.10 . 80,
			1 . tcp . 80 : 203.0.113.11 . 80,
			0 . udp . 53 : 203.0.113.11 . 53,
			1 . udp . 53 : 203.0.113.10 . 53 }
	}
	map forward6_1 {
		typeof numgen inc mod 1 . meta l4proto . th dport : ip6 daddr . th dport
		counter
		elements = { 0 . tcp . 81 : 2001:db8::1 . 80 }
	}
	set sent {
		type inet_proto . inet_service
		counter
		elements = { tcp . 80, tcp . 443, udp . 53, tcp . 81 }
	}
	set received {
		type inet_proto . inet_service
		counter
		elements = { tcp . 80, tcp . 443, udp . 53, tcp . 81 }
	}
	chain count_forward {
		type filter hook forward priority filter - 1; policy accept;
		ct direction original COUNTED @sent
		ct direction reply COUNTED @received
	}
	chain forward_prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		iifname != "eth0" accept
		fib daddr type != local accept
		meta l4proto != { tcp, udp } accept
		meta nfproto ipv4 dnat ip to numgen inc mod 1 . meta l4proto . th dport map @forward4_1
		meta nfproto ipv4 dnat ip to numgen inc mod 2 . meta l4proto . th dport map @forward4_2
		meta nfproto ipv6 dnat ip6 to numgen inc mod 1 . meta l4proto . th dport map @forward6_1
	}
}
""".replace("COUNTED", COUNTED)
