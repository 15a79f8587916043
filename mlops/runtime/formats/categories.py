"""Categorical columns of boosters: which levels a model was fitted on, and rows brought back to exactly these.

A booster knows a category by its place among the levels it saw; a request holds some of them in any order.
"""

from __future__ import annotations

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
    return {name: levels.to_pylist() for name, levels in zip(names, found, strict=True) if levels is not None}
