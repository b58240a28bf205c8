"""The interpreter's garbage collector, set for a daemon.

Hardly anything here is a circle, so its rounds find next to nothing. As it comes it makes one for
every 700 new objects and walks through all imported modules again and again: a tenth of the time
that a busy proxy's own code takes.
"""

from __future__ import annotations

import gc

YOUNG = 20_000  # objects between two rounds: some 2 MiB, should all of them be garbage
OLDER, OLDEST = 20, 100  # rounds of the youngest for one of the older, and of those for a whole one


def spare_collector() -> None:
    """From now on: what is there by now is never looked at again, and rounds are rare."""
    gc.freeze()
    gc.set_threshold(YOUNG, OLDER, OLDEST)
