"""Which connections have a line."""

import pytest

from egress_router.service.connection_log import ConnectionLog


@pytest.mark.parametrize(
    ("every", "taken"),
    [(0, ""), (1, "0123456"), (3, "036"), (100, "0")],
)
def test_one_in_every(every: int, taken: str) -> None:
    """Full takes each, off none, sampled the first and every N-th after it; all are counted."""
    log = ConnectionLog(every)
    assert "".join(str(number) for number in range(7) if log.takes()) == taken
    assert (log.written, log.left_out) == (len(taken), 7 - len(taken))
    assert sum(log.outcomes().values()) == 7


def test_a_line_that_is_one_too_many_is_counted_once() -> None:
    """What is over the limit is neither written nor left out."""
    log = ConnectionLog(1)
    assert log.takes()
    log.give_up()
    assert log.outcomes() == {
        ("written",): 0,
        ("left_out",): 0,
        ("over_limit",): 1,
        ("lost",): 0,
    }
