"""The base image: the registry's, or an equal one made from packages where none answers."""

from __future__ import annotations

import subprocess
import tarfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.images.engine import Engine

REGISTRY = "https://registry-1.docker.io/v2/"
UNAUTHORISED = 401  # what a registry answers to whoever has not asked for a token yet
ANSWER_S = 5.0
MAKE_S = 300.0  # 20 s, and the mirror's
NAME = "localhost/debian:trixie-slim"
PATH = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def registry_answers() -> bool:
    """Whether images can be had from where the Containerfiles look for their base."""
    try:
        with urllib.request.urlopen(REGISTRY, timeout=ANSWER_S):
            return True
    except urllib.error.HTTPError as error:
        return error.code == UNAUTHORISED
    except OSError:
        return False


def make_base(engine: Engine) -> str:
    """Makes Debian 13 from its packages, unless the engine has it; the name of the image."""
    if engine.run("image", "exists", NAME, check=False).returncode == 0:
        return NAME
    archive = engine.folder / "base.tar"
    mirror = _mirror()
    subprocess.run(
        ("mmdebstrap", "--variant=minbase", "--quiet", "trixie", str(archive), mirror),
        check=True,
        timeout=MAKE_S,
    )
    assert tarfile.is_tarfile(archive)
    engine.run("import", "--quiet", "--change", PATH, str(archive), NAME, timeout=MAKE_S)
    archive.unlink()
    return NAME


def _mirror() -> str:
    """Where this machine gets Debian's packages from."""
    for path in (
        *Path("/etc/apt").glob("sources.list.d/debian.sources"),
        Path("/etc/apt/sources.list"),
    ):
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            words = line.split()
            if words and words[0] in {"URIs:", "deb"}:
                return next(word for word in words if "://" in word)
    return "http://deb.debian.org/debian"
