from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from egress_router.policy.portline import NO_LINE, PORT_LAST, build_port_lines

PORTS = st.one_of(st.integers(1, 12), st.sampled_from([PORT_LAST - 1, PORT_LAST]))
RANGES = st.one_of(st.none(), st.tuples(PORTS, PORTS).map(lambda pair: (min(pair), max(pair))))


@given(st.lists(RANGES, max_size=12), PORTS)
def test_the_first_line_for_a_port_is_found(
    ranges: list[tuple[int, int] | None], port: int
) -> None:
    """The folded lines give what a walk over all lines would."""
    entries = list(enumerate(ranges))
    walked = [n for n, ports in entries if ports is None or ports[0] <= port <= ports[1]]
    assert build_port_lines(entries).first(port) == min(walked, default=NO_LINE)


def test_a_line_per_port_is_one_search() -> None:
    """65,535 lines for one destination fold into one sorted row, not a list to walk."""
    lines = build_port_lines([(index, (index + 1, index + 1)) for index in range(PORT_LAST)])
    assert len(lines.starts) == PORT_LAST + 2
    assert lines.first(443) == 442
