"""A comparison in words: what it found, as one sentence a person can act on."""

from __future__ import annotations

from typing import Any

from mlops.core import words
from serving.models import Comparison

_EXACT = 0.9995


def sentence(row: Comparison) -> str:
    """Empty while it goes on."""
    found = row.figures
    if not row.ended or found is None:
        return ""
    who, rows = f"Version {row.candidate.number}", f"{_of(row)}"
    failed = found["candidate_failed"]["rows"]
    if found["compared"] == 0:
        return (
            f"{who} failed on every one of {rows}."
            if failed == found["rows"]
            else f"No row was answered by both versions, of {rows}."
        )
    told = f"{who} {_agreement(found)} {rows}"
    tail = []
    if found["flipped"]:
        tail.append(f"{found['flipped']:,} {_flips(found)}")
    if failed:
        tail.append(f"{failed:,} it could not answer" + (_also(found)))
    return "; ".join([told, *tail]) + "."


def _of(row: Comparison) -> str:
    if row.source == Comparison.Source.LOG:
        return f"the last {row.rows:,} logged rows" if row.rows > 1 else "the one logged row"
    return f"{row.rows:,} reference or sample rows" if row.rows > 1 else "one sample row"


def _agreement(found: dict[str, Any]) -> str:
    share = found["agreement"]
    shown = "100 %" if share == 1 else words.pct(min(share, _EXACT), 1)
    if found["kind"] == "numbers":
        near = f"within {words.number(found['tolerance'])}" if found["tolerance"] else "exactly"
        return (
            f"answers {near} of the live version on {shown} of"
            if found["tolerance"]
            else f"answers exactly like the live version on {shown} of"
        )
    return f"agrees on {shown} of"


def _flips(found: dict[str, Any]) -> str:
    one = found["flipped"] == 1
    if found["kind"] == "numbers":
        return "lies further apart" if one else "lie further apart"
    return "flips" if one else "flip"


def _also(found: dict[str, Any]) -> str:
    ours = found["champion_failed"]["rows"]
    return f" (the live version: {ours:,})" if ours else ""


def table(row: Comparison) -> list[tuple[str, str, str, str]]:
    """Champion against challenger: (what, live, candidate, a word on it). Registered metrics first, then what was measured here."""
    names = sorted({*row.champion.metrics, *row.candidate.metrics})
    lines = [
        (name, _value(row.champion.metrics.get(name)), _value(row.candidate.metrics.get(name)), "registered")
        for name in names
    ]
    found = row.figures
    if found is None:
        return lines
    ours, theirs = (found["latency_ms"].get(who) or {} for who in ("champion", "candidate"))
    counted = f"{found['latency_ms']['rows']:,} rows, one at a time, in turn"
    lines += [
        ("p50 of one row", words.ms(ours.get("p50")), words.ms(theirs.get("p50")), counted),
        ("p95 of one row", words.ms(ours.get("p95")), words.ms(theirs.get("p95")), counted),
        (
            "Failed rows",
            words.number(found["champion_failed"]["rows"]),
            words.number(found["candidate_failed"]["rows"]),
            f"of {row.rows:,}",
        ),
    ]
    if found.get("skipped"):
        lines.append(("Logged rows left out", "", words.number(found["skipped"]), "the log has not kept their values"))
    return lines + _together(found)


def _together(found: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """What stands between the two."""
    lines = []
    if found["agreement"] is not None:
        low, high = found["interval"]
        lines.append(
            (
                "Agreement",
                "",
                words.pct(found["agreement"], 1),
                f"95 % interval {words.pct(low, 1)} to {words.pct(high, 1)}",
            )
        )
    for name, title, shown in (
        ("shift", "Change of probability", words.number),
        ("difference", "Difference of values", words.number),
    ):
        if spread := found.get(name):
            rest = (
                f"half below {shown(spread['p50'])}, 95 % below {shown(spread['p95'])}, at most {shown(spread['max'])}"
            )
            lines.append((f"{title}, mean", "", shown(spread["mean"]), rest))
    if found.get("bias") is not None:
        lines.append(("Higher by, mean", "", words.number(found["bias"]), "negative: lower than the live version"))
    return lines


def reasons(row: Comparison) -> list[tuple[str, list[dict[str, Any]]]]:
    """Why rows failed, of each version that failed on some."""
    if row.figures is None:
        return []
    told = (
        (f"Version {row.candidate.number}", "candidate_failed"),
        (f"Version {row.champion.number}", "champion_failed"),
    )
    return [(who, row.figures[name]["reasons"]) for who, name in told if row.figures[name]["reasons"]]


def examples(row: Comparison) -> list[dict[str, Any]]:
    """Rows side by side, as text."""
    return [
        {
            "prediction_id": each.get("prediction_id"),
            "features": _row(each.get("features")),
            "champion": _answer(each["champion"]),
            "candidate": _answer(each["candidate"]),
            "failed": "error" in each["candidate"],
        }
        for each in row.examples
    ]


def _row(features: Any) -> str:
    if isinstance(features, dict):
        shown = ", ".join(f"{name} {_value(value)}" for name, value in list(features.items())[:12])
        return shown + (f" and {len(features) - 12} more" if len(features) > 12 else "")
    return str(features)[:200]


def _answer(said: dict[str, Any]) -> str:
    if "error" in said:
        return str(said["error"].get("message") or said["error"].get("code"))
    chance = f" ({words.pct(said['probability'])})" if "probability" in said else ""
    return _value(said.get("prediction")) + chance


def _value(value: Any) -> str:
    if value is None or isinstance(value, float):
        return words.number(value)
    return str(value)[:200]
