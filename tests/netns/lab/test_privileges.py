"""The wrappers take away what a container would not have."""

from collections.abc import Callable

import pytest

from egress_router.lab.privileges import (
    INIT_CAPABILITIES,
    READ_ONLY_SYSCTLS,
    UNPRIVILEGED,
    UNPRIVILEGED_UID,
)
from egress_router.lab.world import Lab

MakeLab = Callable[..., Lab]

pytestmark = pytest.mark.netns

NET_ADMIN, NET_RAW = 1 << 12, 1 << 13  # linux/capability.h
KNOB = "/proc/sys/net/ipv4/ip_forward"
TURN = ("sh", "-c", f"echo 1 > {KNOB}")


def status(world: Lab, wrap: tuple[str, ...]) -> dict[str, str]:
    """What the kernel says about a process behind a wrapper."""
    lines = world.run("pod", (*wrap, "cat", "/proc/self/status")).stdout.splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_daemons_have_nothing(lab: MakeLab) -> None:
    """A daemon runs as its own uid, without groups, capabilities, or a way to get any."""
    seen = status(lab(), UNPRIVILEGED)
    assert seen["Uid"].split() == [str(UNPRIVILEGED_UID)] * 4
    assert seen["Groups"] == ""
    assert int(seen["CapEff"], 16) == int(seen["CapBnd"], 16) == 0
    assert seen["NoNewPrivs"] == "1"


@pytest.mark.parametrize("wrap", [INIT_CAPABILITIES, (*READ_ONLY_SYSCTLS, *INIT_CAPABILITIES)])
def test_reduced_init_has_two(lab: MakeLab, wrap: tuple[str, ...]) -> None:
    """The reduced init is root with two capabilities."""
    seen = status(lab(), wrap)
    assert seen["Uid"].split() == ["0"] * 4
    assert int(seen["CapEff"], 16) == int(seen["CapBnd"], 16) == NET_ADMIN | NET_RAW


def test_sysctls_are_read_only(lab: MakeLab) -> None:
    """Behind the wrapper no sysctl can be written; without it the same command works."""
    world = lab()
    refused = world.run("pod", (*READ_ONLY_SYSCTLS, *INIT_CAPABILITIES, *TURN), check=False)
    assert refused.returncode != 0
    assert world.run("pod", ("cat", KNOB)).stdout == "0\n"
    world.run("pod", TURN)
    assert world.run("pod", ("cat", KNOB)).stdout == "1\n"
