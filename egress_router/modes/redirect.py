"""The redirect daemon: the kernel moves the bytes; this keeps the NAT alive and says how it is.

Its end changes nothing: the NAT lives in the kernel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from egress_router.config.check import Checked
from egress_router.config.redirect import RedirectConfig, parse_redirect
from egress_router.service.flow_records import FlowRecords
from egress_router.service.network import NetworkWatch

if TYPE_CHECKING:
    from egress_router.config.settings import Environment
    from egress_router.service.daemon import Service


class RedirectMode:
    """The mode `redirect`."""

    name = "redirect"

    def parse(self, environment: Environment) -> RedirectConfig:
        """The mode's configuration."""
        return parse_redirect(environment)

    def check(self, environment: Environment) -> Checked:
        """What the daemon would keep: init's set-up if it is told of it, else what it finds."""
        config = parse_redirect(environment)
        keeps = "init's configuration" if config.init else "what it finds at its start"
        document = {"keeps": keeps, "announce_s": config.announce_s}
        text = "".join(f"{name:<13}{value}\n" for name, value in document.items())
        return Checked(document=document, text=text)

    async def serve(self, config: RedirectConfig, service: Service) -> None:
        """Keeps watch until the daemon is to end."""
        watch = NetworkWatch(service, init=config.init, announce_s=config.announce_s)
        records = FlowRecords(service)
        try:
            await watch.open()
            await records.open()
            service.started()
            await service.stopping.wait()
        finally:
            records.close()
            watch.close()
