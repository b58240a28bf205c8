"""What follows from a head alone, worked out once for each head that a connection repeats.

Clients that keep a connection often send the same bytes again, and so do servers within a second.
What was understood of them then holds: it is a function of these bytes and of nothing else. It is
kept with the connection, never beyond it: a head may hold credentials.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from egress_router.modes.http.answers import PSEUDONYM
from egress_router.net.http1.connection import keeps_alive, leaves_reusable
from egress_router.net.http1.forward import (
    client_keeps,
    forward_request,
    forward_response,
    may_go_further,
)
from egress_router.net.http1.framing import request_framing, response_framing
from egress_router.net.http1.head import HTTP_1_1
from egress_router.policy.target import check_host_fields, parse_absolute_uri

if TYPE_CHECKING:
    from egress_router.net.http1.framing import Framing
    from egress_router.net.http1.head import RequestHead, ResponseHead
    from egress_router.policy.target import Target

REPEATED_MAX_BYTES = 4096  # of a head that is kept for comparison; most have a quarter of it


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedRequest:
    """A sound request: where it goes, what is sent there, and whether its client stays.

    `rendered` is empty where Max-Forwards lets it go no further.
    """

    head: RequestHead
    framing: Framing
    target: Target
    rendered: bytes
    keeps_alive: bool
    host_differs: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedAnswer:
    """A sound answer to one request: how it goes on, and what becomes of both connections."""

    head: ResponseHead
    request: PreparedRequest
    wanted: bool
    framing: Framing
    rendered: bytes
    client_stays: bool
    server_stays: bool


def prepare_request(head: RequestHead) -> PreparedRequest:
    """Judges a plain request as far as its head goes; raises RefusalError."""
    framing = request_framing(head)
    uri = parse_absolute_uri(head.target)
    target = uri.target
    agrees = check_host_fields(target, head.values("host"), required=head.version == HTTP_1_1)
    rendered = b""
    if head.method != "OPTIONS" or may_go_further(head):
        path = "*" if uri.bare and head.method == "OPTIONS" else uri.path
        rendered = forward_request(
            head, framing, path=path, host=target.host_field, via=PSEUDONYM, keep_alive=True
        )
    return PreparedRequest(
        head=head,
        framing=framing,
        target=target,
        rendered=rendered,
        keeps_alive=keeps_alive(head),
        host_differs=not agrees,
    )


def prepare_answer(head: ResponseHead, request: PreparedRequest, *, wanted: bool) -> PreparedAnswer:
    """Judges a final answer; `wanted`: the client may stay. Raises UpstreamProtocolError."""
    version = request.head.version
    framing = response_framing(request.head.method, head)
    return PreparedAnswer(
        head=head,
        request=request,
        wanted=wanted,
        framing=framing,
        rendered=forward_response(
            head, framing, client_version=version, via=PSEUDONYM, keep_alive=wanted
        ),
        client_stays=client_keeps(framing, version, keep_alive=wanted),
        server_stays=leaves_reusable(head, framing),
    )
