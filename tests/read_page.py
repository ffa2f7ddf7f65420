"""A page as a browser takes it, for the tests of pages."""

from __future__ import annotations

import base64
import json
import zlib
from html.parser import HTMLParser


class Read(HTMLParser):
    """Its elements with their attributes, its tables, and what its scripts hold."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.scripts: list[str] = []
        self.inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.inside = tag if tag in ("script", "td", "th") else self.inside
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        elif tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self.inside = "" if tag in ("script", "td", "th") else self.inside

    def handle_data(self, data):
        if self.inside == "script":
            self.scripts[-1] += data
        elif self.inside:
            self.rows[-1][-1] = " ".join(f"{self.rows[-1][-1]} {data}".split())

    def json(self, name: str) -> dict:
        names = [attributes.get("id") for tag, attributes in self.elements if tag == "script"]
        return json.loads(zlib.decompress(base64.b64decode(self.scripts[names.index(name)])))
