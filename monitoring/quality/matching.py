"""Labels and predictions brought together and counted, exactly once.

Each step takes the cursor's lock, so there is one counter at a time, and moves sums and rows in one transaction: a crash leaves both
as they were. A row says what of it is in the sums (``counted``); a correction takes that out and puts the new word in, in the hour of
the prediction, however long ago that was. A label whose prediction has not come is looked for again, at growing intervals, for a day.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from django.db import transaction
from django.db.models import F

from mlops.core import clock
from monitoring.drift.quality.outcomes import ClassOutcomes, NumberOutcomes
from monitoring.models import CountCursor, Feedback, FeedbackLoss, QualityCount
from monitoring.quality import feedback
from monitoring.quality.answers import CLASS, NUMBER, Answers, BadLabel, label_of
from registry.models import ModelVersion

CURSOR = "feedback"
ROWS_AT_ONCE = 5_000
STEPS = 200
HOUR = timedelta(hours=1)
SOON = timedelta(seconds=30)
_Key = tuple[int, int, datetime]


@dataclass
class _Moves:
    """Rows that enter and leave the sums of one hour: (actual, prediction, probabilities)."""

    enter: list[tuple[Any, Any, Any]] = field(default_factory=list)
    leave: list[tuple[Any, Any, Any]] = field(default_factory=list)


def count_due() -> int:
    """Count what came. Returns the labels looked at. Safe to call from two processes."""
    total = 0
    for _ in range(STEPS):
        looked = count_step()
        total += looked
        if looked < ROWS_AT_ONCE:
            break
    return total


@transaction.atomic
def count_step() -> int:
    CountCursor.objects.get_or_create(name=CURSOR)
    CountCursor.objects.select_for_update().get(name=CURSOR)
    now = clock.now()
    due = Feedback.objects.select_for_update().filter(due=True, look_at__lte=now).order_by("pk")
    rows = list(due[:ROWS_AT_ONCE])
    if not rows:
        return 0
    before = {row.pk: (row.version_id, row.actual) for row in rows}
    gone = _find_predictions([row for row in rows if row.version_id is None], now)
    answers = _answers({row.version_id for row in rows if row.version_id is not None})
    moves: dict[_Key, _Moves] = defaultdict(_Moves)
    for row in rows:
        if row.version_id is not None and row.predicted_at is not None and row.pk not in gone:
            _move(row, answers[row.version_id], moves, gone)
    for key, each in moves.items():
        _add(key, each, answers[key[1]])
    _write([row for row in rows if row.pk not in gone], gone, before)
    return len(rows)


def _answers(versions: set[int]) -> dict[int, Answers]:
    return {
        pk: Answers.of(schema)
        for pk, schema in ModelVersion.objects.filter(pk__in=versions).values_list("pk", "schema")
    }


def _find_predictions(waiting: list[Feedback], now: datetime) -> dict[int, tuple[Feedback, str]]:
    """Tie early labels to their predictions, put the others off. Returns those given up: row id -> (row, why)."""
    gone: dict[int, tuple[Feedback, str]] = {}
    by_deployment: dict[int, list[Feedback]] = defaultdict(list)
    for row in waiting:
        by_deployment[row.deployment_id].append(row)
    for deployment, rows in by_deployment.items():
        logged = feedback.logged_predictions(deployment, {row.prediction_id for row in rows})
        for row in rows:
            found = logged.get(row.prediction_id)
            age = now - row.received_at
            if found is not None:
                feedback.match(row, found)
            elif age >= feedback.HELD_FOR:
                gone[row.pk] = (row, "")
            else:
                row.look_at = now + max(SOON, age / 4)
    return gone


def _move(row: Feedback, answers: Answers, moves: dict[_Key, _Moves], gone: dict[int, tuple[Feedback, str]]) -> None:
    try:
        row.actual = answers.checked(row.actual, row.prediction)  # of an early one nobody knew the version
    except BadLabel as error:
        gone[row.pk] = (row, str(error))
        return
    row.due = False
    if answers.kind_of(row.prediction) == "" or (row.counted is not None and feedback.same(row.counted, row.actual)):
        return
    hour = clock.floor(row.predicted_at or row.received_at, HOUR)
    at = moves[row.deployment_id, row.version_id or 0, hour]
    if row.counted is not None:
        at.leave.append((row.counted, row.prediction, row.probabilities))
    at.enter.append((row.actual, row.prediction, row.probabilities))
    row.counted = row.actual


def _add(key: _Key, moves: _Moves, answers: Answers) -> None:
    deployment, version, hour = key
    row = QualityCount.objects.select_for_update().filter(deployment=deployment, version=version, hour=hour).first()
    row = row or QualityCount(deployment_id=deployment, version_id=version, hour=hour, outcomes={})
    classes, numbers = stored(row.outcomes)
    enter, leave = outcomes_of(moves.enter, answers), outcomes_of(moves.leave, answers)
    classes, numbers = classes + enter[0] - leave[0], numbers + enter[1] - leave[1]
    row.rows = classes.rows + numbers.rows
    row.outcomes = {name: found.to_json() for name, found in ((CLASS, classes), (NUMBER, numbers)) if found.rows}
    row.save()


def stored(outcomes: dict[str, Any]) -> tuple[ClassOutcomes, NumberOutcomes]:
    """What a QualityCount holds; empty outcomes for what it does not."""
    classes, numbers = outcomes.get(CLASS), outcomes.get(NUMBER)
    return (
        ClassOutcomes.from_json(classes) if classes else ClassOutcomes(),
        NumberOutcomes.from_json(numbers) if numbers else NumberOutcomes(),
    )


def outcomes_of(rows: Sequence[tuple[Any, Any, Any]], answers: Answers) -> tuple[ClassOutcomes, NumberOutcomes]:
    """The sums of rows (actual, prediction, probabilities). A class's row has scores when they are whole and its truth is a known class."""
    kinds = [answers.kind_of(row[1]) for row in rows]
    labelled = [row for row, kind in zip(rows, kinds, strict=True) if kind == CLASS]
    classes = ClassOutcomes.of([label_of(row[0]) for row in labelled], [label_of(row[1]) for row in labelled])
    scored = [
        (scores, place)
        for row in labelled
        if (scores := answers.scores_of(row[2])) is not None and (place := answers.place_of(row[0])) is not None
    ]
    if scored:
        chances = np.array([scores for scores, _ in scored], dtype=np.float64)
        classes = classes.with_scores(chances, np.array([place for _, place in scored], dtype=np.int64))
    pairs = [
        (row[0], float(row[1]))
        for row, kind in zip(rows, kinds, strict=True)
        if kind == NUMBER and isinstance(row[1], int | float) and isinstance(row[0], int | float)
    ]
    table = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    table = table[np.isfinite(table).all(axis=1)]
    return classes, NumberOutcomes.of(table[:, 0], table[:, 1])


def _write(
    rows: list[Feedback], gone: dict[int, tuple[Feedback, str]], before: dict[int, tuple[int | None, Any]]
) -> None:
    """Most rows change alike, and one statement does for many; those that found their prediction or their type just now, one by one.
    before: row id -> version and actual as they stood in the database."""
    counted, aside, waiting, other = [], [], defaultdict(list), []
    for row in rows:
        version, actual = before[row.pk]
        if row.version_id is None:
            waiting[row.look_at].append(row.pk)
        elif version is None or not feedback.same(actual, row.actual):
            other.append(row)
        elif row.counted is not None:
            counted.append(row.pk)
        else:
            aside.append(row.pk)
    _set(counted, due=False, counted=F("actual"))
    _set(aside, due=False)
    for look_at, keys in waiting.items():
        _set(keys, look_at=look_at)
    fields = ["actual", "due", "look_at", "version", "predicted_at", "prediction", "probabilities", "counted"]
    Feedback.objects.bulk_update(other, fields, batch_size=100)
    _report(gone)


def _set(keys: list[int], **values: Any) -> None:
    for start in range(0, len(keys), 500):
        Feedback.objects.filter(pk__in=keys[start : start + 500]).update(**values)


def _report(gone: dict[int, tuple[Feedback, str]]) -> None:
    """Labels that came to nothing: counted by day, with an example, and taken away unless an earlier word of theirs counts."""
    lost: dict[tuple[int, Any], list[tuple[Feedback, str]]] = defaultdict(list)
    for row, why in gone.values():
        lost[row.deployment_id, row.received_at.date()].append((row, why))
    for (deployment, day), each in lost.items():
        refused = [(row, why) for row, why in each if why]
        example = refused[0] if refused else each[0]
        text = f"{example[0].prediction_id}: {example[1] or 'no prediction of this id came within a day'}"
        found, _ = FeedbackLoss.objects.get_or_create(deployment_id=deployment, day=day)
        FeedbackLoss.objects.filter(pk=found.pk).update(
            unmatched=F("unmatched") + len(each) - len(refused), refused=F("refused") + len(refused), example=text[:300]
        )
    Feedback.objects.filter(pk__in=[pk for pk, (row, _) in gone.items() if row.counted is None]).delete()
    Feedback.objects.filter(pk__in=list(gone)).update(due=False)
