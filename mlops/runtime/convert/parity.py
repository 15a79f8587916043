"""Equal answers: labels equal, numbers within a stated tolerance. What one batch cannot prove is left to the native model, or refuses the form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mlops.runtime.convert.plan import SLOTS, Plan, Unsuitable
from mlops.runtime.convert.rows import Batch, levels_of
from mlops.runtime.formats.base import Outcome, said
from mlops.runtime.formats.fence import on_the_fence

TOLERANCE = 1e-5  # of a probability or a value: absolute, or relative where it is larger than 1


@dataclass(frozen=True)
class Known:
    """What the native model says to a batch; ``error`` where it refuses all of it."""

    batch: Batch
    outcome: Outcome | None
    error: str = ""


@dataclass
class Proof:
    rows: int = 0
    fenced: int = 0  # rows where two classes were too near to compare labels
    largest: float = 0.0


def known(model: Any, schema: dict[str, Any], batches: list[Batch]) -> list[Known]:
    """The native answers. Raises Unsuitable when it cannot even answer plain random rows."""
    found = []
    for batch in batches:
        try:
            outcome: Outcome | None = model.predict(batch.inputs, schema)
            error = ""
        except Exception as problem:  # noqa: BLE001  a model may raise anything
            outcome, error = None, said(problem)
        found.append(Known(batch, outcome, error))
    if not any(each.outcome is not None and each.batch.kind in ("given", "random") for each in found):
        raise Unsuitable(f"no rows could be made up that it answers ({found[0].error})")
    return found


def prove(form: Any, model: Any, schema: dict[str, Any], natives: list[Known]) -> Proof:
    """Compare; sets in the form's plan what it may answer. Raises Unsuitable with the first difference in words."""
    plan: Plan = form.plan
    if plan.chances is None and plan.precision != "float64" and plan.way != SLOTS and not _all_numbers(natives):
        raise Unsuitable("rounding may swap labels that have no probabilities")
    proof = Proof()
    gaps_held, gaps_hold = False, True
    for each in (_plain_texts(each, plan) for each in natives):
        kind = each.batch.kind
        if each.outcome is None:
            if kind.startswith("unknown:"):
                _close(plan, model, kind.partition(":")[2])
            gaps_hold = gaps_hold and kind != "gaps"
            continue
        try:
            outcome = form.raw(each.batch.inputs, schema)
            rows, fenced, largest = compare(each.outcome, outcome, picked=form.picks)
        except Exception as problem:  # noqa: BLE001  onnxruntime raises classes of its own
            if kind.startswith("unknown:"):
                _close(plan, model, kind.partition(":")[2])
                continue
            if kind == "gaps":
                gaps_hold = False
                continue
            if not isinstance(problem, Unsuitable):
                raise
            raise Unsuitable(f"{problem} ({_WHERE.get(kind, kind)})") from None
        if kind == "gaps":
            gaps_held = True
        elif kind in ("given", "random"):
            _singly(form, each, schema)
        proof.rows += rows
        proof.fenced += fenced
        proof.largest = max(proof.largest, largest)
    plan.nulls = gaps_held and gaps_hold
    return proof


def _plain_texts(each: Known, plan: Plan) -> Known:
    """Without the rows whose free text is not ASCII: the model itself answers these in any case."""
    inputs, outcome = each.batch.inputs, each.outcome
    if outcome is None or not isinstance(inputs, dict) or not plan.ascii:
        return each
    texts = [inputs[name] for name in plan.ascii if name in inputs]
    fine = [row for row in range(each.batch.count) if all((values[row] or "").isascii() for values in texts)]
    if len(fine) in (0, each.batch.count):
        return each
    chances = None if outcome.probabilities is None else [outcome.probabilities[row] for row in fine]
    rows = Batch(each.batch.kind, rows_of(inputs, fine), len(fine))
    return Known(rows, Outcome([outcome.values[row] for row in fine], chances))


def _singly(form: Any, each: Known, schema: dict[str, Any]) -> None:
    """A few rows one by one, the way that most requests come."""
    assert each.outcome is not None
    native = each.outcome
    for row in range(min(_SINGLY, each.batch.count)):
        alone = form.predict(rows_of(each.batch.inputs, [row]), schema)
        chances = native.probabilities[row : row + 1] if native.probabilities is not None else None
        compare(Outcome(native.values[row : row + 1], chances), alone, picked=form.picks)


def rows_of(inputs: Any, places: list[int]) -> Any:
    """Some rows of columns or of an array."""
    if isinstance(inputs, dict):
        return {name: [values[place] for place in places] for name, values in inputs.items()}
    return inputs[places]


_SINGLY = 12
_WHERE = {
    "given": "on its own sample",
    "random": "on random rows in range",
    "thresholds": "on rows at a tree's threshold",
}


def _all_numbers(natives: list[Known]) -> bool:
    """Values are measures, not labels."""
    values = next(each.outcome.values for each in natives if each.outcome is not None)
    return isinstance(values[0], float) or (isinstance(values[0], list) and isinstance(values[0][0], float))


def _close(plan: Plan, model: Any, column: str) -> None:
    plan.closed[column] = levels_of(model).get(column, [])


def compare(native: Outcome, form: Outcome, *, picked: bool) -> tuple[int, int, float]:
    """(rows, rows on the fence, largest difference). Raises Unsuitable at the first that is too large."""
    count = len(native.values)
    if len(form.values) != count or (native.probabilities is None) != (form.probabilities is None):
        raise Unsuitable("the converted form answers in another shape")
    largest, fenced = 0.0, np.zeros(count, dtype=bool)
    if native.probabilities is not None:
        wanted, got = np.asarray(native.probabilities, np.float64), np.asarray(form.probabilities, np.float64)
        if wanted.shape != got.shape:
            raise Unsuitable("the converted form answers in another shape")
        largest = _largest(wanted, got, "probability")
        if picked and wanted.shape[1] > 1:
            fenced = on_the_fence(wanted)
    if native.values and isinstance(native.values[0], (float, list)) and _numeric(native.values):
        wanted, got = np.asarray(native.values, np.float64), np.asarray(form.values, np.float64)
        if wanted.shape != got.shape:
            raise Unsuitable("the converted form answers in another shape")
        return count, 0, max(largest, _largest(wanted, got, "value"))
    for row, (wanted_label, label) in enumerate(zip(native.values, form.values, strict=True)):
        if not fenced[row] and (wanted_label != label or type(wanted_label) is not type(label)):
            raise Unsuitable(f"its converted form answers {label!r} instead of {wanted_label!r}")
    return count, int(fenced.sum()), largest


def _numeric(values: list[Any]) -> bool:
    try:
        return bool(np.asarray(values, np.float64).size)
    except (TypeError, ValueError):
        return False


def _largest(wanted: np.ndarray, got: np.ndarray, what: str) -> float:
    both = np.isnan(wanted) & np.isnan(got)
    differences = np.where(both, 0.0, np.abs(wanted - got) / np.maximum(1.0, np.abs(wanted)))
    worst = float(np.nan_to_num(differences, nan=np.inf, posinf=np.inf).max(initial=0.0))
    if worst > TOLERANCE:
        raise Unsuitable(f"a {what} of its converted form is off by {worst:.1g}, more than {TOLERANCE:g}")
    return worst
