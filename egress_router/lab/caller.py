"""Calls a port at a steady rate and says how each call went.

Stands alone, as `probe` does. `python -I -S caller.py HOST PORT RATE SECONDS` prints one object,
`{"calls", "errors", "servers", "latencies"}`; a call is connect and the partner's line. Calls start
on time, whatever the earlier ones do.
"""

import asyncio
import errno
import json
import sys
import time
from typing import Any

CALL_S = 5.0


async def call(host: str, port: int, outcome: dict[str, Any]) -> None:
    """Makes one call and notes how it went."""
    started = time.monotonic()
    try:
        async with asyncio.timeout(CALL_S):
            reader, writer = await asyncio.open_connection(host, port)
            line = await reader.readline()
            writer.transport.abort()  # no TIME_WAIT
        if not line:
            raise BrokenPipeError(errno.EPIPE, "no line")
        server = json.loads(line)["local"]
        outcome["servers"][server] = outcome["servers"].get(server, 0) + 1
        outcome["latencies"].append(time.monotonic() - started)
    except TimeoutError:
        outcome["errors"].append("ETIMEDOUT")
    except OSError as error:
        outcome["errors"].append(errno.errorcode.get(error.errno or 0, str(error)))


async def main() -> None:
    """Starts the calls and prints what came of them."""
    host, port, rate, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
    outcome: dict[str, Any] = {"errors": [], "servers": {}, "latencies": []}
    calls = int(rate * float(seconds))
    started = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(calls):
            await asyncio.sleep(max(0.0, started + number / rate - time.monotonic()))
            group.create_task(call(host, port, outcome))
    sys.stdout.write(json.dumps({"calls": calls, **outcome}))


if __name__ == "__main__":
    asyncio.run(main())
