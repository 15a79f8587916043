"""The full report of a check, drawn by a killable process on a bounded sample and kept in the storage.

A report that fails costs only the report: its check says why, and the verdict stands.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db.models import Q

from mlops.core import clock, errors, logs, storage
from monitoring import columns, sampling, windows
from monitoring.columns import Row, Watched
from monitoring.models import DriftCheck

log = logs.get(__name__)
SAMPLE_ROWS = 5_000
TIMEOUT_S = 120
LIMIT_BYTES = 64 << 20
# A drift that goes on is drawn once a day, not each hour.
DRAWN_AGAIN_AFTER = timedelta(hours=24)


def wanted(check: DriftCheck) -> bool:
    """Whether this check deserves a report: somebody asked for it, or it found a drift that has none yet."""
    if check.baseline is None or not check.rows:
        return False
    if check.requested_by:
        return True
    if check.verdict != DriftCheck.Verdict.DRIFT:
        return False
    recent = DriftCheck.objects.filter(
        deployment=check.deployment_id, version=check.version_id, verdict=DriftCheck.Verdict.DRIFT
    )
    return not recent.filter(at__gt=check.at - DRAWN_AGAIN_AFTER, at__lt=check.at).exclude(report_key="").exists()


def make(check: DriftCheck) -> str:
    """Draw and store the report; returns its key, also kept on the check. Raises NotReady with the reason when it cannot be drawn."""
    given = _input(check)
    folder = Path(settings.VAR_DIR) / "run"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="report-") as name:
        source, target = Path(name) / "in.json", Path(name) / "out.html"
        source.write_text(json.dumps(given, default=str, allow_nan=True), encoding="utf-8")
        _draw(source, target)
        packed = gzip.compress(target.read_bytes(), compresslevel=6)
    stored = storage.store(
        io.BytesIO(packed),
        folder="reports",
        filename=f"check-{check.pk}.html.gz",
        limit_bytes=LIMIT_BYTES,
        what="The report",
    )
    DriftCheck.objects.filter(pk=check.pk).update(report_key=stored.key, report_error="")
    return stored.key


def failed(check_id: int, error: dict[str, Any]) -> None:
    """Keep on the check why it has no report."""
    DriftCheck.objects.filter(pk=check_id, report_key="").update(report_error=str(error.get("detail", ""))[:500])


def read(check: DriftCheck, *, packed: bool) -> Iterator[bytes]:
    """The report's HTML in chunks, gzip or plain. Raises NotFound."""
    if not check.report_key:
        raise errors.NotFound("This check has no report.", hint="Press Check now: that draws one.")
    stream = storage.open_stream(check.report_key)
    if packed:
        yield from stream
        return
    with gzip.open(io.BytesIO(b"".join(stream))) as content:
        while chunk := content.read(storage.CHUNK_BYTES):
            yield chunk


def _draw(source: Path, target: Path) -> None:
    """Run the drawing process; it dies with its limits, never the worker."""
    command = [sys.executable, "-m", "monitoring.evidently_report", str(source), str(target)]
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "HOME": str(source.parent),
        "DO_NOT_TRACK": "1",  # Evidently counts its users unless told not to
        "OMP_NUM_THREADS": "1",
        "MPLBACKEND": "Agg",
        "PYTHONPATH": str(settings.BASE_DIR),
    }
    try:
        done = subprocess.run(  # noqa: S603  our own module, with paths that we made
            command,
            cwd=settings.BASE_DIR,
            env=environment,
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired as error:
        raise errors.NotReady(f"Evidently did not finish within {TIMEOUT_S} seconds.", code="report_timeout") from error
    if done.returncode != 0 or not target.exists():
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        text = said[-1] if said else f"exit status {done.returncode}"
        raise errors.NotReady(f"Evidently could not draw the report: {text}", code="report_failed")


def _input(check: DriftCheck) -> dict[str, Any]:
    """Reference and current rows of the columns that both have, cut to SAMPLE_ROWS each."""
    assert check.baseline is not None  # `wanted` saw it
    watched = [
        column
        for column in windows.watched(check.baseline)
        if column.bins.kind in ("numeric", "categorical", "boolean")
    ]
    current = columns.values_of(current_rows(check), watched)
    reference = _reference(check, watched)
    shown = [column for column in watched if _filled(current, column.name) and _filled(reference, column.name)]
    if not shown:
        raise errors.NotReady("No column has values on both sides.", code="report_empty")
    return {
        "reference": _level({column.name: reference[column.name] for column in shown}),
        "current": _level({column.name: current[column.name] for column in shown}),
        "numeric": [column.name for column in shown if column.bins.kind == "numeric"],
        "categorical": [column.name for column in shown if column.bins.kind != "numeric"],
    }


def _filled(values: dict[str, list[Any]], name: str) -> bool:
    return any(value is not None for value in values.get(name, ()))


def _level(values: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Columns of one length: rows whose features were not kept have only outputs."""
    rows = min(map(len, values.values()))
    return {name: column[:rows] for name, column in values.items()}


def _reference(check: DriftCheck, watched: list[Watched]) -> dict[str, list[Any]]:
    assert check.baseline is not None
    found = sampling.reference(check.baseline, watched, SAMPLE_ROWS)
    if found is None:
        raise errors.NotReady("The reference rows are not kept any more.", code="report_no_reference")
    return found


def current_rows(check: DriftCheck) -> list[Row]:
    """At most SAMPLE_ROWS answered rows of the check's window."""
    stretch = sampling.Stretch(check.deployment_id, check.version_id, check.window_start, check.window_end, check.rows)
    return sampling.current(stretch, check.baseline, SAMPLE_ROWS)


def forget(before: datetime, quiet_before: datetime) -> int:
    """Delete checks from before a moment, quiet scheduled ones sooner, and their reports. Returns how many checks."""
    quiet = Q(verdict__in=(DriftCheck.Verdict.OK, DriftCheck.Verdict.LEARNING), requested_by="", at__lt=quiet_before)
    old = DriftCheck.objects.filter(Q(at__lt=before) | quiet)
    for key in old.exclude(report_key="").values_list("report_key", flat=True).iterator():
        storage.delete(key)
    deleted, _ = old.delete()
    log.info("checks_forgotten", rows=deleted, at=clock.now().isoformat())
    return deleted
