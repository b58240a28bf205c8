"""Pods played from their manifests, in a world of the lab.

What podman does in place of a kubelet, step by step: the pod's network namespace first, then the
links that a network plugin would put into it, then the init containers to their end, then the
others.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import yaml

from egress_router.lab.addresses import ADDRESSES
from egress_router.lab.spec import LabSpec
from egress_router.lab.world import Lab

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Mapping

    from egress_router.lab.spec import Host
    from tests.images.engine import Engine

DEADLINE_S = 30.0  # for what takes half a second on an idle machine
POLL_S = 0.02
PARTNERS = ("203.0.113.26", "203.0.113.27")  # of the documented examples, beside the lab's own
RESOLV_CONF = f"nameserver {ADDRESSES.dns.v4}\nsearch default.svc.cluster.local\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a container ended, and what it printed."""

    code: int
    log: str


def wait_until(condition: Callable[[], object], what: str, timeout_s: float = DEADLINE_S) -> Any:
    """Returns the first true answer; TimeoutError names what did not come."""
    deadline = time.monotonic() + timeout_s
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"no {what} within {timeout_s:g} s")
        time.sleep(POLL_S)
    return answer


class PodWorld:
    """A context manager. `manifest`: the text of one Pod or Deployment, and its ConfigMaps.

    `adopted`: see `Lab`; the pod itself is added to them.
    """

    def __init__(
        self,
        engine: Engine,
        manifest: str,
        spec: LabSpec | None = None,
        adopted: Mapping[Host, int] | None = None,
    ) -> None:
        self._engine = engine
        self._adopted = dict(adopted or {})
        self._manifest = manifest
        self._exit = contextlib.ExitStack()
        documents = [d for d in yaml.safe_load_all(manifest) if d and d["kind"] != "ConfigMap"]
        (document,) = documents
        template = document["spec"].get("template", document)
        # podman 4 knows no sysctls of a pod; a kubelet sets them before there are any links.
        asked = template["spec"].get("securityContext", {}).get("sysctls", ())
        sysctls = tuple((entry["name"], entry["value"]) for entry in asked)
        self._spec = dataclasses.replace(spec or LabSpec(), pod_sysctls=sysctls)
        self._inits = [c["name"] for c in template["spec"].get("initContainers", ())]
        self._mains = [c["name"] for c in template["spec"]["containers"]]
        self.name = ""

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as building:
            path = self._engine.folder / "manifest.yaml"
            path.write_text(self._manifest, encoding="utf-8")
            building.callback(self._remove)
            self._engine.run("kube", "play", "--start=false", "--network", "none", str(path))
            self.name = self._engine.run("pod", "ls", "--format", "{{.Name}}").stdout.strip()
            infra = self._engine.inspect("pod", self.name)["InfraContainerID"]
            self._engine.run("start", infra)
            pid = self._engine.inspect("container", infra)["State"]["Pid"]
            self._give_resolv_conf()
            self.lab = building.enter_context(
                Lab(self._spec, adopted={**self._adopted, "pod": pid})
            )
            for address in PARTNERS:
                self.lab.run("partner", ("ip", "address", "add", f"{address}/24", "dev", "eth0"))
            building.callback(self._remove)  # before the lab, which would end the processes first
            self._exit = building.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def init(self) -> Ended:
        """Runs the init containers one after the other; how the last one ended."""
        ended = Ended(code=0, log="")
        for name in map(self.container, self._inits):
            self._engine.run("start", name)
            ended = self.wait_for_end(name)
            if ended.code:
                break
        return ended

    def start(self) -> None:
        """Runs the init containers, which must succeed, and starts the others."""
        ended = self.init()
        assert ended.code == 0, ended.log
        for name in self._mains:
            self._engine.run("start", self.container(name))

    @property
    def main(self) -> str:
        """The name of the pod's first container."""
        return self.container(self._mains[0])

    def container(self, name: str) -> str:
        """A container's name in podman."""
        return f"{self.name}-{name}"

    def wait_for_end(self, container: str, timeout_s: float = DEADLINE_S) -> Ended:
        """How a container ended."""

        def ended() -> dict[str, Any] | None:
            state = self.state(container)
            return state if state["Status"] in {"exited", "stopped"} else None

        state = wait_until(ended, f"end of {container}", timeout_s)
        return Ended(code=state["ExitCode"], log=self.log(container))

    def state(self, container: str) -> dict[str, Any]:
        """What podman tells of a container's process."""
        return dict(self._engine.inspect("container", container)["State"])

    def log(self, container: str) -> str:
        """Everything a container has printed."""
        done = self._engine.run("logs", container, check=False)
        return done.stdout + done.stderr

    def execute(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs a program in the main container, as an exec probe would."""
        return self._engine.run("exec", self.main, *argv, check=check)

    def wait_until_ready(self) -> None:
        """Returns once the exec probe succeeds."""
        wait_until(lambda: self.probe().returncode == 0, "readiness")

    def wait_until_not_ready(self) -> subprocess.CompletedProcess[str]:
        """The exec probe's answer once it fails."""
        return wait_until(
            lambda: None if (done := self.probe()).returncode == 0 else done, "failing probe"
        )

    def probe(self) -> subprocess.CompletedProcess[str]:
        """Runs the exec probe once."""
        return self.execute("egress-router", "health", check=False)

    def stop(self, grace_s: int = 30) -> Ended:
        """Ends the main container as a kubelet does: SIGTERM, and SIGKILL after the grace."""
        self._engine.run("stop", "--time", str(grace_s), self.main, timeout=grace_s + DEADLINE_S)
        return self.wait_for_end(self.main)

    def dump(self) -> str:
        """World, containers and logs, for the report of a failure."""
        listed = self._engine.run("ps", "--all", check=False).stdout
        names = [self.container(name) for name in (*self._inits, *self._mains)]
        logs = [f"==== {name}\n{self.log(name)}" for name in names]
        return "\n".join((listed, *logs, self.lab.dump()))

    def _give_resolv_conf(self) -> None:
        """Podman has none for a pod without a network of its own; a kubelet mounts it."""
        path = self._engine.folder / "resolv.conf"
        path.write_text(RESOLV_CONF, encoding="ascii")
        for name in (*self._inits, *self._mains):
            self._engine.run("cp", str(path), f"{self.container(name)}:/etc/resolv.conf")
        for name in self._inits:
            self._engine.never_restart(self.container(name))

    def _remove(self) -> None:
        self._engine.run("pod", "rm", "--all", "--force", "--time", "0", check=False)


def images_of(manifest: str) -> set[str]:
    """The images a manifest names."""
    return set(re.findall(r"image: (\S+)", manifest))
