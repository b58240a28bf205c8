"""HTTP mode's part of a reload: the rules are compiled beside the loop and replaced in one step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from egress_router.config.changes import describe_lines
from egress_router.config.http import HttpConfig, parse_http
from egress_router.policy.rules import Policy, compile_rules
from egress_router.service import events
from egress_router.service.logs import log_event

if TYPE_CHECKING:
    from egress_router.config.settings import Environment
    from egress_router.modes.http.shared import Shared


class Reloading:
    """What the mode supplies to `service.reload`."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    def parse(self, environment: Environment) -> HttpConfig:
        """The configuration."""
        return parse_http(environment)

    def compare(self, old: HttpConfig, new: HttpConfig) -> tuple[str, ...]:
        """Lines that came, went, or stand elsewhere; the rest of the environment cannot change."""
        return describe_lines(
            [(rule.line, rule.text) for rule in old.rules.rules],
            [(rule.line, rule.text) for rule in new.rules.rules],
        )

    def prepare(self, new: HttpConfig) -> Policy:
        """The rules, compiled; the guard is the one in force."""
        return compile_rules(new.rules)

    async def apply(self, new: HttpConfig, prepared: Policy) -> int:
        """From now on requests are judged by these rules; tunnels that they deny are cut."""
        for warning in new.rules.warnings:
            log_event(events.CONFIGURATION_WARNING, message=str(warning))
        policy = self._shared.uplink.replace_rules(prepared)
        return await self._shared.tunnels.renew(policy)
