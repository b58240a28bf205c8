"""Network namespaces by path (network_namespaces(7), setns(2))."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from egress_router.errors import KernelError
from egress_router.kernel.rtnetlink import setns

if TYPE_CHECKING:
    from collections.abc import Iterator

OWN = "/proc/self/ns/net"


@contextlib.contextmanager
def entered(path: str) -> Iterator[int]:
    """This thread is in the namespace at `path`; yields a descriptor of the one it came from.

    Sockets opened meanwhile stay in that namespace. The way back is by the open descriptor, so it
    does not depend on /proc. Raises KernelError if the path is no namespace or may not be entered.
    """
    home = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            there = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise _refused(path, error) from error
        try:
            setns(there)
        except OSError as error:
            raise _refused(path, error) from error
        finally:
            os.close(there)
        try:
            yield home
        finally:
            setns(home)
    finally:
        os.close(home)


def _refused(path: str, error: OSError) -> KernelError:
    return KernelError(
        f"enter the network namespace '{path}'",
        error.strerror or str(error),
        errno=error.errno,
        remedy="EGRESS_PARENT_NETNS needs the path of a namespace, mounted into init, and "
        "CAP_SYS_ADMIN",
    )
