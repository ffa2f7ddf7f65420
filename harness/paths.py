"""Where the bundled plugins and protocols are: inside an installed package, or at the top of a checkout."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
BUNDLED = _PACKAGE / "bundled" if (_PACKAGE / "bundled").is_dir() else _PACKAGE.parent
PLUGINS = BUNDLED / "plugins"
PROTOCOLS = BUNDLED / "protocols"


def protocol_files() -> dict[str, Path]:
    """The bundled protocols by name."""
    return {path.stem: path for path in sorted(PROTOCOLS.glob("*.toml")) if path.stem != "recipes"}
