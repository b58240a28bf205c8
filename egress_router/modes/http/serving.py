"""The daemon's parts and their life: listeners, resolver, relays, the connections of clients.

1. Listens on the loopback and on the pod's cluster-side addresses, each by its own link: what
   arrives by the egress link for one of these addresses is not heard.
2. Connections are counted against a limit of our own, of which each process has its part; one too
   many gets a 503 and is closed.
3. The end: not ready at once; listeners stay for LINGER_S, because the cluster takes a moment to
   send new connections elsewhere; then what is idle is closed, and what is busy may end.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from socket import SHUT_WR
from typing import TYPE_CHECKING, Any

from egress_router.errors import KernelError
from egress_router.modes.http.answers import FULL
from egress_router.modes.http.client import Client
from egress_router.modes.http.ledger import KINDS, Ledger
from egress_router.modes.http.reloading import Reloading
from egress_router.modes.http.shared import Shared
from egress_router.modes.http.status import merge_status, proxy_status
from egress_router.modes.http.uplink import Uplink
from egress_router.modes.http.watchdog import phase_ticks
from egress_router.net.binding import Binding
from egress_router.net.http1.lines import HeadLimits
from egress_router.net.listen import Admission, Listener, connection_limit
from egress_router.net.poller import Poller
from egress_router.net.relay import Carrier
from egress_router.net.resolver import Resolver, ResolverSettings
from egress_router.net.stream import Stream
from egress_router.net.wheel import IdleWheel
from egress_router.service import events, metrics
from egress_router.service.logs import log_event
from egress_router.service.nameservers import ResolverReport
from egress_router.service.network import NetworkWatch

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from egress_router.config.http import HttpConfig
    from egress_router.service.daemon import Service

LOOPBACK = "lo"
LOOPBACKS = (IPv4Address("127.0.0.1"), IPv6Address("::1"))
LINGER_S = 2.0
LISTENER = "listener"
NO_LINE = "none"
LEAVING_MAX = 64  # clients above the limit that are answered with patience; the rest, at once
LINE_BYTES = 8 * 1024  # of a request line or a field line; a smaller limit of the head bounds both


class Serving:
    """One HTTP proxy."""

    def __init__(self, config: HttpConfig, service: Service) -> None:
        self._config = config
        self._service = service
        self._loop = asyncio.get_running_loop()
        self._watch = NetworkWatch(service, looked=self._looked)
        self._resolver = Resolver(ResolverSettings(serve_stale=False))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        limit = service.place.share_of(config.limits.connections)
        self._admission = Admission(connection_limit(soft, limit), service.loads)
        self._leaving = 0
        self._listeners: dict[tuple[str, str], Listener] = {}
        wheel, poller = IdleWheel(self._loop), Poller(self._loop)
        times, limits = config.times, config.limits
        line_bytes = min(LINE_BYTES, limits.head_bytes)
        self._shared = Shared(
            uplink=Uplink(config, self._resolver, poller),
            carrier=Carrier(poller, idle_s=times.tunnel_s, wheel=wheel),
            ledger=Ledger(service.connection_log, service.place.id_prefix),
            wheel=wheel,
            ticks=phase_ticks(wheel, times),
            head_limits=HeadLimits(
                first_line_bytes=line_bytes,
                header_bytes=line_bytes,
                headers=limits.fields,
                total_bytes=limits.head_bytes,
            ),
            loop=self._loop,
            poller=poller,
            release=self._admission.release,
            start=partial(self._service.tasks.start_handler, "http client"),
        )

    async def open(self) -> None:
        """Listens, once the network has been looked at."""
        self._service.lifecycle.drain_s = self._config.times.drain_s
        self._service.readiness.declare(LISTENER)
        for warning in self._config.rules.warnings:
            log_event(events.CONFIGURATION_WARNING, message=str(warning))
        self._listen_on_loopback()
        await self._watch.open()
        self._provide()
        self._service.reload.open(Reloading(self._shared), self._config)

    async def drain(self) -> None:
        """Returns when the last connection has ended."""
        self._shared.draining = True
        await asyncio.sleep(min(LINGER_S, self._config.times.drain_s / 2))
        self._close_listeners()
        for client in tuple(self._shared.clients):
            client.close_if_idle()
        await self._admission.wait_empty()

    async def close(self) -> None:
        """Ends what is still open, each with its line in the log."""
        self._close_listeners()
        self._service.listening.end()
        self._watch.close()
        self._shared.carrier.close()
        for client in tuple(self._shared.clients):
            client.cut()
        await self._resolver.close()
        self._shared.uplink.close()
        await asyncio.sleep(0)  # ends of tasks are told by the loop's next turn
        self._shared.poller.close()

    def _looked(self) -> None:
        """The network has been looked at: follows the router, listens where it may by now."""
        router = self._watch.router
        if router is None:
            return
        self._shared.uplink.follow(router)
        # A program of the same pod that calls the pod's own address comes by the loopback.
        links = (router.cluster, LOOPBACK)
        complete = [self._listen(router.cluster_addresses, link, self._looked) for link in links]
        if all(complete):
            self._service.readiness.hold(LISTENER)

    def _listen_on_loopback(self) -> None:
        self._listen(LOOPBACKS, LOOPBACK, self._listen_on_loopback)

    def _listen(
        self,
        addresses: tuple[IPv4Address | IPv6Address, ...],
        link: str,
        again: Callable[[], object],
    ) -> bool:
        """Whether all of them are listened on now; if not, `again` is called later."""
        if self._shared.draining:
            return False
        complete = True
        for address in addresses:
            if (str(address), link) in self._listeners:
                continue
            binding = Binding(addresses=(address,), port=self._config.port, links=(link,))
            try:
                bound = self._service.listening.open(binding, again)
            except KernelError as error:
                if address in LOOPBACKS and address.version == 6:
                    continue  # a pod without IPv6
                self._service.readiness.fail(LISTENER, str(error))
                raise
            if bound is None:
                complete = False
                continue
            listener = Listener(
                bound,
                self._admission,
                on_connection=self._accept,
                on_excess=self._turn_away,
                loop=self._loop,
            )
            listener.start()
            self._listeners[str(address), link] = listener
            log_event(events.LISTENING, address=str(address), port=self._config.port, link=link)
        return complete

    def _close_listeners(self) -> None:
        for listener in self._listeners.values():
            listener.close()

    def _accept(self, sock: socket.SocketType, peer: tuple[str, int]) -> None:
        Client(sock, peer, self._shared).begin()

    def _turn_away(self, sock: socket.SocketType, _peer: tuple[str, int]) -> None:
        if self._leaving < LEAVING_MAX:
            self._leaving += 1
            self._service.tasks.start_handler("http 503", self._answer_full(sock))
            return
        with contextlib.suppress(OSError):
            sock.send(FULL)
        sock.close()

    async def _answer_full(self, sock: socket.SocketType) -> None:
        """Reads what the client asks, so that its bytes do not reset our answer, and answers."""
        stream = Stream(sock, self._shared.poller)
        try:
            async with asyncio.timeout(LINGER_S):
                await stream.read()
                await stream.write(FULL)
                sock.shutdown(SHUT_WR)
                while await stream.read():
                    pass
        except (OSError, TimeoutError):
            pass
        finally:
            stream.close()
            self._leaving -= 1

    def _provide(self) -> None:
        provide = self._service.metrics.provide
        ledger, uplink = self._shared.ledger, self._shared.uplink
        provide(metrics.HTTP_REQUESTS, lambda: ledger.ended)
        provide(metrics.HTTP_DECISIONS, self._decisions)
        provide(metrics.HTTP_ACTIVE, self._active)
        provide(metrics.HTTP_BYTES, self._bytes)
        provide(metrics.HTTP_ERRORS, lambda: ledger.causes)
        provide(metrics.HTTP_SHED, self._shed)
        provide(metrics.HTTP_CONNECTION_LIMIT, lambda: self._admission.limit)
        provide(metrics.DIAL_SECONDS, lambda: uplink.dials)
        provide(metrics.RESOLVE_SECONDS, lambda: uplink.lookups)
        self._service.provide_status(self._status, merge=merge_status)
        ResolverReport(self._service, self._resolver)

    def _decisions(self) -> dict[tuple[str, ...], float]:
        return {
            (str(line or NO_LINE), rule, verdict): count
            for (line, rule, verdict), count in self._shared.ledger.decisions.counts.items()
        }

    def _active(self) -> dict[tuple[str, ...], float]:
        opened = self._shared.ledger.open
        return {
            ("connection",): self._admission.active,
            **{(kind,): opened[kind] for kind in KINDS},
        }

    def _bytes(self) -> dict[tuple[str, ...], float]:
        ledger, relays = self._shared.ledger, self._shared.carrier.relays
        return {
            ("up",): ledger.bytes_up + sum(relay.bytes_up for relay in relays),
            ("down",): ledger.bytes_down + sum(relay.bytes_down for relay in relays),
        }

    def _status(self) -> dict[str, Any]:
        return proxy_status(
            ledger=self._shared.ledger,
            admission=self._admission,
            policy=self._shared.uplink.policy,
            passed=self._bytes(),
        )

    def _shed(self) -> dict[tuple[str, ...], float]:
        counts = [listener.counts for listener in self._listeners.values()]
        return {
            ("full",): sum(count.excess for count in counts),
            ("descriptors",): sum(count.shed for count in counts),
        }
