"""What can be asked of this machine at the moment."""

import os
from pathlib import Path


def allowed(seconds: float) -> float:
    """A time that holds on an idle machine, as long as it is here: others share its processors."""
    runnable = int(Path("/proc/loadavg").read_text(encoding="ascii").split()[3].partition("/")[0])
    load = max(os.getloadavg()[0], runnable)
    return seconds * max(1.0, load / (os.cpu_count() or 1))
