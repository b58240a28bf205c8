"""The kernel's notices of changed files (inotify(7)): which entry of which watched folder.

Python has no call for it. Two functions of the C library are all there is to it, so they are called
by ctypes: what packages offer blocks, drops errors, or starts programs to find the library.
"""

from __future__ import annotations

import ctypes
import os
import struct
from dataclasses import dataclass

# linux/inotify.h
MODIFY = 0x2
ATTRIB = 0x4
CLOSE_WRITE = 0x8
MOVED_FROM = 0x40
MOVED_TO = 0x80
CREATE = 0x100
DELETE = 0x200
DELETE_SELF = 0x400
MOVE_SELF = 0x800
OVERFLOW = 0x4000
IGNORED = 0x8000

_MASK = (
    MODIFY
    | ATTRIB
    | CLOSE_WRITE
    | MOVED_FROM
    | MOVED_TO
    | CREATE
    | DELETE
    | DELETE_SELF
    | MOVE_SELF
)
_EVENT = struct.Struct("=iIII")
_READ_BYTES = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """`name`: the entry of the watched folder; empty where the watched thing itself is meant."""

    watch: int
    mask: int
    name: str


class Inotify:
    """One non-blocking inotify descriptor; raises OSError where the kernel gives none."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor: int = self._call(
            self._libc.inotify_init1, os.O_NONBLOCK | os.O_CLOEXEC, what="inotify_init1"
        )

    def fileno(self) -> int:
        """The descriptor, readable when there is a notice."""
        return self._descriptor

    def close(self) -> None:
        """Closes the descriptor, and with it every watch."""
        os.close(self._descriptor)

    def watch(self, path: str) -> int:
        """Watches a folder or a file; the same number for the same one. Raises OSError."""
        name = ctypes.c_char_p(os.fsencode(path))
        call = self._libc.inotify_add_watch
        return self._call(call, self._descriptor, name, ctypes.c_uint32(_MASK), what=path)

    def unwatch(self, watch: int) -> None:
        """Ends a watch; one that the kernel has ended by itself is no error."""
        self._libc.inotify_rm_watch(self._descriptor, watch)

    def read(self) -> tuple[Notice, ...]:
        """What has come so far."""
        try:
            data = os.read(self._descriptor, _READ_BYTES)
        except BlockingIOError:
            return ()
        return parse_notices(data)

    def _call(self, function: object, *arguments: object, what: str) -> int:
        assert callable(function)  # noqa: S101 - a function of the C library
        result: int = function(*arguments)
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), what)
        return result


def parse_notices(data: bytes) -> tuple[Notice, ...]:
    """The notices in what read(2) gave; the kernel never gives part of one."""
    notices = []
    position = 0
    while position < len(data):
        watch, mask, _, length = _EVENT.unpack_from(data, position)
        position += _EVENT.size
        name = data[position : position + length].partition(b"\0")[0]
        notices.append(Notice(watch=watch, mask=mask, name=os.fsdecode(name)))
        position += length
    return tuple(notices)
