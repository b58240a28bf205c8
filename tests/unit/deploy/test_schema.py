"""Every manifest is what Kubernetes, or the maker of a custom resource, takes."""

import json
import re

import kubernetes_validate
import pytest
import yaml

from model.manifests import DEPLOY, EXAMPLES, OVERLAYS, Document, documents_of, router_of

ORIGINS = (*OVERLAYS, *EXAMPLES)
# What routers are made of; what watches them lies beside it, and is tested by those who made it.
ROOMS = ("base", "modes", "links", "options", "registry", "overlays", "examples")
CURRENT = kubernetes_validate.latest_version()


def complaints_about_network(document: Document) -> list[str]:
    """What is wrong with a NetworkAttachmentDefinition (k8s.cni.cncf.io/v1), by its shape."""
    found = []
    if set(document) != {"apiVersion", "kind", "metadata", "spec"}:
        found.append(f"fields {sorted(document)}")
    if set(document["spec"]) != {"config"} or not isinstance(document["spec"]["config"], str):
        return [*found, "spec holds the text of one config, and nothing else"]
    config = json.loads(document["spec"]["config"])
    if not re.fullmatch(r"[01]\.[0-9]\.[0-9]", config.get("cniVersion", "")):
        found.append("cniVersion")
    if config.get("type") != "macvlan" or not config.get("master"):
        found.append("a macvlan with a master")
    if config.get("mode") not in {"private", "bridge", "vepa", "passthru"}:
        found.append("mode")
    if config.get("ipam"):
        found.append("ipam: the addresses are init's")
    return found


def complaints_about_egress_router(document: Document) -> list[str]:
    """What is wrong with an EgressRouter (network.operator.openshift.io/v1), by its shape."""
    spec = document["spec"]
    found = []
    if not {"mode", "networkInterface", "addresses", "redirect"} >= set(spec):
        found.append(f"fields {sorted(spec)}")
    if spec["mode"] != "Redirect":
        found.append("mode")
    if spec["networkInterface"]["macvlan"]["mode"] not in {"Bridge", "Private", "VEPA", "Passthru"}:
        found.append("macvlan mode")
    found += [
        f"rule {rule}"
        for rule in spec["redirect"]["redirectRules"]
        if not {"destinationIP", "port", "protocol", "targetPort"} >= set(rule)
        or rule["protocol"] not in {"TCP", "UDP", "SCTP"}
    ]
    return found


CUSTOM = {
    ("k8s.cni.cncf.io/v1", "NetworkAttachmentDefinition"): complaints_about_network,
    ("network.operator.openshift.io/v1", "EgressRouter"): complaints_about_egress_router,
}


def check(document: Document) -> None:
    """Raises or fails if an object is not valid."""
    shape = CUSTOM.get((document["apiVersion"], document["kind"]))
    if shape is None:
        kubernetes_validate.validate(document, CURRENT, strict=True)
    else:
        assert shape(document) == []


@pytest.mark.parametrize("origin", ORIGINS)
def test_every_manifest_is_valid(origin: str) -> None:
    """Each overlay builds without a warning, and each object fits the current schema strictly."""
    documents = documents_of(origin)
    assert documents
    for document in documents:
        check(document)


def test_schemas_are_current() -> None:
    """The schemas are those of Kubernetes 1.33 or newer."""
    assert tuple(map(int, CURRENT.split(".")[:2])) >= (1, 33)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        pytest.param(("spec", "replica"), 1, id="unknown-field"),
        pytest.param(("spec", "replicas"), "one", id="wrong-type"),
        pytest.param(("spec", "strategy", "typ"), "Recreate", id="unknown-field-below"),
    ],
)
def test_the_schema_is_strict(path: tuple[str, ...], value: object) -> None:
    """A field that is misspelt, or of another type, is found."""
    workload = json.loads(json.dumps(router_of("redirect-sdn").workload))
    at = workload
    for name in path[:-1]:
        at = at[name]
    at[path[-1]] = value
    with pytest.raises(kubernetes_validate.ValidationError):
        check(workload)


def test_no_object_is_there_twice() -> None:
    """The objects of an overlay have names of their own."""
    for origin in OVERLAYS:
        names = [(d["kind"], d["metadata"]["name"]) for d in documents_of(origin)]
        assert len(names) == len(set(names)), origin


def test_every_mode_has_every_link() -> None:
    """There is an overlay for each mode with each kind of link."""
    modes, links = (
        [path.name for path in sorted((DEPLOY / room).iterdir())] for room in ("modes", "links")
    )
    assert {f"{mode}-{link}" for mode in modes for link in links} <= set(OVERLAYS)


def test_every_file_is_used() -> None:
    """No YAML file lies there that no overlay builds and that is no example."""
    used = {DEPLOY / example for example in EXAMPLES}
    folders = [DEPLOY / "overlays" / name for name in OVERLAYS]
    while folders:
        file = folders.pop() / "kustomization.yaml"
        if file in used:
            continue
        used.add(file)
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        named = [*content.get("resources", ()), *content.get("components", ())]
        named += [patch["path"] for patch in content.get("patches", ())]
        named += content.get("configurations", ())
        for path in ((file.parent / name).resolve() for name in named):
            (folders.append if path.is_dir() else used.add)(path)
    there = {path for room in ROOMS for path in (DEPLOY / room).rglob("*.yaml")}
    assert there == used


def test_two_routers_in_one_namespace() -> None:
    """A suffix and a label make a router that shares nothing with the one beside it."""
    first, second = (router_of(name) for name in ("http-multus", "http-multus-pool"))
    names = [{d["metadata"]["name"] for d in router.documents} for router in (first, second)]
    assert names[0].isdisjoint(names[1])
    (service,) = second.kinds("Service")
    selector = service["spec"]["selector"].items()
    assert selector <= second.template["metadata"]["labels"].items()
    assert not selector <= first.template["metadata"]["labels"].items()
    assert second.workload["spec"]["serviceName"] == service["metadata"]["name"]
