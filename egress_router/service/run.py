"""How a daemon is put together: parse, part into processes, logs, lifecycle, admin endpoint, mode.

1. All that can be wrong with the environment is found before anything is touched.
2. Processes part before there is a log, a thread or a loop; the first one is the daemon that a
   kubelet, a probe and a person deal with, and the only one where there is one processor.
3. A daemon of one process pays for nothing that only several need.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NoReturn, TypeVar

from egress_router.config.daemon import DaemonConfig, parse_daemon
from egress_router.errors import EXIT_UNEXPECTED, ConfigurationError, Problem
from egress_router.service import signals
from egress_router.service.admin import open_unix_socket
from egress_router.service.daemon import Mode, Service, Shareable
from egress_router.service.events import CONFIGURATION_WARNING, DAEMON_FAILED
from egress_router.service.library_messages import capture_library_messages
from egress_router.service.lifecycle import Lifecycle, end_process, run_lifecycle
from egress_router.service.listening import OpenedSockets
from egress_router.service.logs import configure_logs, describe_error, log_event
from egress_router.service.parting import Standing, part
from egress_router.service.processors import decide_workers, observe_processors, observe_quota

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from egress_router.config.settings import Environment

Config = TypeVar("Config")


def run_daemon(mode: Mode[Config], environment: Environment) -> int:
    """Runs one daemon to its end and returns its exit code; everything later is in the log.

    Raises ConfigurationError, before anything was touched, with the problems of the daemon's
    settings and of the mode's own. Its workers, if it has any, do not return from here.
    """
    signals.install_early_handlers()
    daemon_config, mode_config = _parse(mode, environment)
    count = _decide_count(mode, mode_config, daemon_config)
    if count > 1 and isinstance(mode, Shareable):
        _preload(mode)
    standing = part(count)
    run = partial(_run, mode, environment, daemon_config, mode_config, standing)
    return run() if standing.place.first else _end_with(run)


def _run(
    mode: Mode[Config],
    environment: Environment,
    daemon_config: DaemonConfig,
    mode_config: Config,
    standing: Standing,
) -> int:
    place = standing.place
    configure_logs(daemon_config.log, daemon=True, place=place, turn=standing.turn)
    for warning in daemon_config.warnings:
        log_event(CONFIGURATION_WARNING, message=warning)
    signals.fill_standard_descriptors()
    capture_library_messages()

    async def serve(lifecycle: Lifecycle) -> None:
        service = Service(mode.name, daemon_config, lifecycle, environment, place=place)
        service.loads = standing.loads
        serve_mode = partial(mode.serve, mode_config, service)
        try:
            if standing.sock is not None and standing.passing is not None:
                from egress_router.service.worker import Worker  # noqa: PLC0415 - rule 3

                worker = Worker(service, standing.sock, standing.passing, environment)
                await worker.serve(serve_mode)
            else:
                await _serve_first(service, serve_mode, standing)
        finally:
            service.reload.close()

    return run_lifecycle(mode.name, serve, steered=not place.first)


async def _serve_first(
    service: Service, serve_mode: Callable[[], Awaitable[None]], standing: Standing
) -> None:
    # A task of its own: the endpoint outlives the mode, so that a drain can be watched to its end.
    service.admin.add([open_unix_socket(service.mode)])
    service.tasks.start_vital("admin endpoint", service.admin.serve())
    if not standing.members:
        await serve_mode()
        return
    from egress_router.service.crew import Crew  # noqa: PLC0415 - rule 3

    sockets = service.listening = OpenedSockets()
    crew = Crew(standing.members, service.lifecycle, service.readiness, sockets)
    service.lead(crew)
    try:
        await serve_mode()
        await crew.ended()
    finally:
        await crew.close()


def _end_with(run: Callable[[], int]) -> NoReturn:
    """A worker ends here: what lies above on the stack belongs to the first process."""
    code = EXIT_UNEXPECTED
    try:
        code = run()
    except BaseException as error:  # noqa: BLE001 - nothing of it may reach the stack above
        log_event(DAEMON_FAILED, mode="worker", exit_code=code, **describe_error(error))
    finally:
        end_process(code)


def _decide_count(mode: Mode[Config], mode_config: Config, config: DaemonConfig) -> int:
    if not isinstance(mode, Shareable) or not mode.may_share(mode_config):
        return 1
    return decide_workers(config.workers, processors=observe_processors(), quota=observe_quota())


def _preload(mode: Shareable) -> None:
    """What every process would import by itself otherwise: half a second, and 20 MB."""
    import uvloop  # noqa: F401, PLC0415 - paid for where there are workers

    import egress_router.kernel.host  # noqa: PLC0415 - as above
    import egress_router.kernel.keeper  # noqa: PLC0415
    import egress_router.kernel.signs  # noqa: F401, PLC0415

    mode.preload()


def _parse(mode: Mode[Config], environment: Environment) -> tuple[DaemonConfig, Config]:
    problems: list[Problem] = []
    try:
        daemon_config = parse_daemon(environment)
    except ConfigurationError as error:
        problems.extend(error.problems)
    try:
        mode_config = mode.parse(environment)
    except ConfigurationError as error:
        problems.extend(error.problems)
    if problems:
        raise ConfigurationError(tuple(problems))
    return daemon_config, mode_config
