"""Looks after a pod that has been set up: what has drifted, and where permitted, repairs it.

1. Every call blocks; a daemon makes them from one thread of its own.
2. What is wanted comes from the configuration, if the daemon has init's; else it is what the first
   sound look finds. A source that was not there then means that init has gone on, or run again: its
   default route is the last thing that init adds, and nothing that drifts brings a source along.
3. Without CAP_NET_ADMIN, or without libnftables, the table cannot be listed: the canary stands for
   it, and nothing is repaired.
"""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from egress_router.errors import EgressRouterError, KernelError
from egress_router.kernel.capability import observe_capabilities
from egress_router.kernel.converge import converge
from egress_router.kernel.forwards import ForwardTable
from egress_router.kernel.host import observe_flow_count
from egress_router.kernel.namespace import Namespace
from egress_router.kernel.netlink import Netlink
from egress_router.kernel.nft import Nft, nft_installed
from egress_router.kernel.recall import Recall
from egress_router.kernel.signs import canary_sings, wake_neighbour
from egress_router.kernel.traffic import observe_traffic
from egress_router.plan.desired import desired_state
from egress_router.plan.diff import table_steps
from egress_router.plan.drift import TABLE, Finding, find_drift
from egress_router.plan.flows import FlowJudge
from egress_router.plan.snapshot import Router, find_router, snapshot_state
from egress_router.plan.state import (
    CLUSTER_TABLE,
    Desired,
    Neighbour,
    Observed,
    Route,
    Table,
)

if TYPE_CHECKING:
    from egress_router.config.addresses import Address
    from egress_router.config.init import ClaimConfig, InitConfig
    from egress_router.kernel.conntrack import Judge
    from egress_router.kernel.packets import Sighting
    from egress_router.kernel.traffic import Traffic
    from egress_router.plan.forwards import ForwardJudge


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one look found. `reason` says why there is no router to look after, if there is none.

    `repaired`: findings that are gone because the keeper saw to it. `failure`: why a repair failed.
    """

    router: Router | None
    reason: str | None = None
    findings: tuple[Finding, ...] = ()
    repaired: tuple[Finding, ...] = ()
    failure: str | None = None
    mac: str | None = None
    gateways: tuple[Neighbour, ...] = ()


class Keeper:
    """`config` None: keep what is found. `interface` None: find the egress link.

    `repairs`: whether it mends what it may, or only looks.
    """

    def __init__(  # noqa: PLR0913 - what one daemon keeps, each by its name
        self,
        *,
        config: InitConfig | None,
        interface: str | None,
        nameservers: tuple[Address, ...],
        claim: ClaimConfig,
        forwards: bool = False,
        repairs: bool = True,
    ) -> None:
        capabilities = observe_capabilities()
        self.lacks: str | None = None  # what it would need to repair
        if not repairs:
            self.lacks = "to be the first process"
        elif "CAP_NET_ADMIN" not in capabilities:
            self.lacks = "CAP_NET_ADMIN"
        elif not nft_installed():  # an image whose program loads no rulesets comes without
            self.lacks = "libnftables, which this image does not have"
        self._config = config
        self._interface = interface
        self._nameservers = nameservers
        self._claim = claim
        self._forwards = forwards
        self._set_just_now = False
        self._forward_table = ForwardTable()
        self._netlink = Netlink()
        self._recall = Recall(self._netlink)
        self._nft: Nft | None = None
        self._kept: Desired | None = None
        self._kept_sources: frozenset[Address] = frozenset()
        self._cluster_defaults: tuple[Route, ...] = ()
        self._router: Router | None = None

    @property
    def may_repair(self) -> bool:
        """Whether it has all that it takes to repair."""
        return self.lacks is None

    def close(self) -> None:
        """Closes the sockets and ends the nftables worker."""
        self._recall.close()
        self._netlink.close()
        if self._nft is not None:
            self._nft.close()

    def look(self) -> Look:
        """Observes, compares, repairs what it may; raises KernelError if it cannot even look."""
        observed = self._observe()
        found = find_router(observed, self._interface)
        if isinstance(found, Router):
            self._router = found
            if not self._kept_sources.issuperset(found.sources):
                self._kept = None
        router = self._router
        try:
            desired = self._desire(observed)
        except EgressRouterError as error:
            return Look(router=router, reason=str(error))
        if isinstance(desired, str):
            return Look(router=router, reason=found if isinstance(found, str) else desired)
        if self._set_just_now:  # what was observed before that is no drift
            self._set_just_now, observed = False, self._observe()
        findings = find_drift(observed, desired)
        failure: str | None = None
        repaired: tuple[Finding, ...] = ()
        if self.may_repair and any(finding.repairable for finding in findings):
            failure, repaired, findings = self._repair(findings)
            if self._config is not None and any(one.kind == TABLE for one in repaired):
                # What came by meanwhile, or under another list, keeps its translation otherwise.
                self._forget_contradictions(self._config, observed, desired)
        link = observed.link(desired.egress)
        return Look(
            router=router or self._find_again(),
            findings=findings,
            repaired=repaired,
            failure=failure,
            mac=link.mac if link else None,
            gateways=self._observe_gateways(router),
        )

    def reconfigure(self, config: InitConfig) -> int:
        """Puts other destinations in force; how many tracked connections were forgotten for them.

        The table alone is replaced, in one transaction that the kernel has looked at before. Raises
        EgressRouterError with everything as it was.
        """
        before, self._config = self._config, config
        try:
            observed = self._observe()
            desired = self._desire(observed)
            if isinstance(desired, str):
                raise KernelError("replace the nftables table", desired)  # noqa: TRY301 - undone below
            if table_steps(observed, desired):  # comments alone leave the counters as they are
                self._session().check(desired.table)
                self._session().load(desired.table)
        except BaseException:
            self._config = before
            raise
        forgotten = self._forget_contradictions(config, observed, desired)
        with contextlib.suppress(KernelError):  # without a seal, the next look loads it again
            self._session().settle()
        return forgotten

    def _forget_contradictions(
        self, config: InitConfig, observed: Observed, desired: Desired
    ) -> int:
        return self.forget(
            FlowJudge(
                config.destinations,
                local=tuple(a.interface.ip for a in observed.addresses_on(desired.cluster)),
                sources=tuple(source.address for source in config.identity.sources),
                admin_port=config.admin_port,
            )
        )

    def observe_traffic(self) -> Traffic | None:
        """What has passed so far; None if there is no router. Raises KernelError."""
        if self._router is None:
            return None
        return observe_traffic(
            self._netlink, self._router, self._forward_table, tally=self.may_repair
        )

    def put_forwards(self, text: str, judge: ForwardJudge) -> None:
        """Puts DNS mode's table in force, and forgets flows that contradict it."""
        self._forward_table.put(self._session(), text)
        if judge.concerned:
            self.forget(judge)

    def forget(self, judge: Judge) -> int:
        """Deletes every tracked connection that contradicts the ruleset; how many there were."""
        # Imported here: most daemons never come by.
        from egress_router.kernel.conntrack import forget_flows  # noqa: PLC0415

        return 0 if observe_flow_count() == 0 else forget_flows(judge)

    def keep_forwards(self) -> bool:
        """Loads DNS mode's table again if it has gone; whether that was so."""
        return self._forward_table.keep(self._session())

    def remove_forwards(self) -> None:
        """Takes DNS mode's table away."""
        self._forward_table.remove(self._session())

    def _observe(self) -> Observed:
        return dataclasses.replace(
            self._recall.observe(), table=self._observe_table(), nameservers=self._nameservers
        )

    def _observe_table(self) -> Table | None:
        if not self.may_repair:
            return Table(ours=True, intact=True) if canary_sings() else None
        return self._session().observe_table()

    def _observe_gateways(self, router: Router | None) -> tuple[Neighbour, ...]:
        """Whether the gateways answer; those that the kernel does not know are asked for."""
        if router is None:
            return ()
        known = {one.address: one for one in self._netlink.observe_neighbours(router.egress)}
        for gateway in router.gateways:
            if gateway not in known or known[gateway].silent:
                wake_neighbour(gateway, router.egress)
        return tuple(
            known.get(gateway) or Neighbour(address=gateway, mac=None, state="unknown")
            for gateway in router.gateways
        )

    def _desire(self, observed: Observed) -> Desired | str:
        if self._config is not None and self.may_repair:
            complete = self._with_known_defaults(observed)
            return desired_state(self._config, complete, self._observe_parents(observed))
        if self._kept is None:
            if self._router is None:
                return "no router was found yet"
            snapshot = snapshot_state(observed, self._router)
            if isinstance(snapshot, str):
                return snapshot
            self._kept = self._forwarding(snapshot) if self._forwards else snapshot
            self._kept_sources = frozenset(self._router.sources)
        return self._kept

    def _forwarding(self, snapshot: Desired) -> Desired:
        """The same state with IPv4 forwarding on both links, set at once."""
        settings = tuple(
            dataclasses.replace(setting, value=1) if setting.name == "forwarding" else setting
            for setting in snapshot.settings
        )
        for setting in settings:
            if setting.name == "forwarding":
                self._netlink.set_setting(setting)
                self._set_just_now = True
        return dataclasses.replace(snapshot, settings=settings)

    def _with_known_defaults(self, observed: Observed) -> Observed:
        """The cluster link's default routes of the last look stand in for those that are gone.

        Init moves them out of the main table, so nothing but our own table remembers them.
        """
        seen = [r for r in observed.routes if r.table == CLUSTER_TABLE and r.is_default]
        versions = {route.version for route in seen}
        lost = [route for route in self._cluster_defaults if route.version not in versions]
        self._cluster_defaults = (*seen, *lost)
        up = {link.name for link in observed.links if link.up}
        missing = tuple(route for route in lost if route.link in up)
        return dataclasses.replace(observed, routes=(*observed.routes, *missing))

    def _observe_parents(self, observed: Observed) -> Observed | None:
        """The parent's namespace, looked into only when a link has to be made on it again."""
        assert self._config is not None  # noqa: S101 (the only caller has one)
        path = self._config.link.parent_netns
        if path is None or (self._router and observed.link(self._router.egress) is not None):
            return None
        with Netlink(path) as parents:
            return parents.observe()

    def _repair(
        self, findings: tuple[Finding, ...]
    ) -> tuple[str | None, tuple[Finding, ...], tuple[Finding, ...]]:
        """Why it failed if it did, what is mended, and what is left."""
        failure = None
        try:
            namespace = Namespace(
                self._session(),
                nameservers=self._nameservers,
                claim=self._claim,
                waiting=_nobody_waits,
            )
            with contextlib.closing(namespace):
                converge(
                    namespace,
                    self._wanted,
                    applied=lambda _step: None,
                    undo_failed=lambda _step, _error: None,
                )
        except EgressRouterError as error:
            failure = str(error)
            self._end_session()
        observed = self._observe()
        desired = self._desire(observed)
        left = findings if isinstance(desired, str) else find_drift(observed, desired)
        mended = tuple(finding for finding in findings if finding not in left)
        return failure, mended, left

    def _wanted(self, observed: Observed) -> Desired:
        desired = self._desire(observed)
        if isinstance(desired, str):
            raise KernelError("repair the pod's network", desired)
        return desired

    def _find_again(self) -> Router | None:
        found = find_router(self._observe(), self._interface)
        self._router = found if isinstance(found, Router) else None
        return self._router

    def _session(self) -> Nft:
        if self._nft is None:
            self._nft = Nft()
        return self._nft

    def _end_session(self) -> None:
        if self._nft is not None:
            self._nft.close()
            self._nft = None


def _nobody_waits(_holder: Sighting) -> None:
    """A daemon's claim has no time to wait: it looks again by itself."""
