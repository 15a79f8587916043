"""Deleting logged rows on request: count first, delete when somebody confirms. The work itself is ``serving.erasing``."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import orjson
from django.db import transaction

from accounts import audit, sealing
from accounts.caller import Caller
from mlops.core import clock, errors
from mlops.core.storable import storable
from mlops.jobs.queue import enqueue
from serving import matching, redaction
from serving.models import Deployment, LogDeletion

MOST_IDS = 10_000
MOST_CHARACTERS = 2_000
PURPOSE = "log deletion"
Stage = LogDeletion.Stage


def request(
    deployment: Deployment,
    caller: Caller,
    *,
    ids: Sequence[uuid.UUID] = (),
    column: str = "",
    values: Sequence[Any] = (),
    since: datetime | None = None,
    until: datetime | None = None,
) -> LogDeletion:
    """Have the rows counted that a deletion would mean. ``values``: each one the column may hold. Raises Invalid, Conflict (one is open)."""
    _check(ids, column, values, since, until)
    hasher = redaction.hasher(deployment.organization)
    accepted = matching.texts([*values, *(hasher.mark(column, value) for value in values if value is not None)])
    wanted = matching.Wanted(
        frozenset(each.hex for each in ids) if ids else None, column, accepted if column else frozenset()
    )
    told = {
        "ids": len(wanted.ids or ()),
        "column": column,
        "value_hash": hasher.mark(column, values[0]).removeprefix(redaction.HASHED) if column else "",
        "since": since.isoformat() if since else None,
        "until": until.isoformat() if until else None,
    }
    with transaction.atomic():
        list(Deployment.objects.select_for_update(no_key=True).filter(pk=deployment.pk).values("pk"))
        if LogDeletion.objects.filter(
            deployment=deployment, stage__in=(Stage.COUNT, Stage.CONFIRM, Stage.DELETE)
        ).exists():
            raise errors.Conflict(
                "Another deletion of this deployment is open.", code="deletion_open", hint="Confirm or cancel it first."
            )
        row = LogDeletion.objects.create(
            organization_id=deployment.organization_id, deployment=deployment, told=told, actor=caller.label[:200],
            sealed=sealing.seal(orjson.dumps(wanted.to_json()).decode(), PURPOSE), created_by=caller.user,
        )  # fmt: skip
        _go(row)
        audit.record(deployment.organization, caller, "log.deletion_requested", deployment, deletion=row.pk, **told)
    return row


def _check(
    ids: Sequence[uuid.UUID], column: str, values: Sequence[Any], since: datetime | None, until: datetime | None
) -> None:
    wrong: dict[str, str] = {}
    if not ids and not column and since is None and until is None:
        wrong["ids"] = "Say which rows: ids, a column and its value, or a time."
    if len(ids) > MOST_IDS:
        wrong["ids"] = f"At most {MOST_IDS:,} at once."
    if column and not values:
        wrong["value"] = "Say which value."
    if values and not column:
        wrong["column"] = "Say of which column."
    if any(len(str(value)) > MOST_CHARACTERS for value in (column, *values)):
        wrong["value"] = f"At most {MOST_CHARACTERS:,} characters."
    if since is not None and until is not None and since >= until:
        wrong["until"] = "The end is not after the beginning."
    if wrong:
        raise errors.Invalid(next(iter(wrong.values())), fields={name: [text] for name, text in wrong.items()})


def confirm(row: LogDeletion, caller: Caller) -> LogDeletion:
    """Delete what was counted, and what has come since and fits. Raises Conflict."""
    with transaction.atomic():
        _move(row, Stage.CONFIRM, Stage.DELETE, cursor={})
        _go(row)
        audit.record(row.organization, caller, "log.deletion_confirmed", row.deployment, deletion=row.pk, **row.told)
    return row


def cancel(row: LogDeletion, caller: Caller) -> LogDeletion:
    """Call it off before anything was deleted, or leave one that failed as it is. Raises Conflict."""
    with transaction.atomic():
        stage = row.stage if row.stage in (Stage.COUNT, Stage.FAILED) else Stage.CONFIRM
        _move(row, stage, Stage.CANCELLED, sealed="", finished_at=clock.now())
        audit.record(row.organization, caller, "log.deletion_cancelled", row.deployment, deletion=row.pk)
    return row


def again(row: LogDeletion, caller: Caller) -> LogDeletion:
    """Go on where a failed one stopped. Raises Conflict."""
    with transaction.atomic():
        _move(row, Stage.FAILED, Stage.DELETE if row.deleted else Stage.COUNT, error=None, finished_at=None)
        _go(row)
        audit.record(row.organization, caller, "log.deletion_resumed", row.deployment, deletion=row.pk)
    return row


ACTS = {"confirm": confirm, "cancel": cancel, "again": again}


def act(row: LogDeletion, name: str, caller: Caller) -> LogDeletion:
    """One of ACTS by its name. Raises NotFound, Conflict."""
    if name not in ACTS:
        raise errors.NotFound(f"A deletion has no {name!r}.", hint=f"There are {', '.join(sorted(ACTS))}.")
    return ACTS[name](row, caller)


def _move(row: LogDeletion, before: str, after: str, **fields: Any) -> None:
    if LogDeletion.objects.filter(pk=row.pk, stage=before).update(stage=after, **fields) != 1:
        raise errors.Conflict(
            f"This deletion is {Stage(LogDeletion.objects.get(pk=row.pk).stage).label.lower()}.", code="deletion_moved"
        )
    row.refresh_from_db()


def _go(row: LogDeletion) -> None:
    row.job = enqueue(
        "delete_logged",
        organization=row.deployment.organization,
        subject=row.deployment,
        args={"deletion_id": row.pk},
        created_by=row.created_by,
    )
    row.save(update_fields=["job"])


def fail(error: dict[str, Any], deletion_id: int) -> None:
    """The job failed, crashed too often or lost its workers: what is deleted is deleted, and it can go on."""
    LogDeletion.objects.filter(pk=deletion_id, stage__in=(Stage.COUNT, Stage.DELETE)).update(
        stage=Stage.FAILED, error=storable(error), finished_at=clock.now()
    )
