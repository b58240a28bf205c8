"""The HTTP proxy: plain requests and CONNECT from the cluster, judged and sent on from the source.

1. A target is parsed once, judged, resolved once, judged by address, and only the addresses that
   were allowed are dialled, from the source address by the egress link.
2. Sockets are raw and stay so: a tunnel is relayed by the kernel, a plain request by one task for
   each client connection. An error in one of them ends that connection and no other.
3. Knows HTTP as far as `egress_router.http1` tells it, and nothing of the kernel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from egress_router.config.http import HttpConfig, check_http, parse_http

if TYPE_CHECKING:
    from egress_router.config.check import Checked
    from egress_router.config.settings import Environment
    from egress_router.service.daemon import Service


class HttpMode:
    """The mode `http`."""

    name = "http"

    def parse(self, environment: Environment) -> HttpConfig:
        """The mode's configuration."""
        return parse_http(environment)

    def check(self, environment: Environment) -> Checked:
        """What the proxy would do."""
        return check_http(environment)

    def may_share(self, _config: HttpConfig) -> bool:
        """Connections have nothing in common but the rules."""
        return True

    def preload(self) -> None:
        """Imports the proxy."""
        import egress_router.modes.http.serving  # noqa: F401, PLC0415 - `check` needs no sockets

    async def serve(self, config: HttpConfig, service: Service) -> None:
        """Serves until the daemon is to end, then lets what is open end."""
        from egress_router.modes.http.serving import Serving  # noqa: PLC0415 - `check` needs no sockets

        serving = Serving(config, service)
        try:
            await serving.open()
            service.started()
            await service.stopping.wait()
            await serving.drain()
        finally:
            await serving.close()
