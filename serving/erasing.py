"""The work of a deletion on request: the log's rows, the archives' rows, what else shows them. First counted, then deleted.

Deleted rows, their counts and the place where the work goes on are one transaction: a worker that dies neither skips a row nor counts one twice.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
from django.db import transaction
from django.db.models import TextField
from django.db.models.functions import Cast

from accounts import audit, sealing
from mlops.core import clock, errors, storage
from mlops.jobs.runner import Cancelled, GoOn, JobRun
from registry.services import blobs
from serving import certificates, log_uses, parquet, prediction_log, redaction
from serving.archiving import LIMIT_BYTES
from serving.matching import Wanted, read_features
from serving.models import Comparison, LogArchive, LogDeletion, PredictionLog, ShadowFlip
from serving.retention import DAY
from serving.services.log_deletions import PURPOSE

CHUNK_ROWS = 2_000
PORTION_S = 60.0
Stage = LogDeletion.Stage


@dataclass(frozen=True)
class Scope:
    """What is looked for, and when."""

    wanted: Wanted
    since: datetime | None
    until: datetime | None

    @property
    def micros(self) -> tuple[int | None, int | None]:
        since, until = (round(at.timestamp() * 1e6) if at else None for at in (self.since, self.until))
        return since, until

    def contains(self, at: datetime) -> bool:
        return (self.since is None or at >= self.since) and (self.until is None or at < self.until)


def work(run: JobRun, deletion_id: int) -> None:
    """Count, or delete; a minute at a time."""
    row = LogDeletion.objects.select_related("deployment", "organization").get(pk=deletion_id)
    if not row.busy:
        raise Cancelled
    if not row.cursor:
        prediction_log.ship_once()  # whoever asks means what was asked a moment ago, too
    _Work(run, row, scope_of(row)).go()


def scope_of(row: LogDeletion) -> Scope:
    wanted = Wanted.from_json(orjson.loads(sealing.unseal(row.sealed, PURPOSE)))
    since, until = (datetime.fromisoformat(row.told[name]) if row.told[name] else None for name in ("since", "until"))
    return Scope(wanted, since, until)


class _Work:
    def __init__(self, run: JobRun, row: LogDeletion, scope: Scope) -> None:
        self.run, self.row, self.scope = run, row, scope
        self.deletes = row.stage == Stage.DELETE
        self.until = time.monotonic() + PORTION_S

    def go(self) -> None:
        if self.row.cursor.get("phase", "rows") == "rows":
            for found in self._chunks():
                self._row_chunk(*found)
                self._rest()
            self._step({"phase": "archives", "after": 0})
        if self.row.cursor["phase"] == "archives":
            while (archive := self._next_archive()) is not None:
                self._archive(archive)
                self._rest()
        self._end()

    # -- the log's rows -----------------------------------------------------------------------------------------------

    def _chunks(self) -> Iterator[tuple[list[tuple[UUID, str | None]], UUID]]:
        """Rows inside the time, by id, and the last id looked at."""
        rows = PredictionLog.objects.filter(deployment=self.row.deployment_id)
        if self.scope.since is not None:
            rows = rows.filter(at__gte=self.scope.since)
        if self.scope.until is not None:
            rows = rows.filter(at__lt=self.scope.until)
        if self.scope.wanted.ids is not None:
            rows = rows.filter(pk__in=[UUID(hex=each) for each in self.scope.wanted.ids])
        texts = rows.annotate(text=Cast("features", TextField())).order_by("pk").values_list("pk", "text")
        while chunk := list(texts.filter(pk__gt=UUID(hex=self.row.cursor.get("after", "0" * 32)))[:CHUNK_ROWS]):
            yield chunk, chunk[-1][0]

    def _row_chunk(self, chunk: list[tuple[UUID, str | None]], last: UUID) -> None:
        column, matched, hidden = self.scope.wanted.column, [], 0
        for pk, text in chunk:
            features = read_features(text) if column else None
            if self.scope.wanted(pk.hex, features):
                matched.append(pk)
            hidden += bool(features) and features.get(column) == redaction.REMOVED
        with transaction.atomic():
            counts = {"rows": len(matched), "hidden": hidden}
            if self.deletes:
                gone = PredictionLog.objects.filter(pk__in=matched).delete()[1]
                counts = {"rows": gone.get(PredictionLog._meta.label, 0), **self._others(matched)}
            self._step({"phase": "rows", "after": last.hex}, counts)

    def _others(self, ids: Sequence[UUID]) -> dict[str, int]:
        return log_uses.erase(self.row.deployment_id, ids) if ids else {}

    # -- archives -----------------------------------------------------------------------------------------------------

    def _next_archive(self) -> LogArchive | None:
        found = LogArchive.objects.filter(deployment=self.row.deployment_id, pk__gt=self.row.cursor["after"])
        # A row's day is that of its id, its time the moment of the answer: a little later at most.
        if self.scope.until is not None:
            found = found.filter(day__lte=self.scope.until.astimezone(UTC).date())
        if self.scope.since is not None:
            found = found.filter(day__gte=(self.scope.since - DAY).astimezone(UTC).date())
        return found.order_by("pk").first()

    def _archive(self, archive: LogArchive) -> None:
        place = {"phase": "archives", "after": archive.pk}
        since, until = self.scope.micros
        with parquet.without(archive, self.scope.wanted, since, until, write=self.deletes) as (path, found):
            ids = [UUID(hex=each) for each in found["ids"]]
            counts = {"archived_rows": len(ids), "archives": int(bool(ids)), "hidden": found["hidden"]}
            if not self.deletes or not ids:
                self._step(place, {} if self.deletes else counts)
                return
            del counts["hidden"]
            if found["rows"]:
                self._rewritten(archive, path, found["rows"], place, counts, ids)
            else:
                with transaction.atomic():
                    LogArchive.objects.filter(pk=archive.pk).delete()
                    self._step(place, {**counts, **self._others(ids)})
        self._drop(archive.key)

    def _rewritten(
        self, archive: LogArchive, path: Any, rows: int, place: dict[str, Any], counts: dict[str, int], ids: list[UUID]
    ) -> None:
        """The file without these rows takes the old one's place."""
        with path.open("rb") as source:
            spool = storage.spool_of(source, limit_bytes=LIMIT_BYTES, what="An archive of the log")
        try:
            kept = blobs.keep(self.row.organization, spool, within_quota=False)  # smaller than what goes
        finally:
            spool.discard()
        try:
            with transaction.atomic():
                mine = LogArchive.objects.filter(pk=archive.pk, key=archive.key)
                stored = kept.stored
                if (
                    mine.update(
                        key=stored.key,
                        sha256=stored.sha256,
                        size_bytes=stored.size_bytes,
                        rows=rows,
                        rewritten_at=clock.now(),
                    )
                    == 1
                ):
                    self._step(place, {**counts, **self._others(ids)})
                else:
                    raise errors.Conflict(f"The archive {archive} has changed meanwhile.", code="archive_moved")
        except BaseException:
            blobs.give_back(kept)
            raise

    def _drop(self, key: str) -> None:
        """At once: the lease of a content that was just put there does not hold for what must be gone."""
        blobs.remove_unnamed(self.row.organization_id, key, before=clock.now())

    # -- place and end ------------------------------------------------------------------------------------------------

    def _step(self, cursor: dict[str, Any], counts: dict[str, int] | None = None) -> None:
        """Keep the place and add the counts; stop when it was called off."""
        name = "deleted" if self.deletes else "found"
        total = dict(getattr(self.row, name))
        for each, count in (counts or {}).items():
            total[each] = total.get(each, 0) + count
        mine = LogDeletion.objects.filter(pk=self.row.pk, stage=self.row.stage)
        if mine.update(cursor=cursor, **{name: total}) != 1:
            raise Cancelled
        self.row.cursor = cursor
        setattr(self.row, name, total)

    def _rest(self) -> None:
        """After a commit: say that we live; behind the others when the minute is over."""
        self.run.progress(self._share())
        if time.monotonic() > self.until:
            raise GoOn

    def _share(self) -> float:
        """Of the rows that were counted; a count has no end that is known beforehand."""
        wanted, gone = (
            sum(counts.get(name, 0) for name in ("rows", "archived_rows"))
            for counts in (self.row.found, self.row.deleted)
        )
        return min(1.0, gone / wanted) if self.deletes and wanted else 0.0

    def _end(self) -> None:
        if not self.deletes:
            self.row.found.setdefault("rows", 0)
            _leave(self.row, Stage.CONFIRM, found=self.row.found, cursor={})
            return
        self._others(
            [UUID(hex=each) for each in self.scope.wanted.ids or ()]
        )  # of rows that a sample has left out, too
        counts = {
            "examples": _drop_examples(self.row.deployment_id, self.scope),
            **log_uses.erased(self.row.deployment, self.scope.since, self.scope.until),
        }
        deleted = {**self.row.deleted, **{name: count for name, count in counts.items() if count}}
        row = self.row
        row.deleted, row.finished_at, row.stage = deleted, clock.now(), Stage.DONE
        with transaction.atomic():
            _leave(
                row, Stage.DONE, deleted=deleted, finished_at=row.finished_at, sealed="", cursor={},
                certificate=certificates.text(row),
            )  # fmt: skip
            audit.record(
                row.organization, None, "log.deleted", row.deployment, deletion=row.pk, deleted=deleted, **row.told
            )


def _leave(row: LogDeletion, stage: str, **fields: Any) -> None:
    if LogDeletion.objects.filter(pk=row.pk, stage__in=(Stage.COUNT, Stage.DELETE)).update(stage=stage, **fields) != 1:
        raise Cancelled


def _drop_examples(deployment_id: int, scope: Scope) -> int:
    """Rows that are shown beside the log: flips of shadows, examples of comparisons."""
    flips = [
        flip.pk
        for flip in ShadowFlip.objects.filter(deployment=deployment_id)
        if scope.contains(flip.at) and scope.wanted(flip.prediction_id.hex, flip.features)
    ]
    count = ShadowFlip.objects.filter(pk__in=flips).delete()[0]
    for comparison in Comparison.objects.filter(deployment=deployment_id).exclude(examples=[]):
        stays = [each for each in comparison.examples if not _is_meant(each, scope)]
        if len(stays) != len(comparison.examples):
            count += len(comparison.examples) - len(stays)
            Comparison.objects.filter(pk=comparison.pk).update(examples=stays)
    return count


def _is_meant(example: dict[str, Any], scope: Scope) -> bool:
    """An example of a comparison, told by the id of its row: rows of a reference have none, and are no predictions."""
    pk = str(example.get("prediction_id", "")).replace("-", "")
    features = example.get("features")
    if not pk:
        return False
    at = datetime.fromtimestamp((int(pk, 16) >> 80) / 1000, tz=UTC)
    return scope.contains(at) and scope.wanted(pk, features if isinstance(features, dict) else None)
