"""A CONNECT whose very bytes have been judged before: a tunnel without a task and without parsing.

1. What a head means is a function of its bytes, so it is worked out once. Only heads that cannot
   hold a secret are kept: the fields they may have are listed here.
2. Whether the target is allowed is asked anew each time; a shortcut is taken only where the answer
   is known at once. Everything else goes the long way, by `Client.serve`.
3. Who spoke first is remembered: where it was the client, the next handshake with the server is
   held back for its first bytes (net/relay.py, rule 5).
4. It ends in one of three ways, each with the record's line: the relay has both sockets, the client
   is told why there is no tunnel, or the client has left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from egress_router.modes.http.ledger import TUNNEL, Record
from egress_router.modes.http.watchdog import Phase
from egress_router.net.dial_errors import DialError
from egress_router.net.http1.answers import TUNNEL_ESTABLISHED
from egress_router.policy.target import Target  # noqa: TC001 (of a field)

if TYPE_CHECKING:
    import socket

    from egress_router.modes.http.client import Client
    from egress_router.net.dial import Dial
    from egress_router.net.http1.head import RequestHead
    from egress_router.policy.rules import Decision

HEAD_MAX_BYTES: Final = 1024
HEADS_MAX: Final = 1024  # at most 1 MiB in all
_PLAIN_FIELDS: Final = frozenset(("host", "user-agent", "connection", "proxy-connection", "accept"))


@dataclass(slots=True, kw_only=True)
class KnownTunnel:
    """A sound CONNECT: where it goes, and what its log line says beside that.

    `client_first`: the last tunnel of that kind began with bytes of the client.
    """

    target: Target
    note: str | None
    client_first: bool = False


class KnownTunnels:
    """Heads by their bytes, the oldest forgotten first."""

    __slots__ = ("_by_head", "get")

    def __init__(self) -> None:
        self._by_head: dict[bytes, KnownTunnel] = {}
        self.get = self._by_head.get

    def __len__(self) -> int:
        return len(self._by_head)

    def note(self, whole: bytes, head: RequestHead, known: KnownTunnel) -> None:
        """Keeps a head that came in one piece with nothing behind it, if it may be kept."""
        if len(whole) > HEAD_MAX_BYTES or not _PLAIN_FIELDS.issuperset(head.names):
            return
        if len(self._by_head) >= HEADS_MAX:
            del self._by_head[next(iter(self._by_head))]
        self._by_head[whole] = known


class Shortcut:
    """One such CONNECT; exists until one of the three ends."""

    __slots__ = ("_client", "_decision", "_dial", "_known", "_port", "_record")

    def __init__(self, client: Client, known: KnownTunnel, decision: Decision) -> None:
        self._client = client
        self._decision = decision
        self._known = known
        self._port = known.target.port
        self._dial: Dial | None = None
        self._record = record = Record(client.peer)
        record.method, record.kind, record.target = "CONNECT", TUNNEL, known.target
        record.rule, record.reason, record.note = decision.rule, decision.reason, known.note
        client.shared.ledger.begin(record)

    def start(self) -> None:
        """Dials; may come to its end within this call."""
        client = self._client
        client.watchdog.enter(Phase.CONNECT)
        client.stream.watch()  # the end of the client is to be noticed meanwhile
        self._dial = client.shared.uplink.start(
            self._decision, self._port, self._connected, hold_ack=self._known.client_first
        )

    def cut(self, note: str) -> None:
        """Gives up: the client has left, or is made to."""
        if self._dial is not None:
            self._dial.cancel()
        self._record.note = note
        self._client.shared.ledger.close(self._record)

    def _connected(self, dial: Dial, result: socket.SocketType | DialError) -> None:
        client, record = self._client, self._record
        client.shortcut = None
        connected = not isinstance(result, DialError)
        client.shared.uplink.note_dial(record.started, connected=connected)
        if isinstance(result, DialError):
            client.start(client.serve_failure(record, client.shared.uplink.failure_of(result)))
            return
        record.address = None if dial.winner is None else dial.winner.address
        try:
            # Some forty bytes, the first ones on this connection: they fit, or it is lost.
            client.stream.sock.send(TUNNEL_ESTABLISHED)
        except OSError as error:
            client.shared.poller.discard(result)
            record.note = f"client lost: {error}"
            client.shared.ledger.close(record)
        else:
            record.status, record.answered = 200, True
            client.hand_over(result, record, dial=dial, known=self._known)
        client.end()
