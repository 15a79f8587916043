"""The rows that a converted form must answer like the native model: those that came with it, random ones in range, with gaps, at thresholds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlops.runtime.convert import thresholds
from mlops.runtime.convert.plan import Unsuitable
from mlops.runtime.formats.pipelines import nested_steps

RANDOM, AT_THRESHOLDS, WITH_GAPS, UNKNOWN = 400, 600, 200, 40
_STRANGE = ("", "slipway-unknown", "ß", "漢字", " ", "A'b\"c", "0", "nan", "None")
_WORDS = ("the", "a", "not", "good", "bad", "very", "it's", "price", "2024", "don't", "x", "Hello", "WORLD", "re-run", "under_score", "e.g.", "100%")  # fmt: skip


Maker = Callable[[int], list[Any]]


@dataclass(frozen=True)
class Batch:
    """Rows of one kind. ``kind``: given, random, thresholds, gaps, unknown:COLUMN, text."""

    kind: str
    inputs: Any
    count: int


def of(model: Any, schema: dict[str, Any], given: dict[str, Any], seed: int = 20_240) -> list[Batch]:
    """All batches for a model; ``given`` holds {"columns"} or {"tensor"} of its sample and reference."""
    rng = np.random.default_rng(seed)
    if schema["kind"] == "json":
        raise Unsuitable("it takes several tensors, or any JSON")
    if schema["kind"] == "tensor":
        return _tensors(schema["tensor"], given.get("tensor"), rng)
    makers = _makers(model, schema, given.get("columns") or {}, rng)
    batches = []
    columns = given.get("columns") or {}
    batches += _given(schema, columns)
    base = {name: make(RANDOM) for name, make in makers.items()}
    batches.append(Batch("random", base, RANDOM))
    batches += _at_thresholds(model, base, rng)
    batches += _with_gaps(schema, base, rng)
    batches += _unknown(model, schema, base)
    return batches


def _given(schema: dict[str, Any], columns: dict[str, list[Any]]) -> list[Batch]:
    """The rows that came with the model; those with gaps apart. A missing text is the native model's in any case."""
    if not columns or not next(iter(columns.values())):
        return []
    texts = [column["name"] for column in schema["inputs"] if column["type"] in ("string", "datetime")]
    whole: list[int] = []
    gaps: list[int] = []
    for row in range(len(next(iter(columns.values())))):
        missing = [name for name, values in columns.items() if values[row] is None]
        if not any(name in texts for name in missing):
            (gaps if missing else whole).append(row)
    parts = (("given", whole), ("gaps", gaps))
    return [
        Batch(kind, {name: [values[row] for row in chosen] for name, values in columns.items()}, len(chosen))
        for kind, chosen in parts
        if chosen
    ]


# -- one column ----------------------------------------------------------------------------------------------------------


def _makers(
    model: Any, schema: dict[str, Any], given: dict[str, list[Any]], rng: np.random.Generator
) -> dict[str, Maker]:
    splits = thresholds.of(model, rng)
    spread = _fitted_spread(model, len(schema["inputs"]))
    names = getattr(model, "names", None) or []
    levels, vocabulary = levels_of(model), _vocabulary(model)
    makers: dict[str, Maker] = {}
    for place, column in enumerate(schema["inputs"]):
        name = column["name"]
        own = names.index(name) if name in names else place
        seen = [value for value in given.get(name, []) if value is not None]
        makers[name] = _maker(
            column, seen, splits.get(own), spread.get(own), levels.get(name) or column.get("levels"), vocabulary, rng
        )
    return makers


def _maker(
    column: dict[str, Any],
    seen: list[Any],
    splits: Any,
    spread: Any,
    levels: Any,
    vocabulary: list[str],
    rng: np.random.Generator,
) -> Maker:
    kind = column["type"]
    if kind == "boolean":
        return lambda count: (rng.random(count) < 0.5).tolist()
    if kind in ("string", "datetime"):
        known = [str(level) for level in levels or []] or list(dict.fromkeys(seen))[:2000] or vocabulary
        if kind == "datetime":
            known = list(dict.fromkeys(seen))[:2000] or ["2024-01-01T00:00:00"]
        if levels or kind == "datetime":
            return lambda count: [known[place] for place in rng.integers(0, len(known), count).tolist()]
        return lambda count: _sentences(known, count, rng)
    if levels and all(isinstance(level, (int, float)) for level in levels):
        return lambda count: [levels[place] for place in rng.integers(0, len(levels), count).tolist()]
    low, high = _range(column, seen, splits, spread)
    if kind == "long":
        first, last = int(np.floor(low)), max(int(np.ceil(high)), int(np.floor(low)) + 1)
        return lambda count: rng.integers(first, last + 1, count).tolist()
    if seen:  # as they came, in between, and evenly
        values = np.asarray(seen, dtype=np.float64)

        def mixed(count: int) -> list[float]:
            drawn = rng.choice(values, count) + rng.normal(0, (high - low) / 50 or 1e-3, count) * (
                rng.random(count) < 0.5
            )
            found: list[float] = np.where(
                rng.random(count) < 0.5, np.clip(drawn, low, high), rng.uniform(low, high, count)
            ).tolist()
            return found

        return mixed
    return lambda count: rng.uniform(low, high, count).tolist()


def _range(column: dict[str, Any], seen: list[Any], splits: Any, spread: Any) -> tuple[float, float]:
    low, high = column.get("min"), column.get("max")
    if seen:
        low = min(seen) if low is None else low
        high = max(seen) if high is None else high
    if splits is not None and (low is None or high is None):
        width = float(np.ptp(splits)) or abs(float(splits[0])) or 1.0
        low, high = float(splits.min()) - width / 2, float(splits.max()) + width / 2
    if spread is not None and (low is None or high is None):
        low, high = spread
    low = -3.0 if low is None else float(low)
    high = 3.0 if high is None else float(high)
    return (low, high) if high > low else (low - 1.0, low + 1.0)


def _fitted_spread(model: Any, width: int) -> dict[int, tuple[float, float]]:
    """What a scaler at the front saw, mean and three deviations around it."""
    for step in nested_steps(getattr(model, "estimator", None)):
        mean, scale = getattr(step, "mean_", None), getattr(step, "scale_", None)
        if mean is not None and scale is not None and np.shape(mean) == (width,) == np.shape(scale):
            return {
                place: (float(m - 3 * s), float(m + 3 * s))
                for place, (m, s) in enumerate(zip(mean, scale, strict=True))
            }
    return {}


def levels_of(model: Any) -> dict[str, list[str]]:
    """Columns of text whose encoder knows its levels."""
    from mlops.runtime.formats.pipelines import _picked

    estimator, names = getattr(model, "estimator", None), getattr(model, "names", None)
    found: dict[str, list[str]] = {}
    if estimator is None or not names:
        return found
    for step in nested_steps(estimator):
        if type(step).__name__ == "ColumnTransformer":
            branches = [(inner, _picked(chosen, names)) for _, inner, chosen in getattr(step, "transformers_", [])]
        else:
            branches = [(step, names)] if step is estimator or step in _firsts(estimator) else []
        for inner, picked in branches:
            for part in nested_steps(inner):
                categories = getattr(part, "categories_", None)
                if isinstance(categories, list) and len(categories) == len(picked):
                    for name, levels in zip(picked, categories, strict=True):
                        texts = [level for level in np.asarray(levels).tolist() if isinstance(level, str)]
                        if texts:
                            found.setdefault(name, []).extend(text for text in texts if text not in found.get(name, []))
    return found


def _vocabulary(model: Any) -> list[str]:
    """Words that a vectoriser knows."""
    for step in nested_steps(getattr(model, "estimator", None)):
        words = getattr(step, "vocabulary_", None)
        if isinstance(words, dict):
            return [word for word in words if isinstance(word, str)][:2000]
    return []


def _firsts(estimator: Any) -> list[Any]:
    found = []
    while getattr(estimator, "steps", None):
        estimator = estimator.steps[0][1]
        found.append(estimator)
    return found


def _sentences(known: list[str], count: int, rng: np.random.Generator) -> list[str]:
    """Texts as they came, and others made of their words."""
    words = list(
        dict.fromkeys([word for text in known[:500] for word in text.split() if word.isascii()] + list(_WORDS))
    )
    plain = [text for text in known if text.isascii()]
    found = []
    for _ in range(count):
        if plain and rng.random() < 0.4:
            found.append(plain[int(rng.integers(len(plain)))])
        else:
            found.append(
                " ".join(words[place] for place in rng.integers(0, len(words), int(rng.integers(1, 14))).tolist())
            )
    return found


# -- rows of a kind --------------------------------------------------------------------------------------------------------


def _at_thresholds(model: Any, base: dict[str, list[Any]], rng: np.random.Generator) -> list[Batch]:
    splits = thresholds.of(model, rng)
    if not splits:
        return []
    names = list(getattr(model, "names", None) or base)
    points: list[tuple[str, float]] = []
    for column, values in splits.items():
        if column < len(names) and names[column] in base:
            for value in values.tolist():
                near = np.float32(value)
                around = (value, float(near), float(np.nextafter(near, np.float32(np.inf))), float(np.nextafter(near, np.float32(-np.inf))),
                          float(np.nextafter(value, np.inf)), float(np.nextafter(value, -np.inf)))  # fmt: skip
                points += [(names[column], point) for point in around]
    chosen = rng.permutation(len(points))[:AT_THRESHOLDS].tolist()
    table = {name: [values[place % RANDOM] for place in range(len(chosen))] for name, values in base.items()}
    for row, place in enumerate(chosen):
        name, value = points[place]
        table[name][row] = int(round(value)) if isinstance(table[name][row], int) else value
    return [Batch("thresholds", table, len(chosen))]


def _with_gaps(schema: dict[str, Any], base: dict[str, list[Any]], rng: np.random.Generator) -> list[Batch]:
    open_columns = [
        column["name"]
        for column in schema["inputs"]
        if column.get("nullable") and column["type"] not in ("string", "datetime")
    ]
    if not open_columns:
        return []
    count = max(WITH_GAPS, 10 * min(len(open_columns), 40))
    table = {name: [values[place % RANDOM] for place in range(count)] for name, values in base.items()}
    for row in range(count):
        if row % 2:
            table[open_columns[(row // 2) % len(open_columns)]][row] = None
        else:
            for name in open_columns:
                if rng.random() < 0.3:
                    table[name][row] = None
    return [Batch("gaps", table, count)]


def _unknown(model: Any, schema: dict[str, Any], base: dict[str, list[Any]]) -> list[Batch]:
    """Texts an encoder never saw, one column at a time."""
    batches = []
    levels = levels_of(model)
    for column in schema["inputs"]:
        name = column["name"]
        if column["type"] == "string" and name in levels:
            table = {other: values[:UNKNOWN] for other, values in base.items()}
            table[name] = [_STRANGE[place % len(_STRANGE)] for place in range(UNKNOWN)]
            batches.append(Batch(f"unknown:{name}", table, UNKNOWN))
    return batches


# -- tensors -----------------------------------------------------------------------------------------------------------


def _tensors(tensor: dict[str, Any], given: Any, rng: np.random.Generator) -> list[Batch]:
    dtype = np.dtype(tensor["dtype"])
    batches = []
    sample = np.ascontiguousarray(given, dtype=dtype) if given is not None and len(given) else None
    if sample is not None:
        batches.append(Batch("given", sample, len(sample)))
    shapes = [[size if size > 0 else free for size in tensor["shape"][1:]] for free in (8, 5)]
    if sample is not None:
        shapes.insert(0, list(sample.shape[1:]))
    for shape in [shape for place, shape in enumerate(shapes) if shape not in shapes[:place]]:
        for count in (1, 2, 7, 64):
            batches.append(Batch("random", _random(dtype, (count, *shape), sample, rng), count))
    return batches


def _random(dtype: Any, shape: tuple[int, ...], sample: Any, rng: np.random.Generator) -> np.ndarray:
    if dtype.kind == "f":
        if sample is not None and sample.size:
            mean, spread = float(sample.mean()), float(sample.std()) or 1.0
            return rng.normal(mean, spread, shape).astype(dtype)
        return rng.normal(0, 1, shape).astype(dtype)
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    low, high = (int(sample.min()), int(sample.max())) if sample is not None and sample.size else (0, 1)
    return rng.integers(low, high + 1, shape).astype(dtype)
