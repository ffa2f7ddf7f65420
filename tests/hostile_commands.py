"""Command lines of options, values and words that may or may not belong together."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st

DEEP = "[" * 90 + "]" * 90, "{a=" * 90 + "1" + "}" * 90, "[" * 5000, "9" * 5000, "0x" + "f" * 5000
VALUES = r"""
--protocol mine.toml test2 grows.toml mine.toml,grows.toml mine.toml,mine.toml recipe.toml mine nowhere.toml
--method   mean.py mean mean.py,labelled.py sad.py , mean.py,mean.py recipe.toml nowhere.py
--dataset  digits folder mnist cifar10 imagenet mean
--case     a b a,b near 1
--seed     0 0,1 -1 1.5 1e3 0x10 ٣ 1_0 nan ,,
--recipe   fast paper recipe.toml mine.toml
--set      mean.k=2 mean.k=1979-05-27 mean.anything=1979-05-27 mean.anything=[nan] mean.word="\u0000" = a.b.c.d=1
--set      .k=1 digits.x=1
--set      recipe.lr=nan recipe.lr=inf recipe.epochs=0 recipe.batch=1e400 recipe.stated=[1] recipe.note="\u001b[0m"
--set      recipe.network="wrn-99999999999-1" recipe.network="../x" mine.case={} mine.case.a.normal=[] grows.order=1,2
--set      grows.order=[[1]] grows.order=0,1,4 folder.path="\u0000" folder.path=pictures/png folder.path=../pictures/png
--score    Energy L2 nothing ,
--metric   fpr80 auroc nothing
--device   cpu auto cuda cuda:99999 tpu cuda:-1
--executor local cloud
--reporter nothing ,
--ray-gpus 1 nan -1 inf
--ray-cpus 0 nan 1e400
--format   md html tex csv table json pdf
paths      results published mine.toml recipe.toml mean.py . .. nowhere nowhere/deep mine.toml/x results/records data
paths      pictures/png /dev/null /proc/self/nope é/漢 recipe.toml.toml ./.toml .py ~nobody/x
"""
KNOWN: dict[str, list[str]] = {}
for _option, *_values in map(str.split, VALUES.strip().splitlines()):
    KNOWN.setdefault(_option, []).extend(_values)
KNOWN["--seed"] += [" 1 , 2 ", "9" * 30, "9" * 5000]
KNOWN["--set"] += [
    f"{owner}={value}" for owner in ("mean.k", "mean.anything", "recipe.note", "mine.case") for value in DEEP
]
PATHS = [*KNOWN.pop("paths"), "", "a\nb", "\udcff", "x" * 300]
KNOWN |= dict.fromkeys(("--results", "--data", "--plugins", "--out"), PATHS)
ASK = ["--protocol", "--method", "--dataset", "--case", "--seed", "--recipe", "--set", "--set", "--score", "--metric"]
ASK += ["--results", "--data", "--plugins"]
FILTER = ["--protocol", "--dataset", "--method", "--case", "--seed", "--recipe", "--set", "--results", "--format"]
PLACES = ["--data", "--plugins"]
OPTIONS = {
    "run": [*ASK, "--device", "--executor", "--reporter", "--ray-gpus", "--ray-cpus"],
    "plan": ASK,
    "rescore": ASK,
    "results": FILTER,
    "leaderboard": FILTER,
    "compare": FILTER,
    "list": ["--plugins"],
    "data": PLACES,
    "check": PLACES,
    "new": ["--help"],
}
ARGUMENTS = {
    "list": "protocols,methods,datasets,networks,plugins,nothing",
    "data": "list,verify,verify digits,verify mnist,verify folder,fetch digits,fetch nothing",
    "new": "method,dataset,package,method fresh,dataset new-one,package a-b,method mean,method ../x",
    "check": "nowhere.py,recipe.toml,sad.py,nothing",
}


@st.composite
def command_lines(draw: Callable, names: st.SearchStrategy[str]) -> tuple[str, ...]:
    """Words of a command line; `names` are for where a name or value could stand."""
    command = draw(st.sampled_from(list(OPTIONS)))
    words = [command]
    if command in ARGUMENTS:
        words += draw(st.sampled_from(ARGUMENTS[command].split(","))).split()
    if command in ("run", "plan", "rescore"):
        words += ["--protocol", "mine.toml", "--method", "mean.py"][: draw(st.sampled_from([0, 2, 4, 4, 4, 4]))]
    if command == "leaderboard" and draw(st.booleans()):
        words += ["--check", "--out", draw(st.sampled_from(PATHS))]
    for option in draw(st.lists(st.sampled_from(OPTIONS[command]), max_size=3)):
        known = KNOWN.get(option, [])
        value = draw(st.sampled_from(known)) if known and draw(st.integers(0, 2)) else draw(names)
        if option == "--set" and "=" not in value:
            value = draw(st.sampled_from(["mean.k=", "mean.word=", "recipe.", "mine."])) + value
        words += [option, value]
    if draw(st.integers(0, 9)) == 0:
        words.insert(draw(st.integers(0, len(words))), draw(names))
    return tuple(word.replace("\0", "\N{SYMBOL FOR NULL}") for word in words)  # no process can be handed a zero
