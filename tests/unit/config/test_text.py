import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_router.config.text import (
    QUOTE_LIMIT,
    Line,
    Problems,
    foreign_character,
    invalid_port,
    parse_decimal,
    parse_port,
    quote,
    split_lines,
)
from egress_router.errors import ConfigurationError

WORDS = st.text("abz019.:-*!/", min_size=1, max_size=8)
BLANKS = st.text(" \t", min_size=1, max_size=3)


def split(text: str) -> tuple[tuple[Line, ...], list[str]]:
    """The lines of a text, and the problems as they are printed."""
    problems = Problems("EGRESS_TEST")
    return split_lines(text, problems), [str(problem) for problem in problems.found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", [], id="empty"),
        pytest.param("\n \n\t\n", [], id="blank-lines"),
        pytest.param("# note\n  # note\n\t#note", [], id="comments-only"),
        pytest.param("a b", [(1, ("a", "b"))], id="no-final-newline"),
        pytest.param("a b\n", [(1, ("a", "b"))], id="final-newline"),
        pytest.param("\t a \t b \t\n", [(1, ("a", "b"))], id="B1-7-tabs"),
        pytest.param("a\r\nb\r\n", [(1, ("a",)), (2, ("b",))], id="B1-7-crlf"),
        pytest.param("a # note\nb\t# note", [(1, ("a",)), (2, ("b",))], id="B1-7-note"),
        pytest.param("a#b", [(1, ("a#b",))], id="hash-inside-a-word"),
        pytest.param("# one\n\na", [(3, ("a",))], id="comments-count-as-lines"),
    ],
)
def test_lines_and_fields(text: str, expected: list[tuple[int, tuple[str, ...]]]) -> None:
    """Blanks, comments and line ends are dropped; the numbers are those of the text as written."""
    lines, problems = split(text)
    assert [(line.number, line.fields) for line in lines] == expected
    assert problems == []


@pytest.mark.parametrize(
    ("character", "name"),
    [
        pytest.param("\ufeff", "a byte-order mark (U+FEFF)", id="B1-7-bom"),
        pytest.param("\u00a0", "NO-BREAK SPACE (U+00A0)", id="B1-7-nbsp"),
        pytest.param("\u3000", "IDEOGRAPHIC SPACE (U+3000)", id="ideographic"),
        pytest.param("\u200b", "ZERO WIDTH SPACE (U+200B)", id="zero-width"),
        pytest.param("\u2028", "LINE SEPARATOR (U+2028)", id="line-separator"),
        pytest.param("\0", "a control character (U+0000)", id="B1-8-nul"),
        pytest.param("\v", "a control character (U+000B)", id="vertical-tab"),
        pytest.param("\r", "a control character (U+000D)", id="lone-cr"),
        pytest.param("\x1c", "a control character (U+001C)", id="file-separator"),
        pytest.param("\ud800", "a control character (U+D800)", id="surrogate"),
    ],
)
def test_foreign_characters_are_named(character: str, name: str) -> None:
    """A character that no rule may hold is a problem by name, wherever it stands in the line."""
    for line in (f"{character}80 tcp", f"80{character}tcp", f"80 t{character}cp"):
        lines, problems = split(f"first\n{line}\nthird")
        assert [found.number for found in lines] == [1, 3]
        assert problems == [f"EGRESS_TEST line 2: {quote(line)} holds {name}; expected plain text"]
    assert foreign_character("80 tcp\tx é") is None


@given(st.lists(st.lists(WORDS, min_size=1, max_size=4), max_size=6), st.data())
def test_blanks_do_not_matter(rows: list[list[str]], data: st.DataObject) -> None:
    """Any blanks between fields, around lines and any line end give the same fields."""
    text = ""
    for row in rows:
        text += data.draw(st.text(" \t", max_size=2))
        text += "".join(word + data.draw(BLANKS) for word in row)
        text += data.draw(st.sampled_from(["\n", "\r\n", " # note\n", "\n\n", "\n#x\n"]))
    lines, problems = split(text)
    assert [list(line.fields) for line in lines] == rows
    assert problems == []


@given(st.text())
def test_any_text_splits(text: str) -> None:
    """No text breaks the splitter; every line of it is a rule, a comment, blank, or a problem."""
    lines, problems = split(text)
    raw = text.split("\n")
    assert len(lines) + len(problems) <= len(raw)
    for line in lines:
        assert line.fields
        assert all(field in raw[line.number - 1] for field in line.fields)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("1", 1),
        ("65536", 65536),
        ("9" * 19, int("9" * 19)),
        pytest.param("9" * 20, None, id="longer-than-64-bits"),
        pytest.param("18446744073709551617", None, id="B1-6-wraps-to-1"),
        pytest.param("08", None, id="B1-6-08"),
        pytest.param("0100", None, id="B1-6-octal"),
        pytest.param("+80", None, id="B1-6-plus"),
        pytest.param("-1", None, id="minus"),
        pytest.param("80/tcp", None, id="B1-6-slash"),
        pytest.param("٨٠", None, id="B1-6-arabic"),
        pytest.param("８０", None, id="fullwidth"),
        pytest.param("1_0", None, id="underscore"),
        pytest.param("0x50", None, id="hex"),
        pytest.param("80\n", None, id="newline"),
        pytest.param(" 80", None, id="blank"),
        pytest.param("", None, id="empty"),
    ],
)
def test_decimal(text: str, value: int | None) -> None:
    """Only plain ASCII decimal is a number."""
    assert parse_decimal(text) == value


@given(st.integers(0, 10**19 - 1))
def test_decimal_round_trip(number: int) -> None:
    """Every number as Python writes it is read back, and not with a tail."""
    assert parse_decimal(str(number)) == number
    for tail in ("\n", " ", "x", "\0", ".0"):
        assert parse_decimal(f"{number}{tail}") is None


@pytest.mark.parametrize(
    ("text", "port"), [("0", None), ("1", 1), ("65535", 65535), ("65536", None), ("x", None)]
)
def test_port(text: str, port: int | None) -> None:
    """A port lies between 1 and 65535."""
    assert parse_port(text) == port


def test_invalid_port_is_the_originals_message() -> None:
    """The originals' wording is kept."""
    assert invalid_port("0") == "Invalid port: 0, must be in the range 1 to 65535"


@given(st.text())
def test_quote_is_one_printable_line(text: str) -> None:
    """Quoted text never breaks a line of output, and has a length one can read."""
    shown = quote(text)
    assert shown.isprintable()
    assert len(shown) <= QUOTE_LIMIT + 3


def test_problems_are_raised_together() -> None:
    """All problems of a variable arrive in one error, in order, with their lines."""
    problems = Problems("EGRESS_TEST")
    problems.raise_if_any()
    problems.add("first")
    problems.add("second", line=7)
    problems.add("third", line=Line(number=9, text="x", fields=("x",)))
    with pytest.raises(ConfigurationError) as caught:
        problems.raise_if_any()
    assert str(caught.value).splitlines() == [
        "EGRESS_TEST: first",
        "EGRESS_TEST line 7: second",
        "EGRESS_TEST line 9: third",
    ]
