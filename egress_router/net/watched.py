"""A small text file that others rewrite: read again when its stat record changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")

LOOK_EVERY_S = 1.0  # a stat record is cheap, but not once for every connection
FILE_MAX_BYTES = 1 << 20  # hostAliases of a large pod are some kilobytes


class WatchedFile(Generic[T]):
    """Holds what a file last said; a file that cannot be read changes nothing.

    `accept` may refuse a new value (say, an empty list), the old one then stays in use.
    """

    def __init__(
        self,
        path: Path,
        parse: Callable[[str], T],
        *,
        initial: T,
        accept: Callable[[T], bool] = lambda _: True,
        clock: Callable[[], float],
    ) -> None:
        self._path = path
        self._parse = parse
        self._accept = accept
        self._clock = clock
        self._value = initial
        self._seen: tuple[int, int, int, int] | None = None
        self._next_look = float("-inf")

    def current(self) -> T:
        """The value, at most a second behind the file."""
        now = self._clock()
        if now >= self._next_look:
            self._next_look = now + LOOK_EVERY_S
            self._look()
        return self._value

    def _look(self) -> None:
        try:
            stat = self._path.stat()
            seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino, stat.st_dev)
            if seen == self._seen:
                return
            with self._path.open("rb") as file:
                text = file.read(FILE_MAX_BYTES).decode(errors="replace")
        except OSError:
            return
        self._seen = seen
        value = self._parse(text)
        if self._accept(value):
            self._value = value
