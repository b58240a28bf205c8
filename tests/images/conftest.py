"""The images, built once from scratch, and the pods that run them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from images.build import REGISTRY, build_command
from images.catalogue import IMAGES
from tests.images.base import make_base, registry_answers
from tests.images.engine import Engine
from tests.images.pods import PodWorld

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


HERE = Path(__file__).parent
BUILD_S = 600.0
TEST_S = 1200.0  # four builds, and a test
OPEN_PODS = pytest.StashKey[list[PodWorld]]()
# Without a registry there is neither a bridge for containers nor a runtime that could be relied on
# while building; and pip asks whatever index this machine is set up for.
OFFLINE = ("--isolation=chroot", "--network=host")
HOST_FILES = {"/etc/ssl/certs": "O", "/etc/pip.conf": "ro"}  # O: changes are thrown away


@pytest.fixture(scope="session")
def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    """An engine with a storage of its own."""
    if os.geteuid() != 0:
        pytest.skip("containers need root")
    kept = request.config.getoption("--images-in")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("podman")
    with Engine(folder, keep=bool(kept)) as opened:
        yield opened


@pytest.fixture(scope="session")
def images(engine: Engine) -> Engine:
    """The engine with all four images in it, built from the repository as it is."""
    options = [
        f"--volume={path}:{path}:{how}" for path, how in HOST_FILES.items() if Path(path).exists()
    ]
    base = None
    if not registry_answers():
        base = make_base(engine)
        options += OFFLINE
    for image in IMAGES:
        command = build_command(
            image, engine="podman", registry=REGISTRY, base=base, options=options
        )
        engine.run(*command[1:], timeout=BUILD_S)
    return engine


@pytest.fixture
def play(request: pytest.FixtureRequest, images: Engine) -> Iterator[Callable[..., PodWorld]]:
    """Plays pods, `play(manifest, spec)`, that end with the test."""
    yield from _player(request.node, images)


@pytest.fixture(scope="module")
def module_play(
    request: pytest.FixtureRequest, images: Engine
) -> Iterator[Callable[..., PodWorld]]:
    """Plays pods that end with the module, or when the next one begins."""
    yield from _player(request.node, images)


def _player(node: pytest.Item | pytest.Module, images: Engine) -> Iterator[Callable[..., PodWorld]]:
    opened = node.stash.setdefault(OPEN_PODS, [])
    with contextlib.ExitStack() as pods:

        def enter(*wanted: Any, **more: Any) -> PodWorld:
            pods.close()  # the documented pods share a name
            opened.clear()
            pod = pods.enter_context(PodWorld(images, *wanted, **more))
            opened.append(pod)
            return pod

        yield enter
    opened.clear()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test of all waits for the builds."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.timeout(TEST_S))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Adds the state of every open pod to the report of a failure."""
    report = yield
    if report.failed:
        for node in (item, item.getparent(pytest.Module)):
            for pod in node.stash.get(OPEN_PODS, []):
                report.sections.append((f"pod {pod.name}", pod.dump()))
    return report
