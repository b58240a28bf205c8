"""The init program: environment in, a pod whose traffic leaves from the source address out.

1. Everything is validated before the first change; a failed run leaves the pod as it was.
2. SIGTERM and SIGINT are honoured between two steps: what was done is undone.
3. The address is announced twice, the second time as the last act; nothing stays behind to do it.
   Who shows the address before that, after it was claimed, stops the run: it heard no probe, and
   defends what it has. It has been disturbed once by then, and so is not waited for.
4. A gateway that does not answer is a warning with the usual causes, not an error: it may answer to
   the first real packet, and a router that waits is of more use than one that died.
"""

from __future__ import annotations

import gc
import signal
import time
from typing import TYPE_CHECKING

from egress_router.config.init import RouterMode, parse_init
from egress_router.errors import AddressConflictError, EgressRouterError, KernelError
from egress_router.kernel.capability import require_capabilities
from egress_router.kernel.host import observe_flow_count, observe_nameservers
from egress_router.kernel.nft import Nft
from egress_router.plan.desired import desired_state
from egress_router.plan.diff import LoadTable, Step
from egress_router.plan.drift import render_step
from egress_router.plan.flows import FlowJudge
from egress_router.service import events
from egress_router.service.logs import configure_logs, log_event

if TYPE_CHECKING:
    from types import FrameType

    from egress_router.config.addresses import Address
    from egress_router.config.init import InitConfig
    from egress_router.config.settings import Environment
    from egress_router.kernel.namespace import Namespace
    from egress_router.kernel.packets import Sighting
    from egress_router.kernel.station import Station
    from egress_router.plan.state import Desired, LinkAddress, Observed

OBJECTION_S = 0.05  # who defends an address does so as soon as it hears the announcement
GATEWAY_LISTEN_S = 0.5  # a gateway on the same link answers in milliseconds
_HINT = (
    "usual causes: the hypervisor drops frames with this MAC (allow forged transmits and MAC "
    "changes, or an allowed address pair), the wrong parent NIC, or a wrong EGRESS_GATEWAY"
)


class InterruptedRunError(EgressRouterError):
    """A signal asked the run to end before it was done."""

    exit_code = 128 + signal.SIGTERM


class Interruption:
    """Turns SIGTERM and SIGINT into an error at the next step's end."""

    def __init__(self) -> None:
        self._signal: int | None = None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._signal = number

    def check(self) -> None:
        """Raises InterruptedRunError if a signal came since the start."""
        if self._signal is not None:
            name = signal.Signals(self._signal).name
            raise InterruptedRunError(
                f"{name} before the set-up was complete: all of it was undone"
            )


def run_init(environment: Environment) -> RouterMode:
    """Sets the pod's network namespace up; returns the mode, for `legacy` has a second part.

    Raises ConfigurationError, KernelError, AddressConflictError or VerificationError; whatever was
    changed before is undone by then.
    """
    started = time.monotonic()
    gc.disable()  # it would find nothing in the tenth of a second that it takes with 10,000 lines
    config = parse_init(environment)
    configure_logs(config.log, daemon=False)
    for warning in config.warnings:
        log_event(events.CONFIGURATION_WARNING, message=warning)
    require_capabilities()
    interruption = Interruption()
    with Nft() as nft:
        # Imported here: pyroute2 takes longest, and libnftables loads in the worker meanwhile.
        from egress_router.kernel.namespace import Namespace  # noqa: PLC0415
        from egress_router.kernel.netlink import Netlink  # noqa: PLC0415

        parents = _observe_parents(config, Netlink)
        namespace = Namespace(
            nft,
            nameservers=observe_nameservers(),
            claim=config.claim,
            waiting=lambda holder: _waiting(holder, interruption),
        )
        try:
            desired = _converge(config, namespace, parents, interruption)
        finally:
            namespace.close()
    log_event(
        events.INIT_DONE,
        mode=str(config.mode),
        source=[str(source.address) for source in config.identity.sources],
        link=desired.egress,
        cluster_link=desired.cluster,
        destinations=len(config.destinations.rules) + len(config.destinations.fallbacks),
        seconds=round(time.monotonic() - started, 3),
    )
    return config.mode


def _observe_parents(config: InitConfig, netlink: type) -> Observed | None:
    if config.link.parent_netns is None:
        return None
    with netlink(config.link.parent_netns) as parents:
        observed: Observed = parents.observe()
        return observed


def _converge(
    config: InitConfig,
    namespace: Namespace,
    parents: Observed | None,
    interruption: Interruption,
) -> Desired:
    from egress_router.kernel.converge import converge  # noqa: PLC0415 (see run_init)

    loaded = []

    def applied(step: Step) -> None:
        log_event(events.STEP_APPLIED, step=render_step(step))
        if isinstance(step, LoadTable):
            loaded.append(step)
        interruption.check()

    def undo_failed(step: Step, error: EgressRouterError) -> None:
        log_event(events.UNDO_FAILED, step=render_step(step), error=str(error))

    desired, observed = converge(
        namespace,
        lambda observed: desired_state(config, observed, parents),
        applied=applied,
        undo_failed=undo_failed,
        conclude=lambda desired: _introduce(config, namespace, desired, interruption),
    )
    # Last, for it cannot be undone.
    if loaded and observe_flow_count() != 0:
        _forget_flows(config, observed.addresses_on(desired.cluster))
    return desired


def _forget_flows(config: InitConfig, local: tuple[LinkAddress, ...]) -> None:
    from egress_router.kernel.conntrack import forget_flows  # noqa: PLC0415 (see run_init)

    judge = FlowJudge(
        config.destinations,
        local=tuple(address.interface.ip for address in local),
        sources=tuple(source.address for source in config.identity.sources),
        admin_port=config.admin_port,
    )
    if forgotten := forget_flows(judge):
        log_event(events.FLOWS_FORGOTTEN, count=forgotten)


def _introduce(
    config: InitConfig, namespace: Namespace, desired: Desired, interruption: Interruption
) -> None:
    """Announces the sources, and looks for the gateways until nobody can be expected to object."""
    sources = tuple(source.address for source in config.identity.sources)
    station = namespace.station(desired.egress, [source.version for source in sources])
    _give_way(station.challenger(), desired.egress)  # it answered late: all caches still know it
    _announce(station, sources, desired.egress)
    until = time.monotonic() + OBJECTION_S
    gateways = []
    for source in sources:
        gateway = config.identity.gateway(source.version)
        if gateway is not None:
            gateways.append(_look_for_gateway(station, gateway, source))
            interruption.check()
    _give_way(station.challenger(until=until, proxies=gateways), desired.egress)
    _announce(station, sources, desired.egress)
    interruption.check()


def _give_way(challenger: Sighting | None, link: str) -> None:
    if challenger is not None:
        raise AddressConflictError(
            challenger.address,
            challenger.mac,
            f"it answered no probe on {link} in time, but spoke up after the claim; stop it, or "
            "set EGRESS_CONFLICT=takeover to claim the address anyway",
        )


def _look_for_gateway(station: Station, gateway: Address, source: Address) -> str | None:
    """Its MAC, None if it is silent."""
    mac = station.find(gateway, source, listen_s=GATEWAY_LISTEN_S)
    if mac is None:
        log_event(events.GATEWAY_SILENT, gateway=str(gateway), hint=_HINT)
    else:
        log_event(events.GATEWAY_FOUND, gateway=str(gateway), mac=mac)
    return mac


def _announce(station: Station, sources: tuple[Address, ...], link: str) -> None:
    try:
        station.announce(sources)
    except KernelError as error:
        log_event(events.ANNOUNCE_FAILED, link=link, error=str(error))
        return
    for source in sources:
        log_event(events.ADDRESS_ANNOUNCED, address=str(source), link=link)


def _waiting(holder: Sighting, interruption: Interruption) -> None:
    log_event(events.ADDRESS_HELD, address=str(holder.address), holder=holder.mac)
    interruption.check()
