"""nftables through libnftables, in a worker process that can be ended when it hangs.

The listing by which a table is sealed (`kernel.seal`) takes half a second with ten thousand
destinations, in which the caller has other things to do: it is asked for with the loading, and the
table is sealed with the next request, or by `settle`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import select
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from egress_router.errors import KernelError
from egress_router.kernel.seal import open_seal, read_listing, render_seal, sealed_table
from egress_router.kernel.signs import RulesetSign
from egress_router.plan.ruleset import TABLE, render_removal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from egress_router.plan.state import Table

TIMEOUT_S = 10.0  # loading 10,000 destinations takes a tenth of a second; ten seconds is a hang

_WORKER = Path(__file__).with_name("nft_worker.py")
_LIST = f"list table inet {TABLE}"
_MANY_ELEMENTS = re.compile(r"(elements = \{[^{},]*(?:,[^{},]*){7}),[^{}]*\}")
_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loaded:
    """A table that was loaded and has no seal yet; the ruleset's generation before that."""

    before: int | None


def nft_installed() -> bool:
    """Whether there is a binding of libnftables that the worker could load."""
    return importlib.util.find_spec("nftables") is not None


class Nft:
    """A session with the worker. Start it early: the library loads while the caller imports.

    A worker that hung is ended, with what it had not committed; the next request starts another.
    """

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._sign = RulesetSign()
        self._known: tuple[int, Table | None] | None = None  # by generation of the ruleset
        self._unsealed: _Loaded | None = None
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
        self._sign.close()
        self._unsealed = None
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
        self.settle()
        generation = self._sign.generation()
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
        return read_listing(answer["output"])

    def check(self, text: str) -> None:
        """Has the kernel look at a ruleset without loading it; raises KernelError as it answers.

        What it is to tell is whether it can do all this. The first elements of each set say that as
        well as ten thousand, which take as long to check as to load.
        """
        answer = self._request(_MANY_ELEMENTS.sub(r"\1 }", text), check=True)
        if answer["code"]:
            raise _refused("check the nftables ruleset", answer)

    def load(self, text: str | None, *, seal: bool = True) -> None:
        """Replaces our table in one transaction, or removes it (None).

        With `seal` it is sealed when the worker has listed it: with the next request, or `settle`.
        """
        self._forget_listing()
        before = self._sign.generation()
        answer = self._request(text or render_removal())
        if answer["code"]:
            raise _refused("load the nftables ruleset", answer)
        if text is not None and seal:
            self._unsealed = _Loaded(before=before)
            self._send(_LIST)

    def settle(self) -> None:
        """Seals what was loaded last, if that is still to be done; raises KernelError.

        A transaction of somebody else's since then may have changed it, and leaves it unsealed. The
        next look at the table finds that, and it is loaded again.
        """
        loaded, self._unsealed = self._unsealed, None
        if loaded is None:
            return
        listing, _ = open_seal(self._sealed(self._receive()))
        now = self._sign.generation()
        if loaded.before is not None and now != loaded.before + 1:
            return
        self._sealed(self._request(f"add set inet {TABLE} seal {{ {render_seal(listing)} }}"))
        # Each transaction is one generation: if the seal's was the only one, the table is what was
        # listed, and the seal.
        if now is not None and self._sign.generation() == now + 1:
            self._known = now + 1, sealed_table(listing)

    def _forget_listing(self) -> None:
        """What is not sealed yet is about to be replaced: whatever becomes of its listing."""
        if self._unsealed is not None:
            self._unsealed = None
            with contextlib.suppress(KernelError):
                self._receive()

    def generation(self) -> int | None:
        """The generation of the namespace's ruleset, or None where it may not be asked."""
        return self._sign.generation()

    def change(self, text: str, *, step: str) -> None:
        """Carries out one transaction on a table other than ours; `step` names it in an error."""
        answer = self._request(text)
        if answer["code"]:
            raise _refused(step, answer)

    def listing(self, table: str) -> str:
        """The listing of a table of the family inet; empty if there is none."""
        answer = self._request(f"list table inet {table}")
        return "" if answer["code"] else str(answer["output"])

    @staticmethod
    def _sealed(answer: dict[str, Any]) -> str:
        if answer["code"]:
            raise _refused("seal the nftables table", answer)
        return str(answer["output"])

    def _request(self, command: str, *, check: bool = False) -> dict[str, Any]:
        self.settle()
        self._send(command, check=check)
        return self._receive()

    def _send(self, command: str, *, check: bool = False) -> None:
        worker = self._worker or self._start()
        with self._talking():
            if not self._greeted:
                greeting = self._read_answer(worker)
                if greeting["code"]:
                    raise KernelError(
                        "load libnftables", greeting["error"], remedy="install python3-nftables"
                    )
                self._greeted = True
            request = json.dumps({"command": command, "check": check})
            self._write(worker, request.encode() + b"\n")

    def _receive(self) -> dict[str, Any]:
        assert self._worker is not None  # noqa: S101 (it was sent a request)
        with self._talking():
            return self._read_answer(self._worker)

    @contextlib.contextmanager
    def _talking(self) -> Iterator[None]:
        """A worker that hangs or has ended is an error in words, and ended."""
        try:
            yield
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


def _refused(step: str, answer: dict[str, Any]) -> KernelError:
    first = next((line for line in answer["error"].splitlines() if line.strip()), "no message")
    remedy = ""
    if "Operation not permitted" in first:
        remedy = "CAP_NET_ADMIN is needed"
    elif "not supported" in first or "No such file" in first:
        remedy = "the node's kernel lacks nf_tables or its NAT and fib expressions"
    return KernelError(step, first, remedy=remedy)
