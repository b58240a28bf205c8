"""What stands beside the router in its pod, and behind it: Squid, tinyproxy, HAProxy, nginx."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from egress_router.lab.addresses import ADDRESSES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from egress_router.lab.process import Process
    from egress_router.lab.world import Lab

NGINX = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log crit;
events {{ worker_connections 8192; }}
http {{ access_log off; client_body_temp_path {folder}; proxy_temp_path {folder};
  fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
  keepalive_requests 100000000; sendfile on;
  server {{ listen 80 backlog=4096; root {folder}; location = /small {{ return 200 "ok"; }} }} }}
"""
# The original image's head and tail around the rules of its list.
SQUID = """
http_port {port}
acl to_partner dstdomain web.test
{rules}
http_access allow to_partner
http_access deny all
cache deny all
access_log {log}
cache_log /dev/null
debug_options ALL,0
shutdown_lifetime 0 seconds
pid_filename none
coredump_dir {folder}
visible_hostname router
pinger_enable off
netdb_filename none
max_filedescriptors 16384
acl all_ports port 1-65535
"""
TINYPROXY = """
Port {port}
Timeout 600
MaxClients 8000
LogLevel Critical
DisableViaHeader Yes
"""
# Debian 13's HAProxy and this one take the same file; the originals wrote its like.
HAPROXY = """
global
    log 127.0.0.1 local2
    maxconn 8000
defaults
    log global
    mode tcp
    option dontlognull
    option tcplog
    option redispatch
    retries 3
    timeout queue 1m
    timeout connect 10s
    timeout client 1h
    timeout server 1h
    timeout check 10s
resolvers dns
    nameserver ns {nameserver}:53
    resolve_retries 3
    timeout retry 1s
    hold valid 10s
"""
HAPROXY_PORT = """
frontend fe{port}
    bind :{port}
    default_backend be{port}
backend be{port}
    server-template dest 2 {name}:{target} check resolvers dns resolve-prefer ipv4
"""
BIG_BYTES = 1 << 20


def start_nginx(lab: Lab, folder: Path) -> Process:
    """A web server in the partner, with a small answer and one of 1 MB."""
    (folder / "big").write_bytes(os.urandom(BIG_BYTES))
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder), encoding="utf-8")
    return lab.start("partner", ("nginx", "-c", str(config)))


def start_squid(
    lab: Lab, folder: Path, port: int, *, log: str = "none", refused: Sequence[str] = ()
) -> Process:
    """Squid; `refused` are names that its list refuses before the one that it allows."""
    rules = ""
    if refused:
        (folder / f"{port}.names").write_text("\n".join(refused), encoding="utf-8")
        rules = f'acl refused dstdomain "{folder}/{port}.names"\nhttp_access deny refused'
    config = folder / f"{port}.conf"
    text = SQUID.format(port=port, log=log, folder=folder, rules=rules)
    config.write_text(text, encoding="utf-8")
    argv = ("squid", "-n", f"egr{os.getpid()}x{port}", "-N", "-f", str(config))
    return lab.start("pod", argv)


def remove_squid_files() -> None:
    """What Squid leaves in shared memory, under our name."""
    for left in Path("/dev/shm").glob(f"egr{os.getpid()}*"):  # noqa: S108 - see above
        left.unlink()


def start_tinyproxy(lab: Lab, folder: Path, port: int) -> Process:
    """Tinyproxy."""
    config = folder / "tinyproxy.conf"
    config.write_text(TINYPROXY.format(port=port), encoding="utf-8")
    return lab.start("pod", ("tinyproxy", "-d", "-c", str(config)))


def start_haproxy(lab: Lab, folder: Path, ports: range, name: str, target: int) -> Process:
    """HAProxy with a frontend and a backend for each port, as the originals' script wrote them."""
    config = folder / "haproxy.cfg"
    text = HAPROXY.format(nameserver=ADDRESSES.dns.v4)
    text += "".join(HAPROXY_PORT.format(port=port, name=name, target=target) for port in ports)
    config.write_text(text, encoding="utf-8")
    return lab.start("pod", ("haproxy", "-db", "-f", str(config)))
