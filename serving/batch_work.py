"""The work of a batch run: read a chunk in one sandbox, predict it in another, keep what came of it, move the cursor.

The rows are never opened here: a chunk goes from runner to runner as it is, results go to disk as they come. Parts and cursor are written
in one transaction that only the holder of the last checkpoint can make: a worker that dies, or a second one, adds nothing twice.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import orjson
from django.conf import settings
from django.db import transaction

from mlops.core import clock, errors, storage
from mlops.core.errors import SlipwayError
from mlops.core.storable import storable
from mlops.core.storage import Spool, StoredFile
from mlops.jobs.models import JobStatus
from mlops.jobs.runner import Cancelled, GoOn, JobRun, LeaseLost
from mlops.runtime.host import HostError, ModelSpec, Reply, get_host
from registry.services import artifacts
from serving import asking
from serving.asking import Asker
from serving.errors import from_host, from_reply
from serving.models import BatchPart, BatchRun
from serving.services import batches

READ_ROWS, READ_BYTES = 5_000, 2 << 20  # of a chunk: always the same, so that one read again holds the same rows
CHECKPOINT_S = 5.0
CHECKPOINT_BYTES = 32 << 20
REPLY_BYTES = 48 << 20
HOPELESS_ROWS = 10_000


def work(job: JobRun, batch_id: str) -> None:
    """One portion of a run. Raises GoOn while there is more to do, Cancelled when it was called off."""
    run = BatchRun.objects.select_related("deployment", "version__model", "organization").filter(pk=batch_id).first()
    if run is None or run.status == JobStatus.CANCELLED:
        raise Cancelled
    if run.status == JobStatus.DONE:  # its worker died between the last word and the job's end
        batches.drop_input(run)
        return
    BatchRun.objects.filter(pk=run.pk).exclude(status__in=(JobStatus.CANCELLED, JobStatus.DONE)).update(
        status=JobStatus.RUNNING, started_at=run.started_at or clock.now(), finished_at=None, error=None
    )
    run.refresh_from_db()
    portion = Portion(job, run)
    try:
        portion.predict()
        portion.finish()
    except (GoOn, LeaseLost):  # the next portion, or the other worker, uses the same runners
        raise
    except BaseException:
        portion.end_runners()
        raise
    finally:
        portion.close()
    portion.end_runners()
    batches.drop_input(run)


class Portion:
    """A run in the hands of one worker."""

    def __init__(self, job: JobRun, run: BatchRun) -> None:
        self.job, self.run, self.host = job, run, get_host()
        self.begun = self.marked = time.monotonic()
        self.table_spec = ModelSpec(
            f"batch-{run.pk.hex}",
            str(artifacts.materialise(run)),
            run.sha256,
            "table",
            limits=artifacts.limits(reply_bytes=REPLY_BYTES),
        )
        schema = run.version.schema or {}
        self.schema = orjson.dumps({name: schema.get(name) for name in ("kind", "inputs", "tensor")})
        self.facts: dict[str, Any] = run.facts
        self.done, self.failed, self.share = run.rows_done, run.rows_failed, run.share
        self.total: int | None = run.rows_total
        self.at: dict[str, Any] = run.cursor or {"cursor": None, "skip": 0, "end": False}
        self.asker = Asker(run.version, _model_spec(run), job.beat, deadly=int(self.facts.get("deadly", 0)))
        self._open_spools()

    # -- predicting -------------------------------------------------------------------------------------------------

    def predict(self) -> None:
        """Rows until the end of the file, or of the portion."""
        with self.job.step("predict") as step:
            while not self.at["end"]:
                chunk = self._read()
                if chunk is None:
                    self.at["end"] = True
                else:
                    self._predict_chunk(*chunk)
                step["message"] = f"{self.done:,} rows, {self.failed:,} of them failed"
            self._checkpoint()
            if self.done == 0:
                raise errors.Invalid("The file holds no rows.", code="no_rows", hint="Send at least one row.")

    def _read(self) -> tuple[bytes, int, dict[str, Any]] | None:
        """The chunk at the cursor, how many rows it holds and the cursor behind it; None at the end."""
        args = {"format": self.run.format, "cursor": self.at["cursor"], "rows": READ_ROWS, "bytes": READ_BYTES}
        reply = self._table("read_rows", args, self.schema)
        if reply.status != 200:
            self._checkpoint()  # what was predicted before the broken place stays
            raise from_reply(reply)
        head = reply.header
        if head.get("passed_over"):
            self.facts["passed_over"] = storable([str(name)[:200] for name in head["passed_over"]][:20])
        if isinstance(head.get("total"), int):
            self.total = head["total"]
        if head.get("end"):
            return None
        if not isinstance(head["rows"], int) or head["rows"] < 1:
            raise SlipwayError(
                "The file's reader gave an answer that does not add up.", code="reader_error", status=502
            )
        self.share = min(1.0, max(self.share, float(head["share"])))
        return reply.body, head["rows"], head["cursor"]

    def _predict_chunk(self, chunk: bytes, rows: int, behind: dict[str, Any]) -> None:
        while self.at["skip"] < rows:
            self._predict_some(chunk, rows)
            if self.at["skip"] >= rows:
                self.at = {"cursor": behind, "skip": 0, "end": False}
                rows = 0
            self._pause_if_due()

    def _predict_some(self, chunk: bytes, rows: int) -> None:
        csv = self.run.output_format == "csv"
        skip = self.at["skip"]
        try:
            reply = self.asker.some(
                chunk,
                rows=rows,
                skip=skip,
                start=self.done - skip,
                format="csv" if csv else "jsonl",
                head=csv and self.done == 0,
            )
        except SlipwayError:
            self._checkpoint()  # what was answered so far stays
            raise
        if reply is not None:
            self._keep(reply)

    def _keep(self, reply: Reply) -> None:
        """Results to disk."""
        head, body = reply.header, memoryview(reply.body)
        self.results.write(body[: head["sizes"][0]])
        self.failures.write(body[head["sizes"][0] :])
        self.done += head["answered"]
        self.failed += head["failed"]
        self.at["skip"] += head["answered"]
        self.facts["deadly"] = self.asker.deadly
        self.facts["kinds"] = sorted({*self.facts.get("kinds", []), *map(str, head["kinds"])})[:10]
        self.facts.setdefault("columns", storable([str(name) for name in head["columns"]]))
        self.facts.setdefault("classes", storable(head.get("classes")))
        if self.done >= HOPELESS_ROWS and self.failed == self.done:
            self._checkpoint()
            raise errors.Invalid(
                f"None of the first {self.done:,} rows could be predicted.",
                code="no_row_fits",
                hint="The failed rows say why: is it the right file for this model?",
            )

    def _table(self, op: str, args: dict[str, Any], body: bytes) -> Reply:
        """Ask the runner that has the file."""
        try:
            return asking.patiently(
                lambda: self.host.call(self.table_spec, op, args, body, timeout_s=60.0),
                self.job.beat,
                lambda: artifacts.materialise(self.run),
            )
        except HostError as error:
            raise from_host(error) from error

    # -- keeping ----------------------------------------------------------------------------------------------------

    def _open_spools(self) -> None:
        limit = settings.BATCH_RESULT_LIMIT_BYTES
        self.results = Spool(limit_bytes=limit - self.run.result_bytes, what="The result")
        self.failures = Spool(limit_bytes=limit, what="The list of failed rows")

    def _pause_if_due(self) -> None:
        now = time.monotonic()
        if now - self.marked > CHECKPOINT_S or self.results.size_bytes + self.failures.size_bytes > CHECKPOINT_BYTES:
            self._checkpoint()
        if now - self.begun > settings.BATCH_PORTION_S:
            self._checkpoint()
            raise GoOn

    def _checkpoint(self) -> None:
        """Parts, cursor and counts in one transaction. Raises Cancelled, or LeaseLost when another worker was here."""
        spools = {BatchPart.Kind.RESULT: self.results, BatchPart.Kind.FAILED: self.failures}
        stored = {kind: _stored(spool, self.run, kind) for kind, spool in spools.items()}
        kept = {kind: file for kind, file in stored.items() if file is not None}
        self._open_spools()
        number, now = self.run.checkpoint, time.monotonic()
        try:
            with transaction.atomic():
                self._move(
                    rows_total=self.total,
                    rows_done=self.done,
                    rows_failed=self.failed,
                    share=self.share,
                    result_bytes=self.run.result_bytes + _size(kept.get(BatchPart.Kind.RESULT)),
                    failed_bytes=self.run.failed_bytes + _size(kept.get(BatchPart.Kind.FAILED)),
                    cursor=self.at,
                    facts=self.facts,
                    busy_s=self.run.busy_s + now - self.marked,
                )
                BatchPart.objects.bulk_create(
                    BatchPart(run=self.run, kind=kind, number=number, key=file.key, size_bytes=file.size_bytes)
                    for kind, file in kept.items()
                )
        except BaseException:
            for file in kept.values():
                storage.delete(file.key)
            raise
        self.marked = now
        self.job.progress(self.share)

    def _move(self, **fields: Any) -> None:
        """Compare and set: only from the checkpoint this worker made or began at."""
        mine = BatchRun.objects.filter(pk=self.run.pk, status=JobStatus.RUNNING, checkpoint=self.run.checkpoint)
        if mine.update(checkpoint=self.run.checkpoint + 1, **fields) != 1:
            if BatchRun.objects.filter(pk=self.run.pk, status=JobStatus.RUNNING).exists():
                raise LeaseLost
            raise Cancelled
        for name, value in fields.items():
            setattr(self.run, name, value)
        self.run.checkpoint += 1

    # -- the end ----------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Done, with a file that can be fetched."""
        ended = {"status": JobStatus.DONE, "finished_at": clock.now(), "rows_total": self.done, "share": 1.0}
        if self.run.output_format != "parquet":
            self._move(**ended)
            return
        if time.monotonic() - self.begun > settings.BATCH_PORTION_S / 2:
            raise GoOn  # a whole portion's time for the packing
        with self.job.step("pack"):
            whole = self._packed()
        pieces = list(self.run.parts.filter(kind=BatchPart.Kind.RESULT))
        try:
            with transaction.atomic():
                self._move(**ended | {"finished_at": clock.now(), "result_bytes": whole.size_bytes})
                BatchPart.objects.create(
                    run=self.run, kind=BatchPart.Kind.WHOLE, number=0, key=whole.key, size_bytes=whole.size_bytes
                )
                self.run.parts.filter(kind=BatchPart.Kind.RESULT).delete()
        except BaseException:
            storage.delete(whole.key)
            raise
        for piece in pieces:
            storage.delete(piece.key)

    def _packed(self) -> StoredFile:
        """The result lines as one Parquet file, written by the sandboxed runner a piece at a time."""
        spool = Spool(limit_bytes=settings.BATCH_RESULT_LIMIT_BYTES, what="The result")
        columns = self.facts.get("columns") or ["row", "prediction", "error"]
        first = {"columns": columns, "kinds": self.facts.get("kinds") or [], "first": True}
        try:
            for lines, last in _lines_of(self.run):
                reply = self._table("pack_rows", {**first, "end": last}, lines)
                if reply.status != 200:
                    raise SlipwayError(
                        "The result could not be packed as Parquet.",
                        code="packing_failed",
                        hint="Try again, or ask for CSV.",
                        status=503,
                    )
                first = {}
                spool.write(reply.body)
                self.job.beat()
            spool.finish()
        except BaseException:
            spool.discard()
            raise
        return storage.keep(spool, folder=batches.folder_of(self.run), filename="results.parquet")

    def end_runners(self) -> None:
        """The runners of this run; a host that is gone has none."""
        self.asker.end()
        with contextlib.suppress(HostError):
            self.host.unload(self.table_spec.key)

    def close(self) -> None:
        self.results.discard()
        self.failures.discard()


def _model_spec(run: BatchRun) -> ModelSpec:
    """A runner of its own: a batch neither makes live callers wait nor takes their runner with it when a row kills the model."""
    spec = artifacts.spec_for(run.version)
    return replace(spec, key=f"batch-{spec.key}", limits=replace(spec.limits, reply_bytes=REPLY_BYTES))


def _stored(spool: Spool, run: BatchRun, kind: str) -> StoredFile | None:
    if spool.size_bytes == 0:
        spool.discard()
        return None
    spool.finish()
    return storage.keep(spool, folder=batches.folder_of(run), filename=f"{kind}.part")


def _size(file: StoredFile | None) -> int:
    return file.size_bytes if file is not None else 0


def _lines_of(run: BatchRun) -> Iterator[tuple[bytes, bool]]:
    """The result lines, whole lines at a time, and whether they are the last."""
    held = b""
    for part in run.parts.filter(kind=BatchPart.Kind.RESULT).order_by("number"):
        for block in storage.open_stream(part.key):
            held += block
            cut = held.rfind(b"\n") + 1
            if cut > 1 << 20:
                yield held[:cut], False
                held = held[cut:]
    yield held, True
