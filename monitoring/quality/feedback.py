"""Labels come in: which are new, which correct an earlier word, which belong to no prediction here, which cannot be.

A label whose prediction is not in the log may be early: rows take seconds from the web process to the database, longer after an
outage. It is held for a day; a label of another deployment's prediction looks exactly the same, to its sender too. Nothing is
counted here: ``matching`` does that, exactly once.
"""

from __future__ import annotations

import json
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from django.db import IntegrityError, transaction

from accounts.caller import Caller
from mlops.core import clock
from monitoring.models import Feedback
from monitoring.quality.answers import Answers, BadLabel
from monitoring.quality.reading import Entry
from registry.models import ModelVersion
from serving import prediction_log
from serving.models import Deployment, PredictionLog

ROWS_AT_ONCE = 2_000
HELD_FOR = timedelta(days=1)
# Labels without a prediction that one deployment may have waiting: somebody who guesses ids fills no disk.
MOST_HELD = 100_000
# So young a prediction is probably on its way: the rows of this machine are shipped before it is called unknown.
JUST_NOW = timedelta(minutes=2)
SHIP_AT_MOST_BYTES = 4 << 20
TOLD = 100
MOST_CHANGES = 20
_CORRECTED = ("actual", "history", "given_by", "changed_at", "due", "look_at")
_MATCHED = ("version", "predicted_at", "prediction", "probabilities")


@dataclass
class Received:
    """What became of each label. accepted: first words; updated: other words for the same prediction; unchanged: the same word again;
    unknown: ids of no answered prediction here, of which ``held`` are kept for a day in case theirs is still to come."""

    accepted: int = 0
    updated: int = 0
    unchanged: int = 0
    unknown_count: int = 0
    held: int = 0
    invalid_count: int = 0
    unknown: list[str] = field(default_factory=list)
    invalid: list[dict[str, Any]] = field(default_factory=list)

    def refuse(self, row: int, detail: str) -> None:
        self.invalid_count += 1
        if len(self.invalid) < TOLD:
            self.invalid.append({"row": row, "detail": detail})

    def miss(self, prediction_id: uuid.UUID) -> None:
        self.unknown_count += 1
        if len(self.unknown) < TOLD:
            self.unknown.append(str(prediction_id))


@dataclass(frozen=True)
class _Wanted:
    """One label that may be kept. version, predicted_at: of its prediction, None while that is unknown."""

    actual: Any
    version_id: int | None
    logged: dict[str, Any]


def receive(deployment: Deployment, caller: Caller, given: Iterable[Entry]) -> Received:
    """Keep the labels, ROWS_AT_ONCE in a transaction: a call that breaks off has kept what came before, and may be repeated whole."""
    done, rows = Received(), iter(given)
    answers: dict[int, Answers] = {}
    while chunk := list(islice(rows, ROWS_AT_ONCE)):
        _receive(deployment, caller.label[:200], chunk, done, answers)
    return done


def _receive(deployment: Deployment, by: str, chunk: list[Entry], done: Received, answers: dict[int, Answers]) -> None:
    usable = [entry for entry in chunk if _usable(entry, done)]
    logged = _logged(deployment, {entry.prediction_id for entry in usable if entry.prediction_id is not None})
    _learn(answers, logged)
    wanted: dict[uuid.UUID, _Wanted] = {}
    repeated = 0
    room: int | None = None
    for entry in usable:
        if entry.prediction_id is None:
            continue
        found = logged.get(entry.prediction_id)
        if found is None:
            done.miss(entry.prediction_id)
            if not _may_come(entry.prediction_id):
                continue
            room = _room(deployment) if room is None else room
            if room <= 0 or isinstance(entry.actual, list | dict) or entry.actual in (None, ""):
                continue
            room -= 1
            done.held += 1
            wanted[entry.prediction_id] = _Wanted(Answers("").checked(entry.actual), None, {})
            continue
        try:
            actual = answers[found["version_id"]].checked(entry.actual, found["prediction"])
        except BadLabel as error:
            done.refuse(entry.row, str(error))
            continue
        repeated += entry.prediction_id in wanted
        wanted[entry.prediction_id] = _Wanted(actual, found["version_id"], found)
    done.updated += repeated
    _keep(deployment, by, wanted, done)


def _usable(entry: Entry, done: Received) -> bool:
    if entry.problem:
        done.refuse(entry.row, entry.problem)
    return not entry.problem


def _logged(deployment: Deployment, ids: set[uuid.UUID]) -> dict[uuid.UUID, dict[str, Any]]:
    """Answered predictions of this deployment; those just made are shipped first, when that is quick."""
    found = logged_predictions(deployment.pk, ids)
    missing = ids - found.keys()
    if (
        any(_age(each) < JUST_NOW for each in missing)
        and prediction_log.status()["waiting_bytes"] <= SHIP_AT_MOST_BYTES
    ):
        prediction_log.ship_once()
        found |= logged_predictions(deployment.pk, missing)
    return found


def logged_predictions(deployment_id: int, ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, dict[str, Any]]:
    """Of these ids: those of answered predictions of this deployment, with what feedback keeps of them."""
    found: dict[uuid.UUID, dict[str, Any]] = {}
    listed = iter(sorted(ids))
    while part := list(islice(listed, 500)):
        rows = PredictionLog.objects.production().filter(
            deployment=deployment_id, pk__in=part, error_code="", version__isnull=False
        )
        for row in rows.values("pk", "version_id", "at", "prediction", "probabilities"):
            found[row["pk"]] = row
    return found


def _learn(answers: dict[int, Answers], logged: dict[uuid.UUID, dict[str, Any]]) -> None:
    unknown = {row["version_id"] for row in logged.values()} - answers.keys()
    for pk, schema in ModelVersion.objects.filter(pk__in=unknown).values_list("pk", "schema"):
        answers[pk] = Answers.of(schema)


def _age(prediction_id: uuid.UUID) -> timedelta:
    """Prediction ids begin with their time (UUID version 7); any other id is as old as can be."""
    if prediction_id.version != 7:
        return timedelta.max
    made = (
        datetime.fromtimestamp((prediction_id.int >> 80) / 1000, tz=UTC) if prediction_id.int >> 80 < 1 << 46 else None
    )
    return timedelta.max if made is None else clock.now() - made


def _may_come(prediction_id: uuid.UUID) -> bool:
    return timedelta(minutes=-5) < _age(prediction_id) < HELD_FOR


def _room(deployment: Deployment) -> int:
    waiting = Feedback.objects.filter(deployment=deployment, due=True, version__isnull=True)
    return MOST_HELD - len(waiting.values_list("pk")[:MOST_HELD])


def _keep(deployment: Deployment, by: str, wanted: dict[uuid.UUID, _Wanted], done: Received) -> None:
    """Two calls with the same new id at once: one inserts it, the other looks again and finds it."""
    if not wanted:
        return
    for last in (False, False, True):
        try:
            with transaction.atomic():
                counts = _write(deployment, by, wanted)
        except IntegrityError:
            if last:
                raise
            continue
        done.accepted += counts[0]
        done.updated += counts[1]
        done.unchanged += counts[2]
        return


def _write(deployment: Deployment, by: str, wanted: dict[uuid.UUID, _Wanted]) -> tuple[int, int, int]:
    """(first words, changed, the same again), of matched labels only."""
    now = clock.now()
    there: dict[uuid.UUID, Feedback] = {}
    for part in _parts(sorted(wanted)):
        rows = Feedback.objects.select_for_update().filter(deployment=deployment, prediction_id__in=part).order_by("pk")
        there.update((row.prediction_id, row) for row in rows)
    new, changed, accepted, updated, unchanged = [], [], 0, 0, 0
    for prediction_id, each in wanted.items():
        row = there.get(prediction_id)
        matched = each.version_id is not None
        if row is None:
            row = Feedback(
                organization_id=deployment.organization_id, deployment=deployment, prediction_id=prediction_id
            )
            row.actual, row.given_by, row.received_at, row.changed_at, row.look_at = each.actual, by, now, now, now
            _match(row, each)
            new.append(row)
            accepted += matched
        elif same(row.actual, each.actual):
            unchanged += matched
        else:
            alone = row.version_id is None and matched  # it also finds its prediction
            row.history = [*row.history, {"actual": row.actual, "until": now.isoformat(), "by": by}][-MOST_CHANGES:]
            row.actual, row.given_by, row.changed_at, row.due, row.look_at = each.actual, by, now, True, now
            _match(row, each)
            changed.append((row, alone))
            updated += matched
    Feedback.objects.bulk_create(new, batch_size=500)
    _correct(changed)
    return accepted, updated, unchanged


def _correct(changed: list[tuple[Feedback, bool]]) -> None:
    """Rows that change alike (the same word instead of the same one) by one statement for many, the others one by one."""
    alike: dict[str, list[Feedback]] = defaultdict(list)
    for row, alone in changed:
        same_as = f"alone {row.pk}" if alone else json.dumps([row.history, row.actual, row.given_by], default=str)
        alike[same_as].append(row)
    for rows in alike.values():
        first = rows[0]
        values = {name: getattr(first, name) for name in _CORRECTED}
        if len(rows) == 1:
            first.save(update_fields=[*_CORRECTED, *_MATCHED])
            continue
        for start in range(0, len(rows), 500):
            Feedback.objects.filter(pk__in=[row.pk for row in rows[start : start + 500]]).update(**values)


def _match(row: Feedback, wanted: _Wanted) -> None:
    if wanted.version_id is not None:
        match(row, wanted.logged)


def match(row: Feedback, logged: dict[str, Any]) -> None:
    """Tie a label to its prediction."""
    row.version_id, row.predicted_at = logged["version_id"], logged["at"]
    row.prediction, row.probabilities = logged["prediction"], logged["probabilities"]


def same(one: Any, other: Any) -> bool:
    """Whether two words mean one label: 1 and True are two."""
    return one == other and isinstance(one, bool) is isinstance(other, bool)


def _parts(ids: list[uuid.UUID]) -> Iterator[list[uuid.UUID]]:
    for start in range(0, len(ids), 500):
        yield ids[start : start + 500]
