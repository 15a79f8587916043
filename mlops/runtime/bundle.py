"""What is what in an archive: from the names of its members alone. Pure; standard library only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mlops.runtime.errors import Explained

CODE, REQUIREMENTS, TEST_DATA, CONFIG, MLMODEL = (
    "predict.py",
    "requirements.txt",
    "test_data.json",
    "slipway.toml",
    "MLmodel",
)
# Endings that only models have; text files may be models too, when nothing else is.
STRONG = (".joblib", ".pkl", ".pickle", ".skops", ".ubj", ".onnx", ".pt2", ".pt", ".pth", ".safetensors")
WEAK = (".json", ".txt")
_NO_MODELS = frozenset(("license.txt", "readme.txt", "package.json", "config.json", "metadata.json", "metrics.json"))
_JUNK_FOLDERS = frozenset(("__MACOSX", ".git", "__pycache__", ".ipynb_checkpoints"))
_JUNK_FILES = frozenset((".DS_Store", "Thumbs.db", "desktop.ini"))


class BundleError(Explained):
    """An archive without a model, or with one too many. ``code``, ``message`` (names the files) and ``hint``."""


@dataclass(frozen=True)
class Layout:
    """Where an archive's files go: its name of a file -> our name of it, and which files are left out."""

    names: dict[str, str]
    skipped: tuple[str, ...]


@dataclass(frozen=True)
class Found:
    """What the files of a folder are for; None for what is not there."""

    model: str | None
    code: str | None
    requirements: str | None
    test_data: str | None
    mlmodel: str | None

    def use_of(self, name: str) -> str:
        """One word for a person."""
        known = {
            self.model: "model",
            self.code: "code",
            self.requirements: "dependencies",
            self.test_data: "test data",
            self.mlmodel: "MLflow's description",
            CONFIG: "settings",
        }
        return known.get(name, "code" if name.endswith(".py") else "asset")


def is_junk(name: str) -> bool:
    """What machines leave in folders and no model needs."""
    parts = name.split("/")
    return (
        any(part in _JUNK_FOLDERS for part in parts[:-1])
        or parts[-1] in _JUNK_FILES
        or parts[-1].startswith("._")
        or parts[-1].endswith((".pyc", ".pyo"))
    )


def lay_out(names: Iterable[str]) -> Layout:
    """Junk is left out, and a folder that holds all the rest is taken away: people pack the folder, not what is in it."""
    listed = list(names)
    kept = [name for name in listed if not is_junk(name)]
    tops = {name.partition("/")[0] for name in kept}
    inside = len(tops) == 1 and all("/" in name for name in kept)
    places = {name: name.partition("/")[2] if inside else name for name in kept}
    return Layout(places, tuple(name for name in listed if name not in places))


def find(
    names: Sequence[str], *, model: str | None = None, code: str | None = None, test_data: str | None = None
) -> Found:
    """What is what. ``model``, ``code`` and ``test_data`` are names its author gave. Raises BundleError."""
    there = set(names)
    for key, given in (("model", model), ("code", code), ("sample", test_data)):
        if given is not None and given not in there:
            raise BundleError(
                "file_missing",
                f"slipway.toml names {given!r} as {key}, which is not in the folder.",
                f"The folder holds {_listed(sorted(there))}.",
            )
    code = code or (CODE if CODE in there else None)
    mlmodel = MLMODEL if MLMODEL in there else None
    test_data = test_data or (TEST_DATA if TEST_DATA in there else None)
    requirements = REQUIREMENTS if REQUIREMENTS in there else None
    if model is None and (mlmodel is None or code is not None):
        model = _model(names, code, test_data)
    return Found(model, code, requirements, test_data, mlmodel)


def _model(names: Sequence[str], code: str | None, test_data: str | None) -> str | None:
    named = [name for name in names if name.startswith("model.") and name.endswith((*STRONG, *WEAK))]
    strong = [name for name in names if name.endswith(STRONG)]
    weak = [name for name in names if _may_be_model(name) and name != test_data]
    candidates = next((found for found in (named, strong, [] if code else weak) if found), [])
    if len(candidates) == 1:
        return candidates[0]
    if code is not None:
        return None  # none, or several: its code knows which is for what
    if candidates:
        raise BundleError(
            "several_models",
            f"The folder holds {len(candidates)} files that may be the model: {_listed(candidates)}.",
            f'Name the one in slipway.toml (model = "{candidates[0]}"), call it model.*, or add a predict.py that uses them all.',
        )
    raise _nothing(names)


def _nothing(names: Sequence[str]) -> BundleError:
    deeper = next((name for name in names if name.rpartition("/")[2] in (CODE, MLMODEL)), None)
    if deeper is not None:
        folder, _, name = deeper.rpartition("/")
        hint = f"{name} lies in {folder!r}: push that folder."
    else:
        hint = "Put one model file into it (model.joblib, model.onnx, model.pt2, ...), or a predict.py with predict(model, rows)."
    return BundleError("no_model", f"The folder holds no model: only {_listed(names)}.", hint)


def _may_be_model(name: str) -> bool:
    last = name.rpartition("/")[2].lower()
    return (
        last.endswith(WEAK)
        and last not in _NO_MODELS
        and not last.startswith("requirements")
        and not last.endswith("_example.json")
    )


def _listed(names: Sequence[str]) -> str:
    if not names:
        return "nothing"
    shown = ", ".join(repr(name[:80]) for name in names[:6])
    return f"{shown} and {len(names) - 6} more" if len(names) > 6 else shown
