"""An image's bill of materials, CycloneDX 1.6 as JSON (https://cyclonedx.org/docs/1.6/json/).

Python packages come from pip's own report, with the digest of the very archive that was installed;
Debian packages from dpkg. Nothing in it depends on when or where the image was built.
"""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from images.catalogue import Image

FOLDER = "usr/share/sbom"


def write(image: Image, root: Path, debian: Mapping[str, tuple[str, str]], report: Path) -> None:
    """Writes it into the image, at `/usr/share/sbom/NAME.cdx.json`."""
    installed = json.loads(report.read_text(encoding="utf-8"))["install"]
    own = next(root.glob("usr/local/lib/python3.*/dist-packages/egress_router-*.dist-info")).name
    version = own.removesuffix(".dist-info").partition("-")[2]
    document = render(image, version, read_distribution(root), debian, installed)
    path = root / FOLDER / f"{image.name}.cdx.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def read_distribution(root: Path) -> str:
    """The distribution as package URLs name it: `debian-13`."""
    lines = (root / "usr/lib/os-release").read_text(encoding="utf-8").splitlines()
    facts = dict(line.split("=", 1) for line in lines if "=" in line)
    return f"{facts['ID']}-{facts['VERSION_ID']}".replace('"', "")


def render(
    image: Image,
    version: str,
    distribution: str,
    debian: Mapping[str, tuple[str, str]],
    installed: list[dict[str, Any]],
) -> dict[str, Any]:
    """The document; `debian`: version and architecture by package, `installed`: pip's report."""
    subject = f"pkg:oci/{image.name}@{version}"
    components = [
        *(_debian(name, *facts, distribution) for name, facts in sorted(debian.items())),
        *sorted(map(_python, installed), key=lambda component: str(component["name"])),
        {
            "type": "application",
            "bom-ref": f"pkg:pypi/egress-router@{version}",
            "name": "egress-router",
            "version": version,
            "purl": f"pkg:pypi/egress-router@{version}",
        },
    ]
    # The number follows from the contents: equal contents, equal document.
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps([subject, components], sort_keys=True))
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "container",
                "bom-ref": subject,
                "name": image.name,
                "version": version,
                "description": image.title,
            }
        },
        "components": components,
        "dependencies": [
            {"ref": subject, "dependsOn": [str(c["bom-ref"]) for c in components]},
        ],
    }


def _debian(name: str, version: str, architecture: str, distribution: str) -> dict[str, Any]:
    # A package URL escapes the colon of an epoch, the plus and the tilde stay (purl specification).
    place = f"{name}@{version.replace(':', '%3A').replace('+', '%2B')}"
    purl = f"pkg:deb/debian/{place}?arch={architecture}&distro={distribution}"
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


def _python(entry: dict[str, Any]) -> dict[str, Any]:
    name, version = entry["metadata"]["name"], entry["metadata"]["version"]
    purl = f"pkg:pypi/{name.lower().replace('_', '-')}@{version}"
    archive = entry["download_info"]["archive_info"]
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": purl,
        "name": name.lower().replace("_", "-"),
        "version": version,
        "purl": purl,
        "hashes": [{"alg": "SHA-256", "content": archive["hashes"]["sha256"]}],
    }
    if expression := entry["metadata"].get("license_expression"):
        component["licenses"] = [{"expression": expression}]
    return component
