"""Of pyroute2 what is used: rtnetlink, its errors, and setns.

The package's own `__init__` imports all that it has: 0.05 s and 6 MB more for each process.
So the package stands for itself without that code having run: its modules are imported where they
are asked for, and what else somebody asks the package for has its code run after all. A version
whose parts cannot be imported so is imported whole.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType

_PACKAGE = "pyroute2"


def put_package() -> None:
    """Puts the package in `sys.modules` unless it is there, its code not run."""
    if _PACKAGE in sys.modules:
        return
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is not None and spec.loader is not None:
        package = importlib.util.module_from_spec(spec)
        package.__dict__["__getattr__"] = _Completion(package, spec)
        sys.modules[_PACKAGE] = package


def take_package() -> None:
    """Takes the package and all of its modules out of `sys.modules` again."""
    for name in [name for name in sys.modules if name.partition(".")[0] == _PACKAGE]:
        del sys.modules[name]


class _Completion:
    """A module's `__getattr__` (PEP 562): a module below it, or what its code brings."""

    def __init__(self, package: ModuleType, spec: ModuleSpec) -> None:
        self._package = package
        self._spec = spec

    def __call__(self, name: str) -> Any:
        if not name.startswith("__") and importlib.util.find_spec(f"{_PACKAGE}.{name}"):
            return importlib.import_module(f"{_PACKAGE}.{name}")
        if self._package.__dict__.pop("__getattr__", None) is not None:
            assert self._spec.loader is not None  # noqa: S101 (`put_package` has seen to it)
            self._spec.loader.exec_module(self._package)
        return getattr(self._package, name)


put_package()
try:
    from pyroute2.iproute.linux import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError
    from pyroute2.netns import setns
except Exception:  # noqa: BLE001 - whatever it lacks, the whole package brings
    take_package()
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError
    from pyroute2.netns import setns

__all__ = ["IPRoute", "NetlinkError", "setns"]
