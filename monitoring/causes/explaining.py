"""Everything a check says about why: made once, when it has found a drift, and kept in ``check.facts["causes"]``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import numpy as np

from mlops.core import logs
from mlops.core.storable import storable
from monitoring import columns
from monitoring.causes import beginning, effects, labels
from monitoring.causes.rows import Evidence, gather
from monitoring.drift import segments
from monitoring.drift.causes.cause import Cause
from monitoring.drift.causes.whole import Explanation, explain
from monitoring.models import DriftCheck

log = logs.get(__name__)
CAUSES_KEPT, EXAMPLES = 3, 5
# So many moved columns are explained from raw values; the others keep what their counts say.
MOST_COLUMNS = 24
MOVED = ("warning", "drift")
# The effect of the same columns of the same version is not measured again each hour while the drift goes on.
MEASURED_AGAIN_AFTER = timedelta(hours=6)


def add_to(check: DriftCheck, ask: effects.Asking | None = None, others: Sequence[DriftCheck] = ()) -> None:
    """Explain a check that found a drift, before it is saved: its facts, the causes and sentences of its columns. others: the checks
    of the same look at the deployment's other versions.

    ask: how the model may be asked for what the columns do to its predictions; without, they stay in the order of their PSI. A
    cause that cannot be told never costs the verdict: it is logged, and the check stands.
    """
    inputs = [each["name"] for each in check.columns if each["severity"] in MOVED and each["role"] == columns.FEATURE]
    if check.baseline is None or not inputs:
        return
    try:
        found = _explained(check, inputs[:MOST_COLUMNS], ask)
        found["source"] = found["source"] or _of_version(check, others)
        check.facts["causes"] = storable(found)
    except Exception:  # noqa: BLE001  the alarm must go out, with or without its causes
        log.exception("causes_failed", deployment=check.deployment_id)
        return
    _rewrite(check)


def _explained(check: DriftCheck, inputs: Sequence[str], ask: effects.Asking | None) -> dict[str, Any]:
    evidence = gather(check)
    found = explain(evidence.inputs(), inputs, evidence.groups())
    places = _of_source(evidence, found)
    effect = _effect(check, evidence, inputs, found, places, ask)
    ordered = _in_order(inputs, effect)
    began = beginning.of(check, evidence, inputs)
    worst = _segment(evidence, found, inputs, dated=began is not None)
    wrong = labels.worst_answered(check, evidence)
    return {
        "columns": [_column(check, name, found.causes.get(name, []), effect) for name in ordered],
        "order": "effect" if effect["state"] == "measured" else "psi",
        "effect": effect,
        "table": [_cause(cause) for cause in found.table],
        "hints": [_cause(cause) for cause in found.hints],
        "source": found.origin.to_json() if found.origin else None,
        "segment": worst.to_json() | {"sentence": worst.sentence("are unlike the reference")} if worst else None,
        "errors": wrong.to_json() | {"sentence": wrong.sentence("are answered wrongly")} if wrong else None,
        "since": began.to_json() if began else None,
        "examples": _examples(evidence, found, places, worst),
        "strange": {"share": float(found.strange.mean()) if found.strange.size else None, "usual": found.usual},
        "rows": len(evidence.rows),
        "redacted": sorted(evidence.redacted),
        "from_rows": bool(found.strange.size),
    }


def _of_source(evidence: Evidence, found: Explanation) -> set[int] | None:
    """The rows that the causes hold for, when they come from one source."""
    if found.origin is None:
        return None
    values = evidence.groups()[found.origin.kind]
    return {place for place, value in enumerate(values) if value == found.origin.value}


def _of_version(check: DriftCheck, others: Sequence[DriftCheck]) -> dict[str, Any] | None:
    """That only one version's rows moved, where the others' are as their baselines."""
    calm = [each for each in others if each.verdict == DriftCheck.Verdict.OK]
    if not calm or len(calm) < len(others):
        return None
    names = " and ".join(f"v{each.version.number}" for each in calm)
    rows = check.rows + sum(each.rows for each in calm)
    sentence = f"only what v{check.version.number} answers has moved; the rows of {names} are as the baseline"
    value = f"v{check.version.number}"
    return {
        "kind": "version",
        "value": value,
        "sentence": sentence,
        "of_moved": 1.0,
        "of_all": check.rows / max(rows, 1),
    }


# -- effect --------------------------------------------------------------------------------------------------------------


def _effect(
    check: DriftCheck,
    evidence: Evidence,
    inputs: Sequence[str],
    found: Explanation,
    places: set[int] | None,
    ask: effects.Asking | None,
) -> dict[str, Any]:
    if ask is None:
        return {"state": "unasked", "why": "nobody asked the model"}
    known = None if check.requested_by else _known_effect(check, inputs)
    if known is not None:
        return known
    swapped = {name for cause in found.table if cause.code == "swapped_columns" for name in cause.numbers["columns"]}
    causes = {name: [] if name in swapped else found.causes.get(name, []) for name in inputs}
    measured = effects.measure(check.version, evidence, inputs, causes, places, ask)
    return measured | {"at": check.at.isoformat()}


def _known_effect(check: DriftCheck, inputs: Sequence[str]) -> dict[str, Any] | None:
    """What an earlier check of the same drift measured: of the same version and columns, a few hours ago."""
    earlier = DriftCheck.objects.filter(
        deployment=check.deployment_id,
        version=check.version_id,
        at__gte=check.at - MEASURED_AGAIN_AFTER,
        at__lt=check.at,
    )
    for facts in earlier.order_by("-at").values_list("facts", flat=True)[:6]:
        effect = (facts.get("causes") or {}).get("effect") or {}
        if effect.get("state") == "measured" and effect.get("at", "") >= (check.at - MEASURED_AGAIN_AFTER).isoformat():
            return dict(effect) if set(inputs[: effects.MOST_COLUMNS]) == set(effect["columns"]) else None
    return None


def _in_order(inputs: Sequence[str], effect: dict[str, Any]) -> list[str]:
    """By effect, those that were not measured after them in the order they came in (by PSI)."""
    known = effect.get("columns") or {}
    return sorted(inputs, key=lambda name: (name not in known, -known[name]["effect"] if name in known else 0.0))


# -- what is kept --------------------------------------------------------------------------------------------------------


def _column(check: DriftCheck, name: str, causes: Sequence[Cause], effect: dict[str, Any]) -> dict[str, Any]:
    column = next(each for each in check.columns if each["name"] == name)
    return {
        "name": name,
        "psi": column["psi"],
        "since": column.get("since"),
        "effect": (effect.get("columns") or {}).get(name),
        "causes": [_cause(cause) for cause in causes[:CAUSES_KEPT]],
    }


def _cause(cause: Cause) -> dict[str, Any]:
    return {"code": cause.code, "sentence": cause.sentence, "share": round(cause.share, 4), "numbers": cause.numbers}


def _segment(evidence: Evidence, found: Explanation, inputs: Sequence[str], *, dated: bool) -> segments.Slice | None:
    """Where the strange rows are, by what has not moved itself: that a moved column's high values are strange says nothing, nor
    that the rows since it began are. dated: since when is known."""
    if not found.strange.size:
        return None
    calm = [column.name for column in evidence.inputs() if column.name not in inputs and len(column.now)]
    values = {name: evidence.values(name)[1] for name in calm}
    told = {found.origin.kind if found.origin else "", "hour" if dated else ""}
    values |= {f"the {kind}": list(of_rows) for kind, of_rows in evidence.groups().items() if kind not in told}
    return segments.worst(values, found.strange) if values else None


def _examples(
    evidence: Evidence, found: Explanation, places: set[int] | None, worst: segments.Slice | None
) -> list[str]:
    """Ids of a few strange rows, the newest of the source or slice where it is worst. Their values are read by those who may see them."""
    if not found.strange.size:
        return []
    wanted = found.strange.copy()
    if places is not None:
        wanted &= np.isin(np.arange(wanted.size), list(places))
    elif worst is not None and (wanted & worst.mask).any():
        wanted &= worst.mask
    return [str(evidence.rows[place].pk) for place in np.flatnonzero(wanted)[::-1][:EXAMPLES]]


def _rewrite(check: DriftCheck) -> None:
    """The causes of the columns, and the sentences that quote them, as the raw values have them."""
    told = {each["name"]: each["causes"] for each in check.facts["causes"]["columns"]}
    for column in check.columns:
        causes = told.get(column["name"])
        if not causes:
            continue
        old, new = column["cause"], causes[0]["sentence"]
        before = column["sentence"]
        after = before.replace(f"; {old}", f"; {new}") if old else f"{before}; {new}"
        column |= {
            "sentence": after,
            "cause": new,
            "cause_code": causes[0]["code"],
            "causes": [cause["sentence"] for cause in causes],
        }
        check.sentence = check.sentence.replace(before, after)
    _lead(check)


def _lead(check: DriftCheck) -> None:
    """The check's sentence begins with the column that its incident's title begins with: of the gravest the one that does most."""
    by_name = {column["name"]: column for column in check.columns}
    told = [by_name[each["name"]] for each in check.facts["causes"]["columns"]]
    before = next((column["sentence"] for column in told if check.sentence.startswith(column["sentence"])), "")
    gravest = max((column["severity"] for column in told), key=MOVED.index)
    first = next(column for column in told if column["severity"] == gravest)
    if before:
        check.sentence = first["sentence"] + check.sentence.removeprefix(before)
