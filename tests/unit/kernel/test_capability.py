from pathlib import Path

import pytest

from egress_router.errors import KernelError
from egress_router.kernel import capability
from egress_router.kernel.capability import observe_capabilities, require_capabilities

BOTH = frozenset({"CAP_NET_ADMIN", "CAP_NET_RAW"})


@pytest.mark.parametrize(
    ("effective", "found"),
    [
        ("000001ffffffffff", BOTH),
        ("0000000000003000", BOTH),
        ("0000000000001000", {"CAP_NET_ADMIN"}),
        ("0000000000002000", {"CAP_NET_RAW"}),
        ("00000000a80405fb", set()),
        ("0000000000000000", set()),
    ],
)
def test_effective_set(
    effective: str, found: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The effective set counts, and what is missing of it is named with the remedy."""
    status = tmp_path / "status"
    status.write_text(
        f"CapPrm:\t{'f' * 16}\nCapEff:\t{effective}\nCapBnd:\t{'f' * 16}\n", encoding="ascii"
    )
    monkeypatch.setattr(capability, "Path", lambda _: status)
    assert observe_capabilities() == found
    if missing := BOTH - found:
        with pytest.raises(KernelError) as caught:
            require_capabilities()
        assert f"{' and '.join(sorted(missing))} missing" in str(caught.value)
        assert "run init with capabilities NET_ADMIN and NET_RAW" in str(caught.value)
    else:
        require_capabilities()
