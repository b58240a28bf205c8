"""From the records of one answer to the addresses of the name that was asked for.

1. Only records on the chain count: those owned by the name, or by the target of a CNAME record on
   the chain. Whatever else an answer brings along is no one's business.
2. Owners are compared by labels, never as text.
3. Records may come in any order. DNAME records are not followed: a server that has one sends the
   CNAME record it makes from it along (RFC 6672, section 3.1).
4. An address beside a CNAME record at one owner breaks RFC 2181, section 10.1; the address counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from egress_router.net.resolution import Absent, Failed, Found, ResolutionCause
from egress_router.net.wire import Rcode

if TYPE_CHECKING:
    from egress_router.net.resolution import Outcome
    from egress_router.net.scan import Labels
    from egress_router.net.wire import Alias, Answer, Query

CHAIN_MAX = 11  # CNAME records followed in one answer, as Unbound's max-query-restarts
TTL_MAX_S = 86_400  # a TTL with its top bit set is a very long one, not a negative one (RFC 8767)


def decide_outcome(answer: Answer, query: Query) -> Outcome | None:
    """What an answer means for its query; None means: ask another server."""
    if answer.rcode not in (Rcode.NOERROR, Rcode.NXDOMAIN):
        return None
    owners = {record.owner for record in answer.addresses}
    target, ttls = _follow_chain(answer.aliases, query.name, owners)
    if target is None:
        return Failed(cause=ResolutionCause.SERVER_FAILURE, detail="its CNAME chain has no end")
    found = {record.address: record.ttl_s for record in answer.addresses if record.owner == target}
    if found:
        return Found(addresses=tuple(found), ttl_s=min(*ttls, *found.values(), TTL_MAX_S))
    cause = (
        ResolutionCause.NAME_NOT_FOUND
        if answer.rcode == Rcode.NXDOMAIN
        else ResolutionCause.NO_ADDRESS
    )
    return Absent(cause=cause, ttl_s=answer.negative_ttl_s)


def _follow_chain(
    aliases: tuple[Alias, ...], name: Labels, owners: set[Labels]
) -> tuple[Labels | None, list[int]]:
    """The owner where the chain ends (None: nowhere), and the TTLs of the CNAME records on it."""
    by_owner: dict[Labels, Alias] = {}
    for alias in aliases:
        by_owner.setdefault(alias.owner, alias)
    ttls: list[int] = []
    while name not in owners and name in by_owner:
        if len(ttls) == CHAIN_MAX:
            return None, ttls
        ttls.append(by_owner[name].ttl_s)
        name = by_owner[name].target
    return name, ttls
