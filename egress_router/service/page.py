"""The status page: one file without outside assets, and the policy that keeps it so.

1. The page's script and style are named by their hashes, so nothing else of the kind runs: a name
   in the status that looks like markup stays text twice over.
2. It asks /status and /metrics of the place it came from, and no other.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path

_FILE = Path(__file__).with_name("page.html")
_INLINE = re.compile(rb"<(script|style)>(.*?)</\1>", re.DOTALL)


@cache
def load_page() -> tuple[bytes, str]:
    """The page's bytes, and its Content-Security-Policy (CSP level 3, W3C)."""
    page = _FILE.read_bytes()
    hashes = {kind.decode(): _hash(text) for kind, text in _INLINE.findall(page)}
    policy = (
        "default-src 'none'",
        f"script-src '{hashes['script']}'",
        f"style-src '{hashes['style']}'",
        "connect-src 'self'",
        "img-src data:",  # the icon that is none, lest the browser asks for one
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
    return page, "; ".join(policy)


def _hash(text: bytes) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}"
