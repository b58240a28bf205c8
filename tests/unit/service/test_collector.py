"""The garbage collector as a daemon has it; in a process of its own, for the setting is one."""

from __future__ import annotations

import subprocess
import sys

CIRCLES = """
import gc
from egress_router.service.collector import YOUNG, spare_collector
spare_collector()
class Circle:
    alive = most = 0
    def __init__(self):
        self.me = self
        Circle.alive += 1
        Circle.most = max(Circle.most, Circle.alive)
    def __del__(self):
        Circle.alive -= 1
for _ in range(3 * YOUNG):
    Circle()
print(gc.get_freeze_count() > 1000, 1000 < Circle.most <= 2 * YOUNG)
"""


def test_circles_are_still_found() -> None:
    """What was there at the start is left alone; later garbage goes, if not at once."""
    done = subprocess.run(
        (sys.executable, "-c", CIRCLES), capture_output=True, text=True, check=False
    )
    assert done.stdout == "True True\n", done.stderr
