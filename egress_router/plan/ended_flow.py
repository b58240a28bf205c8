"""A translated connection that conntrack has forgotten: who used the source address, and how much.

The kernel forgets a connection some time after its last packet: a closed TCP one after two minutes,
a silent UDP one after half a minute. How long that was follows from the state it was in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

# An address as the kernel has it, 4 bytes or 16, and a port: it is only ever written out.
Endpoint: TypeAlias = tuple[bytes, int]

# The setting below net.netfilter that says how long the kernel waits in each state of a TCP
# connection (enum tcp_conntrack).
_TCP_STATES = {
    1: "tcp_timeout_syn_sent",
    2: "tcp_timeout_syn_recv",
    3: "tcp_timeout_established",
    4: "tcp_timeout_fin_wait",
    5: "tcp_timeout_close_wait",
    6: "tcp_timeout_last_ack",
    7: "tcp_timeout_time_wait",
    8: "tcp_timeout_close",
    9: "tcp_timeout_syn_sent",
}
TIMEOUTS = (*sorted(set(_TCP_STATES.values())), "udp_timeout", "udp_timeout_stream")


class EndedFlow(NamedTuple):
    """One connection from its first packet to its end; thousands a second, so a plain tuple.

    `port` is the one that was called, `server` where it was translated to, `source` what the server
    saw. What was sent and received is None where the kernel does not count (nf_conntrack_acct).
    `started_s` and `ended_s` are seconds since 1970, None without nf_conntrack_timestamp. `left_s`:
    how long the kernel would have remembered it still; it was deleted. `tcp_state` None: another
    protocol, or an old kernel.
    """

    protocol: str
    client: Endpoint
    port: int
    server: Endpoint
    source: Endpoint
    answered: bool
    assured: bool
    packets_sent: int | None = None
    bytes_sent: int | None = None
    packets_received: int | None = None
    bytes_received: int | None = None
    started_s: float | None = None
    ended_s: float | None = None
    left_s: int = 0
    tcp_state: int | None = None


def duration_s(flow: EndedFlow, timeouts: Mapping[str, int]) -> float | None:
    """From the first packet to about the last; None where the kernel does not tell enough.

    `timeouts` holds the settings that TIMEOUTS names, in seconds.
    """
    if flow.started_s is None or flow.ended_s is None:
        return None
    if flow.protocol == "tcp":
        setting = _TCP_STATES.get(flow.tcp_state or 0)
    elif flow.protocol == "udp":
        setting = "udp_timeout_stream" if flow.assured else "udp_timeout"
    else:
        setting = None
    waited_s = timeouts.get(setting) if setting else None
    if waited_s is None:
        return None
    return max(flow.ended_s - flow.started_s - max(waited_s - flow.left_s, 0), 0.0)
