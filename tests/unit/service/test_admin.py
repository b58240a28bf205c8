"""What the admin endpoint refuses to listen on."""

from __future__ import annotations

import ipaddress

import pytest

from egress_router.errors import KernelError
from egress_router.service.admin import open_port


@pytest.mark.parametrize("text", ["0.0.0.0", "::"])
def test_never_on_all_addresses(text: str) -> None:
    """The outside network must not reach it, so "all addresses" is a mistake of the caller."""
    with pytest.raises(ValueError, match="never opened on all addresses"):
        open_port(ipaddress.ip_address(text), 1)


def test_an_address_that_is_not_ours_is_a_clear_error() -> None:
    """The message names port, address and cause."""
    with pytest.raises(
        KernelError, match=r"open the admin port 9 on 192\.0\.2\.1: .*EADDRNOTAVAIL"
    ):
        open_port(ipaddress.ip_address("192.0.2.1"), 9)
