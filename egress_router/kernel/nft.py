"""nftables through libnftables, in a worker process that can be ended when it hangs.

How a rerun knows that nobody touched the table: nft's listing of what was loaded is not the text
that was loaded, and differs between versions, so the two are not compared. Instead the table's
comment carries the digest of the text, and an empty set called `seal` the digest of the listing as
it was right after loading. A table whose listing still has that digest is intact.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from egress_router.errors import KernelError
from egress_router.kernel.signs import ruleset_generation
from egress_router.plan.ruleset import COMMENT_PREFIX, TABLE, render_removal, ruleset_digest
from egress_router.plan.state import Table

if TYPE_CHECKING:
    from types import TracebackType

TIMEOUT_S = 10.0  # loading 10,000 destinations takes a tenth of a second; ten seconds is a hang

_WORKER = Path(__file__).with_name("nft_worker.py")
_LIST = f"list table inet {TABLE}"
_SEAL = re.compile(r"\n?\tset seal \{\n.*?\n\t\}\n", re.DOTALL)
_SEAL_COMMENT = re.compile(r'comment "([0-9a-f]+)"')
_MANY_ELEMENTS = re.compile(r"(elements = \{[^{},]*(?:,[^{},]*){7}),[^{}]*\}")
_READ_BYTES = 1 << 20


def nft_installed() -> bool:
    """Whether there is a binding of libnftables that the worker could load."""
    return importlib.util.find_spec("nftables") is not None


class Nft:
    """A session with the worker. Start it early: the library loads while the caller imports.

    A worker that hung is ended, with what it had not committed; the next request starts another.
    """

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._known: tuple[int, Table | None] | None = None  # by generation of the ruleset
        self._worker: subprocess.Popen[bytes] | None = None
        self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the worker."""
        worker, self._worker = self._worker, None
        if worker is None:
            return
        worker.kill()
        worker.wait()
        for pipe in (worker.stdin, worker.stdout):
            if pipe is not None:
                pipe.close()

    def _start(self) -> subprocess.Popen[bytes]:
        # Unbuffered, and not blocking: a worker that hangs leaves its pipes full, or empty.
        worker = subprocess.Popen(
            [sys.executable, "-I", str(_WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        assert worker.stdin is not None  # noqa: S101 (it was given a pipe)
        os.set_blocking(worker.stdin.fileno(), False)
        self._worker = worker
        self._buffer = bytearray()
        self._greeted = False
        return worker

    def observe_table(self) -> Table | None:
        """Our table as it is, or None. A table of that name that is not ours has `ours` False.

        Listing 10,000 destinations takes half a second: it is done only after a transaction, and
        not after our own, which has listed the table to seal it.
        """
        generation = ruleset_generation()
        if generation is not None and self._known is not None and self._known[0] == generation:
            return self._known[1]
        table = self._list_table()
        self._known = None if generation is None else (generation, table)
        return table

    def _list_table(self) -> Table | None:
        answer = self._request(_LIST)
        if answer["code"]:
            if "No such file or directory" in answer["error"]:
                return None
            raise _refused("list the nftables table", answer)
        return _read_listing(answer["output"])

    def check(self, text: str) -> None:
        """Has the kernel look at a ruleset without loading it; raises KernelError as it answers.

        What it is to tell is whether it can do all this. The first elements of each set say that as
        well as ten thousand, which take as long to check as to load.
        """
        answer = self._request(_MANY_ELEMENTS.sub(r"\1 }", text), check=True)
        if answer["code"]:
            raise _refused("check the nftables ruleset", answer)

    def load(self, text: str | None, *, seal: bool = True) -> None:
        """Replaces our table in one transaction and seals it, or removes it (None)."""
        answer = self._request(text or render_removal())
        if answer["code"]:
            raise _refused("load the nftables ruleset", answer)
        if text is not None and seal:
            self._seal()

    def change(self, text: str, *, step: str) -> None:
        """Carries out one transaction on a table other than ours; `step` names it in an error."""
        answer = self._request(text)
        if answer["code"]:
            raise _refused(step, answer)

    def listing(self, table: str) -> str:
        """The listing of a table of the family inet; empty if there is none."""
        answer = self._request(f"list table inet {table}")
        return "" if answer["code"] else str(answer["output"])

    def _seal(self) -> None:
        before = ruleset_generation()
        listing, _ = _open_seal(self._require(_LIST))
        seal = f'type mark; comment "{_digest(listing)}";'
        self._require(f"add set inet {TABLE} seal {{ {seal} }}")
        after = ruleset_generation()
        # Each transaction is one generation: if the seal's was the only one, the table is what was
        # listed, and the seal.
        if before is not None and after == before + 1:
            self._known = after, _read_listing(_with_seal(listing, seal))

    def _require(self, command: str) -> str:
        answer = self._request(command)
        if answer["code"]:
            raise _refused("seal the nftables table", answer)
        return str(answer["output"])

    def _request(self, command: str, *, check: bool = False) -> dict[str, Any]:
        worker = self._worker or self._start()
        request = json.dumps({"command": command, "check": check})
        try:
            if not self._greeted:
                greeting = self._read_answer(worker)
                if greeting["code"]:
                    raise KernelError(
                        "load libnftables", greeting["error"], remedy="install python3-nftables"
                    )
                self._greeted = True
            self._write(worker, request.encode() + b"\n")
            return self._read_answer(worker)
        except TimeoutError as error:
            self.close()
            raise KernelError(
                "wait for nftables", f"no answer within {self._timeout_s:g} s; it was ended"
            ) from error
        except OSError as error:
            self.close()
            raise KernelError("talk to nftables", "the worker process ended") from error

    def _write(self, worker: subprocess.Popen[bytes], request: bytes) -> None:
        assert worker.stdin is not None  # noqa: S101 (it was given a pipe)
        deadline = time.monotonic() + self._timeout_s
        left = memoryview(request)
        while left:
            wait_s = deadline - time.monotonic()
            if wait_s <= 0 or not select.select([], [worker.stdin], [], wait_s)[1]:
                raise TimeoutError
            left = left[os.write(worker.stdin.fileno(), left) :]

    def _read_answer(self, worker: subprocess.Popen[bytes]) -> dict[str, Any]:
        assert worker.stdout is not None  # noqa: S101 (it was given a pipe)
        deadline = time.monotonic() + self._timeout_s
        while b"\n" not in self._buffer:
            wait_s = deadline - time.monotonic()
            if wait_s <= 0 or not select.select([worker.stdout], [], [], wait_s)[0]:
                raise TimeoutError
            chunk = os.read(worker.stdout.fileno(), _READ_BYTES)
            if not chunk:
                raise BrokenPipeError
            self._buffer += chunk
        line, _, rest = bytes(self._buffer).partition(b"\n")
        self._buffer = bytearray(rest)
        answer: dict[str, Any] = json.loads(line)
        return answer


def _read_listing(text: str) -> Table:
    listing, sealed = _open_seal(text)
    return Table(
        ours=f'comment "{COMMENT_PREFIX}' in listing,
        digest=ruleset_digest(listing),
        intact=sealed == _digest(listing),
        text=text,
    )


def _with_seal(listing: str, seal: str) -> str:
    """The listing as it is with the seal in it, but for the place: behind everything else."""
    words = (word.strip() for word in seal.split(";"))
    lines = "".join(f"\t\t{word}\n" for word in words if word)
    return listing.removesuffix("}\n") + f"\n\tset seal {{\n{lines}\t}}\n}}\n"


def _open_seal(listing: str) -> tuple[str, str | None]:
    """The listing without its seal, and the digest that the seal holds."""
    seal = _SEAL.search(listing)
    if seal is None:
        return listing, None
    comment = _SEAL_COMMENT.search(seal.group())
    return listing[: seal.start()] + listing[seal.end() :], comment.group(1) if comment else None


def _digest(listing: str) -> str:
    # Blank lines between objects move when the seal is added; everything else counts.
    lines = [line for line in listing.splitlines() if line.strip()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]


def _refused(step: str, answer: dict[str, Any]) -> KernelError:
    first = next((line for line in answer["error"].splitlines() if line.strip()), "no message")
    remedy = ""
    if "Operation not permitted" in first:
        remedy = "CAP_NET_ADMIN is needed"
    elif "not supported" in first or "No such file" in first:
        remedy = "the node's kernel lacks nf_tables or its NAT and fib expressions"
    return KernelError(step, first, remedy=remedy)
