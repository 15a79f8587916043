"""What is what in an archive: from the names of its members alone. Pure; standard library only."""

from __future__ import annotations

from mlops.runtime.errors import Explained

_JUNK_FOLDERS = frozenset(("__MACOSX", ".git", "__pycache__", ".ipynb_checkpoints"))
_JUNK_FILES = frozenset((".DS_Store", "Thumbs.db", "desktop.ini"))


class BundleError(Explained):
    """An archive without a model, or with one too many. ``code``, ``message`` (names the files) and ``hint``."""


def is_junk(name: str) -> bool:
    """What machines leave in folders and no model needs."""
    parts = name.split("/")
    return (
        any(part in _JUNK_FOLDERS for part in parts[:-1])
        or parts[-1] in _JUNK_FILES
        or parts[-1].startswith("._")
        or parts[-1].endswith((".pyc", ".pyo"))
    )
