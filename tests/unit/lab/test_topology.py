"""A world as data: complete for every spec, and in an order that can be built."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_router.lab.spec import HOSTS, Cni, Egress, Family, LabSpec
from egress_router.lab.topology import desired_sysctls, desired_world

NAMES = {host: f"egr-1-1-{host}" for host in HOSTS}
SPECS = st.builds(
    LabSpec,
    cni=st.sampled_from(Cni),
    family=st.sampled_from(Family),
    egress=st.sampled_from(Egress),
    strict_rp_filter=st.booleans(),
    multus_default_metric=st.none() | st.integers(1, 1000),
)


@given(spec=SPECS)
def test_links_are_made_before_they_are_used(spec: LabSpec) -> None:
    """Every `dev LINK` names a link that an earlier line made, or put into that namespace."""
    present = {(name, "lo") for name in NAMES.values()}
    for batch in desired_world(spec, NAMES).batches:
        here = NAMES[batch.host]
        for line in batch.lines:
            words = line.split()
            if words[:2] == ["link", "add"]:
                present.add((here, words[2]))
                if "peer" in words:
                    place = words[words.index("netns") + 1]
                    present.add((place, words[words.index("name") + 1]))
            elif words[:2] == ["link", "set"]:
                assert (here, words[2]) in present, line
                if "netns" in words:
                    present.remove((here, words[2]))
                    present.add((words[-1], words[2]))
            else:
                assert (here, words[words.index("dev") + 1]) in present, line


@given(spec=SPECS)
def test_a_family_stays_alone(spec: LabSpec) -> None:
    """A world of one family configures no address or route of the other, but link-local ones."""
    lines = [line for batch in desired_world(spec, NAMES).batches for line in batch.lines]
    routed = [
        line for line in lines if line.startswith(("addr ", "route ")) and "fe80:" not in line
    ]
    if spec.family is Family.V4:
        assert not [line for line in routed if ":" in line]
    if spec.family is Family.V6:
        assert not [line for line in routed if "." in line]


@pytest.mark.parametrize("host", HOSTS)
def test_only_routers_forward(host: str) -> None:
    """Node and gateway forward; the pod does not until init says so."""
    wanted = "1" if host in {"node", "gw"} else "0"
    assert dict(desired_sysctls(LabSpec(), host))["net.ipv4.ip_forward"] == wanted


def test_pod_sysctls_come_last() -> None:
    """What a spec sets in the pod wins over what the lab sets everywhere."""
    spec = LabSpec(pod_sysctls=(("net.ipv6.conf.all.forwarding", "1"),))
    assert dict(desired_sysctls(spec, "pod"))["net.ipv6.conf.all.forwarding"] == "1"
    assert dict(desired_sysctls(spec, "client"))["net.ipv6.conf.all.forwarding"] == "0"
