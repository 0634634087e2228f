"""Pages can be found: each is named by the index of its folder, and what they point to is there."""
import re
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
PAGES = sorted([TOP / "README.md", *(TOP / "docs").rglob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(TOP)))
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    gone = [x for x in links if "://" not in x and not (page.parent / x).exists()]
    assert not gone


@pytest.mark.parametrize("index", ["docs/README.md", "docs/traffic/README.md"])
def test_the_index_names_every_page(index):
    index = TOP / index
    text = index.read_text()
    missing = [p.name for p in index.parent.glob("*.md") if p != index and f"({p.name})" not in text]
    assert not missing


def test_every_filter_has_its_page_and_is_named():
    registry = (TOP / "src/filters/registry.c").read_text()
    text = (TOP / "docs/filters.md").read_text()
    folders = sorted({(TOP / "src" / x).parent for x in re.findall(r'#include "(filters/[a-z]+/[a-z_]+/[a-z_]+\.h)"', registry)})
    assert len(folders) > 15
    missing = [str(f.relative_to(TOP)) for f in folders if not (f / "README.md").exists() or f"({f.relative_to(TOP)}/README.md)" not in text.replace("(../", "(")]
    assert not missing
