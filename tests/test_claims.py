"""leaderboard/README.md and measured/README.md quote the records, and agree with them in who is ahead or level."""

from __future__ import annotations

import importlib.util
import json
import re
import statistics
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from harness.errors import HarnessError
from harness.records import Record, Store

PAGES = ["README.md", "measured/README.md"]
LEADERBOARD = Path(__file__).parent.parent / "leaderboard"
if not LEADERBOARD.exists():
    pytest.skip("the published leaderboards are part of the repository alone", allow_module_level=True)
spec = importlib.util.spec_from_file_location("claims", LEADERBOARD / "claims.py")
claims = importlib.util.module_from_spec(spec)
spec.loader.exec_module(claims)


@pytest.fixture(scope="module")
def quoted():
    return claims.table


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?\d*\.\d+", text)]


def of_record(stem: str) -> float:
    """The AUROC that scikit-learn finds in the published scores of subcluster's MAX."""
    paths = (LEADERBOARD / "records/test2/mnist/subcluster").glob(f"{stem}.*.json")
    found = [Record.model_validate_json(path.read_bytes()) for path in paths]
    (record,) = (one for one in found if not one.settings)  # not of another order of classes
    scores = Store(LEADERBOARD).scores(record)
    normal, anomaly = scores["normal.MAX"], scores["anomaly.MAX"]
    return roc_auc_score([0] * len(normal) + [1] * len(anomaly), np.concatenate([normal, anomaly]))


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_what_the_records_and_its_template_make(page):
    path = LEADERBOARD / page
    assert path.read_text(encoding="utf-8") == claims.written(path.with_name(f"{path.name}.j2"))


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    path = LEADERBOARD / page
    targets = re.findall(r'(?:\]\(|src=")([^)"]+)', path.read_text(encoding="utf-8"))
    for file, _, section in (target.partition("#") for target in targets if not target.startswith("https://")):
        there = path.parent / file if file else path
        assert there.exists(), file
        headings = re.findall(r"^#+ (.*)", there.read_text(encoding="utf-8"), re.MULTILINE) if section else []
        assert not section or section in [re.sub(r"[^\w -]", "", one).lower().replace(" ", "-") for one in headings]
    assert targets


def test_a_quoted_number_is_the_mean_over_seeds(quoted):
    mnist, seeds = quoted("test2-mnist-fast"), [of_record(f"3.anomaly.fast.s{seed}") for seed in range(3)]
    assert mnist("subcluster.MAX", "3") == f"{statistics.fmean(seeds):.3f}".removeprefix("0")
    assert quoted("test2-mnist-fast", seed=1).value("subcluster.MAX", "3") == pytest.approx(seeds[1], abs=1e-9)


def test_a_number_without_places_is_of_every_row_that_has_one(quoted):
    mnist = quoted("test2-mnist-fast")
    assert mnist("subcluster.MAX") == mnist("subcluster.MAX", "2", "3", "4", "5")  # one class has no clusters


def test_printed_numbers_are_the_papers(quoted):
    assert quoted("test2-mnist-fast").printed("subcluster.MAX", "2", "3", "4", "5") == ".97, .95, .93, .94"
    assert quoted("test3-mnist-fast").printed("subcluster.MAX", "average") == ".97"


def test_verdicts_count_every_number_once(quoted):
    found = quoted("test3-mnist-fast").verdicts("subcluster.MAX", "subcluster.ODIN")
    assert sorted(found["within"] + found["above"] + found["below"]) == sorted(found["all"])
    assert len(found["all"]) == 20
    assert min(found["above"]) > 0 > max(found["below"])


def test_words_that_the_records_contradict_are_refused(quoted):
    mnist = quoted("test2-mnist-fast")
    assert mnist.ahead("subcluster.MAX", "rotnet.MAX", "5").startswith(".")
    with pytest.raises(claims.ClaimError, match=r"rotnet.MAX is not ahead of subcluster.MAX in 5: -"):
        mnist.ahead("rotnet.MAX", "subcluster.MAX", "5")
    with pytest.raises(claims.ClaimError, match="not level"):
        mnist.level("rotnet.MAX", "subcluster.MAX", "5")
    with pytest.raises(claims.ClaimError, match="not ahead"):  # level is not ahead
        mnist.ahead("lof.LOF", "subcluster.MAX", "4")
    assert mnist.level("lof.LOF", "subcluster.MAX", "4").startswith("+")


def test_a_difference_has_its_sign_whoever_is_ahead(quoted):
    mnist = quoted("test2-mnist-fast")
    lead, low, high = numbers(mnist.ahead("subcluster.MAX", "rotnet.MAX", "5"))
    assert numbers(mnist.difference("rotnet.MAX", "subcluster.MAX", "5")) == [-lead, -high, -low]
    assert mnist.difference("subcluster.MAX", "rotnet.MAX", "5").startswith("+")


def test_two_rows_of_the_same_images_are_compared_in_one_column(quoted):
    levels = quoted("levels-digits-small")
    first, second = (levels.value("subcluster.MAX", level) for level in ("level 1", "level 2"))
    told = levels.difference("subcluster.MAX", "subcluster.MAX", "level 1/level 2")
    assert numbers(told)[0] == pytest.approx(first - second, abs=0.0006)


def test_a_mean_of_cases_is_compared_with_another_of_as_many(quoted):
    clusters, both = quoted("clusters-digits-small"), "digits 2/digits 2, random partitions"
    with pytest.raises(HarnessError, match=r"the one is of 1 case.* other of 3"):
        clusters.difference("subcluster.MAX", "subcluster.MAX", both)


def test_one_seed_is_compared_with_another(quoted):
    ours, other = (quoted("test2-mnist-fast", seed=seed) for seed in (0, 1))
    between = ours.value("rotnet.MAX", "5") - other.value("rotnet.MAX", "5")
    assert numbers(ours.difference("rotnet.MAX", "rotnet.MAX", "5", of=other))[0] == pytest.approx(between, abs=0.0006)


@pytest.mark.parametrize(
    ("name", "place", "says"),
    [
        ("subcluster.max", "3", "there are "),
        ("subcluster.MAX", "6", "no place 6"),
        ("subcluster.MAX", "1", "no number"),
    ],
)
def test_what_is_not_there_can_not_be_quoted(quoted, name, place, says):
    with pytest.raises(claims.ClaimError, match=says):
        quoted("test2-mnist-fast")(name, place)


@pytest.mark.parametrize(
    "quote",
    [
        lambda mnist: mnist.ahead("subcluster.MAX", "ssl.KL"),
        lambda mnist: mnist.printed("subcluster.MAX", "6"),
        lambda mnist: mnist.interval("lof.LOF", "3"),
        lambda mnist: mnist.gaps("lof.LOF"),
        lambda mnist: mnist.gaps("subcluster.MAX", "average"),
        lambda mnist: mnist.trained("rotnet(epochs=7)"),
        lambda mnist: mnist.trained("kde"),
        lambda mnist: mnist.accuracy("lof.LOF", "3"),
    ],
)
def test_what_says_nothing_is_refused(quoted, quote):
    with pytest.raises(claims.ClaimError, match="test2-mnist-fast: "):
        quote(quoted("test2-mnist-fast"))


def test_gaps_are_ours_minus_the_papers(quoted):
    mnist = quoted("test2-mnist-fast")
    printed = [float(number) for number in mnist.printed("rotnet.MAX", "1", "5").split(", ")]
    ours = [mnist.value("rotnet.MAX", "1"), mnist.value("rotnet.MAX", "5")]
    assert mnist.gaps("rotnet.MAX", "1", "5") == pytest.approx([a - b for a, b in zip(ours, printed, strict=True)])
    assert len(mnist.gaps("rotnet.MAX")) == 5


def test_how_well_a_method_does_its_own_task(quoted):
    paths = (LEADERBOARD / "records/test2/mnist/subcluster").glob("*.residual.*.json")
    records = [record for path in paths if (record := json.loads(path.read_text()))["status"] == "ok"]
    residual = quoted("test2-mnist-residual")
    for variant, settings in ("subcluster", {}), ("subcluster(epochs=20)", {"subcluster": {"epochs": 20}}):
        shares = [record["diagnostics"]["train_accuracy"] for record in records if record["settings"] == settings]
        assert residual.trained(variant) == (min(shares), max(shares))
    of_seeds = [record["accuracy"] for record in records if record["case"] == "3" and not record["settings"]]
    assert len(of_seeds) == 3
    assert residual.accuracy("subcluster.MAX", "3") == pytest.approx(statistics.fmean(of_seeds))


def test_a_wrong_readme_is_told_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(claims, "HERE", tmp_path)
    template = '{{ table("test2-mnist-fast").ahead("subcluster.MAX", "ssl.KL", "5") }}\n'
    (tmp_path / "README.md.j2").write_text(template)
    assert claims.main(check=False) == 0
    assert claims.main(check=True) == 0
    (tmp_path / "README.md").write_text(".999 [.998, 1.000]\n")
    assert claims.main(check=True) == 1
    assert "not what README.md.j2 and the records make" in capsys.readouterr().out
    (tmp_path / "README.md.j2").write_text(template.replace("test2-mnist-fast", "test2-mnist-fsat"))
    assert claims.main(check=False) == 1
    assert "no table test2-mnist-fsat" in capsys.readouterr().out
    (tmp_path / "README.md.j2").write_text(template.replace('"subcluster.MAX", "ssl.KL"', '"ssl.KL", "subcluster.MAX"'))
    assert claims.main(check=False) == 1
    assert capsys.readouterr().out.count("\n") == 1
    assert (tmp_path / "README.md").read_text() == ".999 [.998, 1.000]\n"


def test_numbers_become_the_cells_of_a_row():
    assert claims.cells(".967, .958") == ".967 | .958"
    assert claims.cells(".280 [.255, .306], -.327 [-.348, -.306]") == ".280 [.255, .306] | -.327 [-.348, -.306]"
    assert claims.cells("–, .967 [.956, .978], .958") == "– | .967 [.956, .978] | .958"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.9671, ".967"), (-0.0109, "-.011"), (1.0, "1.000"), (0.9999, "1.000"), (0.0, ".000"), (10.5, "10.500")],
)
def test_numbers_are_as_the_paper_prints_them(value, text):
    assert claims.short(value) == text


def test_signs_are_kept():
    assert claims.bracketed(0.017, -0.005, 0.039, "+") == "+.017 [-.005, .039]"
