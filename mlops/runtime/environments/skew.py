"""Will it run here? What a model's file and its code say about the libraries they want, against those they will get.

Nothing is executed or imported: versions are read from bytes, imports from opcodes (mlops.runtime.pickles) and from the syntax of predict.py.
"""

from __future__ import annotations

import ast
import json
import os
import re
import sys
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from packaging.version import InvalidVersion, Version

from mlops.runtime.pickles import decompressed

# What one imports is not always what one installs.
DISTRIBUTIONS = {
    "sklearn": "scikit-learn", "cv2": "opencv-python-headless", "PIL": "pillow", "yaml": "pyyaml", "skimage": "scikit-image",
    "bs4": "beautifulsoup4", "dateutil": "python-dateutil", "Crypto": "pycryptodome", "umap": "umap-learn", "imblearn": "imbalanced-learn",
    "category_encoders": "category-encoders", "sentence_transformers": "sentence-transformers", "dotenv": "python-dotenv", "jwt": "pyjwt",
    "sksurv": "scikit-survival", "mpl_toolkits": "matplotlib", "google": "protobuf", "attr": "attrs", "faiss": "faiss-cpu",
    "pkg_resources": "setuptools", "feature_engine": "feature-engine", "xgboost": "xgboost", "tensorflow": "tensorflow-cpu",
}  # fmt: skip
_READ_BYTES, _PIECE_BYTES, _OVERLAP = 64 << 20, 1 << 20, 200
_LENGTH = rb"(?:\x8c.|X....|U.)"  # how pickle says how long a text is
_MEMO = rb"(?:\x94|q.|r....|p\d+\n)?"
_SKLEARN = re.compile(
    rb"_sklearn_version" + _MEMO + _LENGTH + rb"(\d+\.\d+(?:\.\d+)?(?:(?:a|b|rc|\.dev|\.post)\d+)?)", re.DOTALL
)
_SKLEARN_TEXT = re.compile(r'_sklearn_version"\s*:\s*\{[^{}]*?"content"\s*:\s*"\\?"?(\d+\.\d+[0-9a-z.]*)')
_TORCH_TEXT = re.compile(r'"(?:torch_version|pytorch_version)"\s*:\s*"(\d+\.\d+\.\d+)')
_MODEL_BUILTINS = frozenset({"builtins", "__builtin__", "copy_reg", "exceptions", "__torch__"})
_OPENS_OLDER = frozenset({"torch"})  # its archives say how to read them

Here = Callable[[str], str | None]


@dataclass(frozen=True)
class Line:
    """One line of the report. ``level``: ok, warning, or error (it cannot run)."""

    name: str
    needs: str
    here: str
    level: str
    message: str
    hint: str = ""

    def to_json(self) -> dict[str, str]:
        return asdict(self)


@dataclass(frozen=True)
class Provided:
    """What a model will find: ``version`` of a distribution, and every importable top-level name."""

    version: Here
    modules: frozenset[str]
    own_set: bool = False  # it runs with a dependency set of its own


# -- versions -----------------------------------------------------------------------------------------------------------
def saved_with(path: str | os.PathLike[str], form: str) -> dict[str, str]:
    """Distribution -> the version that the file says it was saved with. Empty where it says nothing or cannot be read."""
    try:
        if form == "sklearn":
            return _named("scikit-learn", _in_pickle(Path(path)))
        if form == "skops":
            return _named("scikit-learn", _first(_SKLEARN_TEXT, _member(path, ("schema.json",))))
        if form in ("torch_export", "torchscript"):
            return _named("torch", _first(_TORCH_TEXT, _member(path, (".json",))))
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        pass  # the format's own check says what is wrong with the file
    return {}


def _named(name: str, version: str) -> dict[str, str]:
    return {name: version} if version else {}


def _first(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return found[1] if found else ""


def _in_pickle(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(16)
        file.seek(0)
        stream = file if head.startswith(b"\x80") else decompressed(file, head) or file
        held, total = b"", 0
        while total < _READ_BYTES and (piece := stream.read(_PIECE_BYTES)):
            total += len(piece)
            if found := _SKLEARN.search(held + piece):
                return found[1].decode("ascii")
            held = piece[-_OVERLAP:]
    return ""


def _member(path: str | os.PathLike[str], endings: tuple[str, ...]) -> str:
    """The text of small members with these endings, one after the other."""
    texts: list[str] = []
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if entry.filename.endswith(endings) and len(texts) < 20:
                with archive.open(entry) as member:
                    texts.append(member.read(8 << 20).decode("utf-8", "replace"))
    return "\n".join(texts)


def compare(name: str, needs: str, here: str | None, *, own_set: bool) -> Line:
    """One library: the version a file was saved with against the one it will be opened with."""
    if here is None:
        return Line(name, needs, "", "error", f"It was saved with {name} {needs}, which is not here.", f"Add {name}=={needs} to requirements.txt.")  # fmt: skip
    if _alike(needs, here) or (name in _OPENS_OLDER and _older(needs, here)):
        return Line(name, needs, here, "ok", f"Saved with {name} {needs}, runs with {here}.")
    fix = f"pin {name}=={needs} in a requirements.txt beside the model: it is then run with that"
    hint = f"Change the pin in requirements.txt to {name}=={needs}." if own_set else f"Save it again with {name} {here}, or {fix}."  # fmt: skip
    return Line(name, needs, here, "warning", f"It was saved with {name} {needs} and is opened with {here}: predictions may differ.", hint)  # fmt: skip


def _older(needs: str, here: str) -> bool:
    try:
        return Version(needs) < Version(here)
    except InvalidVersion:
        return False


def _alike(one: str, other: str) -> bool:
    """The same minor version: libraries promise no more for their files, and keep that."""
    try:
        return Version(one).release[:2] == Version(other).release[:2]
    except InvalidVersion:
        return one == other


def python_line(needs: str) -> Line | None:
    """The Python it was made with, where it says so."""
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    found = re.match(r"(\d+)\.(\d+)", needs or "")
    if found is None:
        return None
    asked = f"{found[1]}.{found[2]}"
    if asked == here:
        return Line("Python", asked, here, "ok", f"Made with Python {asked}, runs with {here}.")
    return Line("Python", asked, here, "warning", f"It was made with Python {asked} and runs with {here}: library classes open, functions stored inside it may not.", f"If it does not load, save it again with Python {here}.")  # fmt: skip


# -- imports ------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Import:
    """A module that code wants. ``must``: the code cannot start without it."""

    module: str
    where: str
    must: bool = True


def in_pickle(names: Iterable[str], where: str) -> list[Import]:
    """Of dotted names that a pickle refers to: their top-level modules."""
    tops = dict.fromkeys(name.partition(".")[0] for name in names if name != "?")
    return [Import(top, where) for top in tops if top not in _MODEL_BUILTINS]


def in_code(source: str, where: str) -> list[Import]:
    """Imports of a source file, read from its syntax. Inside ``try`` or a function it can do without, or need it later."""
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # the last: more than its parser has room for
        return []  # the loader says what is wrong with the code
    found: dict[str, bool] = {}
    for node in body:
        must = isinstance(node, ast.Import | ast.ImportFrom)
        for top in _tops(node):
            found[top] = found.get(top, False) or must
    return [Import(top, where, must) for top, must in found.items()]


def _tops(node: ast.AST) -> Iterable[str]:
    for inner in ast.walk(node):
        if isinstance(inner, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in inner.names)
        elif isinstance(inner, ast.ImportFrom) and inner.level == 0 and inner.module:
            yield inner.module.partition(".")[0]


def import_lines(imports: Iterable[Import], provided: Provided) -> list[Line]:
    """Those that cannot be had, each with what to write where."""
    lines = {}
    for one in imports:
        if one.module in provided.modules or one.module in sys.stdlib_module_names or one.module in lines:
            continue
        package = DISTRIBUTIONS.get(one.module, one.module.replace("_", "-").lower())
        if one.module == "__main__":
            lines[one.module] = Line("__main__", "", "", "warning", f"{one.where} needs a class or function from the script or notebook it was saved in.", "Put it into a .py file beside predict.py and save the model again, or use library classes.")  # fmt: skip
        elif one.must:
            lines[one.module] = Line(package, "any", "", "error", f"{one.where} imports {one.module}, which is neither here nor in the folder.", f"Add `{package}` to a requirements.txt beside the model, or put your own {one.module}.py there.")  # fmt: skip
        else:
            lines[one.module] = Line(package, "maybe", "", "warning", f"{one.where} may import {one.module}, which is not here.", f"If it needs it, add `{package}` to requirements.txt.")  # fmt: skip
    return list(lines.values())


# -- MLflow -------------------------------------------------------------------------------------------------------------
_NOT_TO_PREDICT = ("mlflow", "mlflow-skinny")


def of_mlflow(text: str) -> tuple[str, tuple[str, ...]]:
    """(requirements, what is left out of them): mlflow itself only saves, its model is opened without it."""
    kept: list[str] = []
    dropped: list[str] = []
    for line in text.splitlines():
        name = re.split(r"[\[<>=!~;\s]", line.strip(), maxsplit=1)[0].lower()
        (dropped if name in _NOT_TO_PREDICT else kept).append(line)
    return "\n".join(kept), tuple(dropped)


def as_json(lines: Iterable[Line]) -> list[dict[str, str]]:
    """For the version's row; a round trip through JSON keeps out what could not be stored."""
    told: list[dict[str, str]] = json.loads(json.dumps([line.to_json() for line in lines]))
    return told
