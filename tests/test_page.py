"""The leaderboard as a web page: its numbers, what may not get into it, its pictures, and its place in a folder."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from made_up import metrics
from made_up import record as made_up_record
from PIL import Image
from sklearn.metrics import auc, roc_auc_score
from tiny import case, harness, named, plugin

from harness.plugins import Plugins
from harness.records import Record, Store
from harness.report.leaderboard import leaderboards
from harness.report.page import page
from harness.report.page.evidence import PARTS, POINTS, histogram, roc
from harness.report.page.pictures import EACH, LEVELS
from harness.report.published import read_published

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    '"><img src=x onerror=alert(1)>',
    "&lt;b&gt; {{ 7 * 7 }} {% raw %}",
    "a\u202eb\u2028c\x00d\x1b[2J",
]


class Read(HTMLParser):
    """A page as a browser takes it: its elements with their attributes, its tables, and what its scripts hold."""

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
        return json.loads(self.scripts[names.index(name)])


@pytest.fixture(scope="module")
def made(run_here):
    """Test 2 on digits: a method of one's own, one that fails now and then, and one that does not apply to one class.
    The records, the page, and the same tables in Markdown."""
    with run_here("page"):
        bad = plugin("bad", fit=f"assert run.seed or train.images.shape[0] > 300, 'too <few> & odd'; {_mean()}")
        words = ("--protocol", "test2", "--case", "1,2,3", "--seed", "0,1", "--set", "recipe.epochs=1")
        harness("run", *words, "--method", f"{plugin()},{bad},subcluster", code=1)
        text = harness("leaderboard", "--format", "html").out
        return list(Store(Path("results")).records()), text, harness("leaderboard").out


def _mean() -> str:
    return "self.mean = train.images.float().mean(0)"


def board(records: list[Record], scores=None, **more) -> str:
    return page(leaderboards(records), scores or (lambda record: {}), read_published(), **more)


# --- the numbers -----------------------------------------------------------------------------------------------------


def test_the_tables_are_those_of_the_leaderboard(made):
    _, text, markdown = made
    rows = [line.strip("| ").replace("**", "").split(" | ") for line in markdown.splitlines() if line.startswith("| ")]
    groups, *found = Read(text).rows
    assert groups == ["number", "SSL", "RotNet", "Proposed", "bad", "mean-image"]
    assert ["number", *found[0]] == ["number", "KL", "MAX", "ODIN", "MAX", "ODIN", "L2", "L2"]
    assert found[1:] == rows[2:]
    assert any("failed" in cell for row in found for cell in row)
    assert [re.sub(r"\*", "", cell) for cell in re.findall(r"\*\*\d\.\d{3}", markdown)] == re.findall(
        r"<strong>(\d\.\d{3})", text
    )


def test_what_a_cell_opens_is_what_its_records_say(made):
    records, text, _ = made
    data = Read(text).json("data")
    runs, facts = data["runs"], data["facts"]
    checked = 0
    for entry in data["entries"]:
        mine = [one for one in records if (one.method, one.case) == (entry["method"], entry["case"])]
        mine.sort(key=lambda one: one.seed)
        found = [runs[number] for number in entry["runs"]]
        assert [(run["seed"], run["status"], run["reason"]) for run in found] == [
            (one.seed, one.status, one.reason) for one in mine
        ]
        assert facts[entry["normal"]] == [[name] for name in "01234"[: int(entry["case"])]]
        assert facts[entry["anomaly"]] == list("56789")
        for one, run, numbers in zip(mine, found, entry["numbers"], strict=True):
            if one.status == "ok":
                true = one.scores[entry["score"]]
                assert numbers == pytest.approx(
                    [true.auroc, true.auroc_low, true.auroc_high, true.aupr, true.fpr95], abs=1e-6
                )
                assert run["seconds"] == [one.fit_seconds, one.score_seconds]
                assert facts[run["facts"]["recipe_values"]] == one.recipe_values
                assert facts[run["facts"]["numerics"]] == one.numerics
                assert facts[run["facts"]["provenance"]]["commit"] == one.provenance["commit"]
                assert facts[run["facts"]["provenance"]]["processor"] == one.provenance["processor"]
                checked += 1
        if not mine:
            assert f"--method {entry['method']} --case {entry['case']}" in entry["command"]
    assert checked >= 6
    cells = [attributes["data-entries"] for tag, attributes in Read(text).elements if "data-entries" in attributes]
    assert len(cells) == 5 * 7


def test_an_average_opens_the_cases_that_it_is_of(here):
    cases = {"a": case(["0"], near=["6"], far=["patches"]), "b": case(["1"], near=["7"], far=["8"])}
    for rows in ("cases", "methods"):
        protocol = named(cases, table={"title": "Table 9", "corner": "normal", "average": True, "rows": rows})
        harness("run", "--protocol", protocol, "--method", plugin())
        read = Read(harness("leaderboard", "--protocol", protocol, "--format", "html").out)
        entries = read.json("data")["entries"]
        of = [attrs["data-entries"].split() for tag, attrs in read.elements if attrs.get("data-place") == "average"]
        named_so = [[(entries[int(n)]["case"], entries[int(n)]["set"]) for n in numbers] for numbers in of]
        assert named_so == [[("a", "near"), ("b", "near")], [("a", "far"), ("b", "far")]]


def test_the_paper_s_numbers_stand_beside_ours():
    records = [made_up_record("test2", "mnist", "3", "ssl", {"KL": metrics(0.7)})]
    pairs = {"normal.KL": np.array([0.0, 1]), "anomaly.KL": np.array([1.0, 2])}
    read = Read(board(records, lambda record: pairs))
    (printed,) = (p for p in read_published() if (p.dataset, p.case, p.method) == ("mnist", "3", "ssl") and
                  p.protocol == "test2")  # fmt: skip
    (row,) = (row for row in read.rows if row[0] == "3")
    assert row[1] == f"0.700 paper {printed.printed_as}"
    (entry,) = (e for e in read.json("data")["entries"] if (e["case"], e["method"]) == ("3", "ssl"))
    assert entry["paper"]["difference"] == pytest.approx(0.7 - printed.value)
    assert entry["paper"]["verdict"] == "more than noise"
    # Where nothing was run, the paper's number is there all the same.
    assert any(cell.startswith("not run paper") for cell in row)


@pytest.mark.parametrize("n", [20, 3000])
@pytest.mark.parametrize("ties", [False, True])
def test_a_curve_keeps_its_area_and_a_histogram_its_images(n, ties):
    rng = np.random.default_rng(n)
    normal, anomaly = rng.normal(size=n), rng.normal(1, 2, size=n + 7)
    if ties:
        normal, anomaly = normal.round(), anomaly.round()
    false, true = roc(normal, anomaly)
    assert len(false) == len(true) <= POINTS
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, PARTS, PARTS)
    truth = np.repeat([0, 1], [n, n + 7])
    area = auc(np.array(false) / PARTS, np.array(true) / PARTS)
    assert area == pytest.approx(roc_auc_score(truth, np.concatenate([normal, anomaly])), abs=0.004)
    counted = histogram(normal, anomaly)
    assert (sum(counted["normal"]), sum(counted["anomaly"])) == (n, n + 7)


# --- what may not get into it ----------------------------------------------------------------------------------------


def test_the_page_needs_nothing_from_elsewhere(made):
    read = Read(made[1])
    (policy,) = (a["content"] for tag, a in read.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert not re.search(r"https?:|\*|'unsafe", policy)
    style = made[1].partition("<style>")[2].partition("</style>")[0]
    for kind, content in (("script", read.scripts[-1]), ("style", style)):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert not [tag for tag, _ in read.elements if tag in ("link", "iframe", "img", "object", "embed", "base")]
    assert not [a for _, a in read.elements if any(name.startswith("on") or name in ("src", "style") for name in a)]
    links = [a["href"] for _, a in read.elements if "href" in a]
    ids = [a["id"] for _, a in read.elements if "id" in a]
    assert all(link.removeprefix("#") in ids for link in links)
    assert len(ids) == len(set(ids))
    assert not re.search(r"@import|url\(", style)


def test_hostile_names_stay_text(here):
    cases = {name: case(["0", "1"], **{name: ["6"], "far": ["7"]}) for name in HOSTILE}
    protocol = named(cases, table={"title": HOSTILE[0], "corner": HOSTILE[2], "average": True}, title=HOSTILE[1])
    bad = plugin("bad", fit=f"raise ValueError({HOSTILE[0]!r} + {HOSTILE[1]!r})")
    note = plugin(fit=f"self.mean = train.images.float().mean(0); run.numerics[{HOSTILE[2]!r}] = {HOSTILE[0]!r}")
    harness("run", "--protocol", protocol, "--method", f"{bad},{note}", code=1)
    text = harness("leaderboard", "--protocol", protocol, "--format", "html").out
    read = Read(text)
    assert [attributes.get("type") for tag, attributes in read.elements if tag == "script"] == [
        *["application/json"] * 2,
        None,
    ]
    known = {tag for tag, _ in Read(harness("leaderboard", "--protocol", "test2", "--results", _published(), "--format",
                                            "html").out).elements} | {"tfoot"}  # fmt: skip
    assert {tag for tag, _ in read.elements} <= known
    assert not [a for _, a in read.elements if any(name.startswith("on") for name in a)]
    headings = {row[0] for row in read.rows}
    assert {" ".join(name.split()) for name in HOSTILE[:4]} <= headings
    assert "a b c d [2J" in headings
    assert not re.search("[\u202e\u2028\x00\x1b]", text)
    data = read.json("data")
    assert any(run["reason"].startswith("ValueError: " + HOSTILE[0] + HOSTILE[1]) for run in data["runs"])
    assert {HOSTILE[2]: HOSTILE[0]}.items() <= next(
        f for f in data["facts"] if isinstance(f, dict) and HOSTILE[2] in f
    ).items()


def _published() -> Path:
    return Path(__file__).parents[1] / "leaderboard"


# --- the pictures ----------------------------------------------------------------------------------------------------

INK = 'return {"L2": images.float().flatten(1).sum(1)}'


def decoded(source: dict) -> list[np.ndarray]:
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(source["atlas"].partition(",")[2]))).convert("L"))
    width, height = source["size"]
    places = (divmod(number, source["columns"]) for number in range(len(source["classes"])))
    return [sheet[y * height : (y + 1) * height, x * width : (x + 1) * width] for y, x in places]


@pytest.mark.parametrize("uses_labels", [False, True])
def test_the_pictures_are_of_the_images_that_were_scored(here, uses_labels):
    """A method scores an image by its ink. Clusters and classes are named out of order on purpose."""
    protocol = named({"a": case([["5", "3"], ["1"]], "8", "0")})
    harness("run", "--protocol", protocol, "--method", plugin(score=INK, uses_labels=uses_labels))
    read = Read(harness("leaderboard", "--protocol", protocol, "--format", "html").out)
    (source,) = read.json("pictures").values()
    (entry,) = (entry for entry in read.json("data")["entries"] if entry["runs"])
    strips, pictures = source["strips"][entry["pictures"]], decoded(source)
    images, labels = Plugins().dataset("digits", Path()).load("test", ("5", "3", "1", "8", "0"))
    ink = images.float().sum((1, 2, 3))
    for part, (first, last) in ({0, 1, 2}, strips[:2]), ({3, 4}, strips[2:]):
        among = torch.tensor([label in part for label in labels.tolist()])
        expected = ink[among].sort().values
        assert [value for _, value in first] == pytest.approx(expected[:EACH].tolist(), rel=1e-3)
        assert [value for _, value in last] == pytest.approx(expected.flip(0)[:EACH].tolist(), rel=1e-3)
        for number, value in (*first, *last):
            same = [i for i in range(len(ink)) if abs(ink[i] - value) < 1 and among[i]]
            step = 255 / (LEVELS - 1)
            near = [i for i in same if abs(images[i, 0].numpy().astype(int) - pictures[number]).max() <= step / 2]
            assert "53180"[labels[near[0]]] == source["classes"][number]
    assert "CC BY 4.0" in source["credit"]


DATASET = '''
import torch
import harness


class Own(harness.Dataset):
    """Noise."""

    name = "own"
    classes = ("0", "1", "6")
    {terms}

    def revision(self):
        return (self.root / "revision").read_text()

    def load(self, split, classes):
        if not self.root.exists():
            raise harness.DataMissing("own: not there")
        images = torch.arange(60 * {channels} * 80 * 60, dtype=torch.int64).reshape(60, {channels}, 80, 60) % 251
        return self.select(images.to(torch.uint8), torch.arange(60) % 3, classes)


@harness.hookimpl
def register_datasets(register):
    register(Own)
'''


def own(terms: str, channels: int = 3) -> tuple:
    Path("own.py").write_text(DATASET.format(terms=terms, channels=channels))
    Path("data").mkdir(exist_ok=True)
    Path("data/revision").write_text("1")
    return ("--protocol", named({"a": case(["0", "1"], "6")}, dataset="own")), ("--plugins", "own.py")


def test_pictures_only_where_the_terms_allow_them(here):
    protocol, plugins = own("")
    recipe = ("--recipe", _recipe())
    harness("run", *protocol, *plugins, *recipe, "--dataset", "own", "--method", plugin())

    def pictures(*words) -> dict:
        text = harness("leaderboard", *protocol, "--format", "html", *(words or plugins)).out
        (found,) = Read(text).json("pictures").values()
        return found

    assert pictures() == {"note": "own: no pictures, since the terms of the data are not known to allow them"}
    own('thumbnails = "Mine, CC0"')
    found = pictures()
    assert found["credit"] == "Mine, CC0"
    assert found["size"] == [36, 48]  # shrunk, and of the same shape
    Path("data/revision").write_text("2")
    assert "another version" in pictures()["note"]
    assert "not at hand" in pictures("--data", "data")["note"]  # without its plugin
    assert "not at hand" in pictures(*plugins, "--data", "nowhere")["note"]


def _recipe() -> Path:
    path = Path("own-recipe.toml").absolute()
    path.write_text(Path(__file__).parents[1].joinpath("harness/templates/recipe.toml").read_text())
    return path


# --- in a published folder -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(run_here) -> Path:
    with run_here("published"):
        harness("run", "--protocol", "test2", "--case", "2", "--seed", "0,1", "--method", plugin())
        out = harness("leaderboard", "--format", "html", "--out", "leaderboard").out
        assert "leaderboard/index.html" in out.splitlines()
        return Path("leaderboard").absolute()


@pytest.fixture
def published(folder, here) -> Path:
    return Path(shutil.copytree(folder, "leaderboard")) / "index.html"


def test_a_published_page_is_checked_like_any_table(published):
    assert "everything derives" in harness("leaderboard", "--check").out
    text = published.read_text(encoding="utf-8")
    number = re.search(r"<strong>(0\.\d{3})|<span>(0\.\d{3})", text)
    auroc = next(json.dumps(e["numbers"][0][0]) for e in Read(text).json("data")["entries"] if e["runs"])
    data = '<script type="application/json" id="data">'
    forged = [
        (number[0], number[0][:-1] + "x"),
        (auroc, "0.999"),
        ('"seed":1', '"seed":7'),
        ("data-entries", "data-other"),
        ("AUROC, with", "Accuracy, with"),
        ("const ", "const  "),
        (data, data + "{}</script>" + data),
    ]
    for old, new in forged:
        assert old in text
        published.write_text(text.replace(old, new, 1), encoding="utf-8")
        assert "index.html: not the page that its records make" in harness("leaderboard", "--check", code=1).out


def test_publishing_a_part_of_a_folder_anew_leaves_the_rest_on_its_page(published):
    harness("run", "--protocol", "test1", "--case", "2", "--method", plugin("mine"), "--results", "theirs")
    harness("leaderboard", "--results", "theirs", "--out", "leaderboard")
    harness("leaderboard", "--results", "leaderboard", "--protocol", "test1", "--out", "leaderboard")
    assert "everything derives" in harness("leaderboard", "--check").out


def test_a_page_keeps_up_with_its_folder_and_keeps_its_pictures(published, monkeypatch):
    before = Read(published.read_text()).json("pictures")
    assert next(iter(before.values()))["strips"]
    mine = plugin("mine")
    harness("run", "--protocol", "test2", "--case", "2", "--method", mine, "--results", "theirs")
    monkeypatch.setattr("harness.digests.dataset_digest", _missing)
    harness("leaderboard", "--results", "theirs", "--out", "leaderboard")
    assert "everything derives" in harness("leaderboard", "--check").out
    assert any("mine" in row for row in Read(published.read_text()).rows)
    assert Read(published.read_text()).json("pictures") == before


def _missing(dataset):
    from harness import DataMissing

    raise DataMissing("not here")


def test_someone_else_s_page_is_left_alone(published):
    published.write_text("<h1>Our own</h1>")
    harness("leaderboard", "--results", "leaderboard", "--out", "leaderboard")
    assert published.read_text() == "<h1>Our own</h1>"
    assert "everything derives" in harness("leaderboard", "--check").out
