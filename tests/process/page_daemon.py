"""The real admin endpoint with facts from a file: `python page_daemon.py FILE` prints its address.

The file holds the document of /status, read afresh for each answer. With `"grow": true` in it, each
answer tells of more requests and traffic than the one before.
"""

from __future__ import annotations

import asyncio
import json
import sys
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from egress_router.service import metrics
from egress_router.service.admin import AdminEndpoint, open_port
from egress_router.service.health import Readiness
from egress_router.service.metric_registry import Metrics

requests = 0


def tell(path: Path) -> dict[str, Any]:
    """The document."""
    global requests  # noqa: PLW0603 - this module is the whole program
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if document.pop("grow", False):
        requests += 1000
        document["traffic"] = {"rx_bytes": requests * 10**6, "tx_bytes": 0}
    return document


async def serve(path: Path) -> None:
    """Answers until it is ended."""
    registry = Metrics()
    registry.provide(metrics.HTTP_REQUESTS, lambda: {("request", "allowed"): requests})
    endpoint = AdminEndpoint(
        readiness=Readiness("http"),
        status=partial(tell, path),
        metrics=registry,
        read=partial(asyncio.sleep, 0),
    )
    listener = open_port(ip_address("127.0.0.1"), 0)
    sys.stdout.write(f"http://127.0.0.1:{listener.getsockname()[1]}/\n")
    sys.stdout.flush()
    endpoint.add([listener])
    await endpoint.serve()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
