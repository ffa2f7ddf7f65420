"""What can be wrong with a value or with bytes: strategies for `hostile.py`."""

from __future__ import annotations

import copy
import datetime
import re
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import strategies as st
from world import Gone

# --- values ----------------------------------------------------------------------------------------------------------

MARKUP = r"""
<script>alert(1)</script> &amp; ](javascript:0) |a|b| `x` **b** \input{x} $x_1$ $\frac{$ =1+1 @a %s{} $(id) #x
]]> --> \\ %%
"""
ODD = r"""
. .. ../../up / a/b a\b C: ~ - -- --help * [a- a,b é 漢字 🙂 nan inf null true 0 007 1e999 average L2
anomaly CON mean a b
"""
UNSEEN = ["", " ", "\0", "a\0b", "\n", "a\nb", "\x1b[31mred", "\u202egnp.exe", "\ufeff", "e\u0301", "\udcff", "x" * 300]
NAMES = st.sampled_from([*MARKUP.split(), *ODD.split(), *UNSEEN]) | st.text(max_size=12)
NUMBERS = st.sampled_from(
    [0, -1, 1, 2, 3, 2**31, 2**32, 2**63, 2**64, 10**30, -(10**30), 1e308, -0.0, 1e-320, True, False]
)
NUMBERS |= st.sampled_from([float("nan"), float("inf"), -float("inf")])
SCALARS = NAMES | NUMBERS | st.integers(-3, 40) | st.floats() | st.just(datetime.date(1979, 5, 27))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=2),
    max_leaves=4,
)


def places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """The path of every value within."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield (*path, key)
        yield from places(one, (*path, key))


@st.composite
def changed(draw: Callable, value: Any, values: st.SearchStrategy = VALUES) -> Any:
    """Plain data in which some keys and values are others, or gone."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 3))):
        found = list(places(value))
        if not found:
            break
        *path, last = draw(st.sampled_from(found))
        inner = value
        for key in path:
            inner = inner[key]
        match draw(st.sampled_from(["delete", "rename", "retype", "retype", "swap"])):
            case "delete":
                del inner[last]
            case "rename" if isinstance(inner, dict):
                inner[draw(NAMES)] = inner.pop(last)
            case "swap" if isinstance(inner, dict):  # with something else of the same file, which may well be valid
                *_, other = draw(st.sampled_from(found))
                inner[last] = copy.deepcopy(inner.get(other, other))
            case _:
                inner[last] = draw(values)
    return value


# --- bytes -----------------------------------------------------------------------------------------------------------


@st.composite
def damaged(draw: Callable, content: bytes) -> Any:
    """What may stand where a whole file stood: a part of it, another encoding, a link, a folder, nothing."""
    n = len(content)
    kinds = ["cut", "flip", "flip", "insert", "zero", "bytes", "encoding", "deep", "number", "other"]
    match draw(st.sampled_from(kinds)):
        case "cut":
            return content[: draw(st.integers(0, n))]
        case "flip":
            data = bytearray(content or b"\0")
            for _ in range(draw(st.integers(1, 4))):
                data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
            return bytes(data)
        case "insert":
            at = draw(st.integers(0, n))
            return content[:at] + draw(st.binary(min_size=1, max_size=20)) + content[at:]
        case "zero":
            start = draw(st.integers(0, n))
            return content[:start] + bytes(draw(st.integers(1, 600))) + content[start:][600:]
        case "bytes":
            return draw(st.binary(max_size=80))
        case "encoding":
            text = content.decode("utf-8", "replace")
            return text.encode(draw(st.sampled_from(["utf-16", "utf-32", "utf-8-sig", "cp500", "utf-7"])), "replace")
        case "deep":
            return draw(st.sampled_from([b"[", b'{"a":', b"a = [", b"(", b"-"])) * draw(
                st.sampled_from([99, 3000, 99999])
            )
        case "number":
            numbers = [match.span() for match in re.finditer(rb"\d+", content)] or [(0, 0)]
            start, end = draw(st.sampled_from(numbers))
            return content[:start] + draw(st.sampled_from([b"9" * 5000, b"-1", b"1e999", b"NaN"])) + content[end:]
    return draw(st.sampled_from([None, Gone, "nowhere", "object.npy", "../here", "mine.toml", "/dev/null"]))
