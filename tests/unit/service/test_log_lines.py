"""Events as lines of text."""

from __future__ import annotations

import ipaddress
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from egress_router.service.events import DRIFT_FOUND
from egress_router.service.log_lines import render_json, render_time, text_renderer, visible

AT = 1_769_903_999.0019
TIME = "2026-01-31T23:59:59.001Z"

anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(),
    st.ip_addresses(),
)


# The first draw of text builds a table of all characters, which takes seconds on a cold cache.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def test_time_is_utc_with_milliseconds() -> None:
    """Time is cut, not rounded, so that a line never comes from the future."""
    assert render_time(AT) == TIME


def test_time_follows_the_clock_both_ways() -> None:
    """The second is formatted anew when it changes, also after a jump back."""
    shown = [render_time(at)[17:] for at in (1.0, 1.5, 2.0, 1.25)]
    assert shown == ["01.000Z", "01.500Z", "02.000Z", "01.250Z"]


def test_json_line_begins_with_time_level_event() -> None:
    """The golden line: order, spacing, values that only `str` can render, nothing lost."""
    fields = {"kind": "address", "detail": ipaddress.ip_address("192.0.2.7"), "n": None}
    assert render_json(DRIFT_FOUND, fields, AT) == (
        f'{{"timestamp":"{TIME}","level":"warning","event":"drift_found",'
        '"kind":"address","detail":"192.0.2.7","n":null}\n'
    )
    assert render_json(DRIFT_FOUND, {}, AT) == (
        f'{{"timestamp":"{TIME}","level":"warning","event":"drift_found"}}\n'
    )


@patient
@given(st.dictionaries(st.sampled_from(["kind", "detail"]), anything))
def test_json_line_is_one_ascii_line_that_reads_back(fields: dict[str, object]) -> None:
    """Whatever a peer wrote: one line, printable ASCII, and the same values after decoding."""
    line = render_json(DRIFT_FOUND, fields, AT)
    assert line.endswith("\n")
    assert line[:-1].isascii()
    assert line[:-1].isprintable()
    decoded = json.loads(line)
    for key, value in fields.items():
        plain = value is None or isinstance(value, (bool, int, float, str))
        assert decoded[key] == (value if plain else str(value))


@patient
@given(st.dictionaries(st.sampled_from(["kind", "detail"]), anything))
def test_text_line_is_one_printable_line(fields: dict[str, object]) -> None:
    """Text for people holds no control character, no line end and no terminal escape."""
    line = text_renderer(colors=False)(DRIFT_FOUND, fields, AT)
    assert line.endswith("\n")
    assert line[:-1].isprintable()
    assert line.startswith(TIME)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain ü", "plain ü"),
        ("a\nb", r"a\nb"),
        ("\x1b[31m\x7f\x9b\u2028\ud800", r"\x1b[31m\x7f\x9b\u2028\ud800"),
        (("one", "two\r"), r"one; two\r"),
        (7, 7),
        (None, None),
    ],
)
def test_visible(value: object, shown: object) -> None:
    """Only what cannot be printed is rewritten."""
    assert visible(value) == shown
