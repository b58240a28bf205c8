"""The redirect daemon: the kernel moves the bytes; this keeps the NAT alive and says how it is.

Its end changes nothing: the NAT lives in the kernel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from egress_router.config.changes import describe_entries
from egress_router.config.check import Checked
from egress_router.config.redirect import (
    RedirectConfig,
    list_entries,
    parse_redirect,
    parse_redirect_reload,
)
from egress_router.service.flow_records import FlowRecords
from egress_router.service.network import NetworkWatch
from egress_router.service.reload import ReloadUnsupportedError

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
            service.reload.open(Reloading(watch), config)
            await records.open()
            service.started()
            await service.stopping.wait()
        finally:
            records.close()
            watch.close()


class Reloading:
    """The mode's part of a reload: the table is replaced in one transaction by who may do that.

    Connections that the new list leads where they go stay untouched; the kernel forgets the others.
    """

    def __init__(self, watch: NetworkWatch) -> None:
        self._watch = watch

    def parse(self, environment: Environment) -> RedirectConfig:
        """The mode's configuration."""
        return parse_redirect_reload(environment)

    def compare(self, old: RedirectConfig, new: RedirectConfig) -> tuple[str, ...]:
        """Destinations that came, went, or lead elsewhere."""
        return describe_entries(list_entries(old.destinations), list_entries(new.destinations))

    def prepare(self, new: RedirectConfig) -> None:
        """The text of the table depends on the network: it is made where the kernel is asked."""

    async def apply(self, new: RedirectConfig, _prepared: None) -> int:
        """Replaces the NAT; how many tracked connections were forgotten."""
        init = new.init
        lacking = [] if self._watch.may_repair else ["the capability NET_ADMIN"]
        lacking += [] if init else ["init's variables (EGRESS_SOURCE and those beside it)"]
        if init is None or lacking:
            raise ReloadUnsupportedError(
                f"this daemon cannot replace the NAT, for it lacks {' and '.join(lacking)}; what "
                "init loaded stays in force. Delete the pod, so that init of a new one reads the "
                "list, or give the daemon what it lacks"
            )
        return await self._watch.in_kernel(lambda keeper: keeper.reconfigure(init))
