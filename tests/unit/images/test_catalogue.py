"""Catalogue, locks, Containerfiles and pages of the images say the same."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement

from egress_router import __version__
from images.build import ROOT, build_command, read_version
from images.catalogue import DAEMON_UID, IMAGES, find_image
from images.lock import floors

if TYPE_CHECKING:
    from images.catalogue import Image

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
REQUIRED = {Requirement(line).name: line for line in PROJECT["project"]["dependencies"]}
EACH = pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.program)


def locked(name: str) -> dict[str, str]:
    """The version of each distribution in a lock."""
    text = (ROOT / f"images/{name}.lock").read_text(encoding="utf-8")
    return dict(re.findall(r"^([\w.-]+)==(\S+) \\$", text, re.MULTILINE))


def test_every_dependency_is_in_an_image() -> None:
    """No dependency of the project is left out, and no image asks for a stranger."""
    wanted = {name for image in IMAGES for name in image.requires}
    assert wanted == REQUIRED.keys()


@EACH
def test_lock_satisfies_the_project(image: Image) -> None:
    """Each lock holds what its image asks for, in a version that the project accepts."""
    versions = locked(image.program)
    for name in image.requires:
        assert Requirement(REQUIRED[name]).specifier.contains(versions[name]), name


def test_locks_agree() -> None:
    """No two images hold different versions of one distribution."""
    seen: dict[str, str] = {}
    for image in IMAGES:
        for name, version in locked(image.program).items():
            assert seen.setdefault(name, version) == version, name


@pytest.mark.parametrize("name", [*(image.program for image in IMAGES), "build"])
def test_everything_locked_has_a_digest(name: str) -> None:
    """Each line of a lock is an exact version, followed by digests."""
    text = (ROOT / f"images/{name}.lock").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith(("#", " "))]
    assert lines
    assert all(re.fullmatch(r"[\w.-]+==\S+ \\", line) for line in lines)
    assert re.findall(r" \\\n(?!    --hash=sha256:[0-9a-f]{64})", text) == []


def test_first_stages_are_equal() -> None:
    """The four files differ in what they must only, so that a builder makes the rest once."""
    texts = {image: (ROOT / image.containerfile).read_text(encoding="utf-8") for image in IMAGES}
    assert len({text.split("FROM build AS files")[0] for text in texts.values()}) == 1
    common = {
        re.sub(rf"\b{image.program}\b", "PROGRAM", text.replace(image.title, "TITLE")).replace(
            f"USER {image.uid}\n", "USER\n"
        )
        for image, text in texts.items()
    }
    assert len(common) == 1


@EACH
def test_containerfile_tells_the_version(image: Image) -> None:
    """A plain `podman build` labels the image with the version that is in it."""
    text = (ROOT / image.containerfile).read_text(encoding="utf-8")
    assert f"ARG VERSION={__version__}\n" in text
    assert read_version() == __version__
    assert f'title="{image.title}"' in text
    assert f"USER {image.uid}\n" in text


@EACH
def test_page_tells_the_user(image: Image) -> None:
    """The image's page names the user it runs as."""
    text = (ROOT / f"images/{image.program}.md").read_text(encoding="utf-8")
    assert f"| user | {image.uid}" in text
    assert image.uid in {0, DAEMON_UID}


def test_build_command() -> None:
    """Both tags, the labels, a base where one is named, and the engine's own options."""
    command = build_command(
        find_image("http"),
        engine="podman",
        registry="registry.test/egress",
        base="localhost/debian:13",
        options=("--network=host",),
    )
    assert command[:3] == ("podman", "build", "--network=host")
    assert f"--tag=registry.test/egress/egress-router-http:{__version__}" in command
    assert "--tag=registry.test/egress/egress-router-http:latest" in command
    assert "--build-arg=BASE=localhost/debian:13" in command
    assert command[-2:] == (str(ROOT / "Containerfile.http"), str(ROOT))


@pytest.mark.parametrize(
    ("line", "name"),
    [("aiohttp>=3.14.3", "aiohttp"), ("a-b[c]>=1,<2", "a-b"), ("d ; python_version>'3'", "d")],
)
def test_floors(line: str, name: str) -> None:
    """A requirement is found by its distribution's name."""
    assert floors([line]) == {name: line}
