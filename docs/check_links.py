"""Follow every link of the built site, and see that it needs no network.

    python docs/check_links.py docs/_build/html

Every page is read. An internal link must lead to a file that exists and, where it names a place on the
page, to an element with that id. Scripts, style sheets, fonts and pictures must come with the site. Links
that a reader may click to the outside are left alone: nothing is requested from anywhere.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

#: Attributes that load something, by tag; anchors are followed, not loaded.
LOADED = {"script": "src", "img": "src", "source": "src", "iframe": "src", "audio": "src", "video": "src"}
#: Relations of a link tag that load a file.
RELATIONS = {"stylesheet", "icon", "preload", "shortcut icon"}
IN_CSS = re.compile(r"""url\(\s*['"]?([^'")]+)|@import\s+['"]([^'"]+)""")


@dataclass
class Page(HTMLParser):
    """What a page offers (ids) and what it asks for.

    Parameters
    ----------
    ids : set of str
        Places on the page that a link can name.
    links : list of str
        Targets of anchors.
    resources : list of str
        What the browser loads by itself.
    """

    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    resources: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value for name, value in attrs if value is not None}
        self.ids |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag == "link" and values.get("rel", "").lower() in RELATIONS:
            self.resources.append(values["href"])
        if values.get(LOADED.get(tag, "")):
            self.resources.append(values[LOADED[tag]])
        self.resources += [part.split()[0] for part in values.get("srcset", "").split(",") if part.strip()]


def read(path: Path) -> Page:
    """Return what a page offers and asks for."""
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def outside(target: str) -> bool:
    """Whether a target is elsewhere; data inside the page is not."""
    return bool(urlsplit(target).netloc) or urlsplit(target).scheme in ("http", "https", "file", "mailto")


def broken(root: Path, page: Path, target: str, pages: dict[Path, Page]) -> str | None:
    """Return what is wrong with an internal target on a page, or None."""
    parts = urlsplit(target)
    if parts.scheme in ("data", "javascript"):
        return None
    aim = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if aim.is_dir():
        aim /= "index.html"
    if not aim.is_relative_to(root) or not aim.exists():
        return f"no file {parts.path}"
    place = unquote(parts.fragment)
    if place and aim in pages and place not in pages[aim].ids:
        return f"no place #{place} in {aim.relative_to(root)}"
    return None


def faults(root: Path) -> list[str]:
    """Return every fault of a built site as one line, pages and style sheets.

    Parameters
    ----------
    root : Path
        The folder that holds index.html.

    Returns
    -------
    list of str
    """
    files = (path for path in sorted(root.rglob("*.html")) if path.relative_to(root).parts[0] != "_static")
    pages = {path: read(path) for path in files}  # a theme keeps templates among its static files
    found = []
    for path, page in pages.items():
        where = path.relative_to(root)
        found += [f"{where}: loads {target}" for target in page.resources if outside(target)]
        for target in dict.fromkeys([*page.links, *page.resources]):
            fault = None if outside(target) else broken(root, path, target, pages)
            found += [f"{where}: {target}: {fault}"] if fault else []
    for path in sorted(root.rglob("*.css")):
        for match in IN_CSS.finditer(path.read_text(encoding="utf-8")):
            target = match[1] or match[2]
            fault = "from outside" if outside(target) else broken(root, path, target, pages)
            found += [f"{path.relative_to(root)}: {target}: {fault}"] if fault else []
    return found


def main(arguments: list[str]) -> int:
    """Print the faults of a site; return 1 where there are any, 2 where there is no site."""
    root = Path(arguments[0] if arguments else "docs/_build/html").resolve()
    if not (root / "index.html").exists():
        print(f"no site in {root}: build it with make docs", file=sys.stderr)
        return 2
    found = faults(root)
    print(*found, sep="\n", end="\n" if found else "")
    print(f"{len(list(root.rglob('*.html')))} pages, {len(found)} faults")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
