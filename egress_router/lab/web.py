"""The partner's web server: HTTP and HTTPS, each answer tells which address the caller came from.

Stands alone (standard library only), as `partner` does:
`python -I -S web.py --http 80 --https 443 --certificate FILE --key FILE`.

1. Every answer is one JSON line; a POST is answered with the length and SHA-256 of its body.
2. `ready` on standard output means that every port is bound, in both families.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import socket
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TIMEOUT_S = 30


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    timeout = TIMEOUT_S

    def do_GET(self) -> None:
        """Tells who was seen."""
        self._tell({})

    def do_POST(self) -> None:
        """Tells what came."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._tell({"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()})

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Says nothing: what a caller wants to know is in the answer."""

    def _tell(self, more: dict[str, object]) -> None:
        secure = isinstance(self.connection, ssl.SSLSocket)
        seen = {
            "source": self.client_address[0],
            "host": self.headers.get("Host"),
            "path": self.path,
            "tls": secure,
            "forwarded_for": self.headers.get("X-Forwarded-For"),
            **more,
        }
        line = json.dumps(seen).encode() + b"\n"
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(line)))
        self.end_headers()
        self.wfile.write(line)


class Server(ThreadingHTTPServer):
    """On every address of a family; TLS is shaken hands in the connection's own thread."""

    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, family: socket.AddressFamily, port: int) -> None:
        self.address_family = family
        super().__init__(("::" if family == socket.AF_INET6 else "0.0.0.0", port), Handler)

    def server_bind(self) -> None:
        """Binds one family alone, and asks no resolver for its own name."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = "partner", self.server_address[1]


def main() -> None:
    """Serves until ended."""
    parser = argparse.ArgumentParser(description="tells callers which address they came from")
    parser.add_argument("--http", type=int, default=80)
    parser.add_argument("--https", type=int)
    parser.add_argument("--certificate")
    parser.add_argument("--key")
    options = parser.parse_args()
    servers = []
    for family in (socket.AF_INET, socket.AF_INET6):
        servers.append(Server(family, options.http))
        if options.https:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(options.certificate, options.key)
            server = Server(family, options.https)
            server.socket = context.wrap_socket(
                server.socket, server_side=True, do_handshake_on_connect=False
            )
            servers.append(server)
    threads = [threading.Thread(target=server.serve_forever) for server in servers]
    for thread in threads:
        thread.start()
    print("ready", flush=True)
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
