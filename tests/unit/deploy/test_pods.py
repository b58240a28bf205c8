"""The pods of deploy/ say what the programs understand, and behave as one address demands."""

import ipaddress

import pytest

from egress_router import __version__
from egress_router.__main__ import COMMANDS
from egress_router.config import variables
from egress_router.config.init import parse_init
from egress_router.config.redirect import parse_redirect
from egress_router.modes import mode_checks, mode_names
from egress_router.programs.check import check_init
from images.catalogue import IMAGES
from model.manifests import (
    EXAMPLES,
    OVERLAYS,
    Document,
    Router,
    documents_of,
    program_of,
    router_of,
)

PODS = (*OVERLAYS, *(name for name in EXAMPLES if "egressrouter" not in name))
ORIGINALS = tuple(name for name in EXAMPLES if "/original/" in name)
KNOWN = {variable.name: variable for variable in variables.VARIABLES}
SHORT_S = 30  # what an outage may cost before a router moves; Kubernetes' own default is 300


def checked_init(router: Router, ordinal: int = 0) -> Document:
    """What `check init` says of a router, or raises about it."""
    hostname = f"{router.workload['metadata']['name']}-{ordinal}"
    checked = check_init(router.environment(router.init, hostname))
    assert checked.warnings == ()
    return checked.document


def checked_daemon(router: Router) -> Document:
    """What `check` says of the router's daemon."""
    checked = mode_checks()[router.mode]()(router.environment(router.daemon))
    assert checked.warnings == ()
    return checked.document


@pytest.mark.parametrize("origin", PODS)
def test_programs_accept_their_environment(origin: str) -> None:
    """Init and daemon find every variable and list right, and the mode fits the image."""
    router = router_of(origin)
    expected = {"redirect": "init", "http": "http-proxy", "dns": "dns-proxy"}
    assert program_of(router.init) == "init"
    assert checked_init(router)["mode"] == expected[router.mode]
    assert checked_daemon(router)


@pytest.mark.parametrize("origin", PODS)
def test_variables_are_known(origin: str) -> None:
    """Each variable is one that the program of its container reads."""
    router = router_of(origin)
    for container in (router.init, router.daemon):
        environment = router.environment(container)
        readers = {program_of(container)}
        if container is router.daemon and environment.is_set(variables.SOURCE):
            readers.add("init")  # a redirect daemon that is told init's variables keeps them
            assert router.mode == "redirect"
        for name in environment.variables:
            assert readers & set(KNOWN[name].programs), name


@pytest.mark.parametrize("origin", PODS)
def test_lists_have_what_users_write(origin: str) -> None:
    """No list is empty, so none of the checks above has passed for want of lines."""
    router = router_of(origin)
    document = checked_init(router) if router.mode == "redirect" else checked_daemon(router)
    key = {"redirect": "destinations", "http": "rules", "dns": "listeners"}[router.mode]
    assert document[key]


@pytest.mark.parametrize("origin", OVERLAYS)
def test_one_pod_for_one_address(origin: str) -> None:
    """A Deployment has one replica and recreates it; a StatefulSet has as many as addresses."""
    router = router_of(origin)
    spec = router.workload["spec"]
    if router.workload["kind"] == "Deployment":
        assert spec["replicas"] == 1
        assert spec["strategy"] == {"type": "Recreate"}
        return
    sources = [checked_init(router, ordinal)["source"] for ordinal in range(spec["replicas"])]
    assert len({tuple(source) for source in sources}) == spec["replicas"] > 1
    with pytest.raises(Exception, match="has no address"):
        checked_init(router, spec["replicas"])


@pytest.mark.parametrize("origin", OVERLAYS)
def test_a_lost_node_is_left_soon(origin: str) -> None:
    """The pod leaves a node that is not ready or not reachable within seconds, not minutes."""
    tolerated = {t["key"]: t for t in router_of(origin).spec["tolerations"]}
    for trouble in ("not-ready", "unreachable"):
        toleration = tolerated[f"node.kubernetes.io/{trouble}"]
        assert toleration["effect"] == "NoExecute"
        assert toleration["tolerationSeconds"] <= SHORT_S


@pytest.mark.parametrize("origin", OVERLAYS)
def test_resources(origin: str) -> None:
    """Each container asks for processor and memory, and its memory is what it asks for."""
    router = router_of(origin)
    for container in (router.init, router.daemon):
        resources = container["resources"]
        assert set(resources["requests"]) == {"cpu", "memory"}
        assert resources["limits"] == {"memory": resources["requests"]["memory"]}


@pytest.mark.parametrize("origin", OVERLAYS)
def test_grace_is_longer_than_the_drain(origin: str) -> None:
    """Kubernetes waits longer than the daemon takes to let its connections end."""
    router = router_of(origin)
    drain = router.environment(router.daemon).get(variables.DRAIN)
    assert router.spec["terminationGracePeriodSeconds"] >= float(drain) + 5


@pytest.mark.parametrize("origin", OVERLAYS)
def test_probes_ask_what_the_programs_answer(origin: str) -> None:
    """Probes run commands that exist, for the daemon's mode, or ask its admin port's paths."""
    router = router_of(origin)
    wanted = {
        "readinessProbe": (["health", router.mode], "/readyz"),
        "livenessProbe": (["status", router.mode], "/healthz"),
    }
    for name, (words, path) in wanted.items():
        probe = router.daemon[name]
        if "exec" in probe:
            assert "httpGet" not in probe
            assert probe["exec"]["command"] == ["egress-router", *words]
            assert words[0] in COMMANDS
            assert words[1] in mode_names()
        else:
            assert probe["httpGet"] == {"path": path, "port": "admin"}
        assert probe["timeoutSeconds"] >= 2  # an interpreter starts on a busy node
    # What is only not ready must not be killed for it.
    assert router.daemon["readinessProbe"] != router.daemon["livenessProbe"]


def test_both_kinds_of_probe_are_there() -> None:
    """One overlay probes by port and all others by command."""
    by_port = [name for name in OVERLAYS if "httpGet" in router_of(name).daemon["livenessProbe"]]
    assert by_port == ["redirect-multus-guarded"]


def test_admin_port_is_one() -> None:
    """The port that is probed is the one that the daemon opens and that init does not redirect."""
    router = router_of("redirect-multus-guarded")
    (port,) = router.daemon["ports"]
    assert port["name"] == "admin"
    for container in (router.init, router.daemon):
        text = router.environment(container).get(variables.ADMIN_PORT)
        assert text == str(port["containerPort"])


@pytest.mark.parametrize("origin", OVERLAYS)
def test_service_fits_the_mode(origin: str) -> None:
    """The Service selects the pod, and each of its ports leads to something."""
    router = router_of(origin)
    (service,) = router.kinds("Service")
    selector = service["spec"]["selector"]
    assert selector.items() <= router.template["metadata"]["labels"].items()
    ports = {p.get("targetPort", p["port"]) for p in service["spec"]["ports"]}
    assert ports
    if router.mode == "http":
        assert ports == {int(router.environment(router.daemon).get(variables.HTTP_PORT))}
    elif router.mode == "dns":
        assert ports == {one["port"] for one in checked_daemon(router)["listeners"]}
    else:
        rules = checked_init(router)["destinations"]
        named = [rule["ports"] for rule in rules if rule["protocol"] == "tcp"]
        assert all(any(low <= port <= high for low, high in named) for port in ports)


@pytest.mark.parametrize("origin", OVERLAYS)
def test_low_ports_need_no_capability(origin: str) -> None:
    """DNS mode has the sysctl that its low ports need; no other pod has one."""
    router = router_of(origin)
    sysctls = router.spec.get("securityContext", {}).get("sysctls", [])
    wanted = [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]
    assert sysctls == (wanted if router.mode == "dns" else [])


@pytest.mark.parametrize("origin", [name for name in OVERLAYS if "multus" in name])
def test_multus_finds_its_network(origin: str) -> None:
    """The annotation names the NetworkAttachmentDefinition that is deployed with the pod."""
    router = router_of(origin)
    annotation = router.template["metadata"]["annotations"]["k8s.v1.cni.cncf.io/networks"]
    (network,) = router.kinds("NetworkAttachmentDefinition")
    assert annotation == network["metadata"]["name"]


def test_keeper_is_told_what_init_was() -> None:
    """A daemon that repairs keeps init's own configuration, not what it happens to find."""
    router = router_of("redirect-multus-keeper")
    assert checked_daemon(router)["keeps"] == "init's configuration"
    assert parse_redirect(router.environment(router.daemon)).init.destinations == (
        parse_init(router.environment(router.init)).destinations
    )


@pytest.mark.parametrize("origin", OVERLAYS)
def test_images(origin: str) -> None:
    """Images are those that are built here, of the version of this tree."""
    router = router_of(origin)
    built = {f"{image.name}:{__version__}" for image in IMAGES}
    for container in (router.init, router.daemon):
        assert container["image"].rpartition("/")[2] in built


@pytest.mark.parametrize("origin", ORIGINALS)
def test_originals_are_as_documented(origin: str) -> None:
    """The originals' pods hold nothing of ours but the images' names."""
    router = router_of(origin)
    assert set(router.spec) == {"initContainers", "containers"}
    assert router.template["metadata"]["labels"] == {"name": router.template["metadata"]["name"]}
    assert router.template["metadata"]["annotations"] == {
        "pod.network.openshift.io/assign-macvlan": "true"
    }
    assert set(router.init) == {"name", "image", "securityContext", "env"}
    assert router.init["securityContext"] == {"privileged": True}
    assert set(router.daemon) <= {"name", "image", "env", "securityContext"}
    images = [container["image"] for container in (router.init, router.daemon)]
    names = [f"quay.io/egress-router/egress-router-{name}" for name in ("init", router.mode)]
    assert images == names


def test_the_originals_are_all_there() -> None:
    """Each mode has its original; redirect mode also a Deployment, and a list with tabs in it."""
    assert [name.rpartition("/")[2] for name in ORIGINALS] == [
        "deployment.yaml",
        "dns.yaml",
        "http.yaml",
        "redirect-configmap.yaml",
        "redirect.yaml",
    ]
    router = router_of("examples/original/redirect-configmap.yaml")
    text = router.find("ConfigMap", "egress-routes")["data"]["destination"]
    assert "\n\t8080 tcp " in text
    plain = _targets(checked_init(router_of("examples/original/redirect.yaml")))
    assert _targets(checked_init(router)) == plain
    assert _targets(checked_init(router_of("examples/original/deployment.yaml"))) == plain


def test_the_custom_resource_says_the_same() -> None:
    """The pod of the migration page does what the EgressRouter beside it did."""
    (resource,) = documents_of("examples/migration/egressrouter.yaml")
    spec = resource["spec"]
    document = checked_init(router_of("examples/migration/redirect.yaml"))
    (address,) = spec["addresses"]
    assert document["source"] == [str(ipaddress.ip_interface(address["ip"]))]
    assert document["gateway"] == [address["gateway"]]
    assert document["fallback"] == [spec["redirect"]["fallbackIP"]]
    assert _targets(document) == [
        (rule["protocol"].lower(), rule["port"], rule["destinationIP"], rule.get("targetPort"))
        for rule in spec["redirect"]["redirectRules"]
    ]


def _targets(document: Document) -> list[tuple[object, ...]]:
    return [
        (rule["protocol"], rule["ports"][0], rule["address"], rule["target_port"])
        for rule in document["destinations"]
    ]
