"""The documentation holds together: every page has its place in the site, and every link leads to what it names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")] + sorted(DOCS.rglob("*.md"))
GENERATED = {"reference/http.md", "reference/command-line.md", "CHANGELOG.md"}  # by .ci/docs_pages.py
LINK = re.compile(r"\]\(([^)\s]+)\)")


def listed(place: Any) -> Iterator[str]:
    """The pages of a part of the navigation."""
    if isinstance(place, str):
        yield place
        return
    for below in place.values() if isinstance(place, dict) else place:
        yield from listed(below)


def test_every_page_has_one_place_in_the_site() -> None:
    places = list(listed(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]))
    assert len(places) == len(set(places))
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    decisions = {page for page in pages if page.startswith("decisions/")}  # which the hook adds, each of them
    assert set(places) == (pages - decisions) | GENERATED


def without_code(text: str) -> str:
    """Neither a comment of a shell is a heading, nor an index of Python a link."""
    return re.sub(r"`[^`\n]*`", "``", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))


def anchors(path: Path) -> set[str]:
    """What the page's headings are called in links."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return {
        re.sub(r"[^\w\s-]", "", heading.replace("`", "")).strip().lower().replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(without_code(page.read_text(encoding="utf-8"))):
        path, _, anchor = target.partition("#")
        if "://" in target or target.startswith("mailto:"):
            continue
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target
