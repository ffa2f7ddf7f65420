"""The data that a page carries: JSON, compressed, which halves the page.

The page's script unpacks them as it starts; nothing else reads them but a check of the page, and a later page.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from typing import Any

EMBEDDED = re.compile(r'<script type="application/zlib" id="(\w+)">([A-Za-z0-9+/=]*)</script>')
"""The data of a page, each with its name; nothing in them can be read as markup."""
LIMIT = 1 << 28
"""Bytes that data may unpack to: a page that comes from elsewhere can't fill the memory."""


def pack(data: Any) -> str:
    """Plain data as ASCII text.

    Raises:
        ValueError: a number in it is not finite, which JSON doesn't have.
    """
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def unpack(text: str) -> Any:
    """The data again.

    Raises:
        ValueError: `pack` did not make this.
    """
    reader = zlib.decompressobj()
    try:
        found = reader.decompress(base64.b64decode(text, validate=True), LIMIT)
        if not reader.eof or reader.unused_data:
            raise ValueError("cut off, too large, or followed by something else")
        return json.loads(found)
    except (ValueError, zlib.error, RecursionError) as error:
        raise ValueError(f"not packed data: {error}") from error


def embedded(page: str, name: str) -> dict[str, Any]:
    """The data that a page carries under a name; {} if it has none that can be read."""
    found = {match[1]: match[2] for match in EMBEDDED.finditer(page)}
    try:
        data = unpack(found[name])
    except (KeyError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}
