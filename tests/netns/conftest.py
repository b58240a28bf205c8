"""Worlds for tests that need a real kernel, and what they looked like when a test failed."""

import contextlib
import os
from collections.abc import Callable, Iterator

import pytest

from egress_router.lab.spec import LabSpec
from egress_router.lab.world import Lab

OPEN_LABS = pytest.StashKey[list[Lab]]()


@pytest.fixture
def lab(request: pytest.FixtureRequest) -> Iterator[Callable[..., Lab]]:
    """Builds worlds, `lab(cni=Cni.CALICO)` or `lab(LabSpec(...))`, that end with the test.

    `program` is the command line of the router where it is not the real one.
    """
    yield from _builder(request.node)


@pytest.fixture(scope="module")
def module_lab(request: pytest.FixtureRequest) -> Iterator[Callable[..., Lab]]:
    """Builds worlds that end with the module, for tests that leave them as they found them."""
    yield from _builder(request.node)


def _builder(node: pytest.Item | pytest.Module) -> Iterator[Callable[..., Lab]]:
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    opened = node.stash.setdefault(OPEN_LABS, [])
    with contextlib.ExitStack() as worlds:

        def build(spec: LabSpec | None = None, *, program: object = None, **wanted: object) -> Lab:
            options = {} if program is None else {"program": program}
            world = worlds.enter_context(Lab(spec or LabSpec(**wanted), **options))
            opened.append(world)
            return world

        yield build
        opened.clear()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Adds the state of every open world to the report of a failure."""
    report = yield
    if report.failed:
        for node in (item, item.getparent(pytest.Module)):
            for world in node.stash.get(OPEN_LABS, []):
                report.sections.append((f"world {world.prefix}", world.dump()))
    return report
