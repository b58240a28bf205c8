"""The files that variables point to."""

from pathlib import Path

import pytest

from egress_router.service import environment as module
from egress_router.service.environment import file_variables, read_environment, watched_files

NAME = "EGRESS_HTTP_PROXY_DESTINATION_FILE"


def test_text_and_reasons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file's text, or why there is none: absent, not UTF-8, endless."""
    path = tmp_path / "list"
    variables = {NAME: f" {path} ", "PATH": "/bin"}
    read = read_environment(variables)
    assert read.unreadable == {str(path): "No such file or directory"}
    path.write_bytes("ü\n".encode())
    assert read_environment(variables).files == {str(path): "ü\n"}
    path.write_bytes(b"a\xff")
    assert "found byte 0xff" in read_environment(variables).unreadable[str(path)]
    monkeypatch.setattr(module, "FILE_BYTES_MAX", 1)
    assert "at most 1 bytes" in read_environment(variables).unreadable[str(path)]


def test_each_mode_has_a_file_of_its_own() -> None:
    """A daemon follows its own list's file and no other."""
    read = read_environment({NAME: "/none", "EGRESS_DESTINATION_FILE": "/other"})
    assert watched_files(read, "http") == ("/none",)
    assert watched_files(read, "redirect") == ("/other",)
    assert watched_files(read, "dns") == ()
    assert file_variables("dns") == ("EGRESS_DNS_PROXY_DESTINATION_FILE",)
