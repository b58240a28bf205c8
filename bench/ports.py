"""What a kernel remembers of connections that are over, and how a lab is told to forget it.

A load opens tens of thousands of connections between two addresses. For a minute after each, its
ports are in TIME_WAIT where it was ended first, for two in the connection tracking of whoever
translates: later ones find their ports taken, search others, or are answered a second late. Which
side of a measure that hits is a matter of who came before it.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from egress_router.lab.namespaces import apply_sysctls

if TYPE_CHECKING:
    from egress_router.lab.world import Lab

TRACKING = "net.netfilter.nf_conntrack_tcp_timeout_time_wait"
SYSCTLS = (
    ("net.ipv4.ip_local_port_range", "2048 65000"),
    # What serves in the pod: none of it may be some connection's own port when it starts.
    ("net.ipv4.ip_local_reserved_ports", "7000,8080-8089,20000-20999"),
    ("net.ipv4.tcp_max_tw_buckets", "0"),
    # Above a minute a closed socket waits for the far end's FIN as itself. Below, as a TIME_WAIT,
    # of which there are none: a FIN that comes later than the ACK would be answered with a reset.
    ("net.ipv4.tcp_fin_timeout", "70"),
    (TRACKING, "1"),
)


def forget_connections(lab: Lab) -> None:
    """Has all hosts of a lab drop what they know of a connection when it ends."""
    if not Path("/proc/sys", *TRACKING.split(".")).exists():
        # Where it is a module, the first rule that needs it would load it, later than this.
        subprocess.run(("modprobe", "nf_conntrack"), check=True)
    for host in lab.spec.hosts:
        apply_sysctls(lab.namespace(host), SYSCTLS)
