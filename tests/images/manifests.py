"""The manifests that are played: the documented ones, as they are in `deploy/`."""

from pathlib import Path

DEPLOY = Path(__file__).parent.parent.parent / "deploy"
EXAMPLES = DEPLOY / "examples"
ORIGINAL = EXAMPLES / "original"
