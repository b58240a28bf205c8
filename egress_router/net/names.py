"""Names as the resolver takes them: absolute, ASCII, never to be completed by a search list."""

from __future__ import annotations

from typing import TYPE_CHECKING

from egress_router.net.scan import LABEL_MAX_OCTETS, NAME_MAX_OCTETS

if TYPE_CHECKING:
    from egress_router.net.scan import Labels

# Names that a resolver answers itself and must not ask about: RFC 6761 (localhost, invalid),
# RFC 6762 (local), RFC 7686 (onion), RFC 9476 (alt).
UNASKED_SUFFIXES = frozenset({b"localhost", b"invalid", b"local", b"onion", b"alt"})


def parse_name(text: str) -> Labels | None:
    """The labels of a name, lower case, a final dot dropped; None if no such name can be asked for.

    `parse_name("WWW.example.test.") == (b"www", b"example", b"test")`. A name whose last label is
    a number or begins with `0x` is an address in disguise (`127.1`, `0x7f.1`), and is None too.
    """
    if not text.isascii() or not text.isprintable():
        return None
    labels = tuple(text.removesuffix(".").lower().encode().split(b"."))
    if sum(len(label) + 1 for label in labels) + 1 > NAME_MAX_OCTETS:
        return None
    if not all(0 < len(label) <= LABEL_MAX_OCTETS for label in labels):
        return None
    if labels[-1].isdigit() or labels[-1].startswith(b"0x"):
        return None
    return labels


def is_unasked(labels: Labels) -> bool:
    """Whether the name belongs to a domain that no query may leave for."""
    return labels[-1] in UNASKED_SUFFIXES
