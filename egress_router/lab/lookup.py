"""Asks every nameserver of `/etc/resolv.conf` for a name, from sockets bound to nothing.

`python -m egress_router.lab.lookup NAME [TYPE]` prints one JSON line for each server:
`{"server": "172.30.0.10", "rcode": "NOERROR", "answers": ["203.0.113.10"]}`, or an `error`.
Unlike libc it asks no cache or daemon of the machine that the lab runs on.
"""

from __future__ import annotations

import argparse
import errno
import json
import socket
from pathlib import Path

from dnslib import RCODE, DNSRecord

DNS_PORT = 53
ANSWER_BYTES = 65535
TIMEOUT_S = 0.5  # the lab answers in a millisecond


def parse_nameservers(text: str) -> tuple[str, ...]:
    """The `nameserver` lines of a resolv.conf."""
    rows = (line.split() for line in text.splitlines())
    return tuple(row[1] for row in rows if len(row) > 1 and row[0] == "nameserver")


def ask(server: str, name: str, kind: str) -> dict[str, object]:
    """Asks one server once, over UDP."""
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.settimeout(TIMEOUT_S)
            sock.connect((server, DNS_PORT))
            sock.send(DNSRecord.question(name, kind).pack())
            reply = DNSRecord.parse(sock.recv(ANSWER_BYTES))
    except TimeoutError:
        return {"server": server, "error": "ETIMEDOUT"}
    except OSError as error:
        return {"server": server, "error": errno.errorcode.get(error.errno or 0, str(error))}
    answers = [str(record.rdata) for record in reply.rr]
    return {"server": server, "rcode": RCODE.get(reply.header.rcode), "answers": answers}


def main() -> None:
    """Asks each server in turn."""
    parser = argparse.ArgumentParser(description="asks the nameservers of /etc/resolv.conf")
    parser.add_argument("name")
    parser.add_argument("type", nargs="?", default="A")
    options = parser.parse_args()
    for server in parse_nameservers(Path("/etc/resolv.conf").read_text()):
        print(json.dumps(ask(server, options.name, options.type)), flush=True)


if __name__ == "__main__":
    main()
