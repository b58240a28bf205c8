from dataclasses import replace

import pytest

from egress_router.errors import (
    AddressConflictError,
    EgressRouterError,
    KernelError,
    VerificationError,
)
from egress_router.kernel import converge as module
from egress_router.kernel.converge import ROUNDS, converge, render_step
from egress_router.plan.desired import desired_state
from egress_router.plan.diff import (
    AddAddress,
    AddRoute,
    ChangeLink,
    Claim,
    DeleteRoute,
    LoadTable,
    Step,
)
from egress_router.plan.state import Desired, Observed
from model.environments import DUAL, SOURCE, configure
from model.kernel import FakeKernel
from model.worlds import BRIDGE, DUAL_STACK, address, route


def desire(observed: Observed) -> Desired:
    """A dual-stack router."""
    return desired_state(configure(**DUAL), observed, None)


def run(kernel: FakeKernel) -> tuple[list[Step], list[Step]]:
    """Converges; the steps, and those whose undoing failed."""
    steps: list[Step] = []
    failed: list[Step] = []
    converge(kernel, desire, applied=steps.append, undo_failed=lambda step, _: failed.append(step))
    return steps, failed


class Forgetful(FakeKernel):
    """Says yes to every address, and has none of them."""

    def _add_address(self, address: object) -> None:
        if getattr(address, "link", None) == "eth0":
            super()._add_address(address)  # type: ignore[arg-type]


def test_a_state_that_never_comes_about() -> None:
    """Where the kernel never shows what was applied, the run ends with what is left."""
    kernel = Forgetful(BRIDGE)
    kernel._add_route = kernel.routes.append  # type: ignore[method-assign]
    checks: list[str] = []
    kernel.check = checks.append  # type: ignore[method-assign]
    with pytest.raises(VerificationError, match="the kernel does not show what was applied") as e:
        converge(
            kernel,
            lambda observed: desired_state(configure(), observed, None),
            applied=lambda _: None,
            undo_failed=lambda *_: None,
        )
    assert any("AddAddress" in left for left in e.value.left)
    assert len(checks) == 1
    assert ROUNDS >= 3


def test_dry_run_comes_first() -> None:
    """A ruleset that the kernel refuses stops the run before its first step."""
    kernel = FakeKernel(DUAL_STACK)

    def refuse(_: str) -> None:
        raise KernelError("check the nftables ruleset", "no NAT here")

    kernel.check = refuse  # type: ignore[method-assign]
    before = kernel.observe()
    with pytest.raises(KernelError, match="no NAT here"):
        run(kernel)
    assert kernel.observe() == before


def test_failed_undo_is_told_and_the_rest_undone() -> None:
    """An inverse step that fails is reported; those before it are undone all the same."""

    class Stubborn(FakeKernel):
        """Fails to add the address, and to take back the rules."""

        def _add_address(self, address: object) -> None:
            if getattr(address, "link", None) == "macvlan0":
                raise KernelError("add address", "not today")
            super()._add_address(address)  # type: ignore[arg-type]

        def apply(self, step: Step) -> None:
            if type(step).__name__ == "DeleteRule":
                raise KernelError("remove rule", "not today")
            super().apply(step)

    kernel = Stubborn(DUAL_STACK)
    before = kernel.observe()
    failed: list[tuple[Step, EgressRouterError]] = []
    with pytest.raises(KernelError, match="add address"):
        converge(
            kernel, desire, applied=lambda _: None, undo_failed=lambda *pair: failed.append(pair)
        )
    assert {type(step).__name__ for step, _ in failed} == {"DeleteRule"}
    after = kernel.observe()
    assert set(after.routes) == set(before.routes)
    assert after.table is None


def test_duplicate_address() -> None:
    """B7-94: a wanted address that failed its detection is a conflict."""
    held = replace(address("macvlan0", f"{SOURCE}/24"), failed=True)
    kernel = FakeKernel(replace(BRIDGE, addresses=(*BRIDGE.addresses, held)))
    with pytest.raises(
        AddressConflictError, match="duplicate address detection failed on macvlan0"
    ):
        run(kernel)


def test_tentative_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """B7-94: an address under detection is waited for, and not for ever."""
    monkeypatch.setattr(module, "DAD_TIMEOUT_S", 0.05)
    monkeypatch.setattr(module, "_DAD_POLL_S", 0.01)
    held = replace(address("macvlan0", f"{SOURCE}/24"), tentative=True)
    kernel = FakeKernel(replace(BRIDGE, addresses=(*BRIDGE.addresses, held)))
    with pytest.raises(KernelError, match=r"still tentative after 0\.05 s"):
        run(kernel)
    looks = 0
    observe = kernel.observe

    def settling() -> Observed:
        nonlocal looks
        looks += 1
        if looks == 3:
            kernel.addresses = [replace(a, tentative=False) for a in kernel.addresses]
        return observe()

    kernel.observe = settling  # type: ignore[method-assign]
    run(kernel)
    assert looks > 3


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (LoadTable(text="x"), "LoadTable replaced"),
        (LoadTable(text=None), "LoadTable removed"),
        (
            AddRoute(route=route("default", "eth0", "10.128.0.1")),
            "AddRoute 0.0.0.0/0 via 10.128.0.1 dev eth0 table 254",
        ),
        (
            DeleteRoute(route=route("10.0.0.0/8", "eth0")),
            "DeleteRoute 10.0.0.0/8 dev eth0 table 254",
        ),
        (ChangeLink(name="macvlan0", up=True), "ChangeLink macvlan0 True"),
    ],
)
def test_step_in_words(step: Step, text: str) -> None:
    """A step in a log line is short, and never the whole ruleset."""
    assert render_step(step) == text
    assert "192.168.12.99" in render_step(AddAddress(address=address("e", f"{SOURCE}/24")))
    assert "macvlan0" in render_step(Claim(link="macvlan0", addresses=()))
