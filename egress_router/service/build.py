"""Which form of the package this is: a report of a fault should tell."""

from __future__ import annotations

from egress_router.service import histogram

# The smallest of the modules that pyproject.toml names; all of them are compiled, or none is.
COMPILED = not histogram.__file__.endswith(".py")
