"""What the container's files say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from egress_router.kernel.host import observe_nameservers

if TYPE_CHECKING:
    from pathlib import Path


def test_nameservers(tmp_path: Path) -> None:
    """Nameservers are read as resolv.conf(5) has them; what is no address is none."""
    path = tmp_path / "resolv.conf"
    assert observe_nameservers(path) == ()
    path.write_bytes(
        b"search example.test\nnameserver 172.30.0.10\n#nameserver 192.0.2.1\nnameserver\n"
        b"nameserver fe80::1%eth0\nnameserver\t fd00::10 \noptions ndots:5\nnameserver \xff\n"
    )
    assert list(map(str, observe_nameservers(path))) == ["172.30.0.10", "fd00::10"]
