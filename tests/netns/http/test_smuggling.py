"""What one side says must be one message to the other: seeded mutations of both, past the proxy.

The origin reads as strictly as can be (`crowd.read_messages`): what two readers could take for two
different things is an error there, so nothing that passes can be read as more than was decided.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from tests.netns.http.crowd import Recorder, converse, read_messages

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.netns

RECORDS = ("allowed.test. 600 IN A 203.0.113.10", "denied.test. 600 IN A 203.0.113.10")
QUICK = {
    "EGRESS_HTTP_PROXY_HEAD_SECONDS": "0.3",
    "EGRESS_HTTP_PROXY_KEEPALIVE_SECONDS": "0.3",
    "EGRESS_HTTP_PROXY_BODY_SECONDS": "0.3",
    "EGRESS_HTTP_PROXY_ANSWER_SECONDS": "0.5",
}
AT_ONCE = 250
LIMIT_S = 20.0
MUTANTS = 1000
MUTANTS_FULL = 10_000
CANARY = "GET http://denied.test:PORT/canary HTTP/1.1\r\nHost: denied.test\r\n\r\n"
NEAR_CANARY = "GET /canary HTTP/1.1\r\nHost: allowed.test\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

HEADS = (
    "GET http://allowed.test:PORT/a HTTP/1.1\r\nHost: allowed.test\r\n",
    "POST http://allowed.test:PORT/b HTTP/1.1\r\nHost: allowed.test\r\nContent-Length: 64\r\n",
    "POST http://allowed.test:PORT/c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n",
    (
        "GET http://allowed.test:PORT/d HTTP/1.1\r\nHost: allowed.test\r\nConnection: Upgrade\r\n"
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nContent-Length: 64\r\n"
    ),
    (
        "POST http://allowed.test:PORT/e HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
        "Content-Length: 0\r\nConnection: close, Content-Length\r\n"
    ),
    "PUT http://allowed.test:PORT/f HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 5\r\n",
    "HEAD http://allowed.test:PORT/g HTTP/1.1\r\nHost: x\r\nTE: trailers\r\nTrailer: A\r\n",
    "CONNECT denied.test:PORT HTTP/1.1\r\nHost: denied.test:PORT\r\n",
)
BODIES = (
    "",
    "0\r\n\r\n",
    "5\r\nhello\r\n0\r\n\r\n",
    "40\r\n" + NEAR_CANARY[:64] + "\r\n0\r\n\r\n",
    "5;a=b\r\nhello\r\n0\r\nContent-Length: 9\r\nX: y\r\n\r\n",
)
# What the lists of smuggling tricks are made of: fields, line ends, sizes, blanks.
TRICKS = (
    "Content-Length: 0\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: +5\r\n",
    "Content-Length: 5, 5\r\n",
    "Content-Length : 5\r\n",
    "Content_Length: 5\r\n",
    " Content-Length: 5\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding : chunked\r\n",
    "Transfer-Encoding:\tchunked\r\n",
    "Transfer-Encoding:\x0bchunked\r\n",
    "Transfer-Encoding: chunked, identity\r\n",
    "Transfer-Encoding: xchunked\r\n",
    "Transfer-Encoding:\r\n chunked\r\n",
    "Transfer-encoding: CHUNKED\r\n",
    "transfer-encoding: gzip, chunked\r\n",
    "X: y\rTransfer-Encoding: chunked\r\n",
    "X: y\nTransfer-Encoding: chunked\r\n",
    "X: \x00\r\n",
    "Connection: Transfer-Encoding\r\n",
    "Connection: Via, Host\r\n",
    "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
    "Host: denied.test\r\n",
    "\r\n",
    "\r\n\r\n",
    "\n\n",
    "0\r\n\r\n",
    "0\r\n",
    "-1\r\n",
    "1\r\n",
    "fffffffffffffff0\r\n",
    "10000000000000000\r\n",
    "\r",
    "\n",
    "\t",
    " ",
    "\x85",
    "\xa0",
    ";",
    ",",
    NEAR_CANARY,
    CANARY,
)


@pytest.fixture(scope="module")
def quick(build: Any) -> Iterator[Any]:
    """A world whose limits of time are short: torn messages end soon."""
    with build("!denied.test\nallowed.test", RECORDS, **QUICK) as scene:
        yield scene


def mutated(chance: random.Random, text: str) -> str:
    """The text after one to four changes."""
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(text) + 1)
        lines = [0, *(index + 2 for index in range(len(text)) if text.startswith("\r\n", index))]
        match chance.randrange(6):
            case 0:
                text = text[:at] + chance.choice(TRICKS) + text[at:]
            case 1 | 2:  # at the begin of a line, where a trick does most
                at = chance.choice(lines)
                text = text[:at] + chance.choice(TRICKS) + text[at:]
            case 3:
                text = text[:at] + text[at + chance.randint(1, 3) :]
            case 4:
                text = text[:at] + chr(chance.randrange(256)) + text[at + 1 :]
            case _:
                at = chance.choice(lines)
                end = text.find("\r\n", at) + 2
                text = text[:at] + text[at:end] + text[at:]
    return text


def request_mutant(seed: int) -> str:
    """A request with a body, changed, and what an attacker would like to have behind it."""
    chance = random.Random(seed)  # noqa: S311 - to be the same each time
    behind = chance.choice((CANARY, NEAR_CANARY, CANARY + NEAR_CANARY))
    text = chance.choice(HEADS) + "\r\n" + chance.choice(BODIES)
    return mutated(chance, text) + behind


def answer_requests(seen: bytes, answered: int) -> bytes | None:
    """Answers each whole request; of what cannot be read plainly the test learns at its end."""
    try:
        messages = read_messages(seen)
    except ValueError:
        return b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n" + Recorder.CLOSE
    if len(messages) <= answered or not messages[answered].whole:
        return None
    head = messages[answered].start[0] == b"HEAD"
    return OK[: -2 if head else None]


def test_requests(quick: Any, full_size: bool) -> None:
    """F13: the origin sees no request but those that were decided, and can read none otherwise."""
    count = MUTANTS_FULL if full_size else MUTANTS
    before = len(quick.lines())
    with Recorder(quick.origin_socket(), answer_requests) as origin:
        port = origin.port
        for first in range(0, count, AT_ONCE):
            mutants = [request_mutant(seed) for seed in range(first, first + AT_ONCE)]
            clients = [quick.connect().sock for _ in mutants]
            payloads = [mutant.replace("PORT", str(port)).encode("latin-1") for mutant in mutants]
            talks = converse(zip(clients, payloads, strict=True), limit_s=LIMIT_S)
            quick.tidy()
            for mutant, talk in zip(mutants, talks, strict=True):
                assert talk.end != "open", mutant
                assert talk.data, mutant
        seen = [bytes(connection) for connection in origin.connections]
    requests = [message for data in seen for message in read_messages(data)]
    for message in requests:
        assert b"canary" not in message.start[1], message
        assert message.values(b"host") == [b"allowed.test:%d" % port], message
        assert len(message.values(b"via")) == 1, message
    lines = [line for line in quick.lines()[before:] if line.get("kind") is not None]
    dialled = [line for line in lines if line["address"] is not None]
    assert {line["target"] for line in dialled} == {f"allowed.test:{port}"}
    assert not [line for line in lines if line["kind"] == "tunnel" and line["status"] == 200]
    assert len(requests) > count // 20, "enough of them pass to make this a test"
    assert len(requests) <= len(dialled)


FIRST_ANSWERS = (
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
    "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
    "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello",
)
EVIL = "HTTP/1.1 200 OK\r\nX-Canary: 1\r\nContent-Length: 4\r\n\r\nevil"


def answer_mutant(seed: int) -> bytes:
    """An answer, changed, and another one behind it for whoever asks next."""
    chance = random.Random(seed)  # noqa: S311 - to be the same each time
    text = mutated(chance, chance.choice(FIRST_ANSWERS)) + EVIL
    end = Recorder.CLOSE if chance.random() < 0.3 else b""
    return text.replace("PORT", "1").encode("latin-1") + end


def test_answers(quick: Any, full_size: bool) -> None:
    """Whatever one server sends, the next request of that client is answered by its own server."""
    count = MUTANTS_FULL if full_size else MUTANTS // 2
    seconds = 0
    for first in range(0, count, AT_ONCE):
        with (
            Recorder(quick.origin_socket(), answer_by_path) as evil,
            Recorder(quick.origin_socket(), answer_good) as good,
        ):
            clients = [quick.connect().sock for _ in range(AT_ONCE)]
            ask = "GET http://allowed.test:{}/{} HTTP/1.1\r\nHost: x\r\n\r\n"
            payloads = [
                (ask.format(evil.port, seed) + ask.format(good.port, seed)).encode()
                for seed in range(first, first + AT_ONCE)
            ]
            talks = converse(zip(clients, payloads, strict=True), limit_s=LIMIT_S)
            quick.tidy()
        for seed, talk in enumerate(talks, first):
            assert talk.end != "open", answer_mutant(seed)
            answers = [
                message
                for message in read_messages(talk.data, answers_to=(b"GET", b"GET"))
                if not message.start[0].startswith(b"1")
            ]
            assert len(answers) <= 2, answer_mutant(seed)
            if len(answers) == 2:
                seconds += 1
                assert answers[1].body == b"good", answer_mutant(seed)
    assert seconds > count // 4, "enough connections go on to make this a test"


def answer_by_path(seen: bytes, answered: int) -> bytes | None:
    """The mutant that the path names, once."""
    if answered or b"\r\n\r\n" not in seen:
        return None
    return answer_mutant(int(seen.split(b" ", 2)[1].removeprefix(b"/")))


def answer_good(seen: bytes, answered: int) -> bytes | None:
    """The right answer."""
    if seen.count(b"\r\n\r\n") <= answered:
        return None
    return b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood"
