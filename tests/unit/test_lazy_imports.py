"""What a program does not import: its start is waited for by whoever deletes a pod."""

from __future__ import annotations

import subprocess
import sys

import pytest

MODE = "from egress_router.modes import load_mode; load_mode({!r}); import egress_router.modes.{}"
FROM_EVERYONE = {
    "aiohttp",  # after the start, or for the first caller of the admin endpoint
    "prometheus_client",  # for the first scrape
    "structlog",  # where a person's terminal is
    "importlib.metadata",  # where a mode is not one of ours
    "pyroute2",  # in the thread that asks the kernel, which sees to it while the mode goes on
    "nftables",  # in a process of its own
}
PROGRAMS = {
    "init": ("import egress_router.programs.init", FROM_EVERYONE | {"asyncio", "dnslib"}),
    "redirect": (MODE.format("redirect", "redirect"), FROM_EVERYONE | {"dnslib"}),
    "http": (MODE.format("http", "http.serving"), FROM_EVERYONE),
    "dns": (MODE.format("dns", "dns.serving"), FROM_EVERYONE),
    "health": ("import egress_router.service.client", FROM_EVERYONE | {"asyncio", "dnslib"}),
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_what_a_start_does_not_pay_for(program: str) -> None:
    """Each costs more than a tenth of a start, and is needed later, elsewhere, or never."""
    code, lazy = PROGRAMS[program]
    tell = f"import egress_router.__main__, sys; {code}; print(*sys.modules)"
    done = subprocess.run(
        (sys.executable, "-c", tell), capture_output=True, text=True, check=True, timeout=60
    )
    assert lazy.isdisjoint(done.stdout.split())
