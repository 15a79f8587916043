"""The signals of an incident: what each rule that fires has said last, as JSON. Plain dicts in, answers out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from monitoring import rules

Signal = dict[str, Any]
_NAMES = {rules.DRIFT: "Drift", rules.ERROR_RATE: "Error rate", rules.LATENCY: "Latency", rules.NO_TRAFFIC: "Traffic"}
FLAPPING = "changes between firing and calm all the time: nothing more is told about it until it settles."


def fired(found: rules.Finding, now: datetime, before: Signal | None, *, is_news: bool) -> Signal:
    """A finding that fires, as it is kept. before: what the same rule said until now. is_news: it did not fire until now."""
    since = (found.since or now).isoformat()
    return asdict(found) | {
        "state": rules.State.FIRING.value,
        "todo": list(found.todo),
        "seen_at": now.isoformat(),
        "calm_checks": 0,
        "calm_after": found.calm_checks or rules.CALM_CHECKS.get(found.kind, rules.CALM_CHECKS_ELSE),
        "flapping": bool(before and before.get("flapping")),
        "since": since if is_news or before is None else min(before["since"], since),
    }


def is_firing(signal: Signal) -> bool:
    return bool(signal["state"] == rules.State.FIRING)


def all_calm(signals: Mapping[str, Signal]) -> bool:
    return not any(is_firing(each) for each in signals.values())


def all_flap(signals: Mapping[str, Signal]) -> bool:
    """Whether everything that fires is flapping."""
    return all(each.get("flapping") for each in signals.values() if is_firing(each))


def calmed(signal: Signal) -> bool:
    """Take in one calm check. True when it was the last one that was missing. What flaps is not calm."""
    if signal.get("flapping"):
        return False
    signal["calm_checks"] += 1
    enough = signal.get("calm_after") or rules.CALM_CHECKS.get(signal["kind"], rules.CALM_CHECKS_ELSE)
    if not is_firing(signal) or signal["calm_checks"] < enough:
        return False
    signal["state"] = rules.State.CALM.value
    return True


def name(signal: Signal) -> str:
    return signal.get("label") or _NAMES.get(signal["kind"], str(signal["kind"]))


def title(signals: Mapping[str, Signal], otherwise: str) -> str:
    """What fires, for a list: what began first comes first (a database may keep the keys of JSON in an order of its own)."""
    firing = sorted((each["since"], key) for key, each in signals.items() if is_firing(each))
    return "; ".join(signals[key]["title"] for _, key in firing)[:300] or otherwise


def why_worse(muted: Mapping[str, Any], found: rules.Finding) -> str:
    """Why what was muted speaks again; empty when it stays quiet."""
    values = muted.get("values", {})
    if found.signal not in values:
        return f"Something new: {found.title}."
    before = values[found.signal]
    if found.value is None or before is None:
        return ""
    factor = muted.get("factor", rules.WORSE_FACTOR)
    if not rules.worse(found.value, before, factor, below=found.below, greatest=found.greatest):
        return ""
    return (
        f"It is worse: {rules.amount(found.value, found.unit)}, {rules.amount(before, found.unit)} when it was muted."
    )
