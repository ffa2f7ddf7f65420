"""Is anything heavy imported at the top of a plugin's file?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import harness
from harness.plugins import Entry
from harness.testing.findings import require

MANY = 300
"""A plugin that loads more modules than this is slow to import; torch has over a thousand."""
LOADED = """
import json, sys
from pathlib import Path
import harness
from harness.plugins import Plugins
harness.Method, harness.Dataset, harness.Recipe
kind, name, path = sys.argv[1:]
plugins = Plugins([path] if path else [])
plugins.entry(kind, name)
before = set(sys.modules)
plugins.get(kind, name)
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def imports_nothing_heavy(entry: Entry) -> None:
    """Load the plugin in a fresh process, and count what it brings along."""
    path = "" if entry.source.module else str(entry.source.path)
    # -P, so that no file of the current folder stands in for a package.
    command = [sys.executable, "-P", "-c", LOADED, entry.kind, entry.name, path]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": _path()})
    require(
        done.returncode == 0,
        f"{entry.source.path.name} can't be loaded in a fresh process: {(done.stderr.splitlines() or ['?'])[-1]}",
        "import nothing that only this process has",
    )
    modules = json.loads(done.stdout.splitlines()[-1])
    (most, count), *_ = Counter(name.partition(".")[0] for name in modules).most_common(1) or [("", 0)]
    require(
        len(modules) <= MANY,
        f"{entry.source.path.name} imports {len(modules)} modules when it is loaded, most of them {most}'s ({count})",
        f"move `import {most}`, and whatever needs it, into the functions: `harness plan` and --help then stay quick",
    )


def _path() -> str:
    """Where this process has harness from, which may be its current folder, and the user's own paths."""
    return os.pathsep.join([str(Path(harness.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
