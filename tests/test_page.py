"""The leaderboard as a web page: its numbers, and what may not get into it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import shlex
import statistics
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up import metrics
from made_up import record as made_up_record
from read_page import Read
from sklearn.metrics import auc, roc_auc_score
from tiny import case, harness, named, plugin

from harness.metrics import pooled_interval
from harness.records import Record, Store
from harness.report.leaderboard import leaderboards
from harness.report.page import packed, page
from harness.report.page.evidence import PARTS, POINTS, histogram, roc
from harness.report.page.packed import embedded, pack, unpack
from harness.report.published import read_published

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    '"><img src=x onerror=alert(1)>',
    "&lt;b&gt; {{ 7 * 7 }} {% raw %}",
    "a\u202eb\u2028c\x00d\x1b[2J",
]


PAIRS = {"normal.KL": np.array([0.0, 1]), "anomaly.KL": np.array([1.0, 2])}


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


def rounded(*numbers: float) -> list[float]:
    return [float(f"{number:.3f}") for number in numbers]


def board(records: list[Record], scores=None, **more) -> str:
    return page(leaderboards(records), scores or (lambda record: {}), read_published(), **more)


# --- the numbers -----------------------------------------------------------------------------------------------------


def test_the_tables_are_those_of_the_leaderboard(made):
    _, text, markdown = made
    rows = [line.strip("| ").replace("**", "").split(" | ") for line in markdown.splitlines() if line.startswith("| ")]
    groups, *found = Read(text).rows
    assert groups == ["number", "SSL", "RotNet", "Proposed (subcluster)", "bad", "mean-image"]
    assert ["number", *found[0]] == ["number", "KL", "MAX", "ODIN", "MAX", "ODIN", "L2", "L2"]
    assert found[1:] == rows[2:]
    assert any("failed" in cell for row in found for cell in row)
    assert [re.sub(r"\*", "", cell) for cell in re.findall(r"\*\*\d\.\d{3}", markdown)] == re.findall(
        r"<strong>(\d\.\d{3})", text
    )


def test_what_a_fit_was_trained_with_is_told_beside_what_it_was_scored_with():
    more = {"provenance": {"commit": "b"}, "fit_provenance": [{"commit": "a"}]}
    record = made_up_record("test2", "digits", "2", "ssl", {"KL": metrics(0.9)}, **more)
    data = Read(page(leaderboards([record]), None, [])).json("data")
    (run,) = data["runs"]
    assert data["facts"][run["facts"]["provenance"]] == {"commit": "b", "trained with": {"1": {"commit": "a"}}}


def test_what_a_cell_opens_is_what_its_records_say(made):
    records, text, _ = made
    data = Read(text).json("data")
    runs, facts = data["runs"], data["facts"]
    checked, deviations = 0, []
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
                assert numbers == rounded(true.auroc, true.auroc_low, true.auroc_high, true.aupr, true.fpr95)
                assert run["seconds"] == [one.fit_seconds, one.score_seconds]
                assert facts[run["facts"]["recipe_values"]] == one.recipe_values
                assert facts[run["facts"]["numerics"]] == one.numerics
                assert facts[run["facts"]["provenance"]]["commit"] == one.provenance["commit"]
                assert facts[run["facts"]["provenance"]]["processor"] == one.provenance["processor"]
                checked += 1
        if mine and all(one.status == "ok" for one in mine):
            measured = [one.scores[entry["score"]] for one in mine]
            aurocs = [one.auroc for one in measured]
            assert entry["values"] == rounded(*aurocs)
            assert [entry["mean"], entry["std"]] == rounded(statistics.mean(aurocs), statistics.stdev(aurocs))
            assert entry["interval"] == rounded(*pooled_interval(measured))
            deviations.append(entry["std"])
        else:
            assert not {"mean", "std", "interval"} & set(entry)
        if not mine:
            assert f"--method {entry['method']} --case {entry['case']}" in entry["command"]
    assert checked >= 6
    assert max(deviations) > 0.001  # else it could be any multiple of it
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
        means = [
            read.json("data")["means"][int(attrs["data-mean"])] for _, attrs in read.elements if "data-mean" in attrs
        ]
        for numbers, mean in zip(of, means, strict=True):
            parts = [entries[int(n)] for n in numbers]
            assert mean["mean"] == pytest.approx(statistics.mean(part["mean"] for part in parts), abs=1e-3)
            assert (mean["std"], mean["seeds"]) == (None, 1)
            low, high = (max(abs(p["interval"][end] - p["mean"]) for p in parts) for end in (0, 1))
            assert mean["interval"][0] >= mean["mean"] - low - 2e-3  # no wider than the widest
            assert mean["interval"][1] <= mean["mean"] + high + 2e-3


def test_an_average_of_cases_with_other_seeds_is_not_of_one_seed():
    def mean(*seeds) -> dict:
        seeds = [*seeds, *[(0,)] * (10 - len(seeds))]
        every = [(str(case), seed) for case, here in enumerate(seeds) for seed in here]
        scores = {"KL": metrics(0.7)}
        records = [made_up_record("test3", "mnist", case, "ssl", scores, seed=seed) for case, seed in every]
        (found,) = (one for one in Read(board(records, lambda record: PAIRS)).json("data")["means"] if "mean" in one)
        return found

    assert [mean()[name] for name in ("std", "seeds")] == [None, 1]
    assert [mean((0, 1, 2))[name] for name in ("std", "seeds")] == [None, 3]
    assert [mean((0, 1, 2), *[(1, 0)] * 9)[name] for name in ("std", "seeds")] == [0, 2]


def test_a_half_is_rounded_in_a_cell_as_in_its_evidence():
    """To the even digit: browsers round it up."""
    record = made_up_record("test2", "mnist", "3", "ssl", {"KL": metrics(0.8125)})
    read = Read(board([record], lambda record: PAIRS))
    (entry,) = (one for one in read.json("data")["entries"] if one["runs"])
    assert next(row for row in read.rows if row[0] == "3")[1].split()[0] == "0.812"
    assert (entry["mean"], entry["values"], entry["numbers"][0][0]) == (0.812, [0.812], 0.812)


def test_the_command_for_a_number_that_is_not_there_makes_that_number(here):
    path = named({"a": case(["0"], "6"), "b": case(["1"], "7")})
    changed = ("--set", "powered.power=3", "--set", "recipe.epochs=1")
    method = plugin("powered", body="class Params(harness.Params):\n        power: int = 2")
    harness("run", "--protocol", path, "--method", f"{method}", "--case", "a", *changed)
    score = ("--score", "Energy", "--set", "subcluster.epochs=1")
    harness("run", "--protocol", "test2", "--method", "subcluster", "--case", "2", *score, "--results", "with-energy")
    text = harness("leaderboard", "--results", "with-energy", "--format", "html").out
    entries = [entry for entry in Read(text).json("data")["entries"] if not entry["runs"]]
    assert all(("--score Energy" in entry["command"]) == (entry["score"] == "Energy") for entry in entries)
    assert any(entry["score"] == "Energy" for entry in entries)

    def missing() -> list[str]:
        text = harness("leaderboard", "--protocol", path, "--format", "html").out
        return [entry["command"] for entry in Read(text).json("data")["entries"] if not entry["runs"]]

    (command,) = missing()
    assert "--set powered.power=3" in command
    with contextlib.chdir("results"):
        harness(*shlex.split(command)[1:], "--plugins", method, "--results", ".")
    assert missing() == []


def test_the_paper_s_numbers_stand_beside_ours():
    records = [made_up_record("test2", "mnist", "3", "ssl", {"KL": metrics(0.7)})]
    read = Read(board(records, lambda record: PAIRS))
    (printed,) = (p for p in read_published() if (p.dataset, p.case, p.method) == ("mnist", "3", "ssl") and
                  p.protocol == "test2")  # fmt: skip
    (row,) = (row for row in read.rows if row[0] == "3")
    assert row[1] == f"0.700 paper {printed.printed_as}"
    (entry,) = (e for e in read.json("data")["entries"] if (e["case"], e["method"]) == ("3", "ssl"))
    assert entry["paper"]["difference"] == pytest.approx(0.7 - printed.value)
    assert entry["paper"]["verdict"] == "more than noise"
    # Where nothing was run, the paper's number is there all the same.
    assert any(cell.startswith("not run paper") for cell in row)


def test_what_the_paper_has_comes_first():
    order = [("test2", "mnist", "paper"), ("test2", "mnist", "fast"), ("test2", "cifar10", "fast"),
             ("test3", "mnist", "fast"), ("test1", "digits", "small"), ("test2", "digits", "small")]  # fmt: skip
    records = [
        made_up_record(protocol, data, "3", "ssl", {"KL": metrics(0.7)}, recipe=recipe)
        for protocol, data, recipe in sorted(order)
    ]
    found = re.findall(
        r'<section id="[^"]*" data-protocol="(.*?)" data-dataset="(.*?)" data-recipe="(.*?)"',
        board(records, lambda record: PAIRS),
    )
    assert found == order


def assert_its_area(normal: np.ndarray, anomaly: np.ndarray) -> None:
    """The drawn curve's is the AUROC."""
    false, true = map(np.cumsum, roc(normal, anomaly))
    truth = np.repeat([0, 1], [len(normal), len(anomaly)])
    right = roc_auc_score(truth, np.concatenate([normal, anomaly]))
    assert auc(false / PARTS, true / PARTS) == pytest.approx(right, abs=0.004)


@pytest.mark.parametrize("n", [20, 3000])
@pytest.mark.parametrize("ties", [False, True])
def test_a_curve_keeps_its_area_and_a_histogram_its_images(n, ties):
    rng = np.random.default_rng(n)
    normal, anomaly = rng.normal(size=n), rng.normal(1, 2, size=n + 7)
    if ties:
        normal, anomaly = normal.round(), anomaly.round()
    false, true = map(np.cumsum, roc(normal, anomaly))
    assert len(false) == len(true) <= POINTS
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, PARTS, PARTS)
    assert_its_area(normal, anomaly)
    counted = histogram(normal, anomaly)
    assert (sum(counted["normal"]), sum(counted["anomaly"])) == (n, n + 7)


def test_a_curve_keeps_its_corners():
    """Most anomalies are above most normal images, and all of them above the rest: first steep, then flat."""
    rng = np.random.default_rng(0)
    normal, anomaly = np.concatenate([rng.uniform(0, 1, 930), rng.uniform(2, 3, 70)]), rng.uniform(2, 3.3, 100)
    assert_its_area(normal, anomaly)


@pytest.mark.parametrize(
    "ends",
    [(-0.25152, -0.25148), (1000, 1000.25), (-3, 5), (-1e300, 1e300), (7, 7), (1e17, 1e17), (np.float32(1e17),) * 2],
)
def test_the_ends_of_a_histogram_tell_apart(ends):
    low, high = histogram(np.full(20, ends[0]), np.full(20, ends[1]))["ends"]
    span = max(ends) - min(ends) or max(1, ends[0] * 1e-12)
    assert high - low == pytest.approx(span, rel=0.01)


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


def test_hostile_names_stay_text(here, made):
    cases = {name: case(["0", "1"], **{name: ["6"], "far": ["7"]}) for name in HOSTILE}
    protocol = named(cases, table={"title": HOSTILE[0], "corner": HOSTILE[2], "average": True}, title=HOSTILE[1])
    bad = plugin("bad", fit=f"raise ValueError({HOSTILE[0]!r} + {HOSTILE[1]!r})")
    note = plugin(fit=f"self.mean = train.images.float().mean(0); run.numerics[{HOSTILE[2]!r}] = {HOSTILE[0]!r}")
    harness("run", "--protocol", protocol, "--method", f"{bad},{note}", code=1)
    text = harness("leaderboard", "--protocol", protocol, "--format", "html").out
    read = Read(text)
    types = [attributes["type"] for tag, attributes in read.elements if tag == "script"]
    assert types == ["application/zlib", "application/zlib", "module"]
    known = {tag for tag, _ in Read(made[1]).elements} | {"tfoot"}
    assert {tag for tag, _ in read.elements} <= known
    assert not [a for _, a in read.elements if any(name.startswith("on") for name in a)]
    headings = {row[0] for row in read.rows}
    assert {" ".join(name.split()) for name in HOSTILE[:4]} <= headings
    assert "a b c d [2J" in headings
    data = read.json("data")
    assert not re.search("[\u202e\u2028\x00\x1b]", text + json.dumps(data, ensure_ascii=False))
    assert any(run["reason"].startswith("ValueError: " + HOSTILE[0] + HOSTILE[1]) for run in data["runs"])
    assert {HOSTILE[2]: HOSTILE[0]}.items() <= next(
        f for f in data["facts"] if isinstance(f, dict) and HOSTILE[2] in f
    ).items()


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**50), 2**50)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_data_are_unpacked_as_they_were(data):
    assert unpack(pack(data)) == data


@given(st.dictionaries(st.text(max_size=3), JSON, max_size=2), st.data())
def test_damaged_data_are_none(data, draw):
    text = pack(data)
    place = draw.draw(st.integers(0, len(text) - 1))
    damaged = draw.draw(st.sampled_from([text[:place], text + text, text[:place] + "<" + text[place:], " " + text]))
    with pytest.raises(ValueError, match="not packed data"):
        unpack(damaged)
    page = '<script type="application/zlib" id="data">{}</script>'
    assert embedded(page.format(text), "data") == data
    assert embedded(page.format(damaged), "data") == embedded(page.format(text), "other") == {}
    assert embedded(page.format(pack([data])), "data") == {}


def test_data_that_would_fill_the_memory_are_none(monkeypatch):
    monkeypatch.setattr(packed, "LIMIT", 1000)
    assert unpack(pack("a" * 998)) == "a" * 998
    for size in (999, 100_000):
        with pytest.raises(ValueError, match="too large"):
            unpack(pack("a" * size))
    with pytest.raises(ValueError, match="JSON"):
        pack(float("nan"))
