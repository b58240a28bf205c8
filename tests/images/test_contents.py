"""What lies in each image: its program, and nothing else that could be run."""

from __future__ import annotations

import json
import re
import tarfile
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from egress_router import __version__
from images.build import REGISTRY, ROOT
from images.catalogue import IMAGES
from images.rootfs import PROGRAM

if TYPE_CHECKING:
    from pathlib import Path

    from images.catalogue import Image
    from tests.images.engine import Engine

SIZE_LIMIT_BYTES = 120_000_000
TOOLS = re.compile(
    r"(^|/)(sh|bash|dash|busybox|pip\d*|apt|apt-get|dpkg|perl|gcc|cc|as|ld|make|curl|wget|nc|ip|nft|"
    r"mount|su|sudo|login|ldd|gdb|strace)$"
)
INSTALLERS = re.compile(r"dist-packages/(pip|setuptools|wheel|hatchling|ensurepip)(/|-)")
PACKAGES = "usr/local/lib/python3.13/dist-packages"
# The interpreter, and what the loader is; both are needed to run anything.
EXECUTABLES = {"usr/bin/python3.13", PROGRAM}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """An image's file system: every entry by its path, and the files as they are."""

    image: Image
    members: dict[str, tarfile.TarInfo]
    archive: Path

    def read(self, path: str) -> str:
        """A file's text."""
        with tarfile.open(self.archive) as archive:
            file = archive.extractfile(path)
            assert file is not None
            return file.read().decode()

    def sbom(self) -> dict[str, Any]:
        """The bill of materials."""
        return dict(json.loads(self.read(f"usr/share/sbom/{self.image.name}.cdx.json")))


@pytest.fixture(scope="module", params=IMAGES, ids=lambda image: image.program)
def tree(
    request: pytest.FixtureRequest, images: Engine, tmp_path_factory: pytest.TempPathFactory
) -> Tree:
    """Each image's files, one image after the other."""
    image = request.param
    archive = tmp_path_factory.mktemp("tree") / f"{image.program}.tar"
    container = images.run("create", "--network=none", f"{REGISTRY}/{image.name}").stdout.strip()
    images.run("export", "--output", str(archive), container)
    images.run("rm", container)
    with tarfile.open(archive) as opened:
        members = {member.name.removeprefix("./"): member for member in opened}
    return Tree(image=image, members=members, archive=archive)


def locked(image: Image) -> dict[str, tuple[str, set[str]]]:
    """Version and permitted digests of each distribution in an image's lock."""
    text = (ROOT / f"images/{image.program}.lock").read_text(encoding="utf-8")
    entries = re.findall(r"^([\w.-]+)==(\S+) \\\n((?:    --hash=.*\n?)+)", text, re.MULTILINE)
    return {
        name: (version, set(re.findall(r"sha256:(\w+)", hashes)))
        for name, version, hashes in entries
    }


def test_no_tools(tree: Tree) -> None:
    """No shell, package manager, compiler or network tool; nothing runs as its owner."""
    assert [p for p, m in tree.members.items() if not m.isdir() and TOOLS.search(p)] == []
    assert [path for path in tree.members if INSTALLERS.search(path)] == []
    assert [path for path, member in tree.members.items() if member.mode & 0o6000] == []
    folders = ("usr/bin/", "usr/sbin/", "usr/local/bin/")
    programs = {path for path, m in tree.members.items() if path.startswith(folders) and m.isreg()}
    assert programs == EXECUTABLES


def test_distributions(tree: Tree) -> None:
    """Exactly the locked Python distributions and our own, in the locked versions."""
    found = {
        re.sub(r"[-_.]+", "-", match[1]).lower(): match[2]
        for path in tree.members
        if (match := re.search(r"dist-packages/([^/]+?)-([^/-]+)\.dist-info/METADATA$", path))
    }
    expected = {name: version for name, (version, _) in locked(tree.image).items()}
    assert found == {**expected, "egress-router": __version__}


def test_nftables_where_needed(tree: Tree) -> None:
    """The binding and its library are in an image whose program loads rulesets, and in no other."""
    binding = "usr/lib/python3/dist-packages/nftables/__init__.py" in tree.members
    library = any(re.search(r"/libnftables\.so\.1$", path) for path in tree.members)
    assert binding == library == tree.image.nftables


def test_anybody_may_read_it_and_nobody_write(tree: Tree) -> None:
    """Every file is readable by any user, belongs to root, and only /tmp can be written to."""
    entries = [(p, m) for p, m in tree.members.items() if not m.issym()]
    own = [
        (p, m) for p, m in entries if not p.startswith(("dev", "proc", "sys", "run", "etc/mtab"))
    ]
    assert [p for p, m in own if not m.mode & 0o004 or m.uid or m.gid] == []
    assert [p for p, m in own if m.mode & 0o002] == ["tmp"]
    assert [p for p, m in own if m.isdir() and not m.mode & 0o001] == []


def test_bytecode(tree: Tree) -> None:
    """Every module has its bytecode beside it, and sources of compiled parts are left out."""
    modules = [p for p in tree.members if p.endswith(".py") and "/__pycache__/" not in p]
    missing = [
        path
        for path in modules
        if re.sub(r"([^/]+)\.py$", r"__pycache__/\1.cpython-313.pyc", path) not in tree.members
    ]
    assert modules
    assert missing == []
    assert [p for p in tree.members if re.search(r"\.(c|pyx|pxd|pyi)$", p)] == []


def test_the_hot_modules_are_compiled(tree: Tree, images: Engine) -> None:
    """Each module that pyproject.toml names is there in both forms, the compiled one is run."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    hook = project["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]
    compiled = {
        re.sub(r"\.cpython-313-[^/]+\.so$", "", path.removeprefix(f"{PACKAGES}/"))
        for path in tree.members
        if path.startswith(f"{PACKAGES}/egress_router/") and path.endswith(".so")
    }
    modules = {path.removesuffix(".py") for path in hook["modules"]}
    assert compiled == modules | {"egress_router/compiled__mypyc"}
    assert {f"{PACKAGES}/{path}" for path in hook["modules"]} <= tree.members.keys()
    name = f"{REGISTRY}/{tree.image.name}"
    told = images.run("run", "--rm", "--network=none", name, "--version").stdout
    assert told == f"egress-router {__version__} (compiled)\n"


def test_bill_of_materials(tree: Tree) -> None:
    """It is CycloneDX, lists what is there and no more, with digests that the lock permits."""
    bill = tree.sbom()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bill)) is None
    components = {c["purl"].split("?")[0]: c for c in bill["components"]}
    python = {purl: c for purl, c in components.items() if purl.startswith("pkg:pypi/")}
    lock = locked(tree.image)
    assert python.keys() == {
        f"pkg:pypi/egress-router@{__version__}",
        *(f"pkg:pypi/{name}@{version}" for name, (version, _) in lock.items()),
    }
    for component in python.values():
        if component["name"] != "egress-router":
            (digest,) = component["hashes"]
            assert digest["content"] in lock[component["name"]][1]
    debian = {c["name"] for purl, c in components.items() if purl.startswith("pkg:deb/")}
    status = {p.rsplit("/", 1)[1] for p in tree.members if "/dpkg/status.d/" in p}
    assert debian == status
    assert {"libc6", "libssl3t64", "python3.13-minimal"} <= debian
    assert ("libnftables1" in debian) == tree.image.nftables


def test_licences(tree: Tree) -> None:
    """Each Debian package comes with its copyright file."""
    status = {p.rsplit("/", 1)[1] for p in tree.members if "/dpkg/status.d/" in p}
    copyrights = {p.split("/")[3] for p in tree.members if p.endswith("/copyright")}
    # Built from one source, and linked to the one that holds the file.
    shared = {"libpython3.13-minimal", "libpython3.13-stdlib", "python3.13-minimal"}
    assert status - shared <= copyrights


def test_settings(tree: Tree, images: Engine) -> None:
    """User, entry point, stop signal, path and labels are what the image's page says."""
    facts = images.inspect("image", f"{REGISTRY}/{tree.image.name}")
    settings = facts["Config"]
    assert settings["User"] == str(tree.image.uid)
    assert settings["Entrypoint"] == [f"/{PROGRAM}"]
    assert settings["Cmd"] == [tree.image.program]
    assert settings["StopSignal"] == "SIGTERM"
    assert "PATH=/usr/local/bin:/usr/bin" in settings["Env"]
    assert settings["Labels"]["org.opencontainers.image.version"] == __version__
    assert settings["Labels"]["org.opencontainers.image.title"] == tree.image.title
    assert facts["Size"] < SIZE_LIMIT_BYTES
