"""What an HTML page of ours shows, for tests."""

from __future__ import annotations

import base64
import io
from html.parser import HTMLParser
from pathlib import Path

from PIL import Image


class Parsed(HTMLParser):
    """Text, table cells, pictures and references of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.sources: list[str] = []
        self.references: list[str] = []
        self.texts: list[str] = []
        self.by_class: dict[str, list[str]] = {}
        self.widths: list[str] = []
        self.tags: list[str] = []
        self._open: list[tuple[str, str]] = []
        self.feed(path.read_text(encoding='utf-8'))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or '' for name, value in attrs}
        self.tags.append(tag)
        self.references += [v for k, v in attributes.items() if k in ('href', 'srcset', 'action', 'data', 'poster')]
        if 'src' in attributes:
            self.sources.append(attributes['src'])
        if tag == 'i':
            self.widths.append(attributes['style'])
        if tag == 'tr':
            self.rows.append([])
        if tag in ('td', 'th'):
            self.rows[-1].append('')
        if tag not in ('meta', 'img', 'source'):
            self._open.append((tag, attributes.get('class', '')))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop()[0] == tag  # every element is closed in order

    def handle_data(self, data: str) -> None:
        tags = [tag for tag, _ in self._open]
        if 'td' in tags or 'th' in tags:
            self.rows[-1][-1] += data
        for tag, name in self._open:
            self.by_class.setdefault(name.split(' ')[-1] or tag, []).append(data)
        if 'style' not in tags:
            self.texts.append(data)

    def of(self, name: str) -> str:
        return ' '.join(' '.join(self.by_class.get(name, [])).split())


def decoded(source: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(source.split(',', 1)[1], validate=True)))
