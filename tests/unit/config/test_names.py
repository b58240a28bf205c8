from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_router.config.names import LABEL_MAX, NAME_MAX, parse_name

LONGEST = ".".join(["a" * LABEL_MAX] * 3 + ["a" * 61])


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("example.com", "example.com"),
        ("EXAMPLE.com.", "example.com"),
        ("www", "www"),
        ("w", "w"),
        ("cafe.de", "cafe.de"),
        ("1and1.example", "1and1.example"),
        ("3.example", "3.example"),
        ("r3---sn-4g5e.example", "r3---sn-4g5e.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        (LONGEST, LONGEST),
        (LONGEST + ".", LONGEST),
    ],
)
def test_names_have_one_normal_form(text: str, name: str) -> None:
    """A host name is lowered and loses its trailing dot, nothing else."""
    assert parse_name(text) == name


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "missing"),
        (".", "missing"),
        ("example.com..", "empty label"),
        (".example.com", "empty label"),
        ("foo..com", "empty label"),
        ("-a.com", "hyphen"),
        ("a-.com", "hyphen"),
        ("foo_bar.com", "letters, digits and hyphens"),
        ("a b", "letters, digits and hyphens"),
        ("a\n", "letters, digits and hyphens"),
        ("a" * (LABEL_MAX + 1), "label of 64"),
        (LONGEST + "a", f"at most {NAME_MAX}"),
        ("127.1", "number"),
        ("2130706433", "number"),
        ("0x7f.1", "number"),
        ("a.0x7F", "number"),
        ("a.0x", "number"),
        ("1.2.3.4.", "number"),
        ("ß.example", "not ASCII"),
        ("example。com", "not ASCII"),
        ("xn--.example", "hyphen"),
        ("xn--99999999.example", "A-label"),
    ],
)
def test_what_is_no_name_is_refused_with_the_reason(text: str, reason: str) -> None:
    """A text that is no host name is refused in words that name what is wrong with it."""
    with pytest.raises(ValueError, match=reason):
        parse_name(text)


def test_underscores_pass_only_where_they_are_asked_for() -> None:
    """An underscore is part of a name on the wire and of none in a list."""
    assert parse_name("_dmarc.A_b.example", underscores=True) == "_dmarc.a_b.example"


@given(text=st.text(alphabet="abxn-._0127ß\uff21", max_size=80), underscores=st.booleans())
def test_the_normal_form_is_stable(text: str, *, underscores: bool) -> None:
    """What is accepted once is accepted again, unchanged."""
    try:
        name = parse_name(text, underscores=underscores)
    except ValueError:
        return
    assert parse_name(name, underscores=underscores) == name == name.lower().rstrip(".")
