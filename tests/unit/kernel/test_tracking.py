"""What /proc tells of conntrack."""

import pytest

from egress_router.kernel.tracking import parse_statistics

NAMES = (
    "entries  clashres found new invalid ignore delete chainlength insert insert_failed drop early"
)


def row(failed: str, drop: str) -> str:
    """The numbers of one processor."""
    return "  ".join(("0000000a", *("00000000",) * 8, failed, drop, "00000000"))


def test_processors_are_summed_and_numbers_are_hexadecimal() -> None:
    """`drop` and `insert_failed`, wherever the kernel puts their columns."""
    text = f"{NAMES}\n{row('00000010', '00000001')}\n{row('00000001', '0000000f')}\n"
    assert parse_statistics(text) == (16, 17)


@pytest.mark.parametrize("text", ["", "entries found\n0 0\n", f"{NAMES}\nzz\n"])
def test_another_form_is_told_from_numbers(text: str) -> None:
    """A kernel that writes it otherwise has nothing to tell, and breaks nothing."""
    with pytest.raises((ValueError, IndexError)):
        parse_statistics(text)
