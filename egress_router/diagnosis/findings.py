"""The verdicts of `egress-router doctor`, as values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """How one check ended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    UNTESTED = "not tested"


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """One usual cause of a finding, and what to do about it; sentences without a period."""

    cause: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One check of one thing: `summary` is a line, `advice` the likelier causes first."""

    check: str
    status: Status
    summary: str
    advice: tuple[Advice, ...] = ()


def ok(check: str, summary: str) -> Finding:
    """It holds."""
    return Finding(check=check, status=Status.OK, summary=summary)


def warn(check: str, summary: str, *advice: Advice) -> Finding:
    """It works, but is not as it should be."""
    return Finding(check=check, status=Status.WARN, summary=summary, advice=advice)


def fail(check: str, summary: str, *advice: Advice) -> Finding:
    """It does not work."""
    return Finding(check=check, status=Status.FAIL, summary=summary, advice=advice)


def untested(check: str, why: str) -> Finding:
    """It could not be tested here."""
    return Finding(check=check, status=Status.UNTESTED, summary=why)
