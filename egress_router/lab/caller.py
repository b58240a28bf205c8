"""Calls a port at a steady rate and says how each call went.

Stands alone, as `probe` does. `python -I -S caller.py HOST PORT RATE SECONDS [TARGET]` prints one
object, `{"calls", "errors", "servers", "latencies"}`; a call is connect and the partner's line, by
CONNECT where a target is named, `www.example.test:80`. Calls start on time, whatever the earlier
ones do. SIGTERM ends the calling before its time; what has begun is waited for.
"""

import asyncio
import errno
import json
import signal
import sys
import time
from typing import Any

CALL_S = 5.0


async def call(host: str, port: int, target: str, outcome: dict[str, Any]) -> None:
    """Makes one call and notes how it went."""
    started, status = time.monotonic(), "200"
    try:
        async with asyncio.timeout(CALL_S):
            reader, writer = await asyncio.open_connection(host, port)
            if target:
                writer.write(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
                head = await reader.readuntil(b"\r\n\r\n")
                status = head.split()[1].decode()
            line = await reader.readline() if status == "200" else b""
            writer.transport.abort()  # no TIME_WAIT
        if status != "200":
            outcome["errors"].append(status)
            return
        if not line:
            raise BrokenPipeError(errno.EPIPE, "no line")
        server = json.loads(line)["local"]
        outcome["servers"][server] = outcome["servers"].get(server, 0) + 1
        outcome["latencies"].append(time.monotonic() - started)
    except TimeoutError:
        outcome["errors"].append("ETIMEDOUT")
    except EOFError:
        outcome["errors"].append("EOF")
    except OSError as error:
        outcome["errors"].append(errno.errorcode.get(error.errno or 0, str(error)))


async def main() -> None:
    """Starts the calls and prints what came of them."""
    host, port, rate, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
    target = sys.argv[5] if len(sys.argv) > 5 else ""
    outcome: dict[str, Any] = {"errors": [], "servers": {}, "latencies": []}
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    calls, started = 0, time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(int(rate * float(seconds))):
            await asyncio.sleep(max(0.0, started + number / rate - time.monotonic()))
            if stopped.is_set():
                break
            calls += 1
            group.create_task(call(host, port, target, outcome))
    sys.stdout.write(json.dumps({"calls": calls, **outcome}))


if __name__ == "__main__":
    asyncio.run(main())
