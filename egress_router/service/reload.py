"""Reads a daemon's configuration again while it serves: from changed files, and on SIGHUP.

1. A new configuration is parsed whole, by what `check` and the start parse it with. With a problem
   in it nothing changes: the old one stays in force, all problems are logged, `status` and a metric
   tell of them until a sound one comes.
2. A mode puts a sound one in force in one step, or raises and leaves everything as it was.
3. Parsing happens in a thread. Ten thousand lines take it half a second, in which the loop must go
   on: the interpreter is told to let others run after SWITCH_S instead of 5 ms. A process of its
   own would need execve, which a tight seccomp profile forbids once a daemon serves.
4. Only files can change: the environment of a running process cannot, and status says so.
5. Of several processes the first one reads the files; the others put in force what it has read.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from egress_router.config.changes import SAME_RULES
from egress_router.errors import ConfigurationError, EgressRouterError
from egress_router.service import events
from egress_router.service.environment import file_variables, read_environment, watched_files
from egress_router.service.file_watch import FileWatch, observe_links, observe_single_mount
from egress_router.service.logs import describe_error, log_event
from egress_router.service.place import ALONE, Place
from egress_router.service.reload_report import ReloadReport, Result

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from egress_router.config.settings import Environment
    from egress_router.service.lifecycle import Lifecycle

T = TypeVar("T")
Config = TypeVar("Config")
Prepared = TypeVar("Prepared")

SIGNAL = "SIGHUP"
SWITCH_S = 0.0005
RETRY_S = 10.0
_BY_ITSELF = (
    "it is mounted by itself, as subPath does: Kubernetes never updates such a file; mount the "
    "ConfigMap's folder instead"
)
_REPLACED = (
    "the file was replaced where it comes from, but this mount still shows the old one: a subPath "
    "mount never changes; mount the ConfigMap's folder instead, and start the pod anew"
)


class ReloadUnsupportedError(EgressRouterError):
    """A sound configuration that this daemon cannot put in force; says what it would take."""


class Reloadable(Protocol[Config, Prepared]):
    """What a mode supplies. `parse`, `compare` and `prepare` are pure, and run in a thread."""

    def parse(self, environment: Environment, /) -> Config:
        """The configuration; raises ConfigurationError with every problem."""

    def compare(self, old: Config, new: Config, /) -> tuple[str, ...]:
        """What differs, in words."""

    def prepare(self, new: Config, /) -> Prepared:
        """What takes long to work out of a configuration."""

    async def apply(self, new: Config, prepared: Prepared, /) -> int:
        """Puts it in force; how many connections were ended because it does not allow them.

        Raises EgressRouterError, with everything as it was.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work(Generic[Config, Prepared]):
    """What a thread made of the files."""

    new: Config
    changes: tuple[str, ...]
    prepared: Prepared


class _Force:
    """What is in force in a process that obeys."""

    def __init__(self, target: Reloadable[Any, Any], config: Any) -> None:
        self.target = target
        self.config = config
        self.lock = asyncio.Lock()


class Reloader:
    """One daemon's configuration; does nothing before `open`. `poll_s` 0: only on SIGHUP."""

    def __init__(
        self,
        mode: str,
        environment: Environment,
        lifecycle: Lifecycle,
        *,
        poll_s: float,
        place: Place = ALONE,
    ) -> None:
        self.report = ReloadReport(mode)
        self._mode = mode
        self._variables = environment.variables
        self._tried: Environment | None = environment
        self._lifecycle = lifecycle
        self._poll_s = poll_s
        self._place = place
        self._files = watched_files(environment, mode)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="reload")
        self._asked: dict[str, None] = {}  # sources of reloads that are due
        self._wake = asyncio.Event()
        self._obeying: asyncio.Future[_Force] = lifecycle.loop.create_future()
        # Has other processes of the daemon put the same in force; how many connections they ended.
        self.spread: Callable[[Environment], Awaitable[int]] = _nobody_else

    def open(self, target: Reloadable[Config, Prepared], config: Config) -> None:
        """Begins to follow the files, and SIGHUP, or to `obey`; `config` is what is in force."""
        if not self._place.first:
            self._obeying.set_result(_Force(target, config))
            return
        tasks = self._lifecycle.tasks
        self._lifecycle.on_reload(lambda: self._ask(SIGNAL))
        tasks.start_vital("reload", self._serve(target, config))
        if self._poll_s:
            for path in self._files:
                tasks.start_vital(f"watch {path}", self._follow(path))

    async def obey(self, environment: Environment) -> int:
        """Puts in force what another process has read; how many connections were ended for it.

        Waits until there is something to put it in force in. Raises EgressRouterError.
        """
        force = await asyncio.shield(self._obeying)
        async with force.lock:
            with _shared_interpreter():
                work = await self._in_thread(_work_out, force.target, force.config, environment)
            if work.new == force.config:
                return 0
            ended = await force.target.apply(work.new, work.prepared)
            force.config = work.new
            self.report.take_over(ended)
            return ended

    def close(self) -> None:
        """Waits for nothing: a file system may hang."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _ask(self, source: str) -> None:
        self._asked[source] = None
        self._wake.set()

    async def _follow(self, path: str) -> None:
        watch = FileWatch(path, poll_s=self._poll_s, executor=self._thread)
        try:
            await watch.open()
            if watch.fault:
                self._warn(path, f"{watch.fault}; it is looked at every {self._poll_s:g} s instead")
            if await self._in_thread(observe_single_mount, path):
                self._warn(path, _BY_ITSELF)
            self._ask(path)  # it may have changed since the start read it
            while True:
                await watch.wait()
                self._ask(path)
        finally:
            watch.close()

    async def _serve(self, target: Reloadable[Config, Prepared], config: Config) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            asked, self._asked = self._asked, {}
            if not self._lifecycle.stopping.is_set():
                # A signal wants an answer, whatever the files hold.
                source = SIGNAL if SIGNAL in asked else next(iter(asked))
                config = await self._reload(target, config, source)

    async def _reload(
        self, target: Reloadable[Config, Prepared], config: Config, source: str
    ) -> Config:
        """One reload; the configuration that is in force after it."""
        if not self._files:
            self.report.conclude(Result.UNSUPPORTED, source, problems=(self._immutable(),))
            return config
        environment = await self._in_thread(read_environment, self._variables)
        if source != SIGNAL and environment == self._tried:
            await self._look_for_replacement(source)
            return config
        self._tried = environment
        work = await self._work_out(target, config, environment, source)
        if work is None:
            return config
        if work.new != config:
            try:
                ended = await target.apply(work.new, work.prepared)
            except ReloadUnsupportedError as error:
                problems = (str(error),)
                self.report.conclude(Result.UNSUPPORTED, source, work.changes, problems)
                return config
            except EgressRouterError as error:
                self.report.conclude(Result.REFUSED, source, work.changes, (str(error),))
                self._try_again(source)
                return config
            self.report.take_over(ended + await self.spread(environment))
        elif source == SIGNAL:
            await self.spread(environment)  # whoever has not followed so far is told again
        self.report.conclude(Result.APPLIED, source, work.changes)
        return work.new

    def _try_again(self, source: str) -> None:
        """The list is sound and something else stood in the way: it may be gone a while later."""
        self._tried = None
        self._lifecycle.loop.call_later(RETRY_S, self._ask, source)

    async def _work_out(
        self,
        target: Reloadable[Config, Prepared],
        config: Config,
        environment: Environment,
        source: str,
    ) -> _Work[Config, Prepared] | None:
        """What there is to do; None if the files hold no sound configuration, which is told."""
        try:
            with _shared_interpreter():
                return await self._in_thread(_work_out, target, config, environment)
        except ConfigurationError as error:
            problems = tuple(map(str, error.problems))
            self.report.conclude(Result.REFUSED, source, problems=problems)
        except Exception as error:  # noqa: BLE001 - a fault of ours in reading must not end what serves
            trouble = describe_error(error)
            self.report.conclude(Result.REFUSED, source, problems=(trouble["error"],))
            log_event(events.HANDLER_FAILED, task="reload", **trouble)
        return None

    def _immutable(self) -> str:
        return (
            "the configuration comes from the environment, which cannot change in a running "
            f"process; expected a file, named by {' or '.join(file_variables(self._mode))}"
        )

    async def _look_for_replacement(self, path: str) -> None:
        """The same text after a change: a subPath mount whose source was replaced shows itself."""
        replaced = await self._in_thread(observe_links, path) == 0
        if replaced and _REPLACED not in self.report.problems:
            self.report.conclude(Result.UNSUPPORTED, path, problems=(_REPLACED,))

    def _warn(self, path: str, reason: str) -> None:
        log_event(events.CONFIG_FILE_WARNING, mode=self._mode, path=path, reason=reason)

    async def _in_thread(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)


async def _nobody_else(_environment: Environment) -> int:
    return 0


@contextlib.contextmanager
def _shared_interpreter() -> Iterator[None]:
    """Rule 3."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)


def _work_out(
    target: Reloadable[Config, Prepared], old: Config, environment: Environment
) -> _Work[Config, Prepared]:
    new = target.parse(environment)
    changes = () if new == old else target.compare(old, new) or (SAME_RULES,)
    return _Work(new=new, changes=changes, prepared=target.prepare(new))
