"""Real clients through the real proxy to real servers: nginx, plain and by TLS, and aiohttp."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from egress_router.lab.addresses import ADDRESSES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from egress_router.lab.world import Lab

pytestmark = pytest.mark.netns
WORKERS = ("1", "2")

HERE = Path(__file__).parent
SOURCE = str(ADDRESSES.source.v4)
SOURCE6 = str(ADDRESSES.source.v6)
PROXY = f"http://{ADDRESSES.pod.v4}:8080"
PROXY6 = f"http://[{ADDRESSES.pod.v6}]:8080"
APP = "http://app.test:8000"
UPLOAD_BYTES = 10_000_000  # what the issue asks for; far more than any buffer on the way
LIMIT_S = 30.0
RECORDS = (
    "web.test. 60 IN A 203.0.113.10",
    "six.test. 60 IN AAAA 2001:db8:113::10",
    "dual.test. 60 IN A 203.0.113.10",
    "dual.test. 60 IN AAAA 2001:db8:113::10",
    "app.test. 60 IN A 203.0.113.11",
    "denied.test. 60 IN A 203.0.113.10",
)
NGINX = """
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr;
daemon off;
events {{ worker_connections 512; }}
http {{
  access_log off;
  default_type application/octet-stream;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  gzip_types *;
  server {{
    listen 203.0.113.10:80;
    listen [2001:db8:113::10]:80;
    listen 203.0.113.10:443 ssl http2;
    listen [2001:db8:113::10]:443 ssl http2;
    ssl_certificate {folder}/server.pem;
    ssl_certificate_key {folder}/server.key;
    root {folder}/www;
    add_header X-Source $remote_addr always;
    location = /who {{ default_type text/plain; return 200 "$remote_addr $scheme $host\\n"; }}
    location = /empty {{ return 204; }}
    location = /text {{ gzip on; gzip_min_length 1; gzip_proxied any; }}
  }}
  server {{
    listen 203.0.113.11:443 ssl;
    ssl_certificate {folder}/server.pem;
    ssl_certificate_key {folder}/server.key;
    location / {{
      proxy_pass http://203.0.113.11:8000;
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection upgrade;
    }}
  }}
}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Town:
    """A world with the proxy in it, the partner's servers, and files both sides can read."""

    scene: Any
    folder: Path
    authority: Path

    @property
    def lab(self) -> Lab:
        """The namespaces."""
        lab: Lab = self.scene.lab
        return lab

    def client(self, *argv: object, **env: str) -> subprocess.CompletedProcess[str]:
        """Runs a client in the cluster, the proxy in its environment as applications have it."""
        names = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ws_proxy", "wss_proxy")
        environment = {**dict.fromkeys(names, PROXY), "HOME": str(self.folder), **env}
        words = tuple(map(str, argv))
        return self.lab.run("client", words, environment, check=False, timeout=LIMIT_S)

    def curl(self, *argv: object) -> str:
        """What curl prints; fails with what it said if it fails."""
        done = self.client("curl", "-sS", "--cacert", self.authority, *argv)
        assert done.returncode == 0, f"{done.returncode} {done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def town(build: Any) -> Iterator[Town]:
    """One world for the module; every test leaves it as it was."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="town-")))
        folder.chmod(0o755)  # nginx's worker is another user
        make_certificate(folder)
        make_site(folder / "www")
        (folder / "nginx.conf").write_text(NGINX.format(folder=folder))
        scene = stack.enter_context(build("!denied.test\n*", RECORDS))
        nginx = scene.lab.start("partner", ("nginx", "-c", str(folder / "nginx.conf")))
        app = (sys.executable, str(HERE / "origin_app.py"), str(ADDRESSES.partners[1].v4), "8000")
        scene.lab.start("partner", app, name="app").wait_for_line("ready")
        ask = ("curl", "-sS", "--retry", "50", "--retry-connrefused", "--retry-delay", "0")
        scene.lab.run("partner", (*ask, "http://203.0.113.10/who"))
        assert nginx.running
        yield Town(scene=scene, folder=folder, authority=folder / "server.pem")


def make_certificate(folder: Path) -> None:
    """A key and a certificate that signs itself."""
    names = ",".join(f"DNS:{record.split()[0].rstrip('.')}" for record in RECORDS)
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=partner", "-addext", f"subjectAltName={names}"),
            *("-keyout", str(folder / "server.key"), "-out", str(folder / "server.pem")),
        ],
        check=True,
        capture_output=True,
    )


def make_site(root: Path) -> None:
    """Files of the web server, and a repository that git can clone from plain files."""
    root.mkdir()
    (root / "blob").write_bytes(noise(3_000_000))
    (root / "text").write_text("the same words again and again\n" * 2000)
    work = root.parent / "work"
    git = ("git", "-C", str(work), "-c", "user.name=t", "-c", "user.email=t@t.test")
    env = {**os.environ, "GIT_CONFIG_NOSYSTEM": "1", "HOME": str(root.parent)}
    work.mkdir()
    (work / "file").write_bytes(noise(200_000))
    for argv in (
        (*git, "init", "-q"),
        (*git, "add", "file"),
        (*git, "commit", "-qm", "one file"),
        ("git", "clone", "-q", "--bare", str(work), str(root / "repo.git")),
        ("git", "-C", str(root / "repo.git"), "update-server-info"),
    ):
        subprocess.run(argv, check=True, capture_output=True, env=env)


def noise(count: int) -> bytes:
    """Bytes that do not compress, the same each time."""
    return hashlib.shake_128(b"noise").digest(count)


def files_equal(left: Path, right: Path) -> bool:
    """Whether two files hold the same bytes."""
    return left.read_bytes() == right.read_bytes()


PYTHON = (sys.executable, str(HERE / "python_clients.py"))
GETTERS: dict[str, tuple[str, ...]] = {
    "curl": ("curl", "-sS", "--cacert", "CA", "URL"),
    "curl, tunnel": ("curl", "-sS", "-p", "--cacert", "CA", "URL"),
    "curl, HTTP/1.0": ("curl", "-sS", "-0", "--cacert", "CA", "URL"),
    "curl, CONNECT in HTTP/1.0": ("curl", "-sS", "-p", "--proxy1.0", PROXY[7:], "-k", "URL"),
    "wget": ("wget", "-q", "-O", "-", "--ca-certificate=CA", "URL"),
    "urllib": (*PYTHON, "urllib", "URL", "CA"),
    "requests": (*PYTHON, "requests", "URL", "CA"),
    "httpx": (*PYTHON, "httpx", "URL", "CA"),
    "aiohttp": (*PYTHON, "aiohttp", "URL", "CA"),
    "node": ("node", str(HERE / "node_client.js"), "URL"),
}


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("name", GETTERS)
def test_get(town: Town, name: str, scheme: str) -> None:
    """Every client gets its page, plain and by TLS, and the partner sees the source address."""
    env = {"NODE_EXTRA_CA_CERTS": str(town.authority)}
    if name == "node":
        env |= node_environment()
    words = {"URL": f"{scheme}://web.test/who", "CA": str(town.authority)}
    argv = [words.get(word, word.replace("=CA", f"={words['CA']}")) for word in GETTERS[name]]
    done = town.client(*argv, **env)
    assert done.stdout == f"{SOURCE} {scheme} web.test\n", done.stderr


def node_environment() -> dict[str, str]:
    """What makes Node's fetch use the proxy, where this Node can; skips without one."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed on this machine")
    asked = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)
    major = int(asked.stdout.removeprefix("v").split(".")[0])
    return {"NODE_USE_ENV_PROXY": "1"} if major >= 24 else {}


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("proxy", "host", "seen"),
    [
        (PROXY6, "web.test", SOURCE),
        (PROXY, "six.test", SOURCE6),
        (PROXY6, "dual.test", SOURCE),
        (PROXY6, "[2001:db8:113::10]", SOURCE6),
    ],
)
def test_families(town: Town, proxy: str, host: str, seen: str, scheme: str) -> None:
    """Either family on either side; an IPv4 address is preferred where there are both."""
    said = town.curl("-g", "-k", "-x", proxy, f"{scheme}://{host}/who")
    assert said.split()[:2] == [seen, scheme]


@pytest.mark.parametrize("url", ["http://web.test/who", "https://web.test/who"])
def test_keep_alive(town: Town, url: str) -> None:
    """Several requests of one client go by one connection."""
    said = town.curl("-w", "%{num_connects}\n", url, url, url)
    assert said.split()[3::4] == ["1", "0", "0"]


def test_upload_with_expectation(town: Town) -> None:
    """A large body waits for the server's own 100, and arrives whole."""
    path = town.folder / "upload"
    path.write_bytes(noise(UPLOAD_BYTES))
    expect = ("-H", "Expect: 100-continue", "--expect100-timeout", "25", "-m", "20", "-v")
    done = town.client("curl", "-sS", *expect, "--data-binary", f"@{path}", f"{APP}/up")
    assert done.returncode == 0, done.stderr
    assert "< HTTP/1.1 100 Continue" in done.stderr
    seen = json.loads(done.stdout)
    assert (seen["source"], seen["method"]) == (SOURCE, "POST")
    assert seen["digest"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert ["Content-Length", str(UPLOAD_BYTES)] in seen["fields"]


def test_chunked_upload(town: Town) -> None:
    """A body of unknown length arrives in chunks, and whole."""
    path = town.folder / "chunked"
    path.write_bytes(noise(1_000_003))
    chunked = ("-H", "Transfer-Encoding: chunked", "-H", "Expect:")
    seen = json.loads(town.curl(*chunked, "-X", "PUT", "--data-binary", f"@{path}", f"{APP}/up"))
    assert (seen["source"], seen["method"], seen["bytes"]) == (SOURCE, "PUT", 1_000_003)
    assert seen["digest"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert "content-length" not in {name.lower() for name, _ in seen["fields"]}


def test_what_the_partner_is_told(town: Town) -> None:
    """Path and query arrive as written; of the client itself the partner learns nothing."""
    ask = ("-H", "Proxy-Authorization: Basic c2VjcmV0", "-H", "X-Own: 1", "--path-as-is")
    seen = json.loads(town.curl(*ask, f"{APP}/a/../%2e%2E/?q=%20&r=#no"))
    assert seen["target"] == "/a/../%2e%2E/?q=%20&r="
    fields = {name.lower(): value for name, value in seen["fields"]}
    assert fields.keys() == {"host", "user-agent", "accept", "x-own", "via"}
    assert fields["via"].startswith("1.1 egress-router-")
    assert str(ADDRESSES.client.v4) not in json.dumps(seen)


def test_chunked_answer(town: Town) -> None:
    """An answer in chunks arrives whole, in chunks again for HTTP/1.1, until close for HTTP/1.0."""
    expected = "".join(chr(65 + number) * (number * 997 + 1) for number in range(26))
    head, _, body = town.curl("-i", f"{APP}/chunks").partition("\n\n")
    assert body == expected
    assert "transfer-encoding: chunked" in head.lower()
    assert f"X-Source: {SOURCE}" in head
    head, _, body = town.curl("-0", "-i", f"{APP}/chunks").partition("\n\n")
    assert body == expected
    assert "transfer-encoding" not in head.lower()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_head(town: Town, scheme: str) -> None:
    """HEAD tells the length and has no body; the connection goes on."""
    url = f"{scheme}://web.test/blob"
    said = town.curl("--http1.1", "-I", "-w", "%{size_download} %{num_connects}\n", url, url)
    assert said.count("Content-Length: 3000000\n") == 2
    assert [line for line in said.splitlines() if line[:2] == "0 "] == ["0 1", "0 0"]


def test_no_content(town: Town) -> None:
    """204 ends with its head, and the next request goes by the same connection."""
    shown = "%{http_code} %{num_connects} %{size_download}\n"
    said = town.curl("-w", shown, "http://web.test/empty", "http://web.test/empty")
    assert said == "204 1 0\n204 0 0\n"


def test_range(town: Town) -> None:
    """A part is asked for and answered as a part."""
    part = town.folder / "part"
    shown = town.curl("-r", "1000-1999", "-o", part, "-w", "%{http_code}", "http://web.test/blob")
    assert shown == "206"
    assert part.read_bytes() == (town.folder / "www/blob").read_bytes()[1000:2000]


@pytest.mark.parametrize("proxied", ["http", "https"])
def test_download(town: Town, proxied: str) -> None:
    """Three megabytes arrive byte for byte."""
    path = town.folder / f"download-{proxied}"
    town.curl("-o", path, f"{proxied}://web.test/blob")
    assert files_equal(path, town.folder / "www/blob")


def test_compressed_body(town: Town) -> None:
    """A compressed body is the server's, byte for byte: it is neither unpacked nor packed anew."""
    near, far = town.folder / "near.gz", town.folder / "far.gz"
    ask = ("-H", "Accept-Encoding: gzip", "-o")
    town.lab.run("partner", ("curl", "-sS", *ask, str(near), "http://203.0.113.10/text"))
    head = town.curl("-D", "-", *ask, far, "http://web.test/text").lower()
    assert "content-encoding: gzip" in head
    assert files_equal(near, far)
    assert far.read_bytes()[:2] == b"\x1f\x8b"


def test_http2_in_a_tunnel(town: Town) -> None:
    """What is spoken inside a tunnel is the ends' own matter: HTTP/2, many streams at once."""
    urls = [f"https://web.test/who?{number}" for number in range(20)]
    said = town.curl("--http2", "-Z", "-w", "%{http_version} %{num_connects}\n", *urls)
    lines = said.splitlines()
    assert lines.count(f"{SOURCE} https web.test") == 20
    assert sum(line.startswith("2 ") for line in lines) == 20


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_git_clone(town: Town, scheme: str) -> None:
    """Git clones, and the commit is the one that was made."""
    there = town.folder / f"clone-{scheme}"
    trust = ("-c", f"http.sslCAInfo={town.authority}")
    done = town.client("git", *trust, "clone", "-q", f"{scheme}://web.test/repo.git", there)
    assert done.returncode == 0, done.stderr
    assert files_equal(there / "file", town.folder / "work/file")


@pytest.mark.parametrize("url", [f"{APP}/websocket", "https://app.test/websocket"])
def test_websocket(town: Town, url: str) -> None:
    """A WebSocket talks both ways: by upgrade on a plain connection, by CONNECT with TLS."""
    done = town.client(*PYTHON, "websocket", url, town.authority)
    # Behind TLS the partner's own front end stands between: it is what the application sees.
    seen = SOURCE if url.startswith("http:") else str(ADDRESSES.partner.v4)
    assert done.stdout == seen, done.stderr


def test_denied(town: Town) -> None:
    """A person who is refused reads by which line, plain and at CONNECT."""
    said = town.curl("-w", "%{http_code}", "http://denied.test/who")
    assert said.endswith("403")
    assert "line 1" in said
    done = town.client("curl", "-sS", "-w", "%{http_connect}", "https://denied.test/who")
    assert done.returncode == 56
    assert done.stdout == "403"
    done = town.client("wget", "-q", "-O", "-", "-S", "http://denied.test/who")
    assert done.returncode == 8, "wget: the server answered with an error"
    assert "403 Forbidden" in done.stderr


def test_name_that_is_not(town: Town) -> None:
    """A name without an address is told apart from a refusal, and nothing hangs."""
    said = town.curl("-m", "5", "-w", "%{http_code}", "http://nowhere.test/")
    assert said.endswith("502")
    assert "nowhere.test" in said
