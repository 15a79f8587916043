"""What a fitted scikit-learn pipeline says about its columns: which are text, which may be missing."""

from __future__ import annotations

from typing import Any

import numpy as np

# What a step does with a missing value.
_ABSORBS, _PASSES, _REFUSES = "absorbs", "passes", "refuses"


def nested_steps(estimator: Any) -> list[Any]:
    """The estimator and everything nested in it that we can see (pipelines, unions, ensembles, searches)."""
    seen: list[Any] = []
    waiting = [estimator]
    while waiting and len(seen) < 500:
        item = waiting.pop()
        if item is None or isinstance(item, (str, int, float)) or any(item is other for other in seen):
            continue
        seen.append(item)
        for attribute in ("steps", "transformers_", "transformer_list", "estimators"):
            pairs = getattr(item, attribute, None)
            if isinstance(pairs, list):
                waiting.extend(pair[1] for pair in pairs if isinstance(pair, tuple) and len(pair) > 1)
        for attribute in ("best_estimator_", "estimator", "base_estimator", "regressor_", "estimator_"):
            inner = getattr(item, attribute, None)
            if hasattr(inner, "get_params"):
                waiting.append(inner)
    return seen


def columns_with_missing(estimator: Any, names: list[str]) -> set[str]:
    """Columns where a missing value reaches no step that refuses it."""
    if _on_missing(estimator) != _REFUSES:
        return set(names)
    steps = [estimator]
    while getattr(steps[0], "steps", None):
        steps = [step for _, step in steps[0].steps] + steps[1:]
    after = _chained(steps[1:])
    fine: dict[str, bool] = {}
    for _, inner, chosen in getattr(steps[0], "transformers_", None) or []:
        if isinstance(inner, str) and inner == "drop":
            continue
        does = _on_missing(inner)
        for name in _picked(chosen, names):
            fine[name] = fine.get(name, True) and (does == _ABSORBS or (does == _PASSES and after != _REFUSES))
    return {name for name, allowed in fine.items() if allowed}


def _chained(steps: list[Any]) -> str:
    for step in steps:
        does = _on_missing(step)
        if does != _PASSES:
            return does
    return _PASSES


def _on_missing(step: Any) -> str:
    """A pipeline's own tags say "no" even when an imputer stands first, so the steps are asked one by one."""
    if step is None or isinstance(step, str):  # "passthrough", "drop"
        return _PASSES
    inner = getattr(step, "best_estimator_", None)
    if inner is not None:
        return _on_missing(inner)
    if getattr(step, "steps", None):
        return _chained([part for _, part in step.steps])
    branches = getattr(step, "transformers_", None) or getattr(step, "transformer_list", None)
    if isinstance(branches, list):
        found = {
            _on_missing(branch[1]) for branch in branches if not (isinstance(branch[1], str) and branch[1] == "drop")
        }
        return _REFUSES if _REFUSES in found else _PASSES if _PASSES in found else _ABSORBS
    if type(step).__name__.endswith("Imputer") or type(step).__name__ == "OneHotEncoder":
        return _ABSORBS if _tag_allows(step) else _REFUSES
    return _PASSES if _tag_allows(step) else _REFUSES


def _tag_allows(step: Any) -> bool:
    try:
        from sklearn.utils import get_tags

        return bool(get_tags(step).input_tags.allow_nan)
    except Exception:  # noqa: BLE001  classes that only look like estimators have no tags
        return False


def column_types(estimator: Any, names: list[str]) -> dict[str, str]:
    """ "string" or "boolean" for the columns whose encoder was fitted on such values; the others are not in the answer."""
    found: dict[str, str] = {}
    for step in nested_steps(estimator):
        for name, kind in _types_of_step(step, estimator, names):
            if found.get(name) != "string":
                found[name] = kind
    return found


def _types_of_step(step: Any, estimator: Any, names: list[str]) -> list[tuple[str, str]]:
    if type(step).__name__ == "ColumnTransformer":
        return [
            pair
            for _, inner, chosen in getattr(step, "transformers_", [])
            for pair in _types_of_branch(inner, _picked(chosen, names))
        ]
    inside = getattr(step, "_preprocessor", None)  # HistGradientBoosting encodes its own categories
    if inside is not None and step is estimator:
        return _types_of_step(inside, estimator, names)
    levels = getattr(step, "categories_", None) or []
    return _types_of_levels(levels, names) if step is estimator or len(levels) == len(names) else []


def _types_of_branch(inner: Any, picked: list[str]) -> list[tuple[str, str]]:
    parts = nested_steps(inner)
    if any(type(part).__module__ == "sklearn.feature_extraction.text" for part in parts):
        return [(name, "string") for name in picked]
    return [pair for part in parts for pair in _types_of_levels(getattr(part, "categories_", None) or [], picked)]


def _types_of_levels(categories: Any, picked: list[str]) -> list[tuple[str, str]]:
    found = []
    for name, levels in zip(picked, categories, strict=False):
        values = [
            value for value in np.asarray(levels).tolist() if value is not None and value == value
        ]  # NaN is a level too
        if any(isinstance(value, str) for value in values):
            found.append((name, "string"))
        elif values and all(isinstance(value, bool) for value in values):
            found.append((name, "boolean"))
    return found


def unread_columns(estimator: Any, names: list[str]) -> set[str]:
    """Columns that the first column transformer drops or hands on as they are: nothing in the file tells their type."""
    first = estimator
    while getattr(first, "steps", None):
        first = first.steps[0][1]
    unread: set[str] = set()
    read: set[str] = set()
    for _, inner, chosen in getattr(first, "transformers_", None) or []:
        plain = isinstance(inner, str) or type(inner).__name__ == "FunctionTransformer"
        (unread if plain else read).update(_picked(chosen, names))
    return unread - read


def _picked(chosen: Any, names: list[str]) -> list[str]:
    if isinstance(chosen, str):
        return [chosen]
    if isinstance(chosen, slice):
        return names[chosen] if all(isinstance(v, int) or v is None for v in (chosen.start, chosen.stop)) else []
    picked = []
    for index, item in enumerate(np.atleast_1d(np.asarray(chosen, dtype=object)).tolist()):
        if isinstance(item, bool):
            picked += [names[index]] if item else []
        elif isinstance(item, int):
            picked += [names[item]] if -len(names) <= item < len(names) else []
        else:
            picked.append(str(item))
    return picked
