"""A router made by hand, with the command line of the real one: what the checks are tried on.

`init`, `redirect` and `health` do just enough for the redirect scenario's world. `STANDIN_LEAKS`
names promises to break on purpose: `connect`, `route`, `cluster`, `source`, `dns`, `stop`.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

LEAKS = os.environ.get("STANDIN_LEAKS", "").split()
MARK = "0x2000000"

RULESET = """
table inet standin
delete table inet standin
table inet standin {
  chain incoming {
    type filter hook prerouting priority mangle;
    iifname eth0 ct state new ct mark set MARK
    ct direction reply ct mark MARK meta mark set MARK
  }
  chain outgoing {
    type route hook output priority mangle;
    ct direction reply ct mark MARK meta mark set MARK
  }
  chain there {
    type nat hook prerouting priority dstnat;
    ENTRANCE fib daddr type local tcp dport 80 dnat ip to 203.0.113.10
    ENTRANCE fib daddr type local tcp dport 8080 dnat ip to 203.0.113.11:80
    ENTRANCE fib daddr type local udp dport 5000-5010 dnat ip to 203.0.113.12
    ENTRANCE fib daddr type local tcp dport 8443 dnat ip6 to [2001:db8:113::11]:443
    ENTRANCE fib daddr type local meta l4proto { tcp, udp } dnat ip to 203.0.113.25
    ENTRANCE fib daddr type local meta l4proto { tcp, udp } dnat ip6 to 2001:db8:113::25
  }
  chain back {
    type nat hook postrouting priority srcnat;
    SNAT
  }
  chain through {
    type filter hook forward priority filter; policy THROUGH;
    ct state established,related accept
    ct status dnat oifname macvlan0 accept
  }
}
"""

SNAT = """oifname macvlan0 snat ip to 192.168.12.99
    oifname macvlan0 snat ip6 to 2001:db8:12::99"""

SYSCTLS = {
    "ipv4/ip_forward": "1",
    "ipv6/conf/all/forwarding": "1",
    "ipv4/conf/all/rp_filter": "0",
    "ipv4/conf/eth0/rp_filter": "2",
    "ipv4/conf/macvlan0/rp_filter": "2",
}


def links() -> str:
    """Addresses, routes and rules, as iproute2 batch lines that may run twice."""
    lines = ["link set macvlan0 up"]
    for version, source, gateway, inside in (
        ("-4", "192.168.12.99/24", "192.168.12.1", "10.128.0.1"),
        ("-6", "2001:db8:12::99/64", "2001:db8:12::1", "fd00:10:128::1"),
    ):
        own = source.split("/")[0]
        trust = " nodad" if version == "-6" else ""
        closed = f"unreachable default metric 4294967295 {version}"
        lines += [
            f"addr replace {source} dev macvlan0{trust}",
            f"route replace default via {inside} dev eth0 table 100",
            f"route flush exact default table main dev eth0 {version}",
            f"route replace default via {gateway} dev macvlan0 src {own}",
        ]
        if "cluster" in LEAKS:
            lines.append(f"route replace default via {inside} dev eth0 metric 5000")
        else:
            lines.append(f"route replace {closed}")
    return "\n".join(lines)


def set_rules() -> None:
    """Marked packets and questions to the cluster's DNS go back inside."""
    for version, server in (("-4", "172.30.0.10"), ("-6", "fd00:172:30::10")):
        choices = [f"fwmark {MARK} table 100"]
        if "dns" not in LEAKS:
            choices.append(f"to {server} table 100")
        listed = subprocess.check_output(["ip", version, "rule"], text=True)
        if "lookup 100" not in listed:
            for choice in choices:
                subprocess.run(["ip", version, "rule", "add", *choice.split()], check=True)


def init() -> None:
    """Sets the pod up; every step may be repeated."""
    for name, value in SYSCTLS.items():
        Path("/proc/sys/net", name).write_text(value)
    for line in links().splitlines():
        flags = [word for word in line.split() if word in {"-4", "-6"}]
        words = [word for word in line.split() if word not in {"-4", "-6"}]
        flags = flags or (["-6"] if ":" in line else [])
        subprocess.run(["ip", *flags, *words], check=True)
    set_rules()
    ruleset = (
        RULESET.replace("MARK", MARK)
        .replace("ENTRANCE", "" if "connect" in LEAKS else "iifname eth0")
        .replace("THROUGH", "accept" if "route" in LEAKS else "drop")
        .replace("SNAT", "" if "source" in LEAKS else SNAT)
    )
    subprocess.run(["nft", "-f", "-"], input=ruleset, text=True, check=True)


def redirect() -> None:
    """Waits to be ended, as the real daemon does."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7 if "stop" in LEAKS else 0))
    signal.pause()


if __name__ == "__main__":
    {"init": init, "redirect": redirect, "health": lambda: None}[sys.argv[1]]()
