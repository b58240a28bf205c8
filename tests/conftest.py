"""Settings that hold for every suite."""

import gc
import signal

import pytest
from hypothesis import settings

# A shell starts what is to run in the background with SIGINT ignored, and programs that are started
# here would inherit that: those that are interrupted in a test would not notice.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No deadline for one example: a machine under load would fail tests that are right.
settings.register_profile("default", deadline=None, max_examples=30)
settings.register_profile("thorough", deadline=None, max_examples=2000)
settings.load_profile("default")


def pytest_addoption(parser: pytest.Parser) -> None:
    """What `make test` does not need: sizes, and time saved while a test is written.

    `--full-size`: crowds and transfers of the size that is promised, minutes instead of seconds.

    It wants `ulimit -n` at 20,000 or more, and `--timeout=0`.
    """
    parser.addoption("--full-size", action="store_true", help="tests of load in their full size")
    parser.addoption(
        "--compiled",
        action="store_true",
        help="this is the compiled package, as `make test` runs it: see the Makefile",
    )
    parser.addoption(
        "--images-in",
        metavar="FOLDER",
        help="build the images of tests/images there, and keep what may be used again",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what only one form of the package can pass."""
    compiled = config.getoption("--compiled")
    for item in items:
        if compiled and item.get_closest_marker("interpreted"):
            item.add_marker(pytest.mark.skip("compiled code takes no double for a type it names"))
        if not compiled and item.get_closest_marker("compiled"):
            item.add_marker(pytest.mark.skip("of the compiled package"))


def pytest_collection_finish() -> None:
    """What all tests brought is no garbage, and looking it over takes a tenth of a second."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def full_size(request: pytest.FixtureRequest) -> bool:
    """Whether tests of load run in their full size."""
    return bool(request.config.getoption("--full-size"))
