from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_router.errors import RefusalError
from egress_router.net.http1.errors import client_fault
from egress_router.net.http1.lines import HeadLimits, LineScan, Section, parse_fields

TEXT = st.lists(
    st.sampled_from(["\r\n", "\r", "\n", " ", "\t", ":", "a", "B: c", "\x00", "\x85", "\xa0", "é"]),
    max_size=14,
).map("".join)


@given(TEXT)
def test_the_fast_and_the_slow_reading_agree(text: str) -> None:
    """The one expression over all lines takes exactly what the line-by-line reading takes."""
    fields = parse_fields(text, 0, len(text))
    data = text.encode("latin-1") + b"\r\n"
    try:
        slow = LineScan(Section(fault=client_fault), HeadLimits()).advance(data) == len(data)
    except RefusalError:
        slow = False
    assert (fields is not None) == slow


@given(TEXT)
def test_values_lose_blanks_and_nothing_else(text: str) -> None:
    """Only blanks and TABs around a value go; other characters that look blank stay."""
    for name, value in parse_fields(text, 0, len(text)) or ():
        assert value == value.strip(" \t")
        assert f"{name}:" in text
        assert value in text


@pytest.mark.parametrize(
    ("limits", "harmless"),
    [
        (HeadLimits(), 8192),
        (HeadLimits(first_line_bytes=10), 10),
        (HeadLimits(header_bytes=11), 11),
        (HeadLimits(total_bytes=12), 12),
    ],
)
def test_what_is_harmless_breaks_no_length(limits: HeadLimits, harmless: int) -> None:
    """The length below which no line need be measured is the smallest of the limits."""
    assert limits.harmless_bytes == harmless
