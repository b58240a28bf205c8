"""Decides a request: target, then the addresses its name resolved to, against the list.

1. The first line that matches decides the whole request. Only lines whose ports hold the target's
   port take part. Where no line matches, the request is denied.
2. A HOST or *.DOMAIN line matches by the name as it was asked for, and never an address literal:
   an address is not looked up backwards. `*` matches everything.
3. An address or network line matches if it holds at least one address of the answer; for an
   address literal, that address. An address that carries an IPv4 address (NAT64, 6to4, Teredo)
   is held by the lines that hold either.
4. Before all lines, addresses that the guard refuses leave the answer, as if it had not held
   them. If none is left, the request is denied with the guard's reason.
5. An openable address (link-local, metadata) that leaves the answer still exists for lines that
   name it literally, that is for addresses and networks within its refused range: such a line
   can match it, deny the request for it, or let it be dialled. For every other line, names and
   `*` among them, it does not exist.
6. If the deciding line denies, the whole request is denied, whatever else the answer holds.
7. If the deciding line allows by address, only the addresses it holds may be dialled. If it
   allows by name or is `*`, all that are left may, in the order of the answer.
8. A denial that stands before every address line for this port, and one of `localhost`
   (RFC 6761 §6.3), is the same for every answer, so it is given without a lookup. Everything
   else needs the addresses: an allowed name because it must be dialled, the rest by rule 3.
9. A lookup that fails is no decision: whoever looked up answers 502 or 504. A name without any
   address is 502 here.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import compress
from typing import TYPE_CHECKING, Final

from egress_router.config.http_destination import Kind
from egress_router.config.http_rules import Action, HttpRule, HttpRules
from egress_router.policy.guard import Guard, GuardRefusal, build_guard
from egress_router.policy.index import RuleIndex, build_index
from egress_router.policy.portline import NO_LINE
from egress_router.policy.target import Name, Target

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from egress_router.policy.prefixes import IPAddress

STATUS_ALLOWED: Final = 200
STATUS_DENIED: Final = 403
STATUS_NO_ADDRESS: Final = 502

_BY_ADDRESS: Final = (Kind.ADDRESS, Kind.NETWORK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What becomes of a request.

    `rule` is the deciding line, None where no line decided. `addresses` may be dialled, no others;
    empty unless allowed.
    """

    verdict: Action
    reason: str
    status: int
    rule: HttpRule | None = None
    addresses: tuple[IPAddress, ...] = ()

    @property
    def allowed(self) -> bool:
        """Whether the request may go on."""
        return self.verdict is Action.ALLOW


@dataclass(frozen=True, slots=True, kw_only=True)
class NeedsAddresses:
    """The name has to be resolved, once, before the request can be decided or dialled."""

    name: Name


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A compiled list and the guard in front of it; a value, replaced as a whole on reload."""

    rules: tuple[HttpRule, ...]
    index: RuleIndex
    guard: Guard

    def decide_name(self, target: Target) -> Decision | NeedsAddresses:
        """The decision, where no lookup can change it; always one for an address literal."""
        if not isinstance(target.host, Name):
            return self.decide_addresses(target, (target.host,))
        return self._settled(target, target.host) or NeedsAddresses(name=target.host)

    def decide_addresses(self, target: Target, addresses: Sequence[IPAddress]) -> Decision:
        """The decision on a target whose name resolved to these addresses.

        For a name that `decide_name` already decided, the same decision. For an address literal
        `addresses` is not looked at.
        """
        if isinstance(target.host, Name):
            settled = self._settled(target, target.host)
            if settled is not None:
                return settled
            if not addresses:
                reason = f"{target.host} has no address"
                return Decision(verdict=Action.DENY, reason=reason, status=STATUS_NO_ADDRESS)
        else:
            addresses = (target.host,)
        return self._decide(target, addresses)

    def hidden_denial(
        self, decision: Decision, port: int, families: Collection[int]
    ) -> HttpRule | None:
        """The first line that might deny instead, were the addresses of these families known.

        They were asked for and could not be looked up. Walks the list: that is rare.
        """
        for rule in self.rules:
            if rule is decision.rule:
                break
            if rule.action is Action.ALLOW or isinstance(rule.value, str):
                continue
            # An IPv6 address may carry an IPv4 one, which counts as if it stood there itself.
            if rule.value.version not in families and 6 not in families:
                continue
            if rule.ports is None or rule.ports[0] <= port <= rule.ports[1]:
                return rule
        return None

    def _settled(self, target: Target, name: Name) -> Decision | None:
        """Rule 8: the denial that no answer can change."""
        if name.text == "localhost" or name.text.endswith(".localhost"):
            reason = f"{name} means this pod itself (RFC 6761 §6.3)"
            return Decision(verdict=Action.DENY, reason=reason, status=STATUS_DENIED)
        line = self.index.first_for_name(name.text, target.port)
        if line > self.index.first_network(target.port):
            return None
        if line != NO_LINE and self.rules[line].action is Action.ALLOW:
            return None
        return self._deny(target, line, name)

    def _decide(self, target: Target, addresses: Sequence[IPAddress]) -> Decision:
        """Rules 1 to 7."""
        port, host = target.port, target.host
        lines: list[int] = []  # per address, the first address line that holds it
        usable: list[bool] = []
        refusal: GuardRefusal | None = None
        for address in addresses:
            refused = self.guard.refusal(address)
            usable.append(refused is None)
            lines.append(self._first_for(address, port, refused))
            refusal = refusal or refused
        by_address = min(lines, default=NO_LINE)
        if refusal and by_address == NO_LINE and not any(usable):
            return _refused(refusal)
        by_name = self.index.first_for_name(host.text if isinstance(host, Name) else None, port)
        line = min(by_name, by_address)
        if line == NO_LINE or self.rules[line].action is Action.DENY:
            culprit = addresses[lines.index(line)] if line == by_address != NO_LINE else host
            return self._deny(target, line, culprit)
        chosen = usable if line == by_name else [found == line for found in lines]
        left = tuple(compress(addresses, chosen))
        if refusal and not left:
            return _refused(refusal)
        rule = self.rules[line]
        return Decision(
            verdict=Action.ALLOW,
            reason=f"line {rule.line} '{rule.text}' allows {_matched(rule, target, left)}",
            status=STATUS_ALLOWED,
            rule=rule,
            addresses=left,
        )

    def _first_for(self, address: IPAddress, port: int, refused: GuardRefusal | None) -> int:
        """The first address line that may see an address (rules 3 to 5)."""
        if refused is None:
            return self.index.first_for_address(address, port)
        if refused.openable_from is None:
            return NO_LINE
        return self.index.first_for_address(address, port, shortest=refused.openable_from)

    def _deny(self, target: Target, line: int, culprit: Name | IPAddress) -> Decision:
        """The denial by a line, or by there being none."""
        if line == NO_LINE:
            reason = f"no line matches {target.authority}"
            return Decision(verdict=Action.DENY, reason=reason, status=STATUS_DENIED)
        rule = self.rules[line]
        reason = f"line {rule.line} '{rule.text}' denies {_matched(rule, target, (culprit,))}"
        return Decision(verdict=Action.DENY, reason=reason, status=STATUS_DENIED, rule=rule)


def compile_rules(rules: HttpRules, own: Iterable[IPAddress] = ()) -> Policy:
    """The policy of a list; `own` are the router's addresses on every link, never to be reached."""
    return Policy(rules=rules.rules, index=build_index(rules.rules), guard=build_guard(own))


def _refused(refusal: GuardRefusal) -> Decision:
    return Decision(verdict=Action.DENY, reason=refusal.words, status=STATUS_DENIED)


def _matched(rule: HttpRule, target: Target, hosts: Sequence[Name | IPAddress]) -> str:
    """What of a request a line matched, in words: its name, or the address that it holds."""
    if rule.kind not in _BY_ADDRESS or not isinstance(target.host, Name):
        return target.authority
    return f"{', '.join(map(str, hosts))}, which {target.host} resolves to"
