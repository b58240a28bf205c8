"""A nameserver that answers with junk: `python -I -S hostile.py ADDRESS…`.

UDP: a pointer loop, a lie about counts, garbage, or "ask over TCP", in turn. TCP: 64 KB of junk.
"""

import itertools
import socket
import sys
import threading

TRUNCATED = b"\x83\x80"
turns = itertools.count()


def answer(question: bytes) -> bytes:
    """One more kind of junk, with the question's id."""
    name, head = question[12 : question.index(b"\0", 12) + 5], question[:2]
    counts = b"\0\1\0\1\0\0\0\0"
    return (
        head + b"\x81\x80" + counts + name + b"\xc0\x0c" + b"\xc0\x20\xc0\x22" * 20,
        head + b"\x81\x80" + b"\0\1\xff\xff\xff\xff\xff\xff" + name,
        head + b"\xff" * 1000,
        head + TRUNCATED + b"\0\1\0\0\0\0\0\0" + name,
    )[next(turns) % 4]


def serve_udp(address: str) -> None:
    """Answers datagrams."""
    with socket.socket(_family(address), socket.SOCK_DGRAM) as sock:
        sock.bind((address, 53))
        while True:
            question, peer = sock.recvfrom(4096)
            sock.sendto(answer(question), peer)


def serve_tcp(address: str) -> None:
    """Answers connections."""
    with socket.create_server((address, 53), family=_family(address)) as server:
        while True:
            connection, _ = server.accept()
            with connection:
                question = connection.recv(4096)[2:]
                pointers = b"\xc0\x0c" * 32_000
                message = question[:2] + b"\x81\x80\0\1\xff\xff\0\0\0\0" + question[12:] + pointers
                connection.sendall(len(message[:65535]).to_bytes(2) + message[:65535])


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


threads = [
    threading.Thread(target=serve, args=(address,))
    for address in sys.argv[1:]
    for serve in (serve_udp, serve_tcp)
]
for thread in threads:
    thread.start()
sys.stdout.write("ready\n")
sys.stdout.flush()
for thread in threads:
    thread.join()
