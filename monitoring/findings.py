"""What a drift check says to its incident: what, since when, likely why, what it does to the predictions, what to do."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from monitoring import columns, rules
from monitoring.causes import words
from monitoring.models import DriftCheck

_TODO = (
    "Inspect the columns on the drift page.",
    "Roll back if it began with a deploy.",
    "If the data has really changed, train on the new data and push a version.",
)


def inputs_first(moved: list[Any], role_of: Callable[[Any], str]) -> list[Any]:
    """The engine tests the predictions first; people want to read the cause before the consequence."""
    return sorted(moved, key=lambda column: role_of(column) != columns.FEATURE)


def finding(check: DriftCheck, threshold: float) -> rules.Finding:
    """The check as a rule's finding. A warning neither opens nor closes anything."""
    state = {
        DriftCheck.Verdict.DRIFT: rules.State.FIRING,
        DriftCheck.Verdict.WARNING: rules.State.HOLD,
        DriftCheck.Verdict.OK: rules.State.CALM,
    }.get(DriftCheck.Verdict(check.verdict), rules.State.UNKNOWN)
    moved = inputs_first(
        [column for column in check.columns if column["severity"] == "drift"], lambda each: each["role"]
    )
    if state is rules.State.FIRING and not moved:
        return _together(check)
    if state is not rules.State.FIRING:
        return rules.Finding(rules.DRIFT, state)
    kept = check.facts.get("causes")
    moved = _by_effect(moved, kept)
    first, others = moved[0], len(moved) - 1
    more = f" and {others} more column{'s' if others > 1 else ''}" if others else ""
    return rules.Finding(
        rules.DRIFT,
        state,
        title=f"{first['name']}{more} drifted",
        what=check.sentence,
        why=words.why(kept) if kept else _why(moved),
        effect=_effect(check.facts.get("predictions"), words.effect(kept) if kept else ""),
        todo=words.todo(kept, _TODO) if kept else _TODO,
        since=_since(check, moved),
        value=first["psi"],
        limit=threshold,
        detail={"check": check.pk, "columns": [_brief(column) for column in moved[:20]], "rows": check.rows}
        | ({"causes": _told(kept)} if kept else {}),
    )


def _together(check: DriftCheck) -> rules.Finding:
    """No column moved alone: they move together otherwise than before."""
    found = check.facts.get("multivariate") or {}
    pairs = found.get("pairs") or []
    named = f"{pairs[0]['columns'][0]} and {pairs[0]['columns'][1]}" if pairs else "Columns"
    return rules.Finding(
        rules.DRIFT,
        rules.State.FIRING,
        title=f"{named} move together otherwise than before",
        what=check.sentence,
        why="Each column alone looks as ever. Usual causes: rows joined wrongly, a column shifted against the others, another mix of clients.",
        effect=_effect(check.facts.get("predictions")),
        todo=(
            "Compare a few rows of now with the reference on the drift page.",
            "Look at what joins these columns before they are sent.",
            "If the data has really changed, train on the new data and push a version.",
        ),
        since=check.at,
        value=round(pairs[0]["effect"], 3) if pairs else found.get("auc"),
        limit=None,
        detail={"check": check.pk, "columns": [], "rows": check.rows, "together": found},
    )


def _brief(column: dict[str, Any]) -> dict[str, Any]:
    return {name: column[name] for name in ("name", "psi", "since", "cause", "sentence")}


def _why(moved: list[dict[str, Any]]) -> str:
    inputs = [column for column in moved if column["role"] == columns.FEATURE] or moved
    causes = [f"`{column['name']}`: {column['cause']}" for column in inputs if column["cause"]]
    return "; ".join(causes[:3]) + "." if causes else "No usual cause fits; compare the histograms."


def _by_effect(moved: list[dict[str, Any]], kept: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Inputs in the order of their effect on the predictions, outputs after them."""
    places = {column["name"]: place for place, column in enumerate((kept or {}).get("columns", ()))}
    return sorted(moved, key=lambda column: places.get(column["name"], len(places)))


def _told(kept: dict[str, Any]) -> dict[str, Any]:
    """The causes as an incident carries them: codes and figures, no values of single rows."""
    first = next((column for column in kept["columns"] if column["causes"]), None)
    return {
        "code": (kept["table"] or (first or {}).get("causes") or [{"code": ""}])[0]["code"],
        "columns": [
            {
                "name": column["name"],
                "code": column["causes"][0]["code"] if column["causes"] else "",
                "effect": column["effect"],
            }
            for column in kept["columns"][:20]
        ],
        "source": kept["source"],
        "segment": kept["segment"],
        "since": kept["since"],
        "order": kept["order"],
    }


def _effect(predictions: dict[str, Any] | None, measured: str = "") -> str:
    """What is seen in the predictions, then what was measured by asking the model again."""
    return " ".join(each for each in (_seen(predictions, measured), measured) if each)


def _seen(predictions: dict[str, Any] | None, measured: str) -> str:
    if predictions is None:
        return "" if measured else "What it does to the predictions is not known: the baseline holds none."
    if not predictions["moved"]:
        return "The predictions have not moved so far."
    what = "class" if predictions["is_class"] else "range"
    return (
        f'{rules.percent(predictions["share"])} of predictions changed {what}: "{predictions["label"]}" is '
        f"{rules.percent(predictions['now'])} of them now, {rules.percent(predictions['before'])} in the baseline."
    )


def _since(check: DriftCheck, moved: list[dict[str, Any]]) -> datetime:
    began = (check.facts.get("causes") or {}).get("since")
    if began:
        return datetime.fromisoformat(began["at"])
    known = [datetime.fromisoformat(column["since"]) for column in moved if column["since"]]
    return min(known, default=check.at)
