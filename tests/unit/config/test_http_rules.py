from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_router.config.http_destination import Kind
from egress_router.config.http_rules import (
    Action,
    HttpRules,
    parse_http_rules,
    render_http_check,
)
from egress_router.errors import ConfigurationError

EMPTY = "No EGRESS_HTTP_PROXY_DESTINATION specified"
WILDCARD = "Wildcard must be last rule, if present"


def refused(text: str | None) -> list[tuple[int | None, str]]:
    """The problems of a list, as (line, message)."""
    with pytest.raises(ConfigurationError) as caught:
        parse_http_rules(text)
    return [(problem.line, problem.message) for problem in caught.value.problems]


REFUSED = [
    ("B1-10 unset", None, None, EMPTY),
    ("B1-10 empty", "", None, EMPTY),
    ("B1-10 blanks", " \n\t\n", None, EMPTY),
    ("B1-10 comments only", "# a\n\t# b\n", None, EMPTY),
    ("B1-10 wildcard first", "a.test\n*\nb.test", 2, WILDCARD),
    ("B1-10 wildcard before a bad line", "*\nfoo bar", 1, WILDCARD),
    ("B1-10 wildcard with port before a name", "*:443\na.test", 1, WILDCARD),
    ("B1-10 wildcard before one with a port", "*\n*:443", 1, WILDCARD),
    ("B1-10 two words", "foo bar", 1, "Bad destination 'foo bar'"),
    ("B1-11 denied wildcard", "!*", 1, "Bad destination '*'"),
    ("B1-11 denied wildcard with port", "!*:25", 1, "Bad destination '*:25'"),
    ("B1-11 wildcard of nothing", "*.", 1, "Bad destination '*.'"),
    ("B1-11 two stars", "**", 1, "Bad destination '**'"),
    ("B1-11 star glued on", "*foo.com", 1, "Bad destination '*foo.com'"),
    ("B1-11 star inside", "a.*.com", 1, "Bad destination 'a.*.com'"),
    ("B1-11 star twice", "*.*.com", 1, "Bad destination '*.*.com'"),
    ("B1-11 star last", "www.*", 1, "Bad destination 'www.*'"),
    ("B1-11 URL", "http://h/", 1, "Bad destination 'http://h/': a URL"),
    ("B1-11 bang alone", "!", 1, "Bad destination ''"),
    ("B1-11 bang and blank", "! a.test", 1, "Bad destination ' a.test'"),
    ("B1-11 two bangs", "!!x", 1, "Bad destination '!x'"),
    ("B1-11 /0", "0.0.0.0/0", 1, "Bad destination '0.0.0.0/0'"),
    ("B1-11 length alone", "/0", 1, "Bad destination '/0'"),
    ("B1-11 zone", "fe80::1%eth0", 1, "Bad destination 'fe80::1%eth0': an address with a zone"),
    ("B1-11 U-label", "bücher.example", 1, "Bad destination 'bücher.example': it is not ASCII"),
    ("B1-11 leading dot", ".example.com", 1, "a domain is written *.example.com"),
    ("B1-13 empty label", "foo..com", 1, "Bad destination 'foo..com'"),
    ("B1-13 underscore", "foo_bar.com", 1, "Bad destination 'foo_bar.com'"),
    ("B1-13 half an address", "1.2.3", 1, "Bad destination '1.2.3'"),
    ("B1-6 port 0", "h:0", 1, "Invalid port: 0, must be in the range 1 to 65535"),
    ("B1-7 byte-order mark", "\ufeffa.test", 1, "U+FEFF"),
    ("B1-7 no-break space", "a.test\u00a0", 1, "NO-BREAK SPACE"),
    ("B1-8 shell", "$(id)", 1, "Bad destination '$(id)'"),
    ("B1-8 NUL", "a\x00b", 1, "control character"),
]


@pytest.mark.parametrize(
    ("text", "line", "message"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_bad_lists_are_refused_by_name(text: str | None, line: int | None, message: str) -> None:
    """A bad list is refused with the original's wording and the line it is about."""
    problems = refused(text)
    assert problems[0][0] == line
    assert message in problems[0][1]


ACCEPTED = [
    ("B1-7 tabs, CRLF, comments", "\t# x\r\n\r\n\t a.test \t# y\r\n", [(3, Kind.HOST, "a.test")]),
    ("B1-10 wildcard twice", "*\n*", [(1, Kind.ANY, "*"), (2, Kind.ANY, "*")]),
    ("B1-10 wildcards with ports", "*:80\n*:443", [(1, Kind.ANY, "*"), (2, Kind.ANY, "*")]),
    ("B1-11 host with port", "h:8080", [(1, Kind.HOST, "h")]),
    ("B1-12 domain", "*.example.com", [(1, Kind.DOMAIN, "example.com")]),
    ("B1-13 letter w alone", "www", [(1, Kind.HOST, "www")]),
    ("B1-13 one letter", "w", [(1, Kind.HOST, "w")]),
    ("B1-13 hex letters", "abc.de\ncafe.de", [(1, Kind.HOST, "abc.de"), (2, Kind.HOST, "cafe.de")]),
]


@pytest.mark.parametrize(
    ("text", "rules"), [row[1:] for row in ACCEPTED], ids=[row[0] for row in ACCEPTED]
)
def test_good_lists_become_rules(text: str, rules: list[tuple[int, Kind, str]]) -> None:
    """Every line that counts becomes one rule with its line number, and none is skipped."""
    found = parse_http_rules(text).rules
    assert [(rule.line, rule.kind, rule.value) for rule in found] == rules


def test_all_problems_are_reported_at_once_and_in_order() -> None:
    """One run names every bad line, in the order of the list."""
    found = refused("foo bar\n*\n\n!!x\n\ufeff\na.test\n*:80\n!*")
    assert [line for line, _ in found] == [1, 2, 4, 5, 7, 8]


def test_messages_name_the_variable_that_holds_the_list() -> None:
    """A list read from a file is reported under the file's variable."""
    with pytest.raises(
        ConfigurationError, match=r"^EGRESS_HTTP_PROXY_DESTINATION_FILE line 1: Bad"
    ):
        parse_http_rules("a b", variable="EGRESS_HTTP_PROXY_DESTINATION_FILE")


def test_rules_keep_their_source_text() -> None:
    """A rule can be quoted later as it was written, without its comment."""
    (rule,) = parse_http_rules("  !WWW.Example.test.:443 # no").rules
    assert (rule.text, rule.value, rule.ports) == (
        "!WWW.Example.test.:443",
        "www.example.test",
        (443, 443),
    )
    assert rule.action is Action.DENY


def test_warnings_are_values_with_their_line() -> None:
    """Host bits and repeated lines are accepted and come back as warnings."""
    rules = parse_http_rules("10.0.0.1/8\na.test\n!A.test.\na.test:80\n10.0.0.0/8")
    assert [(warning.line, warning.message) for warning in rules.warnings] == [
        (1, "'10.0.0.1/8' has host bits set; taken as 10.0.0.0/8"),
        (3, "'!A.test.' never decides: line 2 names the same destination"),
        (5, "'10.0.0.0/8' never decides: line 1 names the same destination"),
    ]


@pytest.mark.parametrize(
    ("text", "default"),
    [("a.test", Action.DENY), ("!a.test\n*", Action.ALLOW), ("*:1-65535", Action.DENY)],
)
def test_only_a_last_plain_wildcard_allows_the_rest(text: str, default: Action) -> None:
    """What no line matches is denied unless the list ends in a plain `*`."""
    assert parse_http_rules(text).default is default


def test_the_check_object_is_that_of_the_contract() -> None:
    """`check http --json` shows every rule with line, action, kind, value and ports."""
    text = "!www.example.test\n*.g.test:80-90\n\n!203.0.113.7\n10.0.0.0/8:443\n*"
    assert render_http_check(parse_http_rules(text)) == {
        "rules": [
            {
                "line": 1,
                "action": "deny",
                "kind": "host",
                "value": "www.example.test",
                "ports": None,
            },
            {"line": 2, "action": "allow", "kind": "domain", "value": "g.test", "ports": [80, 90]},
            {"line": 4, "action": "deny", "kind": "address", "value": "203.0.113.7", "ports": None},
            {
                "line": 5,
                "action": "allow",
                "kind": "network",
                "value": "10.0.0.0/8",
                "ports": [443, 443],
            },
            {"line": 6, "action": "allow", "kind": "any", "value": "*", "ports": None},
        ],
        "default": "allow",
    }


LINES = st.text(alphabet="abw.*!:/[]0128- \t#%\r_", max_size=24)


@given(st.one_of(st.text(), st.lists(LINES, max_size=8).map("\n".join)))
def test_any_text_gives_rules_or_the_one_error(text: str) -> None:
    """No text raises anything but ConfigurationError, and no counting line is skipped."""
    try:
        rules = parse_http_rules(text)
    except ConfigurationError:
        return
    counting = [
        number
        for number, line in enumerate(text.split("\n"), 1)
        if line.removesuffix("\r").strip(" \t") and not line.lstrip(" \t").startswith("#")
    ]
    assert [rule.line for rule in rules.rules] == counting


@given(
    st.lists(st.sampled_from(["a.test", "!*.b.test", "10.0.0.1/8", "::1:2", "h:80-90"]), min_size=1)
)
def test_rules_survive_being_written_out_again(lines: list[str]) -> None:
    """A list made of the rules' own texts means the same."""
    rules = parse_http_rules("\n".join(lines))
    assert parse_http_rules("\n".join(rule.text for rule in rules.rules)) == rules


def calls_to_parse(text: str) -> int:
    """How many Python and C functions parsing calls."""
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event.endswith("call")

    previous = sys.getprofile()
    sys.setprofile(count)
    try:
        parse_http_rules(text)
    finally:
        sys.setprofile(previous)
    return calls


def test_ten_times_the_lines_cost_ten_times_the_work() -> None:
    """Parsing is linear: the calls per line do not grow with the list."""
    kinds = ("h{}.test:80", "!*.d{}.test", "!10.0.{}.1", "[2001:db8::{}]:80", "*:{}")
    small, large = (
        calls_to_parse("\n".join(kind.format(1 + n % 250) for kind in kinds for n in range(size)))
        for size in (20, 200)
    )
    assert 9 < large / small < 10.5


def test_hundred_thousand_lines_are_one_list() -> None:
    """A list of 100,000 lines is accepted whole."""
    rules: HttpRules = parse_http_rules(
        "\n".join(f"!h{n}.example.test" for n in range(100_000)) + "\n*"
    )
    assert len(rules.rules) == 100_001
    assert rules.rules[-1].line == 100_001
