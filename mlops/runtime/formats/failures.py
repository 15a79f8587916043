"""A library's exception while a file is opened, as a sentence with the next step."""

from __future__ import annotations

import zipfile

from mlops.runtime.errors import Explained
from mlops.runtime.formats.base import ModelError, said
from mlops.runtime.formats.contents import missing_module

_HEAD_BYTES = 4096
# What libraries say when the file ends before it should; XGBoost's parser says where it stands in its own source.
_ENDS_EARLY = (
    "exhausted",
    "truncated",
    "past the end",
    "EOF",
    "end of file",
    "end of stream",
    "Unexpected end",
    "character position",
    "incomplete",
)


def explained(error: Exception, path: str, format_name: str, title: str) -> ModelError:
    """Why ``title`` could not open the file: something missing, forbidden, another kind of file, or only half of one."""
    text = said(error)
    if isinstance(error, ModuleNotFoundError):
        return missing_module(error.name or "a module")
    if isinstance(error, AttributeError) and ("__main__" in text or "get attribute" in text):
        return ModelError(
            "class_missing",
            f"The file refers to a class or function that is not in a library ({text}).",
            "Classes of a notebook or script are not inside a pickle. Push a folder: the file, and a predict.py that defines them.",
        )
    if isinstance(error, PermissionError):
        return ModelError(
            "not_allowed",
            f"Opening the file tried something a model may not do ({text}).",
            "Models are opened without network, other files or new processes: save the fitted model only.",
        )
    other = _other_kind(path, format_name)
    if other:
        message = f"The file is {other}, which {title} cannot open."
        return ModelError("other_format", message, "Push it again without naming a format: it is told by its content.")
    if isinstance(error, EOFError) or _is_cut(path, text, format_name):
        return ModelError(
            "truncated",
            f"The file ends too early or is damaged ({text}).",
            "Save the model again and push the whole file.",
        )
    return ModelError(
        "load_failed",
        f"{title} could not open the file: {text}",
        "Check that it loads on your machine with the library versions named on the version's page, then push it again.",
    )


def _head(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_HEAD_BYTES)
    except OSError:
        return b""


def _other_kind(path: str, format_name: str) -> str:
    """What the content says it is, where that is another format; "" where it agrees or nobody knows."""
    from mlops.runtime import formats  # it needs this module

    try:
        found = formats.detect("", _head(path), path)
    except (Explained, OSError, ValueError):
        return ""
    row = formats.FORMATS.get(found)
    return row.title if row is not None and found != format_name else ""


def _is_cut(path: str, text: str, format_name: str) -> bool:
    if _head(path).startswith(b"PK"):
        return not zipfile.is_zipfile(path)
    if format_name == "xgboost":  # what its parser says depends on where the cut is
        from mlops.runtime.detecting import xgboost_is_whole  # it needs the formats

        if not xgboost_is_whole(path):
            return True
    return any(words in text for words in _ENDS_EARLY)
