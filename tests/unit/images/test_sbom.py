"""The bill of materials as a document."""

import json

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from images import sbom
from images.catalogue import find_image

DEBIAN = {"libssl3t64": ("3.5.7-1~deb13u2", "amd64"), "libgmp10": ("2:6.3.0+dfsg-3", "amd64")}
INSTALLED = [
    {
        "metadata": {"name": "Prometheus_Client", "version": "1.0", "license_expression": "MIT"},
        "download_info": {"archive_info": {"hashes": {"sha256": "ab" * 32}}},
    }
]


def rendered() -> dict:
    """The document for one image."""
    return sbom.render(find_image("init"), "1.2.3", "debian-13", DEBIAN, INSTALLED)


def test_document_is_valid() -> None:
    """It has the shape that CycloneDX 1.6 demands."""
    text = json.dumps(rendered())
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None


def test_components() -> None:
    """Package URLs name every package as scanners look it up."""
    assert [component["purl"] for component in rendered()["components"]] == [
        "pkg:deb/debian/libgmp10@2%3A6.3.0%2Bdfsg-3?arch=amd64&distro=debian-13",
        "pkg:deb/debian/libssl3t64@3.5.7-1~deb13u2?arch=amd64&distro=debian-13",
        "pkg:pypi/prometheus-client@1.0",
        "pkg:pypi/egress-router@1.2.3",
    ]


def test_equal_contents_equal_document() -> None:
    """Nothing in it depends on the time or the place of the build."""
    assert rendered() == rendered()
