"""Plugins: found in folders, files and installed packages; a broken one is listed, and stops nothing else."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from tiny import harness, plugin

from harness.paths import PLUGINS
from harness.sources import Source

RUN = ("run", "--protocol", "test2", "--case", "1")
HEAVY = ("torch", "torchvision", "timm", "sklearn", "scipy", "pandas", "matplotlib", "faiss")


def listed(*words) -> dict[str, dict[str, str]]:
    """`harness list plugins` by the name of the file."""
    return {Path(row["file"]).name: row for row in json.loads(harness("list", "plugins", "--json", *words).out)}


# --- found -----------------------------------------------------------------------------------------------------------


def test_a_method_s_file_can_be_named_in_its_place(here):
    path = plugin("folder/mine", file="folder/mine.py")
    path.write_text(path.read_text().replace("folder/mine", "mine"))
    for more in (path, path.parent):
        assert "mine L2" in harness(*RUN, "--method", "mine", "--plugins", more).out
    # The same file, found twice, is one plugin.
    harness(*RUN, "--method", path, "--plugins", path, "--plugins", path.parent)


@pytest.mark.parametrize("words", [["--method"], ["--method", "subcluster", "--plugins"]])
def test_a_bundled_file_can_be_named_too(here, words):
    path = PLUGINS / "methods" / "subcluster.py"
    assert harness("plan", "--protocol", "test2", *words, path).statuses[1] == "to run"


def test_a_folder_is_searched_but_not_its_hidden_or_private_files_nor_its_folders(here):
    plugin("a", file="plugins/a.py")
    for name in ("_private.py", ".hidden.py", "test_it.py", "notes.txt", ".venv/lib/b.py", "folder/c.py"):
        Path("plugins", name).parent.mkdir(parents=True, exist_ok=True)
        Path("plugins", name).write_text("this is no Python")
    found = {name for name, row in listed("--plugins", "plugins").items() if row["origin"] == "--plugins"}
    assert found == {"a.py"}


def test_names_summaries_and_files_are_read_without_running_anything(here):
    plugin(head="raise SystemExit('ran')", summary="The shortest of methods.")
    (row,) = (
        row
        for row in json.loads(harness("list", "methods", "--json", "--plugins", here).out)
        if row["name"] == "mean-image"
    )
    assert row == {
        "name": "mean-image",
        "summary": "The shortest of methods.",
        "file": str(here / "mean-image.py"),
    }


def test_what_only_running_tells_is_run(here):
    path = plugin()
    text = path.read_text().replace("    register(Tiny)", "    for cls in (Tiny,):\n        register(cls)")
    path.write_text(text.replace('"mean-image"', '"-".join(["mean", "image"])'))
    assert listed("--plugins", here)["mean-image.py"]["registers"] == "method mean-image"
    harness(*RUN, "--method", "mean-image", "--plugins", here)


def test_an_installed_package_brings_its_plugins(here):
    plugin("packaged", file="site/my_package/methods.py")
    Path("site/my_package/__init__.py").touch()
    info = Path("site/my_package-1.0.dist-info")
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[harness]\nmethods = my_package.methods\n")
    code = (
        "import sys; from harness.cli import main; main(['list', 'plugins', '--json'], standalone_mode=False)\n"
        "from harness.plugins import Plugins; print(Plugins().get('method', 'packaged').__module__, file=sys.stderr)"
    )
    env = os.environ | {"PYTHONPATH": str(here / "site")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    (row,) = (row for row in json.loads(done.stdout) if row["origin"] == "package my-package")
    assert row["registers"] == "method packaged"
    assert done.stderr.strip() == "my_package.methods"


@pytest.mark.parametrize("module", ["mine.methods", "mine", "mine.deep"])
def test_the_digest_of_a_packaged_plugin_is_of_the_whole_package(tmp_path, module):
    entry = {"mine.methods": "methods.py", "mine": "__init__.py", "mine.deep": "deep/__init__.py"}[module]
    for name in ("methods.py", "__init__.py", "deep/__init__.py", "deep/core.py"):
        (tmp_path / "mine/deep").mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / name).write_text("x = 1\n")

    def digest() -> str:
        return Source(tmp_path / "mine" / entry, "package mine", module).digest

    seen = [digest()]
    (tmp_path / "mine/deep/core.py").write_text("x = -1\n")
    seen.append(digest())
    (tmp_path / "mine/deep/core.py").rename(tmp_path / "mine/deep/heart.py")
    seen.append(digest())
    assert len(set(seen)) == 3
    (tmp_path / "mine/data.csv").write_text("no code")
    (tmp_path / "mine/deep/heart.py").write_bytes(b"x = -1\r\n")
    assert digest() == seen[-1]


def test_a_digest_is_of_the_text_that_was_there_when_it_was_first_asked_for(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("x = 1\n")
    source = Source(path, "--plugins")
    before = source.digest
    path.write_text("x = 2\n")
    assert source.digest == before != Source(path, "--plugins").digest


def test_the_digest_of_a_plugin_file_is_of_that_file(tmp_path):
    path, beside = tmp_path / "mine.py", tmp_path / "other.py"
    path.write_text("x = 1\n")
    before = Source(path, "--plugins").digest
    assert before == Source(path, "package mine", "mine").digest == hashlib.sha256(b"x = 1\n").hexdigest()[:16]
    beside.write_text("x = 2\n")
    assert Source(path, "package mine", "mine").digest == before


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["run", "--help"],
        ["list", "methods"],
        ["list", "datasets", "--json"],
        ["list", "protocols"],
        ["list", "plugins"],
        ["data", "list"],
    ],
    ids=" ".join,
)
def test_help_and_list_import_nothing_heavy(here, words):
    plugin(head="import torch")
    more = ["--plugins", str(here)] if words[-1] in ("methods", "plugins") else []
    code = (
        "import sys; from harness.cli import main; main(sys.argv[1:], standalone_mode=False)\n"
        f"print(*set({HEAVY!r}) & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *words, *more], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == ""
    assert len(done.stdout) > 50


def test_list_names_what_is_bundled(here):
    methods, datasets = harness("list", "methods").out, harness("list", "datasets").out
    for name in ("subcluster", "rotnet", "ssl"):
        assert f"{name}\n" in methods
    for name in ("digits", "mnist", "cifar10"):
        assert f"{name}\n" in datasets
    rows = json.loads(harness("list", "protocols", "--json").out)
    (test2,) = (row for row in rows if row["name"] == "test2")
    assert "digits, mnist, cifar10" in test2["datasets"]


# --- broken ----------------------------------------------------------------------------------------------------------

BROKEN = {
    "a syntax error": ("def fit(:", ["not readable as Python", "line 1"]),
    "no text at all": ("\0", ["not readable as Python"]),
    "a misspelt hook": (
        "import harness\n@harness.hookimpl\ndef register_method(register):\n    pass\n",
        ["'register_method'", "did you mean 'register_methods'?"],
    ),
    "other arguments": (
        "import harness\n@harness.hookimpl\ndef register_methods(add, more):\n    add(1)\n",
        ["(add, more)", "write register_methods(register)"],
    ),
    "what is no method": (
        "import harness\n@harness.hookimpl\ndef register_methods(register):\n    register(len)\n",
        ["subclass of harness.Method"],
    ),
    "a hook that raises": (
        "import harness\n@harness.hookimpl\ndef register_methods(register):\n    register(1 / 0)\n",
        ["ZeroDivisionError"],
    ),
    "a module that is not there, found by running it": (
        "import harness\nimport not_a_module_at_all\n@harness.hookimpl\ndef register_methods(register):\n"
        "    for one in not_a_module_at_all.everything: register(one)\n",
        ["ModuleNotFoundError", "not_a_module_at_all"],
    ),
    "a module that is not there, at the top of what is else in order": (
        "import harness\nimport not_a_module_at_all.part\nclass Mine(harness.Method):\n    name = 'mine'\n"
        "@harness.hookimpl\ndef register_methods(register):\n    register(Mine)\n",
        ["ModuleNotFoundError", "not_a_module_at_all"],
    ),
    "an exit": (
        "import sys\nsys.exit(7)\nimport harness\n@harness.hookimpl\ndef register_methods(register):\n"
        "    for one in []: register(one)\n",
        ["SystemExit"],
    ),
    "a test that leaves itself out, which is no Exception": (
        "import pytest\npytest.skip('not here', allow_module_level=True)\nimport harness\n@harness.hookimpl\n"
        "def register_methods(register):\n    for one in []: register(one)\n",
        ["Skipped", "not here"],
    ),
}


@pytest.mark.parametrize(("text", "parts"), BROKEN.values(), ids=BROKEN)
def test_a_broken_plugin_is_listed_with_its_reason_and_others_work(here, text, parts):
    Path("plugins").mkdir()
    Path("plugins/broken.py").write_text(text)
    plugin(file="plugins/good.py")
    row = listed("--plugins", "plugins")["broken.py"]
    for part in ("BROKEN", "broken.py", *parts):
        assert part in row["problem"]
    assert "BROKEN" in harness("list", "plugins", "--plugins", "plugins").out
    assert "mean-image" in harness("list", "methods", "--plugins", "plugins").out
    harness(*RUN, "--method", "mean-image", "--plugins", "plugins")
    # Asked for something that is not there, the harness says which file might have had it.
    line = harness(*RUN, "--method", "mean-imago", "--plugins", "plugins", code=2).line
    assert "did you mean 'mean-image'?" in line
    assert "broken.py" in line
    assert parts[0] in harness(*RUN, "--method", "plugins/broken.py", code=2).line


def test_a_file_that_is_no_plugin_yet_is_named_with_how_to_give_it(here):
    plugin()
    assert "; or give --plugins ./mean-image.py" in harness(*RUN, "--method", "mean-image", code=2).line
    assert "--plugins" not in harness(*RUN, "--method", "mean-imago", code=2).line


def test_a_module_that_is_not_there_is_named_when_the_plugin_is_used(here):
    path = plugin(head="import not_a_module_at_all")
    line = harness(*RUN, "--method", path, code=2).line
    assert "mean-image.py" in line
    assert "ModuleNotFoundError" in line


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("import harness\n", "import harness\nfrom helper import x\n"), "; a plugin is one file"),
        (
            ("import harness\n", "import harness\nx = 1 / 0\n"),
            "ZeroDivisionError: division by zero (mean-image.py, line 3)",
        ),
        (("@harness.hookimpl\n", ""), "registers no method; mark register_methods with @harness.hookimpl"),
        (
            ('scores = ("L2",)', 'scores = ("L2",)\n    class Params:\n        x = 1'),
            "let Params be a subclass of harness.Params",
        ),
        (('name = "mean-image"', 'name = "Mean"'), "not 'Mean'"),
    ],
    ids=["a file beside", "a line", "no hook", "other parameters", "a name"],
)
def test_a_usual_mistake_is_told_with_its_mend(here, change, said):
    Path("helper.py").write_text("x = 1")
    path = plugin()
    text = path.read_text()
    assert change[0] in text
    path.write_text(text.replace(*change))
    assert said in harness(*RUN, "--method", path, code=2).line


def test_a_data_set_s_file_is_told_where_to_go(here):
    Path("shapes.py").touch()
    line = harness(*RUN, "--method", "kde", "--dataset", "./shapes.py", code=2).line
    assert "give --plugins ./shapes.py, and here the dataset's name" in line


def test_arguments_of_another_name_are_refused_when_the_plugin_is_used(here):
    path = plugin()
    path.write_text(path.read_text().replace("methods(register)", "methods(add)").replace(" register(T", " add(T"))
    assert "write register_methods(register)" in harness(*RUN, "--method", path, code=2).line


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ('name = "mean-image"', 'name = "Mean Image"', ["Tiny", "`name`", "lower-case"]),
        ('name = "mean-image"', "", ["Tiny", "`name`"]),
        ('scores = ("L2",)', "", ["Tiny", "`scores`", "tuple"]),
        ('scores = ("L2",)', 'scores = ("L2")', ["Tiny", "`scores`", "tuple"]),
        ('scores = ("L2",)', "scores = ()", ["Tiny", "`scores`"]),
        ('scores = ("L2",)', "scores = ('L2',)\n    scoring = ('x',)", ["Tiny", "`scoring`", "x"]),
        (
            'scores = ("L2",)',
            "scores = ('L2',)\n    class Params(harness.Params):\n        x: int",
            ["Tiny", "x", "a default"],
        ),
        (
            'scores = ("L2",)',
            "scores = ('L2',)\n    class Params(harness.Params):\n        lr: float = 1",
            ["Tiny", "lr", "recipe"],
        ),
        ("class Tiny(harness.Method)", "class Tiny", ["subclass of harness.Method"]),
    ],
)
def test_a_class_that_does_not_keep_to_the_contract_is_refused(here, old, new, parts):
    path = plugin()
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    line = harness(*RUN, "--method", path, code=2).line
    for part in ("mean-image.py", *parts):
        assert part in line


def test_a_method_may_not_have_the_name_of_what_is_none(here):
    """Else whatever has `on = "pca"` would turn stale with it."""
    line = harness("plan", "--protocol", "test2", "--method", plugin("pca"), code=2).line
    assert "pca.py: class Tiny: 'pca' means something else where a parameter takes a method" in line
    # And who does not ask for it is none the worse for it.
    assert harness("plan", "--protocol", "test2", "--method", "lof", "--plugins", "pca.py", "--case", "1").plan


def test_two_plugins_of_one_name_are_refused_when_it_is_used(here):
    plugin("same", file="plugins/one.py")
    plugin("same", file="plugins/two.py")
    plugin(file="plugins/good.py")
    harness(*RUN, "--method", "mean-image", "--plugins", "plugins")
    assert {"one.py", "two.py"} <= set(listed("--plugins", "plugins"))
    line = harness(*RUN, "--method", "same", "--plugins", "plugins", code=2).line
    assert "one.py" in line
    assert "two.py" in line
    # Nor may one take the place of a bundled one.
    assert "subcluster.py" in harness(*RUN, "--method", plugin("subcluster", file="mine.py"), code=2).line


@pytest.mark.parametrize("path", ["nowhere.py", "nowhere", "notes.txt"])
def test_a_plugin_that_is_not_there_is_refused(here, path):
    Path("notes.txt").touch()
    line = harness("list", "methods", "--plugins", path, code=2).line
    assert path in line
    assert ".py" in line


def test_a_file_without_a_method_is_refused_as_one(here):
    Path("empty.py").write_text("import harness\n")
    assert "empty.py: registers no method" in harness(*RUN, "--method", "empty.py", code=2).line


HOOK = "@harness.hookimpl\ndef register_methods(register):\n    register(Tiny)\n"


@pytest.mark.parametrize(
    "other",
    [
        "if True:\n" + textwrap.indent(HOOK, "    "),
        "register_methods = harness.hookimpl(lambda register: register(Tiny))\n",
    ],
    ids=["inside if", "made by a call"],
)
def test_a_hook_that_is_not_a_function_of_the_top_level_counts(here, other):
    file = plugin()
    text = file.read_text()
    assert text.endswith(HOOK)
    file.write_text(text.removesuffix(HOOK) + other)
    assert "mean-image L2" in harness(*RUN, "--method", file).out


@pytest.mark.parametrize(
    "skip",
    [
        "@classmethod\n    def skip(cls, n_clusters, params):\n        return 1 / 0\n",
        "@classmethod\n    def skip(cls):\n        return None\n",
    ],
    ids=["raises", "signature"],
)
def test_a_skip_that_fails_is_one_line(here, skip):
    line = harness("plan", "--protocol", "test2", "--method", plugin(body=skip), code=2).line
    assert "mean-image" in line
    assert "skip" in line


def test_listing_what_is_bundled_loads_no_plugin():
    code = "import sys; from harness.plugins import Plugins; Plugins().entries; print('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


@pytest.mark.parametrize("path", ["~no-such-user/mine.py", "loop.py"])
def test_a_home_or_a_link_that_leads_nowhere_is_no_plugin(here, path):
    Path("loop.py").symlink_to("loop.py")
    assert (
        "no such plugin"
        in harness("run", "--protocol", "test2", "--method", f"./{path}" if path == "loop.py" else path, code=2).line
    )
    assert harness("list", "plugins", "--plugins", ".").code == 0
