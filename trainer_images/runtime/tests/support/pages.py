"""Reports as a reader without a network sees them."""

from __future__ import annotations

import base64
from html.parser import HTMLParser


class Page(HTMLParser):
    """Text and pictures of a page; refuses whatever would have to be fetched from elsewhere."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text = ""
        self.pictures: dict[str, bytes] = {}
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link", "iframe"), tag
        given = dict(attrs)
        assert "href" not in given
        if tag == "img":
            kind, _, content = str(given["src"]).partition(",")
            assert kind == "data:image/png;base64"
            self.pictures[str(given["alt"])] = base64.b64decode(content)

    def handle_data(self, data: str) -> None:
        self.text += data
