"""Host names as rules and requests may write them: one grammar, one normal form.

1. The normal form is lower case without the trailing dot; names compare by it alone.
2. Letters, digits and inner hyphens, labels of 1 to 63 and names of 1 to 253 octets (RFC 1123 §2.1,
   RFC 1035 §2.3.4). The underscore is let through only where the caller asks: hosts on the wire
   carry it, the originals refused it in a list.
3. ASCII only. Two libraries map `ß` to two different names, so nothing is mapped; an `xn--` label
   must decode to something (RFC 5890 §2.3.2.1).
4. A last label that is a number (`1`, `0x7f`) is never a name: C libraries read such texts as
   addresses (`127.1`, `2130706433`), and no top-level domain is numeric (RFC 3696 §2).
"""

from __future__ import annotations

import re

NAME_MAX = 253  # octets in text form: 255 on the wire less the length byte and the root (RFC 1035)
LABEL_MAX = 63

_LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_WIRE_LABEL = "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_WIRE_NAME = re.compile(rf"{_WIRE_LABEL}(?:\.{_WIRE_LABEL})*")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PUNYCODE = "xn--"


def parse_name(text: str, *, underscores: bool = False) -> str:
    """The normal form of a host name: `WWW.Example.com.` becomes `www.example.com`.

    Raises ValueError with the reason in words when the text is no host name.
    """
    name = text.removesuffix(".").lower() if text.isascii() else ""
    grammar = _WIRE_NAME if underscores else _NAME
    if len(name) > NAME_MAX or not grammar.fullmatch(name):
        raise ValueError(_fault(text, underscores=underscores))
    if _NUMBER.fullmatch(name, name.rfind(".") + 1):
        raise ValueError("its last label is a number, so it is neither a name nor a dotted quad")
    if _PUNYCODE in name:
        _check_punycode(name)
    return name


def _check_punycode(name: str) -> None:
    for label in name.split("."):
        if not label.startswith(_PUNYCODE):
            continue
        try:
            decoded = label.removeprefix(_PUNYCODE).encode().decode("punycode")
        except UnicodeError:
            decoded = ""
        if decoded.isascii():
            raise ValueError(f"its label '{label}' is no A-label: it decodes to nothing")


def _fault(text: str, *, underscores: bool) -> str:
    """Why a text is no name; only asked once that is known."""
    if not text.isascii():
        return "it is not ASCII; an international name is written in its xn-- form (A-labels)"
    name = text.removesuffix(".")
    if not name:
        return "a host name is missing"
    if len(name) > NAME_MAX:
        return f"it is {len(name)} octets long; a name has at most {NAME_MAX}"
    for label in name.split("."):
        if not label:
            return "it has an empty label: two dots in a row, or one in front"
        if len(label) > LABEL_MAX:
            return f"it has a label of {len(label)} octets; a label has at most {LABEL_MAX}"
        if label.startswith("-") or label.endswith("-"):
            return f"its label '{label}' begins or ends with a hyphen"
    allowed = (
        "letters, digits, hyphens and underscores" if underscores else "letters, digits and hyphens"
    )
    return f"a host name is made of {allowed}"
