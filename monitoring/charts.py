"""What the drift pages draw: histograms of a checked column, and the history of checks with deploys and incidents."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from monitoring.models import DriftCheck, Incident
from serving.models import Release

LEVELS_SHOWN = 12
_BACK = (Release.Kind.ROLLBACK, Release.Kind.RETREAT, Release.Kind.ABORT)
_MARKED = (Release.Kind.DEPLOY, Release.Kind.PROMOTE, *_BACK)


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


def history(
    checks: Sequence[DriftCheck], releases: Iterable[Release], incidents: Iterable[Incident], limit: float
) -> dict[str, Any]:
    """Chart data (docs/ui.md): the largest PSI of inputs and of outputs at each check, oldest first."""
    marks = [
        {
            "x": _seconds(release.at),
            "label": f"{'rollback' if release.kind in _BACK else 'deploy'} v{release.version.number}",
            "tone": "deploy",
        }
        for release in releases
        if release.kind in _MARKED
    ]
    marks += [
        {"x": _seconds(incident.opened_at), "label": f"incident #{incident.pk}", "tone": "incident"}
        for incident in incidents
    ]
    known = [
        check
        for check in checks
        if _largest(check, inputs=True) is not None or _largest(check, inputs=False) is not None
    ]
    ordered = sorted(known, key=lambda check: check.at) if len(known) > 1 else []
    return {
        "unit": "",
        "kind": "line",
        "x": [_seconds(check.at) for check in ordered],
        "series": [
            {
                "label": "Largest PSI of the inputs",
                "values": [_largest(check, inputs=True) for check in ordered],
                "tone": "accent",
            },
            {
                "label": "Largest PSI of the predictions",
                "values": [_largest(check, inputs=False) for check in ordered],
                "tone": "teal",
            },
        ],
        "marks": marks,
        "limit": limit,
        "empty": "The line begins with the second check that has something to compare.",
    }


def _largest(check: DriftCheck, *, inputs: bool) -> float | None:
    known = [
        column["psi"]
        for column in check.columns
        if column["psi"] is not None and (column["role"] == "feature") is inputs
    ]
    return round(max(known), 4) if known else None


def _seconds(at: datetime) -> int:
    return int(at.timestamp())
