"""The renderings: small examples by hand, and hostile names read back by independent parsers."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from harness import HarnessError
from harness.report.table import FORMATS, Cell, Table, render

EXAMPLE = Table(
    title="Test 9: made up",
    head=[["", "RotNet", "RotNet", "SSL"], ["Normal", "MAX", "ODIN", "KL"]],
    rows=[
        ["0 & 1", Cell("0.91", 0.9125, bold=True), Cell("0.90", 0.9), Cell("–")],
        ["dog_1", Cell("0.50", 0.5), Cell("0.25", 0.25), Cell("1.00", 1.0)],
        ["Average", Cell("0.71", 0.70625), Cell("0.58", 0.575), "–"],
    ],
    notes=["3 seeds", "100% of images"],
    rule_before_last=True,
)

BY_HAND = {}
BY_HAND["md"] = """\
### Test 9: made up

| Normal | RotNet MAX | RotNet ODIN | SSL KL |
| --- | ---: | ---: | ---: |
| 0 &amp; 1 | **0.91** | 0.90 | – |
| dog\\_1 | 0.50 | 0.25 | 1.00 |
| Average | 0.71 | 0.58 | – |

- 3 seeds
- 100% of images
"""
BY_HAND["html"] = """\
<table>
<caption>Test 9: made up</caption>
<thead>
<tr><th scope="col" rowspan="2">Normal</th><th scope="colgroup" colspan="2">RotNet</th>\
<th scope="colgroup" colspan="1">SSL</th></tr>
<tr><th scope="col">MAX</th><th scope="col">ODIN</th><th scope="col">KL</th></tr>
</thead>
<tbody>
<tr><th scope="row">0 &amp; 1</th><td><strong>0.91</strong></td><td>0.90</td><td>–</td></tr>
<tr><th scope="row">dog_1</th><td>0.50</td><td>0.25</td><td>1.00</td></tr>
</tbody>
<tfoot>
<tr><th scope="row">Average</th><td>0.71</td><td>0.58</td><td>–</td></tr>
</tfoot>
</table>
<ul>
<li>3 seeds</li>
<li>100% of images</li>
</ul>
"""
BY_HAND["tex"] = r"""\begin{table}
\centering
\caption{Test 9: made up}
\begin{tabular}{lrrr}
\toprule
 & \multicolumn{2}{c}{RotNet} & \multicolumn{1}{c}{SSL} \\
\cmidrule(lr){2-3} \cmidrule(lr){4-4}
Normal & MAX & ODIN & KL \\
\midrule
0 \& 1 & \textbf{0.91} & 0.90 & – \\
dog\_1 & 0.50 & 0.25 & 1.00 \\
\midrule
Average & 0.71 & 0.58 & – \\
\bottomrule
\end{tabular}
\par\medskip\footnotesize\raggedright
3 seeds\par
100\% of images\par
\end{table}
"""
BY_HAND["csv"] = """\
Normal,RotNet MAX,RotNet ODIN,SSL KL
0 & 1,0.9125,0.9,–
dog_1,0.5,0.25,1.0
Average,0.70625,0.575,–
"""


@pytest.mark.parametrize("form", FORMATS)
def test_example_by_hand(form):
    assert render(EXAMPLE, form) == BY_HAND[form]


def test_one_header_row_without_notes_or_rule():
    table = Table("T", [["Normal", "MAX"]], [["0", Cell("0.50", 0.5)]])
    assert render(table, "md") == "### T\n\n| Normal | MAX |\n| --- | ---: |\n| 0 | 0.50 |\n"
    assert '<tr><th scope="col">Normal</th><th scope="col">MAX</th></tr>' in render(table, "html")
    assert "tfoot" not in render(table, "html")
    assert "\\toprule\nNormal & MAX \\\\\n\\midrule\n0 & 0.50 \\\\\n\\bottomrule\n" in render(table, "tex")
    assert "footnotesize" not in render(table, "tex")


def test_a_column_that_is_its_own_group_stands_alone():
    table = Table("T", [["Normal", "A", "A", "Jigsaw", "A"], ["Normal", "x", "y", "", "z"]], [["0", *"1234"]])
    assert render(table, "csv").splitlines()[0] == "Normal,A x,A y,Jigsaw,A z"
    head = render(table, "html").partition("<thead>")[2].partition("</thead>")[0]
    assert head.count('rowspan="2"') == 2
    assert re.findall(r'colspan="(\d)"', head) == ["2", "1"]
    assert r"\cmidrule(lr){2-3} \cmidrule(lr){5-5}" in render(table, "tex")


@pytest.mark.parametrize("form", FORMATS)
def test_a_table_without_rows(form):
    assert "Normal" in render(Table("T", [["Normal", "MAX"]], [], rule_before_last=True), form)


def test_what_is_no_table_is_refused():
    with pytest.raises(HarnessError, match="'mdx' is unknown; did you mean 'md'"):
        render(EXAMPLE, "mdx")
    with pytest.raises(ValueError, match="3 header rows"):
        Table("T", [["a"], ["b"], ["c"]], [])
    with pytest.raises(ValueError, match="rows of 1 and 2 cells"):
        Table("T", [["a"]], [["0"], ["0", "1"]])


def test_csv_keeps_numbers_whole_and_disarms_formulas():
    row = [Cell("-0.33", -1 / 3), "=1+1", "+1", "-1", "@SUM(A1)", " \n=1", "a=b", Cell("5", 5)]
    read = next(csv.reader(io.StringIO(render(Table("T", [["h"] * 8], [row]), "csv").partition("\n")[2])))
    assert float(read[0]) == -1 / 3
    assert read[1:] == ["'=1+1", "'+1", "'-1", "'@SUM(A1)", "'=1", "a=b", "5"]


# Hostile names

SPECIAL = st.text(st.sampled_from("|\\`*_[]()<>&\"'~#$%^{}=+-@!:;,./1 a\n\r\t\0\x1b\u2028\u202e\ud800é–"), max_size=12)
WORDS = r"""<script>alert(1)</script>  </td></table><td>  <!--  &lt;b&gt; &amp; &#124;  " onload="x  \|  \  a|b  \\[2cm]
    **b** _i_ ~~s~~ `c`  [a](http://x)  ![a](b)  1. one  - - -  ---  ===  # h  [2cm]  *  }\input{x}%  =cmd()"""
NAMES = st.sampled_from(re.split(r"\s\s+", WORDS)) | SPECIAL | st.text(max_size=12)
MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])


@st.composite
def hostile(draw):
    """A table of two columns, and its texts as they should read: title, header, cells, notes."""
    title, note = draw(NAMES), draw(NAMES.filter(visible))
    head = draw(st.lists(NAMES.filter(visible), min_size=2, max_size=2))
    rows = draw(st.lists(st.lists(NAMES, min_size=2, max_size=2), min_size=1, max_size=3))
    bold = draw(st.booleans())
    table = Table(title, [head], [[Cell(text, None, bold) for text in row] for row in rows], [note])
    return table, visible(title), [*map(visible, head)], [[*map(visible, row)] for row in rows], visible(note)


def visible(text: str) -> str:
    """One line of the characters that show: neither controls and the like (C..) nor separators (Z..)."""
    return re.sub(" +", " ", "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in text)).strip()


class Page(HTMLParser):
    """Every tag of a page, and the text in each of its blocks."""

    def __init__(self, page: str):
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.blocks: dict[str, list[str]] = {"caption": [], "h3": [], "th": [], "td": [], "li": []}
        self.block: list[str] | None = None
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag in self.blocks:
            self.block = self.blocks[tag]
            self.block.append("")

    def handle_endtag(self, tag):
        if tag in self.blocks:
            self.block = None

    def handle_data(self, data):
        if self.block is None:
            assert not data.strip()
        else:
            self.block[-1] += data

    def handle_comment(self, data):
        raise AssertionError(data)

    handle_decl = handle_pi = unknown_decl = handle_comment


def marks(table: Table, empty: bool = True) -> int:
    """How many cells should carry a <strong>."""
    return sum(cell.bold for row in table.rows for cell in row if empty or visible(cell.text))


@given(hostile())
def test_html_reads_back(drawn):
    table, title, head, rows, note = drawn
    page = Page(render(table, "html"))
    assert page.blocks["caption"] == [title]
    assert page.blocks["th"] == head + [row[0] for row in rows]
    assert page.blocks["td"] == [row[1] for row in rows]
    assert page.blocks["li"] == [note]
    tags = {tag: page.tags.count(tag) for tag in page.tags}
    n = len(rows)
    expected = {"table": 1, "caption": 1, "thead": 1, "tbody": 1, "tr": n + 1, "th": n + 2, "td": n, "ul": 1, "li": 1}
    expected |= {"strong": marks(table)} if marks(table) else {}
    assert tags == expected


@given(hostile())
def test_markdown_reads_back(drawn):
    table, title, head, rows, note = drawn
    text = render(table, "md")
    assert "<" not in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(rows)
    assert {len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in lines} == {3}

    page = Page(MARKDOWN.render(text))
    assert [block.strip() for block in page.blocks["h3"]] == [title]
    assert page.blocks["th"] == head
    assert page.blocks["td"] == [text for row in rows for text in row]
    assert [block.strip() for block in page.blocks["li"]] == [note]
    n = len(rows)
    expected = {"h3": 1, "table": 1, "thead": 1, "tbody": 1, "tr": n + 1, "th": 2, "td": 2 * n, "ul": 1, "li": 1}
    expected |= {"strong": marks(table, empty=False)} if marks(table, empty=False) else {}
    assert {tag: page.tags.count(tag) for tag in page.tags} == expected


@given(hostile())
def test_csv_reads_back(drawn):
    table, _, head, rows, _ = drawn
    read = list(csv.reader(io.StringIO(render(table, "csv"))))
    assert read == [[f"'{text}" if text[:1] in [*"=+-@"] else text for text in row] for row in [head, *rows]]


TEX_TOKEN = re.compile(r"\\(?P<word>[A-Za-z]+)(?P<end>\{\})?|\\(?P<sign>[{}$&#_%])|\{(?P<kept>[\[\]*])\}|(?P<plain>.)")
TEX_WORDS = {"textbackslash": "\\", "textasciicircum": "^", "textasciitilde": "~"}
TEX_WORDS |= {"textless": "<", "textgreater": ">", "textbar": "|"}


def typeset(tex: str) -> str:
    """What LaTeX prints for an escaped text; anything with a meaning to it that is not escaped fails."""
    shown = ""
    for token in TEX_TOKEN.finditer(tex):
        if token["word"]:
            assert token["end"], token
            shown += TEX_WORDS[token["word"]]
        else:
            shown += token["sign"] or token["kept"] or token["plain"]
            assert not token["plain"] or token["plain"] not in "\\{}$&#^_~%[]*<>|", token
    return shown


@given(hostile())
def test_latex_reads_back(drawn):
    table, title, head, rows, note = drawn
    text = render(table, "tex")
    bare = re.sub(r"\\[{}]", "", text)
    assert bare.count("{") == bare.count("}")

    lines = text.split("\n")
    assert typeset(lines[2].removeprefix(r"\caption{").removesuffix("}")) == title
    assert lines[-3].endswith(r"\par")
    assert typeset(lines[-3].removesuffix(r"\par")) == note
    body = [line for line in lines if line.endswith(r" \\")]
    read = [re.split(r" (?<!\\)& ", line.removesuffix(r" \\")) for line in body]
    unbold = [[re.sub(r"^\\textbf\{(.*)\}$", r"\1", cell) for cell in row] for row in read]
    assert [[typeset(cell) for cell in row] for row in unbold] == [head, *rows]
