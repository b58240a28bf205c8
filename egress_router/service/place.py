"""Which of a daemon's processes this one is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Process `number` of `count`; number 0 is the first one, which has all duties."""

    number: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that watches, repairs, and answers for the daemon."""
        return self.number == 0

    @property
    def alone(self) -> bool:
        """Whether the daemon is this one process."""
        return self.count == 1

    @property
    def id_prefix(self) -> str:
        """What makes a number of this process one of the daemon's: `1-`; empty if it is alone."""
        return "" if self.alone else f"{self.number}-"

    def share_of(self, limit: int | None) -> int | None:
        """This process' part of the daemon's limit, rounded up."""
        return None if limit is None else -(-limit // self.count)


ALONE = Place()
