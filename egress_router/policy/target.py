"""What a request asks to be connected to: one strict parser, and nothing is ever repaired.

1. The target is parsed once. What comes out is what is judged, resolved, dialled and sent as Host;
   the text it came from is used for nothing else.
2. CONNECT names `HOST:PORT` with both present (RFC 9110 §9.3.6); any other method the absolute form
   `http://HOST[:PORT][/PATH][?QUERY]` (RFC 9112 §3.2.2). Every other form is refused.
3. HOST is a name (see config.names), four plain decimal numbers, or an IPv6 address in brackets.
   Userinfo, percent-encoding, zones and any text that a C library might read as an address are
   refused: two readers of one target must not come to two hosts.
4. ASCII without blanks and control characters; the path is passed on byte for byte.
5. The Host field never decides anything: several, a broken one, or none where one is due is
   refused; one that names something else is replaced by the target (RFC 9112 §3.2.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final, TypeAlias

from egress_router.config.names import parse_name
from egress_router.config.text import parse_port, quote
from egress_router.errors import RefusalError

if TYPE_CHECKING:
    from collections.abc import Sequence

HTTP_PORT: Final = 80  # RFC 9110 §4.2.1
TARGETS_REMEMBERED: Final = 4096  # clients ask for the same few hosts again and again

_SCHEME = "http://"
_OUTSIDE_AUTHORITY = (  # what is looked for, and why it has no business there; first hit is named
    ("@", "holds userinfo, which no target may carry"),
    ("%", "holds a percent sign: neither encoding nor zones are taken"),
    ("/", "holds a path; expected HOST:PORT alone"),
    ("?", "holds a query; expected HOST:PORT alone"),
    ("#", "holds a fragment; expected HOST:PORT alone"),
    ("\\", "holds a backslash"),
)


@dataclass(frozen=True, slots=True)
class Name:
    """A host name; any spelling given is brought to normal form (`WWW.Example.com.` is lowered).

    Raises ValueError, with the reason, for a text that is no host name.
    """

    text: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", parse_name(self.text, underscores=True))

    def __str__(self) -> str:
        return self.text


IPAddress: TypeAlias = IPv4Address | IPv6Address
Host: TypeAlias = Name | IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a request wants to go."""

    host: Host
    port: int

    @property
    def authority(self) -> str:
        """`HOST:PORT`, an IPv6 address in brackets."""
        return f"{self._host_text}:{self.port}"

    @property
    def host_field(self) -> str:
        """The Host field of a plain http request: the port only where it is not 80."""
        return self._host_text if self.port == HTTP_PORT else self.authority

    @property
    def _host_text(self) -> str:
        return f"[{self.host}]" if isinstance(self.host, IPv6Address) else str(self.host)


@dataclass(frozen=True, slots=True, kw_only=True)
class AbsoluteUri:
    """A plain http request's target and what to ask it for.

    `path` is the origin-form to send: path and query unchanged, `/` where the URI has none. `bare`
    says that it had neither; OPTIONS then becomes `*` (RFC 9112 §3.2.4).
    """

    target: Target
    path: str
    bare: bool = False


def parse_authority(text: str | bytes) -> Target:
    """The target of a CONNECT request, e.g. `example.com:443` or `[2001:db8::1]:443`.

    Raises RefusalError (400).
    """
    authority = _ascii(text)
    target = _sound_target(authority, None)
    return target or _parse_target(authority, shown=authority, default_port=None)


def parse_absolute_uri(text: str | bytes) -> AbsoluteUri:
    """The target and path of a plain http request, e.g. `http://example.com:8080/a?b`.

    Raises RefusalError (400).
    """
    uri = _ascii(text)
    if uri[: len(_SCHEME)].lower() != _SCHEME:
        raise _refusal(uri, _why_not_http(uri))
    rest = uri[len(_SCHEME) :]
    if "#" in rest:
        raise _refusal(uri, "holds a fragment, which never leaves a client")
    end = min((at for at in (rest.find("/"), rest.find("?")) if at >= 0), default=len(rest))
    authority = rest[:end]
    target = _sound_target(authority, HTTP_PORT)
    if target is None:  # parsed again for the words of the refusal
        target = _parse_target(authority, shown=uri, default_port=HTTP_PORT)
    path = rest[end:]
    return AbsoluteUri(
        target=target, path=path if path.startswith("/") else f"/{path}", bare=not path
    )


def check_host_fields(
    target: Target, values: Sequence[str | bytes], *, required: bool = True
) -> bool:
    """Whether the Host fields of a request agree with its target; False is for the log alone.

    `values` are all Host field values as received; `required` is False for HTTP/1.0. Raises
    RefusalError (400) for several, for one that is no host, and for none where one is due.
    """
    if len(values) > 1:
        raise RefusalError(400, f"{len(values)} Host fields; a request has one")
    if not values:
        if required:
            raise RefusalError(400, "no Host field; HTTP/1.1 asks for one")
        return True
    field = _ascii(values[0])
    stated = _sound_target(field, target.port)
    if stated is None:
        stated = _parse_target(field, shown=field, default_port=target.port)
    return stated is target or stated == target


@lru_cache(maxsize=TARGETS_REMEMBERED)
def _sound_target(authority: str, default_port: int | None) -> Target | None:
    """What `_parse_target` makes of an authority, remembered; None for what it refuses."""
    try:
        return _parse_target(authority, shown=authority, default_port=default_port)
    except RefusalError:
        return None


def _parse_target(authority: str, *, shown: str, default_port: int | None) -> Target:
    """Cuts HOST and PORT apart; a missing port is refused unless there is a default."""
    for character, reason in _OUTSIDE_AUTHORITY:
        if character in authority:
            raise _refusal(shown, reason)
    if authority.startswith("["):
        inner, bracket, rest = authority[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise _refusal(shown, "brackets enclose an IPv6 address, followed by :PORT")
        host, colon, port_text = _parse_ipv6(inner, shown), rest[:1], rest[1:]
    else:
        host_text, colon, port_text = authority.partition(":")
        if ":" in port_text:
            raise _refusal(shown, "has several colons; an IPv6 address stands in brackets")
        host = _parse_host(host_text, shown)
    port = parse_port(port_text) if colon else default_port
    if port is None:
        found = f"has port {quote(port_text)}" if colon else "has no port"
        raise _refusal(shown, f"{found}; expected a number from 1 to 65535")
    return Target(host=host, port=port)


def _parse_ipv6(text: str, shown: str) -> Host:
    try:
        return IPv6Address(text)
    except ValueError:
        raise _refusal(shown, f"{quote(text)} is no IPv6 address") from None


def _parse_host(text: str, shown: str) -> Host:
    if not text:
        raise _refusal(shown, "names no host")
    if text.replace(".", "").isdigit():
        try:
            return IPv4Address(text)
        except ValueError:
            reason = f"{quote(text)} is no IPv4 address of four plain decimal numbers"
            raise _refusal(shown, reason) from None
    try:
        return Name(text)
    except ValueError as fault:
        raise _refusal(shown, f"{quote(text)} is no host: {fault}") from None


def _ascii(text: str | bytes) -> str:
    """The text, if it is visible ASCII without blanks."""
    if isinstance(text, bytes):
        text = text.decode("latin-1")  # cannot fail; what is not ASCII is refused with the rest
    if not text:
        raise RefusalError(400, "the target is empty")
    if not text.isascii():
        raise _refusal(text, "is not ASCII; an international name is sent in its xn-- form")
    if not text.isprintable() or " " in text:
        raise _refusal(text, "holds a blank or a control character")
    return text


def _why_not_http(uri: str) -> str:
    scheme, separator, _ = uri.partition("://")
    if scheme.lower() == "https" and separator:
        return "is an https URI; https goes through CONNECT HOST:PORT"
    if separator and scheme.isalnum():
        return f"has the scheme {quote(scheme)}; this proxy speaks http alone"
    if uri.startswith("/"):
        return "is a path; a proxy is asked with http://HOST/PATH"
    return "is no absolute http URI; expected http://HOST[:PORT]/PATH"


def _refusal(shown: str, reason: str) -> RefusalError:
    return RefusalError(400, f"target {quote(shown)} {reason}")
