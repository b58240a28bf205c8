"""The document of /status becomes JSON piece by piece.

Ten thousand rows at once take json a tenth of a second, in which no connection would be served.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

ROWS = 200  # of one turn of the loop, some 2 ms


async def encode_document(document: Mapping[str, Any]) -> bytes:
    """The same text as json's own, as UTF-8; what json does not know becomes its `str`."""
    pieces: list[str] = []
    for name, value in document.items():
        key = f"{json.dumps(name, ensure_ascii=False)}: "
        if not isinstance(value, list) or len(value) <= ROWS:
            pieces.append(key + _encode(value))
            continue
        rows = []
        for start in range(0, len(value), ROWS):
            rows.append(_encode(value[start : start + ROWS])[1:-1])
            await asyncio.sleep(0)
        pieces.append(f"{key}[{', '.join(rows)}]")
    return f"{{{', '.join(pieces)}}}\n".encode("utf-8", "replace")


def _encode(value: object) -> str:
    return json.dumps(value, default=str, ensure_ascii=False)
