"""The site that `make docs` builds: without a warning, and without anything that comes from the network."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


class Loaded(HTMLParser):
    """What a browser fetches by itself to show a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        loads = tag in {"script", "img", "iframe", "source", "embed"}
        if loads and attributes.get("src"):
            self.addresses.append(attributes["src"] or "")
        if tag == "link" and attributes.get("rel") in {"stylesheet", "icon", "preload", "preconnect"}:
            self.addresses.append(attributes["href"] or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built by the command of the Makefile, elsewhere."""
    recipe = re.search(r"^docs: .*\n\t@\$\(PY\) (.*) \$\(ARGS\)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe is not None
    folder = tmp_path_factory.mktemp("site")
    words = [str(folder) if word == "build/site" else word for word in recipe[1].split()]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return folder


def pages(site: Path) -> Iterator[tuple[str, str]]:
    return ((str(path.relative_to(site)), path.read_text()) for path in site.rglob("*.html"))


def test_every_page_is_there_and_can_be_reached(site: Path) -> None:
    names = {str(path.relative_to(ROOT / "docs").with_suffix("")) for path in (ROOT / "docs").rglob("*.md")}
    index = (site / "index.html").read_text()
    assert names == {name for name in names if (site / f"{name}.html").exists()}
    top_level = {name for name in names if "/" not in name} - {"index"}
    assert top_level == {name for name in top_level if f'href="{name}.html"' in index}


def test_nothing_is_fetched_from_the_network(site: Path) -> None:
    fetched = [(name, address) for name, text in pages(site) for address in Loaded(text).addresses]
    assert len(fetched) > len(list(pages(site)))
    assert [(name, address) for name, address in fetched if re.match(r"(\w+:)?//", address)] == []
    for style in site.rglob("*.css"):
        text = style.read_text()
        assert re.findall(r"@import[^;]*|url\(['\"]?(?:\w+:)?//[^)]*", text) == [], style.name


def test_the_reference_has_every_public_name(site: Path) -> None:
    import remotemedia

    text = "".join(text for name, text in pages(site) if name.startswith("reference/"))
    missing = [name for name in remotemedia.__all__ if f'id="remotemedia.{name}"' not in text]
    in_errors = [name for name in missing if f'id="remotemedia.core.exceptions.{name}"' in text]
    assert sorted(set(missing) - set(in_errors)) == ["__version__"]
