"""Steps that a diff asks for, told as what is wrong with the pod."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from egress_router.plan import diff
from egress_router.plan.state import RouteKind

if TYPE_CHECKING:
    from egress_router.plan.state import Desired, Observed, Route, Rule

LINK, ADDRESS, ROUTE, RULE, TABLE = KINDS = ("link", "address", "route", "rule", "table")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not as it should be; `repairable` by whoever has CAP_NET_ADMIN."""

    kind: str
    detail: str
    repairable: bool = True


_OTHER_TABLE = Finding(
    kind=TABLE,
    detail="the nftables table was loaded for another configuration than this daemon's",
)


def find_drift(observed: Observed, desired: Desired) -> tuple[Finding, ...]:
    """Everything that differs from the desired state, in the order of `KINDS`."""
    stated = map(_finding, diff.diff_state(observed, desired))
    found = [*_dark_links(observed, desired), *(finding for finding in stated if finding)]
    table = observed.table
    if table is not None and table.ours and table.intact:  # nobody touched it, so it is no drift
        found = [_OTHER_TABLE if one.kind == TABLE else one for one in found]
    return tuple(sorted(dict.fromkeys(found), key=lambda finding: KINDS.index(finding.kind)))


def render_route(route: Route) -> str:
    """A route in ip-route(8)'s words."""
    words = ["" if route.kind is RouteKind.UNICAST else f"{route.kind} "]
    words.append("default" if route.is_default else str(route.destination))
    words.append(f" via {route.gateway}" if route.gateway else "")
    words.append(f" dev {route.link}" if route.link else "")
    words.append(f" table {route.table}")
    return "".join(words)


def render_rule(rule: Rule) -> str:
    """A rule in ip-rule(8)'s words."""
    words = [f"priority {rule.priority}"]
    words += [f"from {rule.source}"] if rule.source else []
    words += [f"to {rule.destination}"] if rule.destination else []
    words += [f"dport {rule.destination_port}"] if rule.destination_port else []
    words += [f"fwmark {rule.mark:#x}"] if rule.mark else []
    return " ".join([*words, f"lookup {rule.table}"])


def render_step(step: diff.Step) -> str:
    """A step in a few words, such as `add route default via 192.168.12.1 dev macvlan0`."""
    match step:
        case diff.LoadTable(text=None):
            return "remove the nftables table"
        case diff.LoadTable():
            return "load the nftables table"
        case diff.CreateLink(link=link):
            return f"make macvlan {link.name} on {link.parent}, mode {link.mode}, MAC {link.mac}"
        case diff.DeleteLink(name=name):
            return f"delete link {name}"
        case diff.ChangeLink(name=name, up=up, mtu=mtu, mac=mac):
            words = [] if up is None else ["up" if up else "down"]
            words += [] if mtu is None else [f"mtu {mtu}"]
            words += [] if mac is None else [f"address {mac}"]
            return f"set link {name} {' '.join(words)}"
        case diff.Claim(link=name, addresses=addresses):
            return f"claim {', '.join(map(str, addresses))} on {name}"
        case diff.SetSetting(setting=setting):
            return f"set {setting.name}={setting.value} on {setting.link}"
        case diff.SetSysctl(sysctl=sysctl):
            return f"set {sysctl.path.replace('/', '.')}={sysctl.value}"
        case diff.AddAddress(address=address):
            return f"add address {address.interface} to {address.link}"
        case diff.DeleteAddress(address=address):
            return f"remove address {address.interface} from {address.link}"
        case diff.AddRoute(route=route):
            return f"add route {render_route(route)}"
        case diff.DeleteRoute(route=route):
            return f"remove route {render_route(route)}"
        case diff.AddRule(rule=rule):
            return f"add rule {render_rule(rule)}"
        case diff.DeleteRule(rule=rule):
            return f"remove rule {render_rule(rule)}"


def _dark_links(observed: Observed, desired: Desired) -> list[Finding]:
    """Links that are up but have nothing at the other end; only the outside can mend that."""
    found = []
    for name, role in ((desired.egress, "egress"), (desired.cluster, "cluster")):
        link = observed.link(name)
        if link is None:
            # Its absence is a step only where the link can be made again.
            if name == desired.cluster or desired.create is None:
                found.append(
                    Finding(kind=LINK, detail=f"{role} link {name} is gone", repairable=False)
                )
        elif link.up and not link.carrier:
            found.append(
                Finding(
                    kind=LINK,
                    detail=f"{role} link {name} has no carrier: its parent is down",
                    repairable=False,
                )
            )
        elif not link.up and role == "cluster":
            found.append(
                Finding(kind=LINK, detail=f"cluster link {name} is down", repairable=False)
            )
    return found


def _finding(step: diff.Step) -> Finding | None:
    match step:
        case diff.LoadTable():
            return Finding(kind=TABLE, detail="the nftables table is missing or was changed")
        case diff.CreateLink(link=new):
            return Finding(kind=LINK, detail=f"egress link {new.name} is gone")
        case diff.ChangeLink(name=name, up=True):
            return Finding(kind=LINK, detail=f"egress link {name} is down")
        case diff.ChangeLink(name=name):
            return Finding(kind=LINK, detail=f"egress link {name} was changed")
        case diff.SetSetting(setting=setting):
            return Finding(
                kind=LINK, detail=f"{setting.name} on {setting.link} is not {setting.value}"
            )
        case diff.SetSysctl(sysctl=sysctl):
            return Finding(kind=LINK, detail=f"{sysctl.path} is not {sysctl.value}")
        case diff.AddAddress(address=address):
            detail = f"source {address.interface} is not on {address.link}"
            return Finding(kind=ADDRESS, detail=detail)
        case diff.DeleteAddress(address=address):
            detail = f"address {address.interface} on {address.link} should not be there"
            return Finding(kind=ADDRESS, detail=detail)
        case diff.AddRoute(route=route):
            return Finding(kind=ROUTE, detail=f"missing: {render_route(route)}")
        case diff.DeleteRoute(route=route):
            return Finding(kind=ROUTE, detail=f"should not be there: {render_route(route)}")
        case diff.AddRule(rule=rule):
            return Finding(kind=RULE, detail=f"missing: {render_rule(rule)}")
        case diff.DeleteRule(rule=rule):
            return Finding(kind=RULE, detail=f"should not be there: {render_rule(rule)}")
        case _:
            return None
