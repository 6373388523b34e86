"""Links between documentation pages lead to files and headings that exist."""

import re
from pathlib import Path

import pytest

from exporter import __version__

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page
    for folder in (".", "docs", "docs/design", "deploy", "benchmarks")
    for page in (ROOT / folder).glob("*.md")
)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page; GitHub drops punctuation and joins words with hyphens."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def test_changelog_has_this_version_below_what_is_not_released():
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert re.fullmatch(rf"{re.escape(__version__)} \(\d{{4}}-\d\d-\d\d\)", headings[1])


def test_index_lists_every_page():
    for index in ("docs/README.md", "docs/design/README.md"):
        folder = (ROOT / index).parent
        linked = set(re.findall(r"\]\(([\w.-]+\.md)\)", (ROOT / index).read_text(encoding="utf-8")))
        assert linked == {page.name for page in folder.glob("*.md")} - {"README.md"}
