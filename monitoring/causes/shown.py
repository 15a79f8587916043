"""What a check says of why, for pages and the API: bars of effect, sentences, and example rows for those who may see the log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from monitoring.causes import words
from monitoring.models import DriftCheck
from serving.models import PredictionLog

_UNITS = {"classes": "Predictions that change class", "numbers": "Change in standard deviations"}
COLUMNS_SHOWN = 12
VALUES_SHOWN = 8
LONGEST = 60


def shown(check: DriftCheck, *, sees_log: bool) -> dict[str, Any] | None:
    """For the part "_causes.html"; None where the check says nothing of causes. sees_log: whether single rows may be shown."""
    kept = check.facts.get("causes")
    if not kept:
        return None
    columns = [_column(column, kept["effect"]) for column in kept["columns"][:COLUMNS_SHOWN]]
    return {
        "kept": kept,
        "columns": columns,
        "more": max(len(kept["columns"]) - len(columns), 0),
        "order": words.order(kept),
        "effect": words.effect(kept),
        "unit": _UNITS.get(kept["effect"].get("kind", ""), "Effect on predictions"),
        "together": _bar(kept["effect"].get("together"), kept["effect"]),
        "examples": examples(check, kept) if sees_log else None,
        "sees_log": sees_log,
    }


def _column(column: Mapping[str, Any], effect: Mapping[str, Any]) -> dict[str, Any]:
    return {**column, "cause": next(iter(column["causes"]), None), "bar": _bar(column["effect"], effect)}


def _bar(measured: Mapping[str, float] | None, effect: Mapping[str, Any]) -> dict[str, Any] | None:
    """An effect as a text with its interval, and as per cent of the largest one's upper end."""
    if measured is None:
        return None
    known = [*(effect.get("columns") or {}).values(), effect["together"]]
    largest = max(each["high"] for each in known) or 1.0
    as_share = effect["kind"] == "classes"
    texts = {
        name: (words.percent(round(measured[name], 3)) if as_share else words.number(measured[name]))
        for name in measured
    }
    return {**texts, "width": round(100 * measured["effect"] / largest)}


def examples(check: DriftCheck, kept: Mapping[str, Any]) -> dict[str, Any]:
    """{"columns", "rows": [{"id", "at", "key", "prediction", "values"}]} of the rows that are still in the log; moved columns come first."""
    ids = [UUID(each) for each in kept["examples"]]
    moved = [column["name"] for column in kept["columns"]]
    rows = list(PredictionLog.objects.filter(pk__in=ids, deployment=check.deployment_id).order_by("-at"))
    names = [*moved, *(name for row in rows[:1] for name in (row.features or {}) if name not in moved)][:VALUES_SHOWN]
    return {
        "columns": [{"name": name, "moved": name in moved} for name in names],
        "rows": [
            {
                "id": row.pk,
                "at": row.at,
                "key": row.key_prefix,
                "prediction": _text(row.prediction),
                "values": [_text((row.features or {}).get(name)) for name in names],
            }
            for row in rows
        ],
    }


def _text(value: Any) -> str:
    text = "missing" if value is None else str(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
