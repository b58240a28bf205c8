"""What this process may do, read from /proc/self/status (capabilities(7)); no privilege needed."""

from __future__ import annotations

from pathlib import Path

from egress_router.errors import KernelError

CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13}  # linux/capability.h


def observe_capabilities() -> frozenset[str]:
    """Which of the capabilities we care about are effective."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("CapEff:"):
            effective = int(line.split()[1], 16)
            return frozenset(name for name, bit in CAPABILITIES.items() if effective >> bit & 1)
    return frozenset()


def require_capabilities() -> None:
    """Raises KernelError naming every capability that init needs and lacks."""
    missing = sorted(CAPABILITIES.keys() - observe_capabilities())
    if missing:
        raise KernelError(
            "check capabilities",
            f"{' and '.join(missing)} missing",
            remedy="run init with capabilities NET_ADMIN and NET_RAW, or privileged",
        )
