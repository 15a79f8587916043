"""What the drift pages draw: histograms of a checked column, lines over time, and the marks of deploys and incidents on them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from monitoring.column_history import Step
from monitoring.models import Incident
from serving.models import Deployment, Release

LEVELS_SHOWN = 12
_BACK = (Release.Kind.ROLLBACK, Release.Kind.RETREAT, Release.Kind.ABORT)
_MARKED = (Release.Kind.DEPLOY, Release.Kind.PROMOTE, *_BACK)
# At most so many labels on one line, the newest: more cover each other.
MARKS_SHOWN = 12


def histogram(column: dict[str, Any]) -> dict[str, Any]:
    """Labels and counts of a column as a check kept them. Places that nobody fills are left out; of many levels the
    fullest stand alone and the rest are added up."""
    stored = column["histogram"]
    places = list(zip(stored["labels"], stored["reference"], stored["current"], strict=True))
    ordered = column["kind"] in ("numeric", "text")
    special = places[-2:] if ordered else []
    kept = (places[:-2] if ordered else places) + [place for place in special if place[1] or place[2]]
    if not ordered:
        kept = _fullest([place for place in kept if place[1] or place[2]])
    labels, reference, current = (list(each) for each in zip(*kept, strict=True)) if kept else ([], [], [])
    return {"labels": labels, "reference": reference, "current": current, "kind": "number" if ordered else "category"}


def _fullest(places: list[tuple[str, int, int]]) -> list[tuple[str, int, int]]:
    if len(places) <= LEVELS_SHOWN:
        return places
    totals = [sum(place[side] for place in places) or 1 for side in (1, 2)]
    ranked = sorted(places, key=lambda place: -max(place[1] / totals[0], place[2] / totals[1]))
    rest = ranked[LEVELS_SHOWN:]
    return [*ranked[:LEVELS_SHOWN], (f"{len(rest)} more", sum(p[1] for p in rest), sum(p[2] for p in rest))]


def marks(deployment: Deployment, since: datetime) -> list[dict[str, Any]]:
    """Deploys and incidents of a deployment since a moment, as the ``marks`` of a chart (docs/ui.md)."""
    releases = Release.objects.filter(deployment=deployment, at__gte=since, kind__in=_MARKED).select_related("version")
    incidents = Incident.objects.filter(deployment=deployment, opened_at__gte=since)
    found = [
        {
            "x": _seconds(release.at),
            "label": f"{'back to' if release.kind in _BACK else 'deploy'} v{release.version.number}",
            "tone": "deploy",
        }
        for release in releases.order_by("-at")[:MARKS_SHOWN]
    ]
    found += [
        {"x": _seconds(incident.opened_at), "label": f"incident #{incident.pk}", "tone": "incident"}
        for incident in incidents.order_by("-opened_at")[:MARKS_SHOWN]
    ]
    return sorted(found, key=lambda mark: mark["x"])


def history(
    checks: Iterable[tuple[datetime, float | None, float | None]], marked: list[dict[str, Any]], limit: float
) -> dict[str, Any]:
    """Chart data (docs/ui.md): the largest PSI of inputs and of outputs at each check (moment, inputs, outputs)."""
    known = sorted(each for each in checks if each[1] is not None or each[2] is not None)
    known = known if len(known) > 1 else []
    return {
        "unit": "",
        "kind": "line",
        "x": [_seconds(at) for at, _, _ in known],
        "series": [
            {"label": "Largest PSI of the inputs", "values": [_short(each[1]) for each in known], "tone": "accent"},
            {"label": "Largest PSI of the predictions", "values": [_short(each[2]) for each in known], "tone": "teal"},
        ],
        "marks": marked,
        "limit": limit,
        "empty": "The line begins with the second check that has something to compare.",
    }


def column_history(steps: Sequence[Step], marked: list[dict[str, Any]], limit: float) -> dict[str, Any]:
    """Chart data: one column's PSI over time, with the PSI that chance alone shows."""
    return {
        "unit": "",
        "kind": "line",
        "x": [_seconds(step.start) for step in steps],
        "series": [
            {"label": "PSI", "values": [step.psi for step in steps], "tone": "accent"},
            {"label": "PSI by chance", "values": [step.by_chance for step in steps], "tone": "grey"},
        ],
        "marks": marked,
        "limit": limit,
        "empty": "No rows were counted in this period.",
    }


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _seconds(at: datetime) -> int:
    return int(at.timestamp())
