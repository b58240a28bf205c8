"""Puts an image's file system together, in its build stage: `python3 -m images.rootfs init …`.

An image holds what its program opens and nothing else: no shell, no package manager, no tools.

1. Debian's interpreter and standard library, less what pulls in a database or a terminal.
2. The Python packages of the lock and our own wheel, less sources of their C parts.
3. The shared libraries that all of these are linked to, found by ldd, and libnftables, which is
   opened by name.
4. Bytecode that is never compared with its source, so nothing is compiled or looked up at a start.
5. For scanners and lawyers: the status and copyright files of each Debian package something came
   from, and the bill of materials.
"""

from __future__ import annotations

import compileall
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from py_compile import PycInvalidationMode
from typing import TYPE_CHECKING

from images import sbom
from images.catalogue import DAEMON_UID, find_image

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from images.catalogue import Image

PYTHON = f"python3.{sys.version_info.minor}"
STDLIB = f"usr/lib/{PYTHON}"
PACKAGES = f"usr/local/lib/{PYTHON}/dist-packages"
PROGRAM = "usr/local/bin/egress-router"

# Isolated, so that neither PYTHON… variables nor the working directory can bring in other code;
# without site's user folder; and never writing bytecode.
LAUNCHER = """\
#!/usr/bin/python3 -IB
from egress_router.__main__ import run

run()
"""

INTERPRETER = (f"{PYTHON}-minimal", f"lib{PYTHON}-minimal", f"lib{PYTHON}-stdlib")
NFTABLES = ("python3-nftables", "libnftables1")
UNUSED = (
    # Each would bring shared libraries of its own: Berkeley DB, ncurses, readline. pyroute2 as a
    # whole imports sqlite3, so that stays.
    r"lib-dynload/(_curses|_curses_panel|_dbm|_gdbm|readline|_tkinter)\.",
    r"lib-dynload/(_test|_xx|xx)",
    rf"{PYTHON}/(curses|dbm|ensurepip|idlelib|pydoc_data|test|tkinter|turtledemo|venv)/",
    rf"{PYTHON}/(pydoc|turtle)\.py$",
    rf"{PYTHON}/(config-|sitecustomize)",  # for compiling extensions; for crash reports of Ubuntu
    r"usr/share/(applications|binfmts|doc|lintian|man|pixmaps|python3)/",
    r"usr/bin/(pdb3|py3|pydoc|pygettext)",
    r"dist-packages/nftables-",  # what pip would know of it; dpkg knows it already
)
SOURCES = re.compile(r"\.(c|h|pyi|pyx|pxd|pxi|hash)$")  # of compiled parts, and for type checkers
SYSTEM_FILES = ("etc/ld.so.conf", "etc/ld.so.conf.d", "usr/lib/os-release", "usr/lib/locale/C.utf8")
MERGED = ("bin", "sbin", "lib", "lib64")  # links into usr, since Debian 12
ACCOUNTS = {
    "etc/passwd": (
        "root:x:0:0:root:/:/nonexistent\n"
        f"egress-router:x:{DAEMON_UID}:{DAEMON_UID}:Egress Router:/:/nonexistent\n"
        "nobody:x:65534:65534:nobody:/:/nonexistent\n"
    ),
    "etc/group": f"root:x:0:\negress-router:x:{DAEMON_UID}:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}


def assemble(image: Image, packages: Path, report: Path, root: Path) -> None:
    """Builds the tree at `root` from this system and from what pip has put into `packages`."""
    _make_skeleton(root)
    debian = {*INTERPRETER, "base-files", *(NFTABLES if image.nftables else ())}
    for path in _files_of((*INTERPRETER, *(NFTABLES if image.nftables else ()))):
        _copy(path, root)
    (root / "usr/bin/python3").symlink_to(PYTHON)
    shutil.copytree(packages, root / PACKAGES, ignore=_ignored, dirs_exist_ok=True)
    shutil.rmtree(root / PACKAGES / "bin", ignore_errors=True)
    (root / PROGRAM).parent.mkdir(parents=True, exist_ok=True)
    (root / PROGRAM).write_text(LAUNCHER)
    (root / PROGRAM).chmod(0o755)
    debian.update(_copy_libraries(root))
    subprocess.run(("ldconfig", "-r", str(root)), check=True)
    _compile(root)
    versions = _describe(sorted(debian), root)
    sbom.write(image, root, versions, report)


def _make_skeleton(root: Path) -> None:
    for folder in ("dev", "etc", "proc", "run", "sys", "usr/bin", "usr/lib", "usr/lib64"):
        (root / folder).mkdir(parents=True)
    (root / "tmp").mkdir(mode=0o1777)
    (root / "tmp").chmod(0o1777)
    (root / "usr/sbin").mkdir()
    for name in MERGED:
        if Path("/", name).is_symlink():
            (root / name).symlink_to(f"usr/{name}")
    for name, text in ACCOUNTS.items():
        (root / name).write_text(text)
    for name in SYSTEM_FILES:
        source, target = Path("/", name), root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        elif source.exists():
            shutil.copy2(source, target)
    (root / "etc/os-release").symlink_to("../usr/lib/os-release")


def _files_of(packages: Iterable[str]) -> Iterator[Path]:
    unused = re.compile("|".join(UNUSED))
    listed = _output("dpkg-query", "-L", *packages).splitlines()
    for path in map(Path, dict.fromkeys(listed)):
        if not path.is_dir() and path.exists() and not unused.search(str(path)):
            yield path


def _copy(path: Path, root: Path) -> None:
    """One file, at the same place; what a link leads to comes along."""
    target = root / path.relative_to("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.is_symlink() and not target.exists():
        shutil.copy2(path, target, follow_symlinks=False)
    if path.is_symlink():
        _copy(path.parent.resolve() / path.readlink(), root)


def _ignored(_folder: str, names: list[str]) -> list[str]:
    return [name for name in names if SOURCES.search(name) or name == "__pycache__"]


def _copy_libraries(root: Path) -> set[str]:
    """Copies every shared library that something below `root` is linked to; their packages."""
    copied: set[Path] = set()
    for path in root.rglob("*"):
        if path.is_symlink() or not path.is_file() or not _is_elf(path):
            continue
        for found in re.findall(
            r"(?:=> |^\s*)(/\S+) \(0x", _output("ldd", str(path)), re.MULTILINE
        ):
            library = Path(found)
            if not library.is_relative_to(root):
                copied.add(library.parent.resolve() / library.name)
    for library in copied:
        _copy(library, root)
        _copy(library.resolve(), root)
    loader = next(
        line for line in _output("ldd", "/usr/bin/python3").splitlines() if "ld-linux" in line
    )
    place = Path(loader.split()[0])  # the program header names this very path
    _copy(place.parent.resolve() / place.name, root)
    owners = _output("dpkg-query", "-S", *(str(path.resolve()) for path in copied))
    return {line.split(":")[0] for line in owners.splitlines()}


def _is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def _compile(root: Path) -> None:
    for folder in (STDLIB, PACKAGES, "usr/lib/python3"):
        if (root / folder).exists() and not compileall.compile_dir(
            root / folder,
            maxlevels=20,
            stripdir=str(root),
            prependdir="/",
            quiet=1,
            invalidation_mode=PycInvalidationMode.UNCHECKED_HASH,
            workers=0,
        ):
            sys.exit(f"{folder} does not compile")


def _describe(packages: Iterable[str], root: Path) -> dict[str, tuple[str, str]]:
    """Writes a file for scanners for each package; returns its version and architecture."""
    status = root / "var/lib/dpkg/status.d"
    status.mkdir(parents=True)
    versions: dict[str, tuple[str, str]] = {}
    for package in packages:
        (status / package).write_text(_output("dpkg-query", "-s", package))
        version, architecture = _output(
            "dpkg-query", "-W", "-f", "${Version} ${Architecture}", package
        ).split()
        versions[package] = (version, architecture)
        source = Path("/usr/share/doc", package, "copyright")
        if source.exists():
            target = root / source.relative_to("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    shutil.copytree("/usr/share/common-licenses", root / "usr/share/common-licenses", symlinks=True)
    return versions


def _output(*argv: str) -> str:
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        sys.exit(f"{' '.join(argv[:3])} …: {done.stderr}")
    return done.stdout


if __name__ == "__main__":
    program, *paths = sys.argv[1:]
    assemble(find_image(program), *map(Path, paths))
