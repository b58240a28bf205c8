"""Cost of the HTTP/1.1 core for one plain keep-alive request: `python bench/http1_core.py`.

Prints the best of several rounds, in microseconds of processor time, for each step
that a proxied GET takes and for all of them.
"""

from __future__ import annotations

import timeit
from time import process_time
from typing import TYPE_CHECKING

from egress_router.net.http1.chunked import render_chunk, request_chunks
from egress_router.net.http1.connection import keeps_alive, leaves_reusable
from egress_router.net.http1.forward import forward_request, forward_response
from egress_router.net.http1.framing import request_framing, response_framing
from egress_router.net.http1.head_reader import request_reader, response_reader

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress_router.net.http1.head import RequestHead, ResponseHead

ROUNDS, PER_ROUND = 15, 2_000

REQUEST = (
    b"GET http://www.partner.test/v1/orders?since=2024-01-01 HTTP/1.1\r\n"
    b"Host: www.partner.test\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n"
    b"Accept-Language: en-US,en;q=0.5\r\n"
    b"Accept-Encoding: gzip, deflate\r\n"
    b"Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n"
    b"Connection: keep-alive\r\n"
    b"Proxy-Connection: keep-alive\r\n"
    b"\r\n"
)
RESPONSE = (
    b"HTTP/1.1 200 OK\r\n"
    b"Date: Mon, 01 Jan 2024 00:00:00 GMT\r\n"
    b"Server: nginx\r\n"
    b"Content-Type: application/json\r\n"
    b"Content-Length: 512\r\n"
    b"Last-Modified: Sun, 31 Dec 2023 00:00:00 GMT\r\n"
    b'ETag: "65904a80-200"\r\n'
    b"Vary: Accept-Encoding\r\n"
    b"Connection: keep-alive\r\n"
    b"\r\n"
)
CHUNKS = b"".join(render_chunk([b"x" * 100]) for _ in range(600)) + b"0\r\n\r\n"


def cost(step: Callable[[], object], times: int = PER_ROUND) -> float:
    """Microseconds of processor time for one call, the best round."""
    return min(timeit.repeat(step, timer=process_time, number=times, repeat=ROUNDS)) / times * 1e6


def read_request() -> RequestHead:
    """The request's head, as from one slice."""
    head = request_reader().feed(REQUEST)
    assert head is not None
    return head


def read_response() -> ResponseHead:
    """The answer's head, as from one slice."""
    head = response_reader().feed(RESPONSE)
    assert head is not None
    return head


def rewrite_request(head: RequestHead) -> bytes:
    """Framing decided, head rewritten."""
    return forward_request(
        head,
        request_framing(head),
        path="/v1/orders?since=2024-01-01",
        host="www.partner.test",
        via="router-1",
        keep_alive=True,
    )


def rewrite_response(head: ResponseHead, *, keep_alive: bool) -> bytes:
    """Framing decided, reuse decided, head rewritten."""
    framing = response_framing("GET", head)
    leaves_reusable(head, framing)
    return forward_response(
        head, framing, client_version=(1, 1), via="router-1", keep_alive=keep_alive
    )


def exchange() -> None:
    """All that the core does for one request and its answer."""
    request = read_request()
    rewrite_request(request)
    rewrite_response(read_response(), keep_alive=keeps_alive(request))


def drip() -> None:
    """The request's head fed byte by byte."""
    reader = request_reader()
    for at in range(len(REQUEST)):
        reader.feed(REQUEST[at : at + 1])


def main() -> None:
    """Prints one line per step."""
    request, response = read_request(), read_response()
    steps: tuple[tuple[str, Callable[[], object], int], ...] = (
        ("read a request head", read_request, PER_ROUND),
        ("rewrite a request head", lambda: rewrite_request(request), PER_ROUND),
        ("read a response head", read_response, PER_ROUND),
        ("rewrite a response head", lambda: rewrite_response(response, keep_alive=True), PER_ROUND),
        ("all of one exchange", exchange, PER_ROUND),
        (f"a request head in {len(REQUEST)} slices", drip, 20),
        (
            f"{len(CHUNKS)} bytes in 600 chunks, written anew",
            lambda: render_chunk(request_chunks().feed(CHUNKS)[0]),
            50,
        ),
    )
    for name, step, times in steps:
        print(f"{cost(step, times):9.2f} µs  {name}")


if __name__ == "__main__":
    main()
