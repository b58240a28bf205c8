"""The addresses of one destination, made ready to be dialled again and again.

The order in which they are tried, and what the system calls take for each, follow from the
addresses, the port and the way out alone. A proxy dials the same few all the time, so this is
found by the identity of its arguments: an address' hash costs more than most system calls.
"""

from __future__ import annotations

from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Final, TypeAlias

from egress_router.net.endpoint import family_of, render_endpoint, socket_address

if TYPE_CHECKING:
    from egress_router.net.egress import Egress
    from egress_router.net.endpoint import IPAddress, SocketAddress

    _Kept: TypeAlias = tuple[tuple[IPAddress, ...], Egress, tuple["Upstream", ...]]

KEPT_MAX: Final = 1024  # clients of a proxy choose the names


class Upstream:
    """One address and port, the socket family, and the source to bind to (None: any)."""

    __slots__ = ("_socket_address", "_text", "address", "family", "port", "source")

    def __init__(self, address: IPAddress, port: int, egress: Egress) -> None:
        self.address = address
        self.port = port
        self.family = family_of(address)
        self.source = egress.bound(address)
        self._socket_address: SocketAddress | None = None
        self._text = ""

    @property
    def text(self) -> str:
        """`203.0.113.7:443`, for lines of the log."""
        if not self._text:
            self._text = render_endpoint(self.address, self.port)
        return self._text

    def socket_address(self) -> SocketAddress:
        """What `connect` takes; raises OSError if the zone of the address is no link."""
        if self._socket_address is not None:
            return self._socket_address
        found = socket_address(self.address, self.port)
        if "%" not in str(self.address):  # a link may come back with another index
            self._socket_address = found
        return found


class Upstreams:
    """What to dial for some addresses, a port and a way out; remembers the last ones asked for."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: dict[tuple[int, int], _Kept] = {}

    def of(
        self, addresses: tuple[IPAddress, ...], port: int, egress: Egress
    ) -> tuple[Upstream, ...]:
        """Those of a family that the egress has a source for, in the order of `interleave`."""
        key = (id(addresses), port)
        kept = self._kept.get(key)
        if kept is not None and kept[0] is addresses and kept[1] is egress:
            return kept[2]
        usable = tuple(one for one in addresses if egress.source_for(one) is not None)
        upstreams = tuple(Upstream(one, port, egress) for one in interleave(usable))
        if len(self._kept) >= KEPT_MAX:
            del self._kept[next(iter(self._kept))]
        # The addresses are kept with it, so nothing else gets their identity meanwhile.
        self._kept[key] = (addresses, egress, upstreams)
        return upstreams


def interleave(addresses: tuple[IPAddress, ...]) -> tuple[IPAddress, ...]:
    """Families in turn, beginning with the first address's; the order within each stays.

    `a4 b4 a6` becomes `a4 a6 b4` (RFC 8305, section 4). An address given twice counts once.
    """
    if len(addresses) < 2:
        return addresses
    unique = tuple(dict.fromkeys(addresses))
    first = [one for one in unique if one.version == unique[0].version]
    other = [one for one in unique if one.version != unique[0].version]
    return tuple(one for one in chain(*zip_longest(first, other)) if one is not None)
