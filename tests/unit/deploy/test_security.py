"""What the pods may do: the daemon next to nothing, init what its link needs, and no more.

Pod Security Standards, level "restricted", written as a table: each row is a control, a change that
breaks it, and how the check of that control names it.
"""

import copy
from collections.abc import Callable

import pytest

from model.manifests import EXAMPLES, OVERLAYS, Document, Router, router_of

OURS = (
    *OVERLAYS,
    *(name for name in EXAMPLES if "/original/" not in name and "egressrouter" not in name),
)
KEEPERS = tuple(name for name in OVERLAYS if name.endswith("-keeper"))
PLAIN = tuple(name for name in OURS if name not in KEEPERS)
RESTRICTED_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
SAFE_SYSCTLS = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
}


def breaches(spec: Document, container: Document) -> set[str]:
    """The controls of "restricted" that a container breaks, with what the pod gives to it."""
    own, pod = container.get("securityContext", {}), spec.get("securityContext", {})
    added = set(own.get("capabilities", {}).get("add", ()))
    mounted = {mount["name"] for mount in container.get("volumeMounts", ())}
    volumes = [volume for volume in spec.get("volumes", ()) if volume["name"] in mounted]
    seccomp = own.get("seccompProfile", pod.get("seccompProfile", {})).get("type")
    user = own.get("runAsUser", pod.get("runAsUser"))
    found = {
        "host namespaces": any(spec.get(name) for name in ("hostNetwork", "hostPID", "hostIPC")),
        "host ports": any(port.get("hostPort") for port in container.get("ports", ())),
        "host probes": any(
            probe.get("httpGet", {}).get("host")
            for name, probe in container.items()
            if name.endswith("Probe")
        ),
        "privileged": bool(own.get("privileged")),
        "escalation": own.get("allowPrivilegeEscalation") is not False,
        "non-root": not own.get("runAsNonRoot", pod.get("runAsNonRoot")),
        "user": user == 0,
        "seccomp": seccomp not in {"RuntimeDefault", "Localhost"},
        "drop all": "ALL" not in own.get("capabilities", {}).get("drop", ()),
        "capabilities": bool(added - {"NET_BIND_SERVICE"}),
        "volumes": any(set(v) - {"name"} - RESTRICTED_VOLUMES for v in volumes),
        "sysctls": any(s["name"] not in SAFE_SYSCTLS for s in pod.get("sysctls", ())),
        "proc mount": own.get("procMount", "Default") != "Default",
        "SELinux": bool({"user", "role"} & set(own.get("seLinuxOptions", {}))),
    }
    return {control for control, broken in found.items() if broken}


@pytest.mark.parametrize("origin", PLAIN)
def test_daemon_is_restricted(origin: str) -> None:
    """The daemon's container breaks no control of the level "restricted"."""
    router = router_of(origin)
    assert breaches(router.spec, router.daemon) == set()


@pytest.mark.parametrize("origin", PLAIN)
def test_daemon_has_less_than_that(origin: str) -> None:
    """The daemon has no capability at all, a read-only root, and no service account token."""
    router = router_of(origin)
    own = router.daemon["securityContext"]
    assert own["readOnlyRootFilesystem"] is True
    assert own["capabilities"] == {"drop": ["ALL"]}
    assert router.spec["automountServiceAccountToken"] is False
    mounts = router.daemon.get("volumeMounts", ())
    assert all(mount.get("readOnly") for mount in mounts)


@pytest.mark.parametrize("origin", KEEPERS)
def test_keeper_has_what_init_has(origin: str) -> None:
    """A daemon that is to repair has the two capabilities of init, and no more than it."""
    router = router_of(origin)
    assert breaches(router.spec, router.daemon) == {"capabilities", "non-root", "user"}
    capabilities = router.daemon["securityContext"]["capabilities"]
    assert capabilities == router.init["securityContext"]["capabilities"]
    assert router.daemon["securityContext"]["readOnlyRootFilesystem"] is True


def _set(*path: str, value: object) -> Callable[[Router], None]:
    def change(router: Router) -> None:
        at = router.daemon
        for name in path[:-1]:
            at = at.setdefault(name, {})
        at[path[-1]] = value

    return change


def _pod(name: str, value: object) -> Callable[[Router], None]:
    return lambda router: router.spec.update({name: value})


def _host_path(router: Router) -> None:
    router.spec.setdefault("volumes", []).append({"name": "h", "hostPath": {"path": "/"}})
    router.daemon.setdefault("volumeMounts", []).append({"name": "h", "mountPath": "/h"})


@pytest.mark.parametrize(
    ("control", "change"),
    [
        ("host namespaces", _pod("hostNetwork", True)),
        ("host namespaces", _pod("hostPID", True)),
        ("host ports", _set("ports", value=[{"containerPort": 8080, "hostPort": 8080}])),
        ("host probes", _set("readinessProbe", value={"httpGet": {"port": 1, "host": "h"}})),
        ("privileged", _set("securityContext", "privileged", value=True)),
        ("escalation", _set("securityContext", "allowPrivilegeEscalation", value=None)),
        ("non-root", _set("securityContext", "runAsNonRoot", value=False)),
        ("user", _set("securityContext", "runAsUser", value=0)),
        ("seccomp", _set("securityContext", "seccompProfile", value={"type": "Unconfined"})),
        ("seccomp", _set("securityContext", "seccompProfile", value={})),
        ("drop all", _set("securityContext", "capabilities", "drop", value=["NET_RAW"])),
        ("capabilities", _set("securityContext", "capabilities", "add", value=["NET_ADMIN"])),
        ("volumes", _host_path),
        ("sysctls", _pod("securityContext", {"sysctls": [{"name": "net.core.somaxconn"}]})),
        ("proc mount", _set("securityContext", "procMount", value="Unmasked")),
        ("SELinux", _set("securityContext", "seLinuxOptions", value={"user": "system_u"})),
    ],
)
def test_each_control_is_looked_at(control: str, change: Callable[[Router], None]) -> None:
    """A daemon that is given more is found, by the control that it breaks."""
    router = copy.deepcopy(router_of("http-sdn"))
    change(router)
    assert breaches(router.spec, router.daemon) == {control}


def is_made_from_nic(router: Router) -> bool:
    """Whether init makes the link, and so has to enter the node's namespace."""
    return any("hostPath" in volume for volume in router.spec.get("volumes", ()))


@pytest.mark.parametrize("origin", OURS)
def test_init_has_what_its_link_needs(origin: str) -> None:
    """A link handed over takes two capabilities; a link made, one folder of the node."""
    router = router_of(origin)
    own = router.init["securityContext"]
    assert own["readOnlyRootFilesystem"] is True
    if is_made_from_nic(router):
        (folder,) = (v["hostPath"] for v in router.spec["volumes"] if "hostPath" in v)
        assert folder == {"path": "/proc/1/ns", "type": "Directory"}
        assert own["privileged"] is True
        assert "allowPrivilegeEscalation" not in own  # Kubernetes refuses both together
    else:
        # Root, because a capability that is added to a container is in force for root alone.
        assert breaches(router.spec, router.init) == {"capabilities", "non-root", "user"}
        assert own["capabilities"] == {"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW"]}


@pytest.mark.parametrize("origin", OURS)
def test_the_node_is_for_init_alone(origin: str) -> None:
    """Nothing of the node is mounted into the daemon, and init mounts it read-only."""
    router = router_of(origin)
    nodes = {volume["name"] for volume in router.spec.get("volumes", ()) if "hostPath" in volume}
    assert nodes.isdisjoint(mount["name"] for mount in router.daemon.get("volumeMounts", ()))
    mounts = [m for m in router.init.get("volumeMounts", ()) if m["name"] in nodes]
    assert len(mounts) == len(nodes)
    assert all(mount["readOnly"] for mount in mounts)
