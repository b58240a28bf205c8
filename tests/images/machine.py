"""What can be asked of this machine at the moment."""

import os
from pathlib import Path


def allowed(seconds: float) -> float:
    """A time that holds on an idle machine, as long as it takes here.

    A container has a control group of its own, which counts as much as any one process beside it;
    and what is started in it meanwhile, such as probes, shares that.
    """
    runnable = int(Path("/proc/loadavg").read_text(encoding="ascii").split()[3].partition("/")[0])
    return seconds * max(1.0, os.getloadavg()[0], runnable)
