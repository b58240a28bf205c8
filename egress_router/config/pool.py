"""EGRESS_SOURCE_POOL: the addresses that the pods of one StatefulSet share, one for each pod.

1. Words are `ADDRESS[/LEN]` or `ADDRESS-ADDRESS[/LEN]`, the latter with both ends; each family is
   counted on its own, in the order in which it is written.
2. The pod NAME-N takes address N of each family, counted from 0. The hostname says which it is.
3. The whole pool is judged in every pod, so that a mistake shows in the first one, not in the last.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from egress_router.config.addresses import Source, parse_address, parse_source, split_words
from egress_router.config.text import quote

if TYPE_CHECKING:
    from egress_router.config.text import Problems

POOL_LIMIT = 1024  # addresses of a family: more than a StatefulSet of routers will ever have
# Names of a StatefulSet's pods: the set's name, a hyphen and the ordinal without leading zeros.
_ORDINAL = re.compile(r".+-(0|[1-9][0-9]{0,8})\Z", re.ASCII)
_EXPECTED = "expected ADDRESS[/LEN] or ADDRESS-ADDRESS[/LEN]"


def parse_pool(text: str | None, problems: Problems) -> tuple[Source, ...]:
    """Every address of the pool, families mixed as written; what is wrong goes to `problems`.

    `192.168.12.99-192.168.12.101/24, 2001:db8:12::99-2001:db8:12::101/64` are six.
    """
    before = len(problems.found)
    sources: list[Source] = []
    for word in split_words(text):
        parsed = _parse_word(word)
        if isinstance(parsed, str):
            problems.add(f"{quote(word)} is invalid: {parsed}")
        else:
            sources.extend(parsed)
    if not sources and len(problems.found) == before:
        problems.add(f"holds no address: {_EXPECTED}")
    for address, count in Counter(source.address for source in sources).items():
        if count > 1:
            problems.add(f"{quote(str(address))} is in the pool {count} times; expected once")
    counts = {version: len(_family(sources, version)) for version in (4, 6)}
    if max(counts.values()) > POOL_LIMIT:
        problems.add(f"holds more than {POOL_LIMIT} addresses of a family")
    elif all(counts.values()) and counts[4] != counts[6] and len(problems.found) == before:
        problems.add(
            f"holds {counts[4]} IPv4 and {counts[6]} IPv6 addresses; expected as many of each, "
            "because a pod takes one of each"
        )
    return tuple(sources)


def pick_sources(pool: tuple[Source, ...], hostname: str, problems: Problems) -> tuple[Source, ...]:
    """The pod's own addresses, one of each family that the pool has; none if there is a problem."""
    found = _ORDINAL.match(hostname.partition(".")[0])
    if found is None:
        problems.add(
            f"this pod's hostname {quote(hostname)} ends in no number: expected NAME-N, as a "
            "StatefulSet names its pods"
        )
        return ()
    ordinal = int(found[1])
    families = tuple(family for version in (4, 6) if (family := _family(pool, version)))
    size = min(map(len, families), default=0)
    if ordinal >= size:
        problems.add(
            f"pod {quote(hostname)} has no address: the pool holds {size}, for the ordinals "
            f"0 to {size - 1}; extend the pool, or have no more replicas than addresses"
        )
        return ()
    return tuple(family[ordinal] for family in families)


def _family(sources: tuple[Source, ...] | list[Source], version: int) -> list[Source]:
    return [source for source in sources if source.version == version]


def _parse_word(word: str) -> tuple[Source, ...] | str:
    addresses, slash, length = word.partition("/")
    first_text, dash, last_text = addresses.partition("-")
    if "-" in length:  # the length stands behind both ends, not behind each
        return _EXPECTED
    if not dash:
        source = parse_source(word)
        return source if isinstance(source, str) else (source,)
    first, last = parse_address(first_text), parse_address(last_text)
    if isinstance(first, str) or isinstance(last, str):
        return _EXPECTED
    if first.version != last.version:
        return "one end is IPv4, the other IPv6; expected a range of one family"
    count = int(last) - int(first) + 1
    if count < 1:
        return "it ends before it begins; expected the lower address first"
    if count > POOL_LIMIT:
        return f"it holds more than {POOL_LIMIT} addresses"
    sources = []
    for address in (first + step for step in range(count)):
        source = parse_source(f"{address}{slash}{length}")
        if isinstance(source, str):
            return f"{quote(str(address))}: {source}"
        sources.append(source)
    if slash and len({source.interface.network for source in sources}) > 1:
        return f"it spans more than one /{length} network; expected a range for each"
    return tuple(sources)
