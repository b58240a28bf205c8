"""The lab itself: builds a world, runs programs in it, and removes every trace at the end.

    with Lab(LabSpec(cni=Cni.CALICO)) as lab:
        lab.start_partner(tcp=(80,))
        lab.router(("init",), {"EGRESS_SOURCE": ...})
        answer = lab.ask("client", "tcp", ADDRESSES.pod.v4, 80)

1. Namespaces carry a prefix of their own, so any number of labs stand side by side.
2. Removal runs after an exception, SIGINT and SIGTERM alike, and is not interrupted by another.
3. `keep()` leaves the world, its processes and its logs; `remove_world` takes them away later.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Self

import egress_router
from egress_router.config.variables import WORKERS
from egress_router.lab import dump, namespaces, partner, probe, sentinel
from egress_router.lab.addresses import ADDRESSES, Address
from egress_router.lab.capture import Capture, tcpdump_argv
from egress_router.lab.interruption import signals_held, termination_raises
from egress_router.lab.process import DEADLINE_S, Process
from egress_router.lab.spec import Host, LabSpec
from egress_router.lab.topology import PODS, desired_world

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
from typing import Any

ROOT = Path(egress_router.__file__).parent.parent  # where `-m egress_router` finds the package
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PROGRAM = (sys.executable, "-m", "egress_router")
BARE_PYTHON = (sys.executable, "-I", "-S")
END_GRACE_S = 2.0  # for a daemon that drains: its connections end with the world anyway
ASK_TIMEOUT_S = 2.0
ASK_MARGIN_S = 8.0  # for the interpreter to start on a busy machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the partner saw of one call."""

    protocol: str
    source: Address
    source_port: int
    local: Address
    local_port: int


class Lab:
    """One world of namespaces; a context manager. `program` is the command line of the router.

    `adopted` names processes whose network namespaces are to play a host, such as a real pod's; at
    the end these processes are ended like all that live in the world.
    """

    def __init__(
        self,
        spec: LabSpec | None = None,
        *,
        program: Sequence[str] = PROGRAM,
        adopted: Mapping[Host, int] | None = None,
    ) -> None:
        self.spec = spec or LabSpec()
        self._program = tuple(program)
        self._adopted = dict(adopted or {})
        self.prefix = ""
        self._kept = False
        self._processes: list[Process] = []
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> Self:
        namespaces.require_tools()
        with contextlib.ExitStack() as building:
            building.enter_context(termination_raises())
            self.prefix = namespaces.choose_prefix()
            building.callback(self._remove)
            self._build()
            self._exit = building.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def namespace(self, host: Host) -> str:
        """The name of a host's namespace."""
        return f"{self.prefix}{host}"

    @property
    def logs(self) -> Path:
        """Where the output of its processes is."""
        return namespaces.log_folder(self.prefix)

    def enter(self, host: Host) -> str:
        """The command that opens a shell in a host."""
        return f"ip netns exec {self.namespace(host)} bash"

    def keep(self) -> None:
        """Leaves everything in place when the lab ends."""
        self._kept = True

    def run(
        self,
        host: Host,
        argv: Sequence[str],
        env: Mapping[str, str] | None = None,
        *,
        check: bool = True,
        timeout: float = DEADLINE_S,
    ) -> subprocess.CompletedProcess[str]:
        """Runs a program in a host to its end, with `env` and PATH alone as its environment.

        With `check` an exit code other than 0 is a CalledProcessError that shows the output.
        """
        done = subprocess.run(
            namespaces.inside(self.namespace(host), argv),
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=timeout,
            env=_environment(env),
            cwd=ROOT,
        )
        if check and done.returncode:
            error = subprocess.CalledProcessError(
                done.returncode, done.args, done.stdout, done.stderr
            )
            error.add_note(f"{done.stdout}{done.stderr}")
            raise error
        return done

    def start(
        self,
        host: Host,
        argv: Sequence[str],
        env: Mapping[str, str] | None = None,
        *,
        name: str | None = None,
    ) -> Process:
        """Starts a program in a host; it ends with the lab at the latest."""
        process = Process(
            name or Path(argv[0]).name,
            namespaces.inside(self.namespace(host), argv),
            env=_environment(env),
            cwd=ROOT,
            log=self.logs / f"{len(self._processes)}-{host}",
        )
        self._processes.append(process)
        return process

    def process(self, name: str) -> Process:
        """The youngest process of that name; KeyError if there was none."""
        for process in reversed(self._processes):
            if process.name == name:
                return process
        raise KeyError(name)

    def router(  # noqa: PLR0913 - as `run`, and who runs it with what privileges
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        *,
        wrap: Sequence[str] = (),
        check: bool = True,
        timeout: float = 60.0,
        host: Host = "pod",
    ) -> subprocess.CompletedProcess[str]:
        """Runs one of the router's programs in the pod; `wrap` goes before it (`privileges`)."""
        command = (*wrap, *self._program, *argv)
        return self.run(host, command, env, check=check, timeout=timeout)

    def start_router(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        *,
        wrap: Sequence[str] = (),
        host: Host = "pod",
    ) -> Process:
        """Starts one of the router's programs in the pod, or in its twin.

        A daemon is one process unless `env` says otherwise, whatever machine the world is on.
        """
        command = (*wrap, *self._program, *argv)
        return self.start(host, command, {WORKERS.name: "1", **env}, name=argv[0])

    def start_partner(self, *, tcp: Sequence[int] = (), udp: Sequence[int] = ()) -> Process:
        """Starts the outside server on all of its addresses and returns when it is bound."""
        ports = ("--tcp", ",".join(map(str, tcp)), "--udp", ",".join(map(str, udp)))
        process = self.start("partner", (*BARE_PYTHON, partner.__file__, *ports), name="partner")
        process.wait_for_line("ready")
        return process

    def start_nameserver(self, *records: str, path: Path | None = None) -> Process:
        """Starts the cluster's DNS with zone-file lines, and a zone file that may change."""
        listen = [
            option
            for version in self.spec.family.versions
            for option in ("--listen", str(ADDRESSES.dns.of(version)))
        ]
        source = ["--records", str(path)] if path else []
        module = (sys.executable, "-m", "egress_router.lab.nameserver")
        process = self.start("dns", (*module, *listen, *source, *records), name="nameserver")
        process.wait_for_line("ready")
        return process

    def ask(  # noqa: PLR0913 - a call has this many sides, all but four optional
        self,
        host: Host,
        protocol: str,
        address: Address,
        port: int,
        *,
        source: Address | None = None,
        source_port: int = 0,
        device: str = "",
        timeout: float = ASK_TIMEOUT_S,
        wrap: Sequence[str] = (),
    ) -> Answer | str:
        """Calls from a host, and returns what the partner saw, or the name of the error."""
        options = ["--timeout", str(timeout), "--source-port", str(source_port)]
        if source:
            options += ["--source", str(source)]
        if device:
            options += ["--device", device]
        script = (*wrap, *BARE_PYTHON, probe.__file__)
        argv = (*script, protocol, str(address), str(port), *options)
        done = self.run(host, argv, check=False, timeout=timeout + ASK_MARGIN_S)
        if not done.stdout:
            raise RuntimeError(f"the probe broke: {done.stderr}")
        seen = json.loads(done.stdout)
        if "error" in seen:
            return str(seen["error"])
        return Answer(
            protocol=seen["protocol"],
            source=ip_address(seen["source"]),
            source_port=seen["source_port"],
            local=ip_address(seen["local"]),
            local_port=seen["local_port"],
        )

    def lookup(self, host: Host, name: str, kind: str = "A") -> tuple[dict[str, Any], ...]:
        """Asks each nameserver of a host's resolv.conf; see the `lookup` module for the shape."""
        module = (sys.executable, "-m", "egress_router.lab.lookup")
        done = self.run(host, (*module, name, kind))
        return tuple(map(json.loads, done.stdout.splitlines()))

    def capture(self, host: Host, link: str, expression: str = "") -> Capture:
        """Starts tcpdump on a link, with a filter of its own language; returns when it listens."""
        process = self.start(host, tcpdump_argv(link, expression))

        def send_sentinel(number: int) -> None:
            self.run(host, (*BARE_PYTHON, sentinel.__file__, link, str(number)))

        return Capture(process, send_sentinel)

    def dump(self) -> str:
        """The state of every host and the end of every log, for the report of a failure."""
        hosts = [dump.observe_host(host, self.namespace(host)) for host in self.spec.hosts]
        logs = [f"==== {process.name}\n{process.tail()}" for process in self._processes]
        return "\n".join((f"prefix {self.prefix}, {self.spec}", *hosts, *logs))

    def _build(self) -> None:
        names = {host: self.namespace(host) for host in self.spec.hosts}
        world = desired_world(self.spec, names)
        namespaces.create_namespaces(names[host] for host in names if host not in self._adopted)
        for host, pid in self._adopted.items():
            namespaces.adopt_namespace(names[host], pid)
        with ThreadPoolExecutor(len(names)) as pool:  # waiting for programs, not computing
            list(pool.map(lambda h: namespaces.apply_sysctls(names[h], world.sysctls[h]), names))
        for batch in world.batches:
            namespaces.apply_batch(names[batch.host], batch.lines)
            namespaces.apply_sysctls(names[batch.host], batch.sysctls)
        etc = {"resolv.conf": world.resolv_conf, "hosts": world.hosts}
        for host in names.keys() & PODS:
            namespaces.write_etc(names[host], etc)

    def _remove(self) -> None:
        if self._kept:
            return
        with signals_held():
            running = [process for process in self._processes if process.running]
            for process in running:
                process.signal(signal.SIGTERM)
            for process in running:
                process.stop(END_GRACE_S)
            namespaces.remove_world(self.prefix)


def _environment(env: Mapping[str, str] | None) -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", DEFAULT_PATH), **(env or {})}
