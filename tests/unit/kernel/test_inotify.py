"""The kernel's notices of changed files: their bytes, and a folder of our own."""

import errno
import os
import struct
from pathlib import Path

import pytest

from egress_router.kernel import inotify
from egress_router.kernel.inotify import Inotify, Notice, parse_notices


def test_notices_of_one_read() -> None:
    """Names are padded with zeros to any length; a notice of the watched thing has none."""
    data = struct.pack("=iIII8s", 1, 8, 0, 8, b"ab") + struct.pack("=iIII", 2, 0x400, 0, 0)
    assert parse_notices(data) == (
        Notice(watch=1, mask=inotify.CLOSE_WRITE, name="ab"),
        Notice(watch=2, mask=inotify.DELETE_SELF, name=""),
    )
    assert parse_notices(b"") == ()


def test_a_folder_is_watched(tmp_path: Path) -> None:
    """Whoever writes is told of, and that the file was closed; the same folder has one number."""
    watch = Inotify()
    try:
        number = watch.watch(str(tmp_path))
        assert watch.watch(str(tmp_path)) == number
        assert watch.read() == ()
        (tmp_path / "file").write_text("x")
        masks = {notice.mask for notice in watch.read() if notice.name == "file"}
        assert {inotify.CREATE, inotify.MODIFY, inotify.CLOSE_WRITE} <= masks
        watch.unwatch(number)
        watch.unwatch(number)
        (tmp_path / "other").write_text("x")
        assert [notice.mask for notice in watch.read()] == [inotify.IGNORED]
    finally:
        watch.close()


def test_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    """It names the path and carries the kernel's number; the descriptor is not inherited."""
    watch = Inotify()
    try:
        with pytest.raises(OSError, match="No such file") as caught:
            watch.watch(str(tmp_path / "none"))
        assert caught.value.errno == errno.ENOENT
        assert not os.get_inheritable(watch.fileno())
    finally:
        watch.close()
