"""DNS mode: each configured port leads to an address or a name, from the source address.

1. Names are followed in the background: a connection never waits for a lookup, and goes on to the
   last good addresses when DNS does not answer.
2. A port listens only while there is something behind it: clients are refused, not dropped.
3. Knows ports, names and partners; sockets come from `net`, and nothing here knows netlink.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from egress_router.config.dns import DnsConfig, check_dns, parse_dns

if TYPE_CHECKING:
    from egress_router.config.check import Checked
    from egress_router.config.settings import Environment
    from egress_router.service.daemon import Service


class DnsMode:
    """The mode `dns`."""

    name = "dns"

    def parse(self, environment: Environment) -> DnsConfig:
        """The mode's configuration."""
        return parse_dns(environment)

    def check(self, environment: Environment) -> Checked:
        """What the forwarder would do."""
        return check_dns(environment)

    def may_share(self, config: DnsConfig) -> bool:
        """Not where the kernel carries: its table has one owner, and needs no help."""
        from egress_router.errors import KernelError  # noqa: PLC0415 - as below
        from egress_router.modes.dns.kernel_path import decide_kernel  # noqa: PLC0415

        try:
            return not decide_kernel(config)
        except KernelError:
            return False  # serving says why

    def preload(self) -> None:
        """Imports the forwarder."""
        import egress_router.modes.dns.serving  # noqa: F401, PLC0415 - as below

    async def serve(self, config: DnsConfig, service: Service) -> None:
        """Serves until the daemon is to end, then lets what is open end."""
        from egress_router.modes.dns.serving import Serving  # noqa: PLC0415 - `check` needs no sockets

        serving = Serving(config, service)
        try:
            await serving.open()
            service.started()
            await service.stopping.wait()
            await serving.drain()
        finally:
            await serving.close()
