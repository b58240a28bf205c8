"""Every piece of YAML in the documentation is a tested file, or a part of one."""

import re
import textwrap
from pathlib import Path

import pytest

from model.manifests import DEPLOY, ROOT

PAGES = tuple(
    sorted(
        str(path.relative_to(ROOT))
        for folder, pattern in ((ROOT, "*.md"), (ROOT / "docs", "**/*.md"), (DEPLOY, "**/*.md"))
        for path in folder.glob(pattern)
    )
)
FILES = {path: path.read_text(encoding="utf-8") for path in sorted(DEPLOY.rglob("*.yaml"))}


def snippets(text: str) -> list[str]:
    """The fenced pieces of YAML of a page."""
    return re.findall(r"^```yaml\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def is_part(snippet: str, text: str) -> bool:
    """Whether a file's lines hold those of a snippet, one after the other, at any indentation."""
    wanted = textwrap.dedent(snippet).rstrip("\n")
    lines, length = text.split("\n"), len(wanted.split("\n"))
    return any(
        textwrap.dedent("\n".join(lines[start : start + length])) == wanted
        for start in range(len(lines) - length + 1)
    )


@pytest.mark.parametrize("page", PAGES)
def test_snippets_are_tested_files(page: str) -> None:
    """What a reader copies from a page stands in a file that is built, validated and parsed."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for snippet in snippets(text):
        assert any(is_part(snippet, file) for file in FILES.values()), f"{page}:\n{snippet}"


def test_there_are_snippets() -> None:
    """The README shows one for each mode, so the test above has something to look at."""
    found = snippets((ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(found) >= 3


@pytest.mark.parametrize(
    ("snippet", "expected"),
    [
        ("a: 1\nb:\n- c\n", True),
        ("  b:\n  - c\n", True),
        ("- c\n", True),
        ("b:\n-  c\n", False),
        ("a: 1\n- c\n", False),
        ("b:\n- c\nd: 2\n", False),
    ],
)
def test_a_part_is_a_part(snippet: str, expected: bool) -> None:
    """Whole lines in a row are a part of a file, wherever they are indented; nothing else is."""
    assert is_part(snippet, "a: 1\nb:\n- c\n") is expected


@pytest.mark.parametrize("page", [page for page in PAGES if page != "README.md"])
def test_links_lead_somewhere(page: str) -> None:
    """Every relative link names a file or folder that is there."""
    text = (ROOT / page).read_text(encoding="utf-8")
    folder = (ROOT / page).parent
    targets = re.findall(r"\]\(([^)#:]+)\)", text)
    assert [target for target in targets if not (folder / Path(target)).exists()] == []


def test_every_overlay_is_in_the_readme() -> None:
    """The page about deploying names each overlay, and none that is not there."""
    text = (DEPLOY / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:redirect|http|dns)-[a-z-]+)`", text))
    assert named == {path.name for path in (DEPLOY / "overlays").iterdir()}
