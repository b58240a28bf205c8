"""Builds and publishes the images: `python3 -m images.build [PROGRAM]…`, or `make images`.

1. Names are REGISTRY/egress-router-PROGRAM, tagged with the version and with `latest`.
2. Labels tell version and revision; times inside are those of the revision, so that two builds of
   one revision from one base are equal.
3. The bill of materials of each image is also written to `dist/`.
"""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from images.catalogue import IMAGES, find_image
from images.sbom import FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from images.catalogue import Image

ROOT = Path(__file__).parent.parent
REGISTRY = "quay.io/egress-router"


def read_version() -> str:
    """The version of the package, without importing it."""
    text = (ROOT / "egress_router/__init__.py").read_text(encoding="utf-8")
    found = re.search(r'__version__ = "([^"]+)"', text)
    assert found is not None  # noqa: S101 (the package has a version)
    return found[1]


def tags(image: Image, registry: str, version: str) -> tuple[str, str]:
    """The names an image gets."""
    return (f"{registry}/{image.name}:{version}", f"{registry}/{image.name}:latest")


def build_command(
    image: Image, *, engine: str, registry: str, base: str | None, options: Sequence[str] = ()
) -> tuple[str, ...]:
    """The command line that builds an image; `base` None: the Containerfile's own."""
    version = read_version()
    arguments = {"VERSION": version, **_revision(), **({"BASE": base} if base else {})}
    return (
        *(engine, "build", *options),
        *(f"--build-arg={name}={value}" for name, value in arguments.items()),
        *(f"--tag={tag}" for tag in tags(image, registry, version)),
        *("--file", str(ROOT / image.containerfile), str(ROOT)),
    )


def _revision() -> dict[str, str]:
    done = subprocess.run(
        ("git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"),
        capture_output=True,
        text=True,
        check=False,
    )
    return {} if done.returncode else {"REVISION": done.stdout.strip()}


def _extract_sbom(image: Image, engine: str, tag: str, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    name = f"{image.name}.cdx.json"
    container = _output(engine, "create", tag)
    try:
        subprocess.run((engine, "cp", f"{container}:/{FOLDER}/{name}", folder / name), check=True)
    finally:
        subprocess.run((engine, "rm", container), check=True, stdout=subprocess.DEVNULL)


def _output(*argv: str) -> str:
    return subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def _chosen(programs: Sequence[str]) -> Iterator[Image]:
    yield from map(find_image, programs) if programs else IMAGES


def main() -> None:
    """Builds what was asked for, and publishes it if that was asked for too."""
    parser = argparse.ArgumentParser(prog="images.build", description="builds the images")
    known = [image.program for image in IMAGES]
    # argparse looks for the empty list of "all of them" among the choices, too.
    parser.add_argument("program", nargs="*", choices=[[], *known])
    parser.add_argument("--engine", default="podman", help="podman, buildah or docker")
    parser.add_argument("--registry", default=REGISTRY, help=f"default: {REGISTRY}")
    parser.add_argument("--base", help="an image of Debian 13 in place of the Containerfile's")
    parser.add_argument("--options", default="", help="more options for the engine's build command")
    parser.add_argument("--publish", action="store_true", help="push both tags")
    wanted = parser.parse_args()
    for image in _chosen(wanted.program):
        command = build_command(
            image,
            engine=wanted.engine,
            registry=wanted.registry,
            base=wanted.base,
            options=shlex.split(wanted.options),
        )
        subprocess.run(command, check=True)
        names = tags(image, wanted.registry, read_version())
        _extract_sbom(image, wanted.engine, names[0], ROOT / "dist")
        if wanted.publish:
            for name in names:
                subprocess.run((wanted.engine, "push", name), check=True)


if __name__ == "__main__":
    main()
