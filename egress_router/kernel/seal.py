"""The seal of the table: how a rerun knows that nobody has touched it.

nft's listing of what was loaded is not the text that was loaded, and differs between versions, so
the two are not compared. Instead the table's comment carries the digest of the text, and an empty
set called `seal` the digest of the listing as it was right after loading. A table whose listing
still has that digest is intact. Text alone: `kernel.nft` asks for it, and loads it.
"""

from __future__ import annotations

import hashlib
import re

from egress_router.plan.counting import without_state
from egress_router.plan.ruleset import COMMENT_PREFIX, ruleset_digest
from egress_router.plan.state import Table

_SEAL = re.compile(r"\n?\tset seal \{\n.*?\n\t\}\n", re.DOTALL)
_SEAL_COMMENT = re.compile(r'comment "([0-9a-f]+)"')


def read_listing(text: str) -> Table:
    """What nft's listing of the table says of it."""
    listing, sealed = open_seal(text)
    return Table(
        ours=f'comment "{COMMENT_PREFIX}' in listing,
        digest=ruleset_digest(listing),
        intact=sealed == listing_digest(listing),
        text=text,
    )


def render_seal(listing: str) -> str:
    """What the set holds that seals a table of this listing, which has no seal yet."""
    return f'type mark; comment "{listing_digest(listing)}";'


def sealed_table(listing: str) -> Table:
    """The table of this listing with its seal, for whoever has just added it.

    The text is nft's but for the place of the seal: behind everything else.
    """
    words = (word.strip() for word in render_seal(listing).split(";"))
    lines = "".join(f"\t\t{word}\n" for word in words if word)
    return Table(
        ours=True,
        digest=ruleset_digest(listing),
        intact=True,
        text=listing.removesuffix("}\n") + f"\n\tset seal {{\n{lines}\t}}\n}}\n",
    )


def open_seal(listing: str) -> tuple[str, str | None]:
    """The listing without its seal, and the digest that the seal holds."""
    seal = _SEAL.search(listing)
    if seal is None:
        return listing, None
    comment = _SEAL_COMMENT.search(seal.group())
    return listing[: seal.start()] + listing[seal.end() :], comment.group(1) if comment else None


def listing_digest(listing: str) -> str:
    """The digest of a listing without its seal."""
    # Blank lines between objects move when the seal is added; all else but state counts.
    lines = [line for line in without_state(listing).splitlines() if line.strip()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]
