"""The document of /status as bytes."""

from __future__ import annotations

import asyncio
import json
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_router.service.encoding import ROWS, encode_document

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(st.dictionaries(st.text(), VALUES, max_size=5))
def test_it_is_json(document: dict[str, Any]) -> None:
    """Whatever the facts are, they come back as they were."""
    assert json.loads(asyncio.run(encode_document(document))) == document


@pytest.mark.parametrize("count", [0, 1, ROWS, ROWS + 1, 2 * ROWS, 10 * ROWS + 7])
def test_long_lists(count: int) -> None:
    """A list of any length is whole and in order."""
    document = {"before": 1, "rows": [{"port": n} for n in range(count)], "after": [1]}
    assert json.loads(asyncio.run(encode_document(document))) == document


def test_others_are_served_meanwhile() -> None:
    """Between two pieces of a long list the loop turns."""

    async def turns() -> int:
        count, document = 0, {"rows": [{"port": n} for n in range(20 * ROWS)]}
        task = asyncio.ensure_future(encode_document(document))
        while not task.done():
            await asyncio.sleep(0)
            count += 1
        return count

    assert asyncio.run(turns()) >= 20


def test_what_json_does_not_know() -> None:
    """Addresses become their text, and what is no text cannot break the answer."""
    told = asyncio.run(encode_document({"source": ip_address("192.0.2.7"), "name": "\udcff"}))
    assert json.loads(told) == {"source": "192.0.2.7", "name": "?"}
