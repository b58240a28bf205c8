"""Why no connection came about: the cause of each attempt, and the error of all together."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from egress_router.errors import EgressRouterError

if TYPE_CHECKING:
    from egress_router.net.endpoint import IPAddress


class DialCause(StrEnum):
    """Why no connection came about; a proxy answers 504 to a timeout, 503 to `exhausted`."""

    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    TIMED_OUT = "timed out"
    LINK_DOWN = "link down"
    NO_SOURCE = "no source address of that family"
    EXHAUSTED = "out of ports, descriptors or memory"


# Of several causes the one that came closest to a connection is told.
_NEAREST_FIRST: Final = (
    DialCause.REFUSED,
    DialCause.TIMED_OUT,
    DialCause.EXHAUSTED,
    DialCause.UNREACHABLE,
    DialCause.LINK_DOWN,
    DialCause.NO_SOURCE,
)

_CAUSES: Final = {
    errno.ECONNREFUSED: DialCause.REFUSED,
    errno.ECONNRESET: DialCause.REFUSED,
    errno.ECONNABORTED: DialCause.REFUSED,
    errno.ETIMEDOUT: DialCause.TIMED_OUT,
    errno.ENODEV: DialCause.LINK_DOWN,
    errno.ENETDOWN: DialCause.LINK_DOWN,
    # connect: every port towards this very address is in use. (bind says it of a lost source.)
    errno.EADDRNOTAVAIL: DialCause.EXHAUSTED,
    errno.EMFILE: DialCause.EXHAUSTED,
    errno.ENFILE: DialCause.EXHAUSTED,
    errno.ENOBUFS: DialCause.EXHAUSTED,
    errno.ENOMEM: DialCause.EXHAUSTED,
    errno.EAGAIN: DialCause.EXHAUSTED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One attempt that came to nothing."""

    address: IPAddress
    cause: DialCause


class DialError(EgressRouterError):
    """No address could be connected to; `failures` has those that were tried."""

    def __init__(self, port: int, failures: tuple[Failure, ...]) -> None:
        causes = {failure.cause for failure in failures}
        self.cause = next(
            (cause for cause in _NEAREST_FIRST if cause in causes), _NEAREST_FIRST[-1]
        )
        tried = ", ".join(f"{failure.address} {failure.cause}" for failure in failures)
        super().__init__(f"connecting to port {port}: {tried or 'no address to try'}")
        self.failures = failures


def cause_of(error: OSError) -> DialCause:
    """What an error of socket, bind or connect means."""
    return _CAUSES.get(error.errno or 0, DialCause.UNREACHABLE)
