"""What differs between two lists, in words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_router.config.changes import Entry, describe_entries, describe_lines


def entries(*lines: tuple[str, str]) -> list[Entry]:
    """Entries, numbered from 1."""
    return [Entry(what=what, target=to, line=n) for n, (what, to) in enumerate(lines, 1)]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ((("a", "x"),), (("a", "x"),), ()),
        ((("a", "x"), ("b", "y")), (("b", "y"), ("a", "x")), ()),
        ((("a", "x"),), (), ("a removed, was to x",)),
        ((), (("a", "x"),), ("a added, to x (line 1)",)),
        (
            (("a", "x"),),
            (("b", "y"), ("a", "z")),
            (
                "b added, to y (line 1)",
                "a changed, to z (line 2), was to x",
            ),
        ),
    ],
)
def test_lines_that_have_a_key(
    old: tuple[tuple[str, str], ...], new: tuple[tuple[str, str], ...], words: tuple[str, ...]
) -> None:
    """Each is compared by its key; the order says nothing."""
    assert describe_entries(entries(*old), entries(*new)) == words


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("ab", "ab", ()),
        ("ab", "a", ("'b' removed",)),
        ("a", "ba", ("'b' added (line 1)",)),
        ("ab", "ba", ("the order of lines changed",)),
        ("abc", "cxa", ("'b' removed", "'x' added (line 2)", "the order of lines changed")),
        ("aa", "a", ("'a' removed",)),
    ],
)
def test_lines_whose_order_decides(old: str, new: str, words: tuple[str, ...]) -> None:
    """What came, what went, and whether the rest stands in another order."""
    numbered = [list(enumerate(text, 1)) for text in (old, new)]
    assert describe_lines(*numbered) == words


@given(st.text("abc", max_size=8), st.text("abc", max_size=8))
def test_no_words_means_no_difference(old: str, new: str) -> None:
    """Lists are told apart exactly where they differ."""
    words = describe_lines(list(enumerate(old)), list(enumerate(new)))
    assert (words == ()) is (old == new)
