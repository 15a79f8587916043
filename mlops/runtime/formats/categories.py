"""Categorical columns of boosters: which levels a model was fitted on, and rows brought back to exactly these.

A booster knows a category by its place among the levels it saw; a request holds some of them in any order.
"""

from __future__ import annotations

from functools import cache
from typing import Any

# column name -> its levels, in the model's order
Levels = dict[str, list[Any]]


def levels_of(estimator: Any, names: list[str]) -> Levels:
    """Levels per categorical column of an XGBoost or LightGBM booster, or of a fitted wrapper around one; else empty."""
    module = type(estimator).__module__.partition(".")[0]
    if module == "lightgbm":
        return _of_lightgbm(getattr(estimator, "_Booster", None) or estimator, names)
    if module == "xgboost":
        fitted = getattr(estimator, "_Booster", estimator)
        return _of_xgboost(fitted, names) if fitted is not None else {}
    return {}


def kind_of(levels: list[Any]) -> str:
    """The schema type of a column with these levels."""
    if levels and all(isinstance(level, bool) for level in levels):
        return "boolean"
    numbers = levels and all(isinstance(level, (int, float)) and not isinstance(level, bool) for level in levels)
    return "double" if numbers else "string"


def categorize(frame: Any, levels: Levels) -> Any:
    """The frame with these columns as pandas categories of the model's levels; a level it never saw counts as missing."""
    import pandas

    for name, known in levels.items():
        if name in frame:
            kept = frame[name].astype(object)
            if any(isinstance(level, CutShort) for level in known):
                kept = kept.map(lambda value, known=known: _level(value, known))
            frame[name] = pandas.Categorical(kept.where(kept.isin(known), None), categories=known)
    return frame


def _of_lightgbm(booster: Any, names: list[str]) -> Levels:
    stored = getattr(booster, "pandas_categorical", None) or []
    if not stored:
        return {}
    infos = _feature_infos(booster)
    # A number's info is its range "[-1.5:2]", a category's the codes "1:0:2", and "none" stands for a column with one value.
    places = [place for place, info in enumerate(infos) if not info.startswith("[")]
    if len(places) != len(stored):
        places = [place for place in places if infos[place] != "none"]
    if len(places) != len(stored) or len(infos) != len(names):
        return {}
    return {names[place]: list(levels) for place, levels in zip(places, stored, strict=True)}


def _feature_infos(booster: Any) -> list[str]:
    for line in booster.model_to_string(num_iteration=1).splitlines():
        if line.startswith("feature_infos="):
            return str(line.removeprefix("feature_infos=")).split()
    return []


def _of_xgboost(booster: Any, names: list[str]) -> Levels:
    if "c" not in (booster.feature_types or []):
        return {}
    try:
        stored = booster.get_categories(export_to_arrow=True).to_arrow()
    except (AttributeError, TypeError, ValueError):  # a file of a version that did not keep them
        return {}
    found = [levels for _, levels in stored] if stored else []
    if len(found) != len(names):
        return {}
    return {name: _texts(levels) for name, levels in zip(names, found, strict=True) if levels is not None}


class CutShort(str):
    """A level of which the file holds only the first ``kept`` characters; the others stand for anything."""

    kept: int

    def may_be(self, value: Any) -> bool:
        return isinstance(value, str) and len(value) == len(self) and value[: self.kept] == self[: self.kept]


def _level(value: Any, known: list[Any]) -> Any:
    """The level that a request means, where some are cut short."""
    if value in known:
        return value
    return next((level for level in known if isinstance(level, CutShort) and level.may_be(value)), None)


def _texts(levels: Any) -> list[Any]:
    """The levels as they were, out of what xgboost stored of them.

    xgboost counts characters where it should count bytes: after the first letter beyond ASCII every level of the column is
    cut in the wrong place, and as many bytes as there were too few are lost at the end. It reads requests in the same
    way, so it finds its levels again when it is given all of them as they were.
    """
    import pyarrow

    if not (pyarrow.types.is_string(levels.type) or pyarrow.types.is_large_string(levels.type)):
        found: list[Any] = levels.to_pylist()
        return found
    pieces = levels.cast("binary" if pyarrow.types.is_string(levels.type) else "large_binary").to_pylist()
    stored = b"".join(piece or b"" for piece in pieces)
    if stored.isascii() or None in pieces or not _counts_characters():
        return [piece if piece is None else piece.decode("utf-8") for piece in pieces]
    text = stored.decode("utf-8", "ignore")
    known, rest = len(text), stored[len(text.encode()) :]
    if rest:  # half a character: any that begins so
        text += next(
            char for char in map(chr, range(0x80, 0x110000)) if char.encode("utf-8", "ignore").startswith(rest)
        )
    text = text.ljust(len(stored), "?")
    whole: list[Any] = []
    start = 0
    for piece in pieces:
        end = start + len(piece)
        level = text[start:end]
        if end > known:
            level = CutShort(level)
            level.kept = max(0, known - start)
        whole.append(level)
        start = end
    return whole


@cache
def _counts_characters() -> bool:
    """Whether this xgboost makes the mistake."""
    import pandas
    import xgboost

    frame = pandas.DataFrame({"x": pandas.Categorical(["\u00e4", "b"])})
    stored: Any = xgboost.DMatrix(frame, enable_categorical=True).get_categories(export_to_arrow=True).to_arrow()
    return bool(stored[0][1].cast("binary").to_pylist()[-1] != "\u00e4".encode())
