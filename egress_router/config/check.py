"""What a check of an environment ends with: a document for programs and a text for people."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from egress_router.config.settings import Environment


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """One program's part of `check`: what `--json` prints, and the same in words.

    The text tells the warnings too; the document does not hold them.
    """

    document: dict[str, Any]
    text: str
    warnings: tuple[str, ...] = ()


Check: TypeAlias = Callable[[Environment], Checked]  # pure; raises ConfigurationError
