"""Retraining in sentences and tables: for pages."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from monitoring.models import Retraining, RetrainingPolicy
from monitoring.retraining import telling, triggers

_State = Retraining.State
_WAYS: dict[str, tuple[str, ...]] = {
    "webhook": (_State.QUEUED, _State.WAITING, _State.VALIDATING, _State.COMPARING),
    "sandbox": (_State.QUEUED, _State.TRAINING, _State.VALIDATING, _State.COMPARING),
}
_LABELS = {
    ("webhook", _State.QUEUED): "Call the webhook",
    ("sandbox", _State.QUEUED): "Lay out code and rows",
    ("webhook", _State.WAITING): "Wait for a candidate",
    ("sandbox", _State.TRAINING): "Train",
}
_PLAIN = {
    _State.VALIDATING: "Validate the candidate",
    _State.COMPARING: "Compare with the live version",
    _State.PROPOSED: "Somebody decides",
    _State.APPROVAL: "Approvals",
    _State.ROLLING_OUT: "Guarded rollout",
    _State.PROMOTED: "Promoted",
}


def ready(policy: RetrainingPolicy) -> bool:
    """Whether a run could begin at all."""
    if policy.pk is None:
        return False
    if policy.way == RetrainingPolicy.Way.WEBHOOK:
        return bool(policy.url)
    return bool(policy.bundle_key) or policy.code == RetrainingPolicy.Code.VERSION


def policy(found: RetrainingPolicy) -> str:
    """What the policy does, in one or two sentences."""
    if not ready(found):
        return "Nothing says yet how this deployment is trained again."
    how = "calls your webhook" if found.way == RetrainingPolicy.Way.WEBHOOK else "runs your train.py in the sandbox"
    then = "rolls it out, guarded" if found.action == RetrainingPolicy.Action.PROMOTE else "proposes it"
    words = f"A run {how}, compares what comes back with the live version, and {then} when it is better."
    begins = []
    if found.on_incident and found.incident_kinds:
        begins.append(f"on incidents of {' and '.join(found.incident_kinds)}")
    if found.schedule:
        begins.append(triggers.schedule_words(found))
    if not found.enabled or not begins:
        return f"{words} It begins by hand only."
    return f"{words} It begins {' and '.join(begins)}."


def run(found: Retraining) -> str:
    """The run in a sentence."""
    if found.state == _State.QUEUED and found.attempts:
        return f"The webhook did not take it, in {found.attempts} tries so far; the next one is {found.next_at:%H:%M:%S} UTC."
    text = found.ended_because or (found.steps[-1]["text"] if found.steps else "")
    said = telling.sentence(found)
    return f"{said}. {text}" if text and not text.startswith(said) else f"{said}."


def steps(found: Retraining) -> list[dict[str, Any]]:
    """For ``ui/_steps.html``: what was done, with how long it took, and what is to come."""
    way = str(found.terms.get("way"))
    been = found.steps
    made = []
    for place, each in enumerate(been):
        state, after = each["state"], been[place + 1] if place + 1 < len(been) else None
        made.append(
            {
                "name": f"{state}-{place}",
                "label": _label(way, state),
                "status": _status(found, each, after),
                "seconds": _seconds(each, after),
                "message": each["text"],
            }
        )
    if found.open:
        known = {each["state"] for each in been}
        done = [state for state in (*_WAYS.get(way, ()), _State.ROLLING_OUT) if state not in known]
        made += [{"name": state, "label": _label(way, state), "status": "waiting", "seconds": None} for state in done]
    return made


def _label(way: str, state: str) -> str:
    return _LABELS.get((way, _State(state))) or _PLAIN.get(_State(state)) or _State(state).label


def _status(found: Retraining, each: dict[str, Any], after: dict[str, Any] | None) -> str:
    state = each["state"]
    if after is None and found.open:
        return "running"
    if state in Retraining.BAD:
        return "failed"
    return "warning" if state == _State.CANCELLED else "done"


def _seconds(each: dict[str, Any], after: dict[str, Any] | None) -> float | None:
    if after is None:
        return None
    return (datetime.fromisoformat(after["at"]) - datetime.fromisoformat(each["at"])).total_seconds()


def table(found: Retraining) -> list[tuple[str, str, str, str]]:
    """Candidate against champion: (what, live, candidate, note)."""
    figures, made = found.figures, []
    names = {"reference": "The reference", "recent": "Recent labelled rows it has not seen"}
    for key, title in names.items():
        side = figures.get(key)
        if side and side.get("champion") is not None:
            gain = "" if side.get("gain") is None else f"{100 * side['gain']:+.2g} %"
            spread = "" if side.get("low") is None else f", 95 %: {100 * side['low']:+.2g} to {100 * side['high']:+.2g}"
            made.append((f"{title}: {_METRICS[side['metric']]}", _value(side, "champion"), _value(side, "candidate"), f"{gain}{spread}; {side['rows']:,} rows"))  # fmt: skip
    replay = figures.get("replay") or {}
    if replay.get("changed") is not None:
        made.append(
            (
                "Replayed requests answered differently",
                "",
                f"{100 * replay['changed']:.3g} %",
                f"{replay['rows']:,} rows",
            )
        )
        made.append(("Replayed requests that only it failed on", "", f"{replay['failed']:,}", ""))
    if replay.get("latency_factor"):
        made.append(("p95 of a single row", "1", f"{replay['latency_factor']:.2f}", "times the live version's"))
    return made


_METRICS = {"accuracy": "accuracy", "mae": "mean absolute error"}


def _value(side: dict[str, Any], who: str) -> str:
    value = side.get(who)
    if value is None:
        return "–"
    return f"{100 * value:.3g} %" if side["metric"] == "accuracy" else f"{value:.4g}"
