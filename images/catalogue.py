"""The four images: what each one runs, and what it holds for that.

Standard library alone: the build stage imports this before anything is installed.
"""

from __future__ import annotations

from dataclasses import dataclass

DAEMON_UID = 10001  # above what distributions give to their own users; any other works as well
INIT_UID = 0  # a capability added to a container is in force for root alone

# The daemons' own needs: event loop, admin endpoint, logs, metrics, a look at the network; and
# dnslib, with which `doctor` asks the nameservers in each of them.
_DAEMON = ("aiohttp", "dnslib", "prometheus-client", "pyroute2", "structlog", "uvloop")


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One image. `requires`: names of distributions, `nftables`: whether it loads rulesets."""

    program: str
    title: str
    uid: int
    requires: tuple[str, ...]
    nftables: bool

    @property
    def name(self) -> str:
        """The image's name, without registry and tag."""
        return f"egress-router-{self.program}"

    @property
    def containerfile(self) -> str:
        """The file it is built from, in the root of the repository."""
        return f"Containerfile.{self.program}"


IMAGES = (
    # With EGRESS_ROUTER_MODE=legacy the init program stays as the redirect daemon, so its image
    # holds what that one needs.
    Image(
        program="init",
        title="Egress router: sets a pod's network up",
        uid=INIT_UID,
        requires=_DAEMON,
        nftables=True,
    ),
    Image(
        program="redirect",
        title="Egress router: keeps the redirect NAT",
        uid=DAEMON_UID,
        requires=_DAEMON,
        nftables=True,
    ),
    Image(
        program="http",
        title="Egress router: HTTP proxy",
        uid=DAEMON_UID,
        requires=_DAEMON,
        nftables=False,
    ),
    # nftables for EGRESS_DNS_PROXY_DATAPATH=kernel.
    Image(
        program="dns",
        title="Egress router: forwards ports to names",
        uid=DAEMON_UID,
        requires=_DAEMON,
        nftables=True,
    ),
)


def find_image(program: str) -> Image:
    """The image of a program; KeyError if there is none."""
    return {image.program: image for image in IMAGES}[program]
