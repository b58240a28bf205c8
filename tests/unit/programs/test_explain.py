"""The explain program."""

from __future__ import annotations

import pytest

from egress_router.config.settings import Environment
from egress_router.errors import EXIT_DENIED, EXIT_OK, ConfigurationError
from egress_router.programs import explain as program
from egress_router.programs.explain import run_explain

LIST = "!www.example.test\n*.g.test\n!203.0.113.7\n*"


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine is no router, and the kernel is not asked."""
    monkeypatch.setattr(program, "_observe_own_addresses", lambda _: ())


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["www.example.test:443"], EXIT_DENIED, "rule     line 1: !www.example.test"),
        (["a.g.test:443", "--address", "203.0.113.9"], EXIT_OK, "rule     line 2: *.g.test"),
        (["x.test:443", "--address", "203.0.113.7"], EXIT_DENIED, "rule     line 3: !203.0.113.7"),
        (["http://x.test/", "--address", "203.0.113.8"], EXIT_OK, "dials    203.0.113.8"),
        (["http://203.0.113.8/"], EXIT_OK, "rule     line 4: *"),
        (["http://127.0.0.1/"], EXIT_DENIED, "loopback"),
        (["x.test"], EXIT_DENIED, "verdict  refused (400)"),
    ],
)
def test_known_answers(
    words: list[str], code: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The rule line and the reason in words; 0 allowed, 5 denied."""
    environment = Environment(variables={"EGRESS_HTTP_PROXY_DESTINATION": LIST})
    assert run_explain(environment, words) == code
    assert told in capsys.readouterr().out


def test_a_name_is_resolved_where_no_address_is_given(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the proxy's own resolver, here one that knows the answer."""

    async def resolve(name: str) -> tuple[object, ...]:
        assert name == "x.test"
        return (program.ip_address("203.0.113.7"),)

    monkeypatch.setattr(program, "_resolve", resolve)
    environment = Environment(variables={"EGRESS_HTTP_PROXY_DESTINATION": LIST})
    assert run_explain(environment, ["x.test:443"]) == EXIT_DENIED
    assert "203.0.113.7, which x.test resolves to" in capsys.readouterr().out


def test_without_a_list_there_is_nothing_to_explain() -> None:
    """The original's message."""
    with pytest.raises(ConfigurationError, match="No EGRESS_HTTP_PROXY_DESTINATION specified"):
        run_explain(Environment(variables={}), ["x.test:443"])
