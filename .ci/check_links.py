"""Check the links of a built site: each file that a page names is there, and each anchor in it.

Each picture has a text, too, for readers who can't see it.

`python .ci/check_links.py docs/_build` lists what is missing, and fails if anything is.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The links of a page, and the names that links may lead to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.names: set[str] = set()
        self.blind: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note one tag."""
        values = dict(attrs)
        self.names |= {value for name in ("id", "name") if (value := values.get(name))}
        self.links += [value for name in ("href", "src") if (value := values.get(name))]
        # Without a text of its own a picture gets its path.
        if tag == "img" and values.get("alt") in (None, "", values.get("src")):
            self.blind.append(str(values.get("src")))


def main(folder: str) -> int:
    """Return 1 if a link leads nowhere, and 0 if none does."""
    root = Path(folder).resolve()
    pages = {path: Page(path) for path in sorted(root.rglob("*.html"))}
    broken, checked = [], 0
    for path, page in pages.items():
        broken += [f"{path.relative_to(root)}: {name}: no alt text" for name in page.blind]
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            checked += 1
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchor = unquote(parts.fragment)
            there = target in pages and anchor in pages[target].names if anchor else target.exists()
            if not there:
                broken.append(f"{path.relative_to(root)}: {link}")
    print(*broken, f"{checked} links of {len(pages)} pages, {len(broken)} broken", sep="\n")
    return int(bool(broken) or not pages)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
