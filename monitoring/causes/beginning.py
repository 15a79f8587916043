"""Since when: the hour that the counts say, made finer by the rows around it, and the release that was near."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from django.db.models import Q
from numpy.typing import NDArray

from monitoring.causes import rows as logged_rows
from monitoring.causes.rows import Evidence
from monitoring.drift.strange import is_strange, strangeness
from monitoring.models import DriftCheck
from serving.models import Release

# Rows around the hour of the change that are looked at one by one.
FEWEST_ROWS, MOST_ROWS = 30, 4_000
AROUND = timedelta(hours=1)
# A release so long before it is near enough to be named; clocks of machines differ by the other.
NEAR, SLACK = timedelta(hours=2), timedelta(minutes=2)
_SAID = {
    Release.Kind.DEPLOY: "was deployed",
    Release.Kind.ROLLBACK: "was rolled back to",
    Release.Kind.RETREAT: "was rolled back to by itself",
    Release.Kind.PROMOTE: "was promoted",
    Release.Kind.ROLLOUT: "began to be rolled out",
    Release.Kind.STEP: "got more of the traffic",
    Release.Kind.TRAFFIC: "got another share of the traffic",
    Release.Kind.START: "was started again",
    Release.Kind.RESUME: "was resumed",
}


@dataclass(frozen=True)
class Beginning:
    """at: when it began, to the row where rows are kept, else to the hour. at_least: it may be older."""

    at: datetime
    at_least: bool
    exact: bool
    release: Release | None

    @property
    def sentence(self) -> str:
        moment = f"{self.at:%H:%M} UTC on {self.at.day} {self.at:%b}"
        since = f"since {'at least ' if self.at_least else '' if self.exact else 'the hour from '}{moment}"
        return since + (f", {self._near()}" if self.release is not None else "")

    def _near(self) -> str:
        assert self.release is not None
        gap = self.at - self.release.at
        minutes = round(gap.total_seconds() / 60)
        said = f"v{self.release.version.number} {_SAID.get(Release.Kind(self.release.kind), 'was changed')}"
        if minutes <= 0:
            return f"when {said}"
        return f"{minutes} minute{'s' if minutes > 1 else ''} after {said}"

    def to_json(self) -> dict[str, Any]:
        release = self.release
        return {
            "at": self.at.isoformat(),
            "at_least": self.at_least,
            "exact": self.exact,
            "sentence": self.sentence,
            "release": None
            if release is None
            else {
                "number": release.number,
                "kind": release.kind,
                "version": release.version.number,
                "at": release.at.isoformat(),
            },
        }


def of(check: DriftCheck, evidence: Evidence, moved: Sequence[str]) -> Beginning | None:
    """When the moved inputs began to move, all taken together; None when no hour is known."""
    known = [each for each in check.columns if each["name"] in moved and each.get("since")]
    if not known:
        return None
    first = min(known, key=lambda each: each["since"])
    hour = datetime.fromisoformat(first["since"])
    names = [each["name"] for each in known if abs(datetime.fromisoformat(each["since"]) - hour) <= AROUND]
    exact = _row(check, evidence, names, hour)
    at = exact or hour
    at_least = bool(first.get("since_at_least"))
    release = _release(check, at, exact=exact is not None)
    return Beginning(at, at_least and release is None, exact is not None, release)


def _row(check: DriftCheck, evidence: Evidence, names: Sequence[str], hour: datetime) -> datetime | None:
    """The time of the first row of the new state, where the rows around the hour show one."""
    wanted = [name for name in names if evidence.values(name)[0]]
    if not wanted or evidence.reference is None:
        return None
    around = Q(at__gte=hour - AROUND, at__lt=hour + 2 * AROUND)
    near = logged_rows.read(logged_rows.logged(check, around)[:MOST_ROWS])
    if len(near) < FEWEST_ROWS:
        return None
    now = {name: [row.features.get(name) for row in near] for name in wanted}
    was, ratios = strangeness({name: evidence.reference[name] for name in wanted}, now)
    place = _change(is_strange(ratios), float(is_strange(was).mean()))
    return near[place].at if place is not None else None


def _change(strange: NDArray[np.bool_], usual: float) -> int | None:
    """The place from which rows are strange far more often than before it: the most likely one of a step in a share.

    0 when they are from the first row on. None when there is no step beyond chance (gain of the log likelihood under 8).
    """
    rows = strange.size
    hits = np.concatenate([[0], np.cumsum(strange)]).astype(float)
    places = np.arange(rows)
    before = _likelihood(hits[places], places) if usual <= 0 else _known(hits[places], places, usual)
    after = _likelihood(hits[-1] - hits[places], rows - places)
    gain = before + after - _known(hits[-1:], np.array([rows]), max(usual, 1e-3))[0]
    best = int(gain.argmax())
    share_after = (hits[-1] - hits[best]) / max(rows - best, 1)
    return best if gain[best] > 8 and share_after > usual else None


def _likelihood(hits: NDArray[np.float64], rows: NDArray[Any]) -> NDArray[np.float64]:
    share = np.clip(hits / np.maximum(rows, 1), 1e-9, 1 - 1e-9)
    found: NDArray[np.float64] = hits * np.log(share) + (rows - hits) * np.log(1 - share)
    return found


def _known(hits: NDArray[np.float64], rows: NDArray[Any], usual: float) -> NDArray[np.float64]:
    usual = min(max(usual, 1e-3), 1 - 1e-3)
    found: NDArray[np.float64] = hits * math.log(usual) + (rows - hits) * math.log(1 - usual)
    return found


def _release(check: DriftCheck, at: datetime, *, exact: bool) -> Release | None:
    """The last release before it began, if it was near; of an hour only, also one within it."""
    until = at + (SLACK if exact else AROUND)
    near = Release.objects.filter(deployment=check.deployment_id, at__gte=at - NEAR, at__lte=until)
    return (
        near.exclude(kind__in=(Release.Kind.STOP, Release.Kind.PAUSE)).select_related("version").order_by("-at").first()
    )
