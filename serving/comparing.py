"""What two versions answer to the same rows, as figures: agreement, shifts, flips, failures. Plain numbers; who asks and who shows is elsewhere."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

EXAMPLES = 20
FAILED_EXAMPLES = 5
REASONS = 10
TOLERANCE = 0.01  # of the spread of the live version's numbers: closer is called the same
_Z95 = 1.959964


@dataclass(frozen=True)
class Given:
    """One answer of one version: a prediction with class probabilities, or why there is none."""

    prediction: Any = None
    probabilities: list[float] | None = None
    error: dict[str, Any] | None = None


def share_interval(hits: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    if count == 0:
        return 0.0, 1.0
    share, z2 = hits / count, _Z95**2
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = _Z95 * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2)) / (1 + z2 / count)
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return (0.0 if hits == 0 else low), (1.0 if hits == count else high)


def quantile(values: list[float], share: float) -> float | None:
    """Linear between the two nearest; None of nothing. ``values`` are sorted."""
    if not values:
        return None
    place = share * (len(values) - 1)
    low = math.floor(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (place - low)


def figures(
    ours: list[Given], theirs: list[Given], classes: tuple[list[Any] | None, list[Any] | None], *, labels: bool
) -> dict[str, Any]:
    """Of the live version's answers (``ours``) and the candidate's (``theirs``), row by row. ``labels``: classes, not quantities."""
    both = [
        at for at, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0].error is None and pair[1].error is None
    ]
    numbers = (
        None if labels else _tolerance([ours[at].prediction for at in both], [theirs[at].prediction for at in both])
    )
    gaps = {at: distance(ours[at].prediction, theirs[at].prediction) for at in both} if numbers is not None else {}
    same = {at: _same(ours[at].prediction, theirs[at].prediction, numbers) for at in both}
    agreed = sum(same.values())
    low, high = share_interval(agreed, len(both))
    found: dict[str, Any] = {
        "rows": len(ours),
        "compared": len(both),
        "agreed": agreed,
        "flipped": len(both) - agreed,
        "agreement": agreed / len(both) if both else None,
        "interval": [low, high] if both else None,
        "kind": "numbers" if numbers is not None else "labels",
        "tolerance": numbers,
        "champion_failed": _failures(ours),
        "candidate_failed": _failures(theirs),
    }
    if numbers is not None:
        found["difference"] = spread([gap for gap in gaps.values() if gap is not None])
        signed = [
            theirs[at].prediction - ours[at].prediction
            for at in both
            if _number(ours[at].prediction) and _number(theirs[at].prediction)
        ]
        found["bias"] = sum(signed) / len(signed) if signed else None
    shifts = {at: shift for at in both if (shift := _shift(ours[at], theirs[at], classes)) is not None}
    if shifts:
        found["shift"] = spread(list(shifts.values()))
    size = {at: shifts.get(at, gaps.get(at) or 0.0) or 0.0 for at in both}
    found["flips"] = sorted((at for at in both if not same[at]), key=lambda at: (-size[at], at))[:EXAMPLES]
    found["only_candidate_failed"] = [
        at for at, each in enumerate(theirs) if each.error is not None and ours[at].error is None
    ][:FAILED_EXAMPLES]
    return found


def spread(values: list[float]) -> dict[str, float] | None:
    """Mean, median, 95th percentile and largest."""
    if not values:
        return None
    ordered = sorted(values)
    return {
        "mean": sum(ordered) / len(ordered),
        "p50": quantile(ordered, 0.5) or 0.0,
        "p95": quantile(ordered, 0.95) or 0.0,
        "max": ordered[-1],
    }


def _failures(answers: list[Given]) -> dict[str, Any]:
    """How many rows failed and why, the most frequent reasons first."""
    errors = [each.error for each in answers if each.error is not None]
    counts = Counter((str(error.get("code", "")), str(error.get("message", ""))) for error in errors)
    reasons = [
        {"code": code, "message": message, "rows": rows} for (code, message), rows in counts.most_common(REASONS)
    ]
    return {"rows": len(errors), "reasons": reasons}


# -- numbers or labels --------------------------------------------------------------------------------------------------


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _numeric(value: Any) -> bool:
    return _number(value) or (isinstance(value, list) and bool(value) and all(map(_numeric, value)))


def _tolerance(ours: list[Any], theirs: list[Any]) -> float | None:
    """How far two numbers may lie apart and be called the same; None when the answers are labels."""
    if not ours or not all(map(_numeric, [*ours, *theirs])):
        return None
    flat = sorted(number for value in ours for number in _flat(value))
    return TOLERANCE * ((quantile(flat, 0.95) or 0.0) - (quantile(flat, 0.05) or 0.0))


def _flat(value: Any) -> list[float]:
    return [number for each in value for number in _flat(each)] if isinstance(value, list) else [float(value)]


def distance(ours: Any, theirs: Any) -> float | None:
    """The largest difference of any number in two answers; None when they have not the same shape."""
    if _number(ours) and _number(theirs):
        return abs(float(ours) - float(theirs))
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        gaps = [distance(*pair) for pair in zip(ours, theirs, strict=True)]
        return None if None in gaps else max((gap for gap in gaps if gap is not None), default=0.0)
    return None


def _same(ours: Any, theirs: Any, tolerance: float | None) -> bool:
    if tolerance is None:
        return bool(ours == theirs) or _label(ours) == _label(theirs)
    gap = distance(ours, theirs)
    return gap is not None and gap <= tolerance


def _label(value: Any) -> Any:
    """1 and 1.0 and "1" are one class, for a model that was saved in another format."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else repr(value)


def _shift(ours: Given, theirs: Given, classes: tuple[list[Any] | None, list[Any] | None]) -> float | None:
    """The largest change of any class's probability; a class that one version does not know has probability 0 there."""
    if ours.probabilities is None or theirs.probabilities is None:
        return None
    before, after = _named(ours.probabilities, classes[0]), _named(theirs.probabilities, classes[1])
    if before is None or after is None:
        return None
    return max(
        (abs(before.get(name, 0.0) - after.get(name, 0.0)) for name in before.keys() | after.keys()), default=0.0
    )


def _named(values: list[float], classes: list[Any] | None) -> dict[Any, float] | None:
    names = classes if classes is not None else list(range(len(values)))
    if len(names) != len(values) or not all(_number(value) for value in values):
        return None
    return {_label(name): float(value) for name, value in zip(names, values, strict=True)}


# -- schemas ------------------------------------------------------------------------------------------------------------


def schema_differences(ours: dict[str, Any], theirs: dict[str, Any]) -> list[dict[str, str]]:
    """What a caller of the live version would notice, the worst first: ``[{"level", "text"}]``; level error: its requests would be refused."""
    found: list[dict[str, str]] = []

    def say(level: str, text: str) -> None:
        found.append({"level": level, "text": text})

    if ours.get("kind") != theirs.get("kind"):
        words = {"table": "rows with named columns", "tensor": "tensors", "json": "rows of JSON"}
        say(
            "error",
            f"It takes {words.get(str(theirs.get('kind')), 'something else')}, the live version {words.get(str(ours.get('kind')), 'something else')}.",
        )
    elif theirs.get("kind") == "tensor":
        if ours.get("tensor") != theirs.get("tensor"):
            say("error", f"Its input is {_tensor(theirs)}, the live version's {_tensor(ours)}.")
    elif theirs.get("kind") == "json":
        if ours.get("tensors") != theirs.get("tensors"):
            say("error", f"Its inputs are {_tensors(theirs)}, the live version's {_tensors(ours)}.")
    else:
        _columns(ours, theirs, say)
    before, after = ours.get("output") or {}, theirs.get("output") or {}
    if before.get("task") != after.get("task"):
        say("warning", f"It is a {after.get('task')}, the live version a {before.get('task')}.")
    known, new = before.get("classes"), after.get("classes")
    if known is not None and new is not None and set(map(_label, known)) != set(map(_label, new)):
        gone = [str(each) for each in known if _label(each) not in set(map(_label, new))]
        added = [str(each) for each in new if _label(each) not in set(map(_label, known))]
        say(
            "warning",
            " ".join(
                part
                for part in (
                    f"It never answers {_some(gone)}." if gone else "",
                    f"It may answer {_some(added)}, which is new." if added else "",
                )
                if part
            ),
        )
    if before.get("probabilities") and not after.get("probabilities"):
        say("warning", "It gives no probabilities; the live version does.")
    return sorted(found, key=lambda each: each["level"] != "error")


def _columns(ours: dict[str, Any], theirs: dict[str, Any], say: Any) -> None:
    before = {column["name"]: column for column in ours.get("inputs") or []}
    after = {column["name"]: column for column in theirs.get("inputs") or []}
    added, gone = [name for name in after if name not in before], [name for name in before if name not in after]
    if added:
        say(
            "error",
            f"It needs {_some(added)}, which requests of today do not carry: every one of them would be refused.",
        )
    if gone:
        say(
            "error",
            f"It does not take {_some(gone)}, which requests of today carry: they would be refused until callers leave {'it' if len(gone) == 1 else 'them'} out.",
        )
    for name in (each for each in after if each in before):
        kind, other = before[name].get("type"), after[name].get("type")
        if kind != other and (kind, other) != ("long", "double"):
            say("error", f"{name!r} is {other} in it, {kind} in the live version.")
        if before[name].get("nullable") and not after[name].get("nullable"):
            say("warning", f"{name!r} may not be missing in it.")


def _tensor(schema: dict[str, Any]) -> str:
    tensor = schema.get("tensor") or {}
    return f"{tensor.get('dtype')} of shape {tensor.get('shape')}"


def _tensors(schema: dict[str, Any]) -> str:
    named = [f"{each['name']} ({each['dtype']} {each['shape']})" for each in schema.get("tensors") or []]
    return ", ".join(named) or "any JSON"


def _some(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:8])
    return f"{shown} and {len(names) - 8} more" if len(names) > 8 else shown
