"""What is said before a daemon starts."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from egress_router.config.settings import Environment
from egress_router.errors import ConfigurationError, Problem
from egress_router.service.run import run_daemon

if TYPE_CHECKING:
    from collections.abc import Iterator

    from egress_router.service.daemon import Service


class Refused:
    """A mode whose own variable is wrong as well."""

    name = "refused"

    def parse(self, _environment: Environment) -> None:
        raise ConfigurationError((Problem(variable="EGRESS_OWN", message="is wrong"),))

    async def serve(self, _config: None, _service: Service) -> None:
        raise AssertionError("never served")


@pytest.fixture
def _signals_restored() -> Iterator[None]:
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_signals_restored")
def test_all_problems_are_reported_together() -> None:
    """Wrong settings of the daemon and of its mode come in one error, before anything starts."""
    environment = Environment(variables={"EGRESS_LOG_LEVEL": "loud", "EGRESS_ADMIN_PORT": "0"})
    with pytest.raises(ConfigurationError) as caught:
        run_daemon(Refused(), environment)
    assert [problem.variable for problem in caught.value.problems] == [
        "EGRESS_LOG_LEVEL",
        "EGRESS_ADMIN_PORT",
        "EGRESS_OWN",
    ]
