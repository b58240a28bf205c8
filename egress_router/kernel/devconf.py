"""Per-link IPv4 settings over rtnetlink, which needs CAP_NET_ADMIN but no writable /proc/sys.

pyroute2 reads them but has no form in which the kernel takes them back: IFLA_AF_SPEC > AF_INET >
IFLA_INET_CONF holds one attribute per setting, numbered as in linux/ip.h (IPV4_DEVCONF_*).
"""

from __future__ import annotations

import errno
import os
import socket
import struct

DEVCONF = {
    "forwarding": 1,
    "rp_filter": 8,
    "arp_announce": 18,
    "arp_ignore": 19,
    "promote_secondaries": 20,
}

_NLMSG_ERROR = 2
_RTM_SETLINK = 19
_REQUEST_ACK = 0x5  # NLM_F_REQUEST | NLM_F_ACK
_IFLA_AF_SPEC = 26
_IFLA_INET_CONF = 1
_NESTED = 0x8000  # NLA_F_NESTED
_TIMEOUT_S = 5.0


def set_devconf(index: int, name: str, value: int) -> None:
    """Sets one setting of the link with that index; raises OSError as the kernel answers."""
    setting = _attribute(DEVCONF[name], struct.pack("=I", value))
    family = _attribute(_NESTED | socket.AF_INET, _attribute(_NESTED | _IFLA_INET_CONF, setting))
    link = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, 0, 0)
    body = link + _attribute(_NESTED | _IFLA_AF_SPEC, family)
    header = struct.pack("=IHHII", 16 + len(body), _RTM_SETLINK, _REQUEST_ACK, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.settimeout(_TIMEOUT_S)
        netlink.bind((0, 0))
        netlink.send(header + body)
        answer = netlink.recv(4096)
    kind = struct.unpack_from("=IH", answer)[1]
    code = -struct.unpack_from("=i", answer, 16)[0] if kind == _NLMSG_ERROR else errno.EPROTO
    if code:
        raise OSError(code, os.strerror(code))


def _attribute(kind: int, payload: bytes) -> bytes:
    padding = -len(payload) % 4
    return struct.pack("=HH", 4 + len(payload), kind) + payload + bytes(padding)
