"""What is under deploy/, read as Kubernetes would: built overlays, pods, and their environments."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from egress_router.config.settings import Environment

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
OVERLAYS = tuple(sorted(path.name for path in (DEPLOY / "overlays").iterdir()))
EXAMPLES = tuple(
    sorted(str(path.relative_to(DEPLOY)) for path in (DEPLOY / "examples").rglob("*.yaml"))
)
BUILD_LIMIT_S = 60
WORKLOADS = ("Pod", "Deployment", "StatefulSet")

Document = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Router:
    """One router pod, with the objects that stand beside it."""

    origin: str
    workload: Document
    documents: tuple[Document, ...]

    @property
    def template(self) -> Document:
        """The pod's own metadata and spec."""
        is_pod = self.workload["kind"] == "Pod"
        return self.workload if is_pod else self.workload["spec"]["template"]

    @property
    def spec(self) -> Document:
        """The pod's spec."""
        return self.template["spec"]

    @property
    def init(self) -> Document:
        """Its init container."""
        (container,) = self.spec["initContainers"]
        return container

    @property
    def daemon(self) -> Document:
        """Its main container."""
        (container,) = self.spec["containers"]
        return container

    @property
    def mode(self) -> str:
        """`redirect`, `http` or `dns`: the program of the main container's image."""
        return program_of(self.daemon)

    def find(self, kind: str, name: str) -> Document:
        """The object of that kind and name; KeyError if it is not beside the pod."""
        found = {(d["kind"], d["metadata"]["name"]): d for d in self.documents}
        return found[kind, name]

    def kinds(self, kind: str) -> tuple[Document, ...]:
        """Every object of that kind."""
        return tuple(document for document in self.documents if document["kind"] == kind)

    def environment(self, container: Document, hostname: str = "") -> Environment:
        """What the container's program would read, ConfigMaps and mounted files resolved."""
        variables: dict[str, str] = {}
        for source in container.get("envFrom", ()):
            variables |= self.find("ConfigMap", source["configMapRef"]["name"])["data"]
        for entry in container.get("env", ()):
            if "value" in entry:
                variables[entry["name"]] = entry["value"]
            else:
                key = entry["valueFrom"]["configMapKeyRef"]
                variables[entry["name"]] = self.find("ConfigMap", key["name"])["data"][key["key"]]
        return Environment(variables=variables, files=self._files(container), hostname=hostname)

    def _files(self, container: Document) -> dict[str, str]:
        volumes = {volume["name"]: volume for volume in self.spec.get("volumes", ())}
        files = {}
        for mount in container.get("volumeMounts", ()):
            volume = volumes[mount["name"]]
            if "configMap" in volume:
                data = self.find("ConfigMap", volume["configMap"]["name"])["data"]
                files |= {f"{mount['mountPath']}/{key}": text for key, text in data.items()}
        return files


def program_of(container: Document) -> str:
    """The program of a container, by its image: `egress-router-http:0.1.0` runs `http`."""
    return container["image"].rpartition("/")[2].partition(":")[0].removeprefix("egress-router-")


def find_kubectl() -> str:
    """The kubectl to build with: the tests' own (`make test` puts it there), or the machine's."""
    beside = Path(sys.prefix) / "bin" / "kubectl"
    found = str(beside) if beside.exists() else shutil.which("kubectl")
    if found is None:
        raise RuntimeError("no kubectl: python tests/fetch_kubectl.py brings one")
    return found


def build(folder: Path) -> tuple[Document, ...]:
    """The objects that `kubectl apply -k` would send for a folder; any warning is an error."""
    done = subprocess.run(
        (find_kubectl(), "kustomize", str(folder)),
        capture_output=True,
        text=True,
        check=False,
        timeout=BUILD_LIMIT_S,
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")},
    )
    if done.returncode or done.stderr:
        raise RuntimeError(f"kubectl kustomize {folder}: {done.stderr}")
    return tuple(yaml.safe_load_all(done.stdout))


@functools.cache
def documents_of(origin: str) -> tuple[Document, ...]:
    """The objects of an overlay (`redirect-sdn`) or of an example (`examples/….yaml`)."""
    if origin in OVERLAYS:
        return build(DEPLOY / "overlays" / origin)
    return tuple(yaml.safe_load_all((DEPLOY / origin).read_text(encoding="utf-8")))


def routers_of(documents: tuple[Document, ...], origin: str) -> tuple[Router, ...]:
    """The router pods among some objects."""
    return tuple(
        Router(origin=origin, workload=document, documents=documents)
        for document in documents
        if document["kind"] in WORKLOADS
    )


def router_of(origin: str) -> Router:
    """The one router of an overlay or example."""
    (router,) = routers_of(documents_of(origin), origin)
    return router
