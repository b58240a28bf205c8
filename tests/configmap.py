"""A mounted ConfigMap as the kubelet keeps it (AtomicWriter of Kubernetes' volume utilities)."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from pathlib import Path
from typing import Self

KEY = "destination"


class ConfigMap:
    """A folder in which `destination` is a link to `..data/destination`, readable by everybody.

    `..data` is a link to a folder with a time in its name; an update makes another one, and moves a
    new link over the old.
    """

    def __init__(self, text: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="configmap-"))
        self.folder.chmod(0o755)
        self.file = self.folder / KEY
        self._numbers = itertools.count(1)
        self.swap(text)
        self.file.symlink_to(f"..data/{KEY}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def swap(self, text: str) -> None:
        """An update by the kubelet."""
        data = self.folder / "..data"
        old = data.resolve() if data.is_symlink() else None
        new = self.folder / f"..2026_11_22_16_00_00.{next(self._numbers):09}"
        new.mkdir(mode=0o755)
        (new / KEY).write_text(text)
        link = self.folder / "..data_tmp"
        link.symlink_to(new.name)
        link.replace(data)
        if old is not None:
            shutil.rmtree(old)
