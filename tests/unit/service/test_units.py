"""Numbers as a person reads them."""

from __future__ import annotations

import pytest

from egress_router.service.units import render_bytes, render_duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.9, "59s"), (60, "1m 0s"), (3600, "1h 0m"), (90061, "1d 1h"), (1e7, "115d 17h")],
)
def test_durations(seconds: float, text: str) -> None:
    """Two units are enough."""
    assert render_duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (2**30, "1.0 GiB"), (2**51, "2048.0 TiB")],
)
def test_bytes(number: float, text: str) -> None:
    """Sizes are told in binary units."""
    assert render_bytes(number) == text
