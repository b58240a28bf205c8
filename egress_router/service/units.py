"""Numbers for a person."""

from __future__ import annotations


def render_duration(seconds: float) -> str:
    """Seconds for a person: `7s`, `3m 20s`, `5h 2m`, `12d 4h`."""
    whole = int(seconds)
    for unit, size, smaller, smaller_size in (
        ("d", 86400, "h", 3600),
        ("h", 3600, "m", 60),
        ("m", 60, "s", 1),
    ):
        if whole >= size:
            return f"{whole // size}{unit} {whole % size // smaller_size}{smaller}"
    return f"{whole}s"


def render_bytes(number: float) -> str:
    """Bytes for a person: `512 B`, `1.4 MiB`."""
    if number < 1024:
        return f"{number:g} B"
    for unit in ("KiB", "MiB", "GiB"):
        number /= 1024
        if number < 1024:
            return f"{number:.1f} {unit}"
    return f"{number / 1024:.1f} TiB"
