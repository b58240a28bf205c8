"""Reads single settings from the environment: text in, typed value out, problems collected.

An empty value counts as unset, as it did for the originals' shell.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from egress_router.config.text import Problems, parse_decimal, parse_port, quote

if TYPE_CHECKING:
    from collections.abc import Mapping

    from egress_router.config.variables import Variable

# What Kubernetes tells of a Service `egress-http-proxy` by the name EGRESS_HTTP_PROXY_PORT, unless
# the pod has `enableServiceLinks: false`: not what the operator said.
_SERVICE_LINK = re.compile(r"(tcp|udp|sctp)://[0-9a-f.:\[\]]+:[0-9]{1,5}\Z")
_SECONDS = re.compile(r"(?:0|[1-9][0-9]{0,8})(?:\.[0-9]{1,6})?\Z")
# A subset of what dev_valid_name() of the kernel takes: plain ASCII, and nothing that ends a string
# in nft (`"`, `\`), matches other links there (`*`) or marks a zone (`%`).
_LINK = re.compile(r"[!-~]{1,15}\Z")
_NOT_IN_LINK = frozenset('"%*/:\\')
_BLANKS = " \t\r\n"  # not what else Unicode calls a space: that is part of the word, and refused
_MAC = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\Z")
_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """The environment, and what the files that variables point to held when it was read.

    `files` maps a path to its text, `unreadable` a path to the reason why it has none. `hostname`
    is the pod's name, of which `EGRESS_SOURCE_POOL` takes the ordinal.
    """

    variables: Mapping[str, str]
    files: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    unreadable: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    hostname: str = ""

    def get(self, variable: Variable) -> str | None:
        """The value or the default, stripped; None if neither is there or the value is empty."""
        text = self.variables.get(variable.name, "").strip(_BLANKS)
        return text or variable.default

    def is_set(self, variable: Variable) -> bool:
        """Whether the variable has a non-empty value of its own."""
        return bool(self.variables.get(variable.name, "").strip(_BLANKS))

    def text(self, variable: Variable, file_variable: Variable, problems: Problems) -> str | None:
        """A list variable's text, given directly or by the file that `file_variable` names."""
        path = self.get(file_variable)
        if path is None:
            return self.variables.get(variable.name)
        if self.is_set(variable):
            problems.add(f"both {variable.name} and {file_variable.name} are set; expected one")
            return None
        if path in self.unreadable:
            problems.add(
                f"{file_variable.name} {quote(path)} cannot be read: {self.unreadable[path]}"
            )
            return None
        return self.files.get(path)


def read_seconds(
    environment: Environment, variable: Variable, problems: Problems, *, low: float, high: float
) -> float:
    """Seconds within a range, such as `0.6`; the default where the text is wrong (and reported)."""
    text = environment.get(variable) or ""
    if _SECONDS.match(text) and low <= float(text) <= high:
        return float(text)
    problems.add(f"{quote(text)} is invalid: expected seconds from {low:g} to {high:g}")
    return float(variable.default or low)


def read_count(
    environment: Environment, variable: Variable, problems: Problems, *, low: int, high: int
) -> int | None:
    """A whole number within a range; None if unset without a default, or wrong (and reported)."""
    text = environment.get(variable)
    if text is None:
        return None
    number = parse_decimal(text)
    if number is not None and low <= number <= high:
        return number
    problems.add(f"{quote(text)} is invalid: expected a whole number from {low} to {high}")
    return None


def read_port(environment: Environment, variable: Variable, problems: Problems) -> int | None:
    """A port, or None if unset or wrong (and reported)."""
    text = environment.get(variable)
    if text is not None and _SERVICE_LINK.match(text):
        text = variable.default
    if text is None:
        return None
    if (port := parse_port(text)) is None:
        problems.add(f"{quote(text)} is invalid: expected a port from 1 to 65535")
    return port


def read_choice(
    environment: Environment, variable: Variable, problems: Problems, choices: tuple[str, ...]
) -> str | None:
    """One of some words; None if unset without a default, or wrong (and reported)."""
    text = environment.get(variable)
    if text is None or text in choices:
        return text
    problems.add(f"{quote(text)} is invalid: expected one of {', '.join(choices)}")
    return None


def read_link_name(environment: Environment, variable: Variable, problems: Problems) -> str | None:
    """A link name as the kernel accepts it, or None if unset or wrong (and reported)."""
    text = environment.get(variable)
    if text is None:
        return None
    if _LINK.match(text) and text not in {".", ".."} and _NOT_IN_LINK.isdisjoint(text):
        return text
    problems.add(f"{quote(text)} is invalid: expected a link name of 1 to 15 characters")
    return None


def read_mac(environment: Environment, variable: Variable, problems: Problems) -> str | None:
    """A unicast MAC address in lower case, or None if unset or wrong (and reported)."""
    text = environment.get(variable)
    if text is None:
        return None
    mac = text.lower().replace("-", ":")
    if _MAC.match(mac) and not int(mac[:2], 16) & 1 and mac != "00:00:00:00:00:00":
        return mac
    problems.add(
        f"{quote(text)} is invalid: expected a unicast MAC address such as 02:e6:c0:a8:0c:63"
    )
    return None
