"""A pod on one of the two kernels, ready to be set up."""

import contextlib
import os
import pprint
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from egress_router.config.init import InitConfig
from egress_router.errors import EgressRouterError
from egress_router.kernel.converge import Kernel, converge
from egress_router.kernel.netlink import Netlink
from egress_router.plan.desired import desired_state
from egress_router.plan.diff import Step
from egress_router.plan.state import Desired, Observed
from model import worlds
from model.kernel import FakeKernel, normal
from model.real import RealWorld, real_world
from model.scenarios import Scenario


class KilledError(Exception):
    """The process that converges is gone; nothing that it still tries reaches the kernel."""


@dataclass(slots=True, kw_only=True)
class Bench:
    """A pod on one of the two kernels, and what it is set up for."""

    kernel: Kernel
    scenario: Scenario
    parents: Observed | None
    node: str
    fingerprint: Callable[[], str]
    real: RealWorld | None = None

    def configure(self, **changes: str) -> InitConfig:
        """The scenario's configuration, with some variables changed."""
        return self.scenario.configure(self.node, **changes)

    def desire(self, config: InitConfig) -> Callable[[Observed], Desired]:
        """What `converge` asks for the wanted state."""
        return lambda observed: desired_state(config, observed, self.parents)

    def converge(
        self,
        config: InitConfig,
        *,
        kernel: Kernel | None = None,
        applied: Callable[[Step], None] = lambda _: None,
    ) -> list[Step]:
        """Sets the pod up; the steps that it took. A failed undo is a failed test."""
        steps: list[Step] = []

        def note(step: Step) -> None:
            steps.append(step)
            applied(step)

        def undo_failed(step: Step, error: EgressRouterError) -> None:
            raise AssertionError(f"not undone: {step}: {error}")

        converge(kernel or self.kernel, self.desire(config), applied=note, undo_failed=undo_failed)
        return steps

    def state(self) -> Observed:
        """What the kernel shows, without what is no business of ours."""
        return normal(self.kernel.observe())

    def outcome(self) -> Observed:
        """The state without what a router leaves as it finds it: MAC, MTU and old settings."""
        state = self.state()
        links = [replace(link, mac=None, mtu=0, inet=()) for link in state.links]
        return replace(state, links=tuple(links), sysctls=())


@dataclass(slots=True)
class Failing:
    """A kernel that refuses the step with that number, from 0, once; `dead`: and all after it."""

    kernel: Kernel
    at: int
    dead: bool = False
    done: int = 0

    def observe(self) -> Observed:
        return self.kernel.observe()

    def check(self, ruleset: str) -> None:
        self.kernel.check(ruleset)

    def apply(self, step: Step) -> None:
        self.done += 1
        if self.done == self.at + 1 or (self.dead and self.done > self.at):
            raise KilledError
        self.kernel.apply(step)


@contextlib.contextmanager
def fake_bench(scenario: Scenario) -> Iterator[Bench]:
    """A scenario on the fake kernel."""
    parents = worlds.NODE if scenario.has_node else None
    kernel = FakeKernel(scenario.world, parents=parents)
    yield Bench(
        kernel=kernel,
        scenario=scenario,
        parents=parents,
        node="/proc/1/ns/net",
        fingerprint=lambda: pprint.pformat((kernel.observe().table, normal(kernel.observe()))),
    )


@contextlib.contextmanager
def real_bench(scenario: Scenario) -> Iterator[Bench]:
    """A scenario on the real kernel, in namespaces that go with it."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    with real_world(scenario.world) as world, world.kernel() as (kernel, _):
        parents = None
        if scenario.has_node:
            with Netlink(world.node_path) as node:
                parents = node.observe()
        yield Bench(
            kernel=kernel,
            scenario=scenario,
            parents=parents,
            node=world.node_path,
            fingerprint=world.fingerprint,
            real=world,
        )


OpenBench = Callable[[Scenario], Bench]
