"""Which link is the cluster's, which is the egress link, and what a new one is made of.

1. The cluster link is the one asked for; else that of the best default route which is not the
   egress link's; else, on a rerun, that of the default route in our own table; else the only other
   link there is, or `eth0` among several.
2. The egress link is the one asked for; else `macvlan0`; else `net1`; else one to be made.
3. A parent is the one asked for; else the link whose address shares the gateway's subnet; else, in
   a namespace of its own, the link of the default route there. In the pod's own namespace that
   would be the cluster link, and an address claimed there could never work.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from egress_router.config import variables
from egress_router.config.init import MacvlanMode
from egress_router.errors import ConfigurationError, KernelError, Problem
from egress_router.plan.state import CLUSTER_TABLE, LINK_GROUP, MAIN_TABLE, NewLink

if TYPE_CHECKING:
    from egress_router.config.identity import Identity
    from egress_router.config.init import InitConfig, LinkConfig
    from egress_router.config.variables import Variable
    from egress_router.plan.state import Link, Observed

NEW_LINK_NAME = "macvlan0"
HANDED_LINK_NAMES = ("macvlan0", "net1")  # the SDN annotation's name, then Multus' first
_STEP = "find the links"


def decide_egress_name(config: LinkConfig, observed: Observed) -> str:
    """The egress link's name, whether it is there already or not (rule 2)."""
    if config.egress is not None:
        return config.egress
    for name in HANDED_LINK_NAMES:
        if observed.link(name) is not None:
            return name
    return NEW_LINK_NAME


def decide_cluster_link(config: LinkConfig, egress: str, observed: Observed) -> Link:
    """The cluster link (rule 1); KernelError if there is none, or no telling which it is."""
    if config.cluster is not None:
        if (link := observed.link(config.cluster)) is None:
            raise _invalid(
                variables.CLUSTER_INTERFACE,
                f"'{config.cluster}' is no link of this pod: expected one of {_names(observed)}",
            )
        return link
    for table in (MAIN_TABLE, CLUSTER_TABLE):
        defaults = sorted(
            (route.version, route.metric, route.link)
            for route in observed.routes
            if route.table == table and route.is_default and route.link not in {None, egress, "lo"}
        )
        if defaults and (link := observed.link(defaults[0][2])) is not None:
            return link
    others = [link for link in observed.links if link.name not in {egress, "lo"}]
    usual = [link for link in others if link.name == "eth0"] or others
    if len(usual) == 1:
        return usual[0]
    if not others:
        raise KernelError(_STEP, "there is no cluster link", remedy="the pod needs a network")
    raise KernelError(
        _STEP,
        f"no default route tells which of {_names(observed)} is the cluster link",
        remedy=f"set {variables.CLUSTER_INTERFACE.name}",
    )


def decide_new_link(config: InitConfig, name: str, parents: Observed, cluster: str) -> NewLink:
    """The macvlan to be made (rule 3). `parents`: the namespace that holds the parent NIC."""
    asked = config.link
    own_namespace = asked.parent_netns is None
    if asked.parent is not None:
        parent = parents.link(asked.parent)
        if parent is None:
            raise _invalid(
                variables.PARENT,
                f"'{asked.parent}' is no link there: expected one of {_names(parents)}",
            )
    else:
        parent = _parent_by_subnet(
            config.identity, parents, exclude=cluster if own_namespace else None
        )
        if parent is None and not own_namespace:
            parent = _parent_by_default_route(parents)
    if parent is None:
        raise KernelError(
            _STEP,
            f"there is no egress link: neither {' nor '.join(HANDED_LINK_NAMES)} exists, and no "
            "parent to make one on was found",
            remedy=(
                'annotate the pod (pod.network.openshift.io/assign-macvlan: "true"), attach a '
                f"network with Multus, or set {variables.PARENT.name} and "
                f"{variables.PARENT_NETNS.name}"
            ),
        )
    if not parent.up:
        raise KernelError(_STEP, f"the parent link {parent.name} is down", remedy="bring it up")
    if asked.mtu is not None and asked.mtu > parent.mtu:
        raise _invalid(
            variables.MTU,
            f"'{asked.mtu}' is more than the parent {parent.name} carries: expected at most "
            f"{parent.mtu}",
        )
    return NewLink(
        name=name,
        parent=parent.name,
        netns=asked.parent_netns,
        mode=asked.mode or MacvlanMode.PRIVATE,
        mtu=asked.mtu or parent.mtu,
        mac=asked.mac or derive_mac(config.identity),
    )


def derive_mac(identity: Identity) -> str:
    """A locally administered MAC that only the source decides, so that it outlives every pod.

    `02:e6` and the four bytes of an IPv4 source; for IPv6 alone, `02:e7` and four hashed ones.
    """
    source = identity.sources[0].address
    if source.version == 4:
        tail, prefix = source.packed, b"\x02\xe6"
    else:
        tail, prefix = hashlib.sha256(source.packed).digest()[:4], b"\x02\xe7"
    return ":".join(f"{byte:02x}" for byte in prefix + tail)


def differences(link: Link, config: LinkConfig, parents: Observed | None) -> tuple[str, ...]:
    """How an existing egress link differs from what was asked, in words; empty if it fits.

    `parents` None: the parent's namespace cannot be seen, and so its name cannot be compared.
    """
    found = []
    if link.kind == "bridge" or link.name == "lo":
        found.append(f"it is a {link.kind or 'loopback'} link, which cannot be an egress link")
    if config.mode is not None:
        if link.kind != "macvlan":
            found.append(
                f"kind is {link.kind or 'none'}, {variables.MACVLAN_MODE.name} asks macvlan"
            )
        elif link.macvlan_mode != config.mode:
            found.append(
                f"macvlan mode is {link.macvlan_mode}, {variables.MACVLAN_MODE.name} asks "
                f"{config.mode}"
            )
    if config.parent is not None and parents is not None:
        parent = next((p.name for p in parents.links if p.index == link.parent_index), None)
        if parent != config.parent:
            found.append(
                f"parent is {parent or 'unknown'}, {variables.PARENT.name} asks {config.parent}"
            )
    return tuple(found)


def is_own(link: Link) -> bool:
    """Whether an earlier run made this link, so that this one may unmake it."""
    return link.group == LINK_GROUP


def _parent_by_subnet(identity: Identity, parents: Observed, exclude: str | None) -> Link | None:
    for gateway in identity.gateways:
        for address in parents.addresses:
            network = address.interface.network
            if (
                address.link not in {"lo", exclude}
                and network.version == gateway.version
                and network.prefixlen < network.max_prefixlen
                and gateway in network
            ):
                return parents.link(address.link)
    return None


def _parent_by_default_route(parents: Observed) -> Link | None:
    defaults = sorted(
        (route.version, route.metric, route.link)
        for route in parents.routes
        if route.table == MAIN_TABLE and route.is_default and route.link is not None
    )
    return parents.link(defaults[0][2]) if defaults else None


def _names(observed: Observed) -> str:
    return ", ".join(link.name for link in observed.links if link.name != "lo") or "none"


def _invalid(variable: Variable, message: str) -> ConfigurationError:
    return ConfigurationError((Problem(variable=variable.name, message=message),))
