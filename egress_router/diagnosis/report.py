"""Findings as text for a person and as a document for a program."""

from __future__ import annotations

from collections import Counter
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from egress_router.diagnosis.findings import Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from egress_router.diagnosis.facts import Place
    from egress_router.diagnosis.findings import Finding

WIDTH = 100  # of the explanations; lines that name a thing are never broken
_SHOWN = {Status.FAIL: "FAIL", Status.WARN: "WARN"}  # the others are as calm as their words
_STATUS_WIDTH = max(len(status) for status in Status)
_INDENT = " " * (_STATUS_WIDTH + 2)


def render_report(place: Place, findings: Sequence[Finding], took_s: float) -> str:
    """The whole text, newline at its end."""
    width = max(len(finding.check) for finding in findings)
    lines = [_head(place), ""]
    for finding in findings:
        status = _SHOWN.get(finding.status, finding.status.value)
        summary = _printable(finding.summary)
        lines.append(f"{status:<{_STATUS_WIDTH}}  {finding.check:<{width}}  {summary}")
        for advice in finding.advice:
            lines += _paragraph("cause", advice.cause) + _paragraph("do", advice.remedy)
    counts = Counter(finding.status for finding in findings)
    told = ", ".join(f"{counts[status]} {status.value}" for status in Status if counts[status])
    return "\n".join([*lines, "", f"{told}; {took_s:.1f} s"]) + "\n"


def render_document(place: Place, findings: Sequence[Finding], took_s: float) -> dict[str, Any]:
    """The same as an object."""
    return {
        "ok": is_sound(findings),
        "link": place.link,
        "source": [str(source) for source in place.sources],
        "gateway": [str(gateway) for gateway in place.gateways],
        "seconds": round(took_s, 2),
        "checks": [
            {
                "check": finding.check,
                "status": finding.status.value,
                "summary": finding.summary,
                "advice": [{"cause": one.cause, "remedy": one.remedy} for one in finding.advice],
            }
            for finding in findings
        ],
    }


def is_sound(findings: Sequence[Finding]) -> bool:
    """Whether nothing failed; warnings and what could not be tested do not count."""
    return all(finding.status is not Status.FAIL for finding in findings)


def _head(place: Place) -> str:
    source = ", ".join(map(str, place.sources)) or "no source"
    gateway = ", ".join(map(str, place.gateways)) or "no gateway"
    return f"{source} by {place.link} via {gateway}"


def _paragraph(label: str, text: str) -> list[str]:
    first = f"{_INDENT}{label:<7}"
    return wrap(
        _printable(text),
        WIDTH,
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)
