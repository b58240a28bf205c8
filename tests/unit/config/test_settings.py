import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_router.config.settings import (
    Environment,
    read_choice,
    read_count,
    read_link_name,
    read_mac,
    read_port,
    read_seconds,
)
from egress_router.config.text import Problems
from egress_router.config.variables import Variable

PLAIN = Variable(name="EGRESS_TEST", programs=(), meaning="")
DEFAULTED = Variable(name="EGRESS_TEST", programs=(), meaning="", default="5")
FILE = Variable(name="EGRESS_TEST_FILE", programs=(), meaning="")


def with_value(text: str | None) -> Environment:
    """An environment in which only EGRESS_TEST is set, or nothing."""
    return Environment(variables={} if text is None else {"EGRESS_TEST": text})


def test_empty_counts_as_unset() -> None:
    """A variable without text is the same as none, and has its default."""
    for text in (None, "", "  \t\r\n"):
        environment = with_value(text)
        assert environment.get(PLAIN) is None
        assert environment.get(DEFAULTED) == "5"
        assert not environment.is_set(DEFAULTED)
    assert with_value(" x\r\n").get(PLAIN) == "x"
    assert with_value("x").is_set(PLAIN)


def test_text_of_a_list() -> None:
    """A list comes from its variable or from the file, untouched."""
    problems = Problems("EGRESS_TEST")
    assert with_value(" a\n").text(PLAIN, FILE, problems) == " a\n"
    assert with_value(None).text(PLAIN, FILE, problems) is None
    from_file = Environment(variables={"EGRESS_TEST_FILE": "/x"}, files={"/x": "\tb\r\n"})
    assert from_file.text(PLAIN, FILE, problems) == "\tb\r\n"
    assert problems.found == []


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (
            Environment(
                variables={"EGRESS_TEST": "a", "EGRESS_TEST_FILE": "/x"}, files={"/x": "b"}
            ),
            "EGRESS_TEST: both EGRESS_TEST and EGRESS_TEST_FILE are set; expected one",
        ),
        (
            Environment(
                variables={"EGRESS_TEST_FILE": "/x"},
                unreadable={"/x": "No such file or directory"},
            ),
            "EGRESS_TEST_FILE '/x' cannot be read: No such file or directory",
        ),
    ],
    ids=["both", "unreadable"],
)
def test_text_of_a_list_refused(environment: Environment, message: str) -> None:
    """Two sources of one list, and a file without text, are problems by name."""
    problems = Problems("EGRESS_TEST")
    assert environment.text(PLAIN, FILE, problems) is None
    assert [str(problem) for problem in problems.found] == [message]


SECONDS = [
    ("0.1", 0.1),
    ("60", 60.0),
    (" 2.5 ", 2.5),
    ("0", None),
    ("60.1", None),
    ("-1", None),
    ("+1", None),
    (".5", None),
    ("1.", None),
    ("1e1", None),
    ("01", None),
    ("nan", None),
    ("inf", None),
    ("1s", None),
    ("١", None),
    ("9" * 400, None),
]


@pytest.mark.parametrize(("text", "value"), SECONDS)
def test_seconds(text: str, value: float | None) -> None:
    """Plain decimal seconds within the range; anything else is reported."""
    problems = Problems("EGRESS_TEST")
    read = read_seconds(with_value(text), DEFAULTED, problems, low=0.1, high=60)
    assert read == (5.0 if value is None else value)
    assert bool(problems.found) is (value is None)
    if value is None:
        assert "is invalid: expected seconds from 0.1 to 60" in str(problems.found[0])


def test_seconds_default() -> None:
    """The default has the grammar of the variable itself."""
    problems = Problems("EGRESS_TEST")
    assert read_seconds(with_value(None), DEFAULTED, problems, low=0, high=9) == 5.0
    assert problems.found == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (None, None),
        ("1280", 1280),
        ("65535", 65535),
        ("1279", ...),
        ("65536", ...),
        ("0x500", ...),
        ("01500", ...),
    ],
)
def test_count(text: str | None, value: object) -> None:
    """A whole number within the range; unset is None; anything else is reported."""
    problems = Problems("EGRESS_TEST")
    read = read_count(with_value(text), PLAIN, problems, low=1280, high=65535)
    assert read == (None if value is ... else value)
    assert bool(problems.found) is (value is ...)
    assert all("expected a whole number from 1280 to 65535" in str(p) for p in problems.found)


@pytest.mark.parametrize(
    ("text", "value"), [(None, None), ("8080", 8080), ("0", ...), ("65536", ...), ("http", ...)]
)
def test_port(text: str | None, value: object) -> None:
    """A port; unset is None; anything else is reported."""
    problems = Problems("EGRESS_TEST")
    read = read_port(with_value(text), PLAIN, problems)
    assert read == (None if value is ... else value)
    assert bool(problems.found) is (value is ...)
    assert all("expected a port from 1 to 65535" in str(p) for p in problems.found)


@pytest.mark.parametrize(
    ("text", "value"), [(None, None), ("wait", "wait"), ("Wait", ...), ("waiting", ...), ("w", ...)]
)
def test_choice(text: str | None, value: object) -> None:
    """One of the words as they are written; unset is None; anything else is reported."""
    problems = Problems("EGRESS_TEST")
    read = read_choice(with_value(text), PLAIN, problems, ("wait", "takeover"))
    assert read == (None if value is ... else value)
    assert bool(problems.found) is (value is ...)
    assert all("expected one of wait, takeover" in str(p) for p in problems.found)


GOOD_LINKS = [
    "eth0",
    "net1",
    "macvlan0",
    "e",
    "123456789012345",
    "eth0.100",
    "br-lan",
    "a_b",
    "x@y",
]
BAD_LINKS = [
    "1234567890123456",
    "éééééééé",  # 16 bytes
    "a b",
    "a\tb",
    "a/b",
    "a:b",
    "a%b",
    ".",
    "..",
    'a"b',
    "a\\b",
    "eth*",
    "a\0b",
    "a\x7fb",
    "eth0\u00a0x",
    "a\ud800",
]


@pytest.mark.parametrize("text", GOOD_LINKS)
def test_link_name(text: str) -> None:
    """A name as the kernel and network plugins give them."""
    problems = Problems("EGRESS_TEST")
    assert read_link_name(with_value(text), PLAIN, problems) == text
    assert problems.found == []


@pytest.mark.parametrize("text", BAD_LINKS)
def test_link_name_refused(text: str) -> None:
    """A name that the kernel refuses, or that nft would read as more than a name, is reported."""
    problems = Problems("EGRESS_TEST")
    assert read_link_name(with_value(text), PLAIN, problems) is None
    assert "expected a link name" in str(problems.found[0])
    assert str(problems.found[0]).isprintable()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (None, None),
        ("02:e6:c0:a8:0c:63", "02:e6:c0:a8:0c:63"),
        ("02:E6:C0:A8:0C:63", "02:e6:c0:a8:0c:63"),
        ("02-e6-c0-a8-0c-63", "02:e6:c0:a8:0c:63"),
        ("01:00:5e:00:00:01", ...),
        ("ff:ff:ff:ff:ff:ff", ...),
        ("00:00:00:00:00:00", ...),
        ("02:e6:c0:a8:0c", ...),
        ("02:e6:c0:a8:0c:63:00", ...),
        ("02e6c0a80c63", ...),
        ("02:e6:c0:a8:0c:6g", ...),
    ],
)
def test_mac(text: str | None, value: object) -> None:
    """A unicast MAC address in either notation; unset is None; anything else is reported."""
    problems = Problems("EGRESS_TEST")
    read = read_mac(with_value(text), PLAIN, problems)
    assert read == (None if value is ... else value)
    assert bool(problems.found) is (value is ...)
    assert all("expected a unicast MAC address" in str(p) for p in problems.found)


@given(st.text())
def test_any_text_is_read_or_reported(text: str) -> None:
    """No reader fails on any text, and what it reports is printable."""
    environment = with_value(text)
    problems = Problems("EGRESS_TEST")
    read_seconds(environment, DEFAULTED, problems, low=0, high=10)
    read_count(environment, PLAIN, problems, low=0, high=10)
    read_port(environment, PLAIN, problems)
    read_choice(environment, PLAIN, problems, ("a", "b"))
    read_link_name(environment, PLAIN, problems)
    read_mac(environment, PLAIN, problems)
    assert all(str(problem).isprintable() for problem in problems.found)


@pytest.mark.parametrize("text", ["tcp://10.96.12.7:8080", "udp://[fd00::7]:53"])
def test_a_service_s_port_is_no_setting(text: str) -> None:
    """What Kubernetes tells of a Service by the name of one of our ports counts as unset."""
    problems = Problems("EGRESS_TEST")
    assert read_port(with_value(text), DEFAULTED, problems) == 5
    assert read_port(with_value(text), PLAIN, problems) is None
    assert problems.found == []
