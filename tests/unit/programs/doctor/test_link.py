"""Frames that the doctor makes itself."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from egress_router.programs.doctor.link import checksum


@given(st.binary(max_size=64).filter(lambda data: len(data) % 2 == 0))
def test_a_packet_with_its_checksum_sums_to_nothing(data: bytes) -> None:
    """RFC 1071: the checksum over data and checksum is zero."""
    assert checksum(data + struct.pack("!H", checksum(data))) == 0
