"""The process that holds libnftables: one JSON request a line in, one JSON answer a line out.

`{"command": TEXT, "check": BOOL}` → `{"code": 0, "output": TEXT, "error": TEXT}`.
A process of its own, because a call into the library cannot be interrupted: whoever waits for the
answer can end this process instead. It starts while its parent still imports, so it costs no time.
"""

from __future__ import annotations

import ctypes
import json
import sys
from typing import Any


def main() -> int:
    """Serves requests until standard input ends."""
    try:
        import nftables  # noqa: PLC0415 (its absence is an answer, not a traceback)

        nft = nftables.Nftables()
    except (ImportError, OSError) as missing:
        _answer(code=-1, output="", error=f"libnftables is not usable: {missing}")
        return 1
    _answer(code=0, output="ready", error="")
    nft.set_stateless_output(True)
    # By name, each element of a listing would have nft look into /etc/protocols: twice the time.
    nft.set_numeric_proto_output(True)
    for line in sys.stdin:
        request = json.loads(line)
        _set_dry_run(nft, wanted=request["check"])
        code, output, error = nft.cmd(request["command"])
        _answer(code=code, output=output, error=error)
    return 0


def _set_dry_run(nft: Any, *, wanted: bool) -> None:
    if hasattr(nft, "set_dry_run"):
        nft.set_dry_run(wanted)
        return
    # Bindings before 1.0.7 hide the library and the context, but both are there.
    set_dry_run = ctypes.CDLL("libnftables.so.1").nft_ctx_set_dry_run
    set_dry_run.argtypes = [ctypes.c_void_p, ctypes.c_bool]
    set_dry_run(nft._Nftables__ctx, wanted)  # noqa: SLF001 (see above)


def _answer(**answer: object) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
