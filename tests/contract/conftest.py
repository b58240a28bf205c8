"""One suite, two kernels: the fake one everywhere, the real one where root is."""

import contextlib
from collections.abc import Iterator

import pytest

from model.bench import OpenBench, fake_bench, real_bench


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.netns)])
def bench(request: pytest.FixtureRequest) -> Iterator[OpenBench]:
    """Opens scenarios on the one or the other kernel; they end with the test."""
    with contextlib.ExitStack() as stack:
        opener = fake_bench if request.param == "fake" else real_bench
        yield lambda scenario: stack.enter_context(opener(scenario))


@pytest.fixture
def on_fake() -> Iterator[OpenBench]:
    """Opens scenarios on the fake kernel."""
    with contextlib.ExitStack() as stack:
        yield lambda scenario: stack.enter_context(fake_bench(scenario))


@pytest.fixture
def on_real() -> Iterator[OpenBench]:
    """Opens scenarios on the real kernel."""
    with contextlib.ExitStack() as stack:
        yield lambda scenario: stack.enter_context(real_bench(scenario))
