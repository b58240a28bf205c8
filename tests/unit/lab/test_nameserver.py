"""Answers of the lab's nameserver."""

from pathlib import Path

import pytest
from dnslib import RCODE, DNSRecord

from egress_router.lab.nameserver import Records, answered

ZONE = """
www.test. 5 IN A 192.0.2.1
www.test. 5 IN A 192.0.2.2
alias.test. 5 IN CNAME www.test.
loop.test. 5 IN CNAME loop.test.
"""


@pytest.mark.parametrize(
    ("name", "kind", "rcode", "data"),
    [
        ("www.test.", "A", "NOERROR", ["192.0.2.1", "192.0.2.2"]),
        ("WWW.test.", "A", "NOERROR", ["192.0.2.1", "192.0.2.2"]),
        ("www.test.", "AAAA", "NOERROR", []),
        ("alias.test.", "A", "NOERROR", ["www.test.", "192.0.2.1", "192.0.2.2"]),
        ("other.test.", "A", "NXDOMAIN", []),
    ],
)
def test_answers(name: str, kind: str, rcode: str, data: list[str]) -> None:
    """A known name answers with its records, without them empty; an unknown one is NXDOMAIN."""
    zone = Records(fixed=(ZONE,), path=None).observe()
    reply = answered(DNSRecord.question(name, kind), zone)
    assert RCODE.get(reply.header.rcode) == rcode
    assert [str(record.rdata) for record in reply.rr] == data


def test_an_alias_of_itself_ends() -> None:
    """A loop of aliases is answered, not followed for ever."""
    zone = Records(fixed=(ZONE,), path=None).observe()
    assert answered(DNSRecord.question("loop.test.", "A"), zone).rr


def test_file_is_read_anew(tmp_path: Path) -> None:
    """Records of the file are those at the moment of the question."""
    path = tmp_path / "zone"
    records = Records(fixed=("fixed.test. 5 IN A 192.0.2.9",), path=path)
    for last in ("1", "2"):
        path.write_text(f"www.test. 5 IN A 192.0.2.{last}")
        assert [str(record.rdata) for record in records.observe()] == [
            "192.0.2.9",
            f"192.0.2.{last}",
        ]
