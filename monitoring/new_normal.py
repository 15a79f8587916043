"""The last days become what a version is compared with: seen beforehand, made in the worker, taken back while its former is counted on."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from accounts import audit
from accounts.caller import Caller
from mlops.core import clock, errors, logs
from mlops.jobs.models import ENDED, Job
from mlops.jobs.queue import enqueue
from monitoring import baselines, counting, incidents, profiles, row_samples, rules, services, windows
from monitoring.drift.psi import psi
from monitoring.models import Baseline
from registry.models import ModelVersion
from serving.models import Deployment

log = logs.get(__name__)
DAYS, MOST_DAYS = 7, 30
LEAST_ROWS = baselines.LIVE_ROWS
# So long the former baseline is counted on, and can come back with nothing missing.
UNDO = timedelta(days=14)
# A column of which so much is missing or of the wrong type is broken, not changed.
BROKEN_SHARE = 0.95
# From where on a change is told before it becomes normal.
_TOLD_SHARE, _TOLD_UNSEEN, _TOLD_PSI = 0.02, 0.01, 0.1


@dataclass(frozen=True)
class Change:
    """One thing of one column that would become normal. weight: how much, to put the gravest first."""

    column: str
    text: str
    weight: float


@dataclass(frozen=True)
class Preview:
    """What the last days would make normal. blocked: why it may not be, empty when it may."""

    baseline: Baseline | None
    start: datetime
    end: datetime
    rows: int = 0
    changes: list[Change] = field(default_factory=list)
    blocked: str = ""
    hint: str = ""


def preview(deployment: Deployment, version: ModelVersion, days: int = DAYS) -> Preview:
    """Read off the counts of the last ``days`` days. Raises Invalid for a number of days out of range."""
    if not 1 <= days <= MOST_DAYS:
        raise errors.Invalid(
            f"Choose 1 to {MOST_DAYS} days.", fields={"days": [f"{days} is outside 1 to {MOST_DAYS}."]}
        )
    end = clock.now()
    baseline = baselines.of(deployment, version)
    if baseline is None:
        return Preview(
            None, end - timedelta(days=days), end,
            blocked=f"Version {version.number} has no baseline yet: its first {LEAST_ROWS} live rows become it by themselves.",
            hint="Send requests; there is nothing to replace yet.",
        )  # fmt: skip
    start = windows.start_of(baseline, end - timedelta(days=days))
    watched = windows.watched(baseline)
    now = windows.total(baseline, watched, start, end)
    rows = max((tally.rows for tally in now.values()), default=0)
    known = [
        (profiles.of(column, column.tally), profiles.of(column, now[column.name]), column)
        for column in watched
        if column.tally.rows and now[column.name].rows
    ]
    changes = [change for before, after, _ in known for change in _shares(before, after)]
    changes += [change for before, after, column in known for change in _moved(before, after, column, now[column.name])]
    blocked, hint = _blocked(rows, days, known)
    return Preview(baseline, start, end, rows, sorted(changes, key=lambda each: -each.weight), blocked, hint)


def _blocked(rows: int, days: int, known: list[Any]) -> tuple[str, str]:
    if rows < LEAST_ROWS:
        return (
            f"Too little traffic: {rows:,} rows in the last {days} day{'s' if days > 1 else ''}, and {LEAST_ROWS} are needed.",
            "Take more days, or wait for more requests.",
        )
    for before, after, _ in known:
        gone = (after.missing + after.wrong_type) / after.rows
        if gone >= BROKEN_SHARE and (before.missing + before.wrong_type) / before.rows < BROKEN_SHARE:
            what = "missing" if after.missing >= after.wrong_type else "of another type"
            return (
                f"`{after.name}` is {rules.percent(gone)} {what} in these days. That is a fault, not a new normal.",
                "Mend what sends it, or push a version that does not need the column.",
            )
    return "", ""


def _shares(before: profiles.Profile, after: profiles.Profile) -> list[Change]:
    """Missing values and wrong types that would be normal from then on."""
    found = []
    for name, old, new in (
        ("missing", before.missing / before.rows, after.missing / after.rows),
        ("of another type", before.wrong_type / before.rows, after.wrong_type / after.rows),
    ):
        if abs(new - old) >= _TOLD_SHARE:
            text = f"This makes {rules.percent(new)} {name} in `{after.name}` normal ({rules.percent(old)} in the present baseline)."
            found.append(Change(after.name, text, 10 * abs(new - old)))
    return found


def _moved(before: profiles.Profile, after: profiles.Profile, column: Any, tally: Any) -> list[Change]:
    """Values that moved."""
    if after.unseen / after.rows >= _TOLD_UNSEEN:
        new = ", ".join(f'"{name}"' for name in list(tally.new_levels)[:3])
        share = after.unseen / after.rows
        text = f"This makes new values of `{after.name}` normal: {new}, {rules.percent(share)} of the rows."
        return [Change(after.name, text, share)]
    moved = float(psi(column.tally.counts, tally.counts))
    if moved < _TOLD_PSI:
        return []
    text = f"`{after.name}` has moved (PSI {moved:.2f})"
    if before.median is not None and after.median is not None and before.median != after.median:
        unit = " characters" if before.in_characters else ""
        text += f": its median of {after.median:.4g}{unit} becomes normal, {before.median:.4g} before"
    elif before.top and after.top and before.top[0] != after.top[0]:
        name, share = after.top[0]
        text += f': "{name}" in {rules.percent(share)} of the rows becomes normal'
    return [Change(after.name, f"{text}.", moved)]


# -- made and taken back ----------------------------------------------------------------------------------------------


def running(deployment: Deployment) -> Job | None:
    jobs = Job.objects.filter(kind="new_normal", subject_type="deployment", subject_id=str(deployment.pk))
    return jobs.exclude(status__in=ENDED).order_by("pk").first()


def request(deployment: Deployment, version: ModelVersion, days: int, caller: Caller, seen: int | None = None) -> Job:
    """Have it made. ``seen``: the baseline that the caller looked at. Raises Conflict when it may not be, or another came between."""
    found = preview(deployment, version, days)
    if found.blocked or found.baseline is None:
        raise errors.Conflict(found.blocked, code="no_new_normal", hint=found.hint)
    if seen is not None and seen != found.baseline.pk:
        raise _moved_on()
    if running(deployment) is not None:
        raise errors.Conflict("A new baseline is being made.", code="new_normal_running", hint="Wait until it is done.")
    return enqueue(
        "new_normal",
        organization=deployment.organization,
        subject=deployment,
        args={
            "deployment_id": deployment.pk,
            "baseline_id": found.baseline.pk,
            "days": days,
            "key_id": caller.key.pk if caller.key else None,
        },
        created_by=caller.user,
    )


def make(deployment: Deployment, former: Baseline, days: int, caller: Caller) -> Baseline:
    """The rows of the last ``days`` days become the version's baseline; ``former`` is counted on for UNDO. Raises Conflict."""
    version = former.version
    counting.count_new()
    found = preview(deployment, version, days)
    if found.blocked:
        raise errors.Conflict(found.blocked, code="no_new_normal", hint=found.hint)
    fresh = _fitted(deployment, former, found)
    with transaction.atomic():
        cursor, now = counting.locked_cursor(), clock.now()
        Baseline.objects.filter(deployment=deployment, version=version, active=False).update(counted_until=None)
        if Baseline.objects.filter(pk=former.pk, active=True).update(active=False, replaced_at=now) != 1:
            raise _moved_on()
        former.active, former.replaced_at, former.counted_until = False, now, now + UNDO
        former.save(update_fields=["counted_until"])
        fresh.former, fresh.made_by = former, caller.label
        counting.leave_to_backfill(fresh, cursor)
        fresh.save()
        if deployment.live_version == version:
            incidents.forget_signal(deployment, rules.DRIFT, f"New normal set by {caller.label}.")
        audit.record(
            deployment.organization, caller, "baseline.new_normal", deployment,
            version=version.number, days=days, rows=fresh.rows, baseline=fresh.pk, former=former.pk,
        )  # fmt: skip
    counted = counting.backfill(fresh)
    log.info("new_normal", baseline=fresh.pk, former=former.pk, rows=fresh.rows, counted=counted)
    return fresh


def _fitted(deployment: Deployment, former: Baseline, found: Preview) -> Baseline:
    rows, oldest = row_samples.sample(former, found.start, found.end, former.pk)
    given = baselines.as_columns(rows, former.version, Baseline.Source.WINDOW)
    kept = max(map(len, given.features.values()), default=0)
    if len(rows) < LEAST_ROWS or (baselines.has_features(former) and kept < LEAST_ROWS):
        raise errors.Conflict(
            f"Of these days {min(kept, len(rows)):,} rows are still kept with their values, and {LEAST_ROWS} are needed.",
            code="no_new_normal",
            hint="The log policy of the deployment says what is kept.",
        )
    fresh = baselines.fitted(deployment, former.version, given)
    fresh.rows_from = max(found.start, windows.start_of(former, oldest or found.start))
    fresh.rows_until = found.end
    fresh.latency_p95_ms, fresh.latency_source = former.latency_p95_ms, former.latency_source
    return fresh


def can_undo(baseline: Baseline | None) -> bool:
    """Whether its former can come back with its counts."""
    former = baseline.former if baseline is not None else None
    return former is not None and former.counted_until is not None and former.counted_until > clock.now()


def undo(deployment: Deployment, version: ModelVersion, caller: Caller) -> Baseline:
    """The former baseline comes back with its counts. Raises Conflict when there is none that could."""
    with transaction.atomic():
        counting.locked_cursor()
        present = baselines.of(deployment, version)
        if present is None or present.former is None or not can_undo(present):
            raise errors.Conflict(
                "There is no former baseline to go back to.",
                code="no_former_baseline",
                hint=f"A baseline that was replaced can come back for {UNDO.days} days.",
            )
        former = present.former
        Baseline.objects.filter(pk=present.pk).update(active=False, replaced_at=clock.now())
        Baseline.objects.filter(pk=former.pk).update(active=True, replaced_at=None, counted_until=None)
        audit.record(
            deployment.organization, caller, "baseline.undone", deployment,
            version=version.number, baseline=former.pk, taken_back=present.pk,
        )  # fmt: skip
    former.refresh_from_db()
    if deployment.live_version == version:
        services.request_check(deployment, caller)
    return former


def _moved_on() -> errors.Conflict:
    return errors.Conflict(
        "The baseline has changed in the meantime.",
        code="baseline_moved_on",
        hint="Reload the page: somebody else may have been quicker.",
    )
