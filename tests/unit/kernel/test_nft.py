from pathlib import Path

import pytest

from egress_router.errors import KernelError
from egress_router.kernel import nft
from egress_router.kernel.nft import Nft, _refused
from egress_router.kernel.seal import (
    listing_digest,
    open_seal,
    read_listing,
    render_seal,
    sealed_table,
)

DIGEST = "0123456789abcdef" * 2
BARE = """table inet egress_router {
	comment "egress-router 00000000000000000000000000000000"
	counter sent { }

	set cluster4 {
		type ipv4_addr
		flags interval
		elements = { 10.128.0.0/23 }
	}

	chain guard_input {
		type filter hook input priority filter; policy accept;
	}
}
"""
SEAL = f"""	set seal {{
		type mark
		comment "{DIGEST}"
	}}
"""
PLACES = ["	set cluster4 {", "	chain guard_input {"]


@pytest.mark.parametrize("before", PLACES)
@pytest.mark.parametrize("blank", ["", "\n"])
def test_seal_is_found(before: str, blank: str) -> None:
    """The seal is told from the rest wherever nft lists it, and the rest counts as before it."""
    sealed = BARE.replace(before, f"{SEAL}{blank}{before}")
    listing, digest = open_seal(sealed)
    assert digest == DIGEST
    assert listing_digest(listing) == listing_digest(BARE)


def test_no_seal() -> None:
    """A table without a seal, or with one that says nothing, has none."""
    assert open_seal(BARE) == (BARE, None)
    assert (
        open_seal(
            BARE.replace("\tset cluster4", "\tset seal {\n\t\ttype mark\n\t}\n\tset cluster4")
        )[1]
        is None
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("10.128.0.0/23", "10.128.0.0/22"),
        ("policy accept", "policy drop"),
        ("\tcounter sent { }\n", ""),
        ("hook input priority filter", "hook input priority mangle"),
    ],
)
def test_every_word_counts(old: str, new: str) -> None:
    """Whatever is changed in the listing changes its digest."""
    assert listing_digest(BARE.replace(old, new)) != listing_digest(BARE)


def test_sealed_table_is_what_a_look_would_find() -> None:
    """What is known of a table that was just sealed is what its listing says, seal and all."""
    table = sealed_table(BARE)
    assert render_seal(BARE) == f'type mark; comment "{listing_digest(BARE)}";'
    assert read_listing(table.text) == table
    assert table.intact
    assert table.ours


@pytest.mark.parametrize(("count", "asked"), [(1, 1), (8, 8), (9, 8), (10_000, 8)])
def test_dry_run_of_some_elements(count: int, asked: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole ruleset is looked at, but of a long set the first elements only."""

    def text(elements: int) -> str:
        listed = ",\n\t\t\t".join(f"tcp . {port} : 203.0.113.7 . 80" for port in range(elements))
        chain = f"chain c {{ tcp dport {{ {', '.join(map(str, range(20)))} }} }}"
        return f"map m {{\n\telements = {{ {listed} }}\n}}\n{chain}\n"

    requests: list[str] = []

    def request(command: str, **_: object) -> dict[str, object]:
        requests.append(command)
        return {"code": 0, "output": "", "error": ""}

    with Nft() as session:
        monkeypatch.setattr(session, "_request", request)
        session.check(text(count))
        session.load(text(count), seal=False)
    assert requests == [text(asked), text(count)]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            "\nError: syntax error, unexpected newline\nadd rule\n^^^^\n",
            "load it: Error: syntax error, unexpected newline",
        ),
        (
            "Error: Operation not permitted (you must be root)\n",
            "load it: Error: Operation not permitted (you must be root); CAP_NET_ADMIN is needed",
        ),
        (
            "Error: Could not process rule: Operation not supported\n",
            "the node's kernel lacks nf_tables or its NAT and fib expressions",
        ),
        ("", "load it: no message"),
    ],
)
def test_refusals(error: str, message: str) -> None:
    """B7-99: nft's first line is shown, with what to do where that is known."""
    assert message in str(_refused("load it", {"error": error}))


WORKERS = {
    "missing-library": (
        'print(\'{"code": -1, "output": "", "error": "libnftables is not usable: no module"}\')',
        "load libnftables: libnftables is not usable: no module; install python3-nftables",
    ),
    "ends-at-once": ("", "talk to nftables: the worker process ended"),
    "silent": (
        "import sys; sys.stdin.read()",
        r"wait for nftables: no answer within 0.3 s; it was ended",
    ),
    "half-an-answer": (
        "import sys; print('{\"code\": ', end='', flush=True); sys.stdin.read()",
        r"wait for nftables: no answer within 0.3 s; it was ended",
    ),
}


@pytest.mark.parametrize("name", WORKERS)
def test_worker_of_no_use(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that cannot work, ends, or says nothing is an error in words, within the time."""
    program, message = WORKERS[name]
    script = tmp_path / "worker.py"
    script.write_text(program, encoding="utf-8")
    monkeypatch.setattr(nft, "_WORKER", script)
    with Nft(0.3 if "0.3 s" in message else 20) as session:
        with pytest.raises(KernelError) as caught:
            session.observe_table()
        assert message in str(caught.value)
        assert caught.value.exit_code == 4


def test_answer_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that comes byte by byte, with the next one behind it, is read whole."""
    script = tmp_path / "worker.py"
    script.write_text(
        "import os, sys\n"
        "def say(text):\n    for byte in text.encode(): os.write(1, bytes([byte]))\n"
        'say(\'{"code": 0, "output": "ready", "error": ""}\\n\')\n'
        "for line in sys.stdin:\n"
        '    say(\'{"code": 0, "output": "\', )\n'
        '    say("x" * 5000)\n'
        '    say(\'", "error": ""}\\n\')\n',
        encoding="utf-8",
    )
    monkeypatch.setattr(nft, "_WORKER", script)
    with Nft(20) as session:
        for _ in range(2):
            table = session.observe_table()
            assert table is not None
            assert table.text == "x" * 5000
            assert not table.ours
    session.close()  # twice does no harm
