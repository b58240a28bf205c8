"""The manifests that are played: the documented ones, as they lie in `deploy/`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from tests.model.manifests import DEPLOY

if TYPE_CHECKING:
    from collections.abc import Callable

Document = dict[str, Any]


def read_example(name: str) -> str:
    """The text of `deploy/examples/NAME`."""
    return (DEPLOY / "examples" / name).read_text(encoding="utf-8")


def changed(manifest: str, change: Callable[[Document], None]) -> str:
    """The manifest with its pod changed in place."""
    documents = list(yaml.safe_load_all(manifest))
    for document in documents:
        if document["kind"] == "Pod":
            change(document)
    return yaml.safe_dump_all(documents)


def set_variable(container: Document, name: str, value: str) -> None:
    """Gives a container's environment variable another value."""
    container["env"] = [entry for entry in container["env"] if entry["name"] != name]
    container["env"].append({"name": name, "value": value})
