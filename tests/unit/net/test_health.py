"""Which addresses come last, and whose turn it is."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

from egress_router.net.egress import Egress
from egress_router.net.health import Health, rotate
from egress_router.net.upstreams import Upstream

if TYPE_CHECKING:
    from egress_router.net.endpoint import IPAddress

A, B, C = map(ip_address, ("192.0.2.1", "192.0.2.2", "192.0.2.3"))
PORT = 443


class Clock:
    """Seconds that pass when they are added."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def order(health: Health, addresses: tuple[IPAddress, ...], port: int) -> tuple[IPAddress, ...]:
    """The addresses in the order in which they are to be tried."""
    upstreams = tuple(Upstream(address, port, Egress()) for address in addresses)
    return tuple(upstream.address for upstream in health.order(upstreams))


def test_failed_address_comes_last_for_half_a_minute() -> None:
    """B5-75: last, but still there; its other ports are not blamed."""
    clock = Clock()
    health = Health(clock)
    health.note_failed(A, PORT)
    assert order(health, (A, B, C), PORT) == (B, C, A)
    assert order(health, (A, B, C), 80) == (A, B, C)
    clock.now = 29.9
    assert order(health, (A, B, C), PORT) == (B, C, A)
    clock.now = 30.1
    assert order(health, (A, B, C), PORT) == (A, B, C)


def test_one_dial_a_second_probes_a_dead_address() -> None:
    """B6-86: after the half minute one dial in a second meets it first, until it is alive."""
    clock = Clock()
    health = Health(clock)
    health.note_failed(A, PORT)
    clock.now = 31
    orders = [order(health, (A, B), PORT) for _ in range(100)]
    assert orders.count((A, B)) == 1
    clock.now = 32.1
    assert order(health, (A, B), PORT) == (A, B)
    health.note_alive(A, PORT)
    assert [order(health, (A, B), PORT) for _ in range(3)] == [(A, B)] * 3


def test_only_address_is_always_tried() -> None:
    """Where nothing else is left a failed address is still in the order."""
    health = Health(Clock())
    health.note_failed(A, PORT)
    assert order(health, (A,), PORT) == (A,)
    assert health.avoided() == ((A, PORT),)


def test_rotate_keeps_the_circle() -> None:
    """Any turn, of any list."""
    assert rotate((), 5) == ()
    assert rotate((A, B, C), 4) == (B, C, A)
