"""Rows of the log into Parquet files and out of them, by a process that dies with its limits (``serving.parquet_file``)."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
from django.conf import settings
from django.db.models import F, TextField
from django.db.models.functions import Cast

from mlops.core import errors, storage
from serving.matching import Wanted
from serving.models import LogArchive, PredictionQuerySet

TIMEOUT_S = 200
_JSON = ("timings_ms", "features", "prediction", "probabilities")


def lines(rows: PredictionQuerySet) -> Iterator[bytes]:
    """Rows as ``serving.parquet_file`` takes them. JSON is passed on as the database writes it."""
    texts = {f"{name}_text": Cast(name, TextField()) for name in _JSON}
    fields = (
        "pk", "at", "number", "row", "request_id", "key_prefix", "via", "status", "error_code", "error_detail", "request_excerpt",
        "latency_ms", *texts,
    )  # fmt: skip
    found = rows.annotate(number=F("version__number"), **texts).values_list(*fields)
    for pk, at, *rest in found.iterator(chunk_size=2_000):
        yield orjson.dumps([pk.hex, round(at.timestamp() * 1_000_000), *rest]) + b"\n"


@contextmanager
def written(source: Iterable[bytes]) -> Iterator[tuple[Path, int]]:
    """A finished file and its rows, gone after the block. Raises NotReady."""
    with folder() as place:
        out = place / "rows.parquet"
        yield out, _run(["write", str(out)], source)["rows"]


@contextmanager
def without(
    archive: LogArchive, wanted: Wanted, since_us: int | None, until_us: int | None, *, write: bool
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """An archive without the rows that are meant (``write``), and what was found: rows that stay, matched, hidden, ids. Raises NotFound."""
    with folder() as place:
        source, out = place / "in.parquet", place / "out.parquet"
        storage.fetch_to(archive.key, archive.sha256, source)
        asked = orjson.dumps({**wanted.to_json(), "since": since_us, "until": until_us})
        try:
            found = _run(["filter", str(source), *([str(out)] if write else [])], [asked])
        except errors.NotReady as error:
            raise errors.NotReady(
                f"The archive {archive} could not be read. {error.detail}", code=error.code,
                hint="Restore its file from a backup of the storage, then go on.",
            ) from error  # fmt: skip
        yield out, found


@contextmanager
def folder() -> Iterator[Path]:
    base = Path(settings.VAR_DIR) / "run"
    base.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=base, prefix="parquet-") as name:
        yield Path(name)


def _run(args: list[str], source: Iterable[bytes]) -> dict[str, Any]:
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "PYTHONPATH": str(settings.BASE_DIR),
        "OMP_NUM_THREADS": "1",
        "ARROW_DEFAULT_MEMORY_POOL": "system",
    }
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as trouble:
        child = subprocess.Popen(  # noqa: S603  our own module, with paths that we made
            [sys.executable, "-m", "serving.parquet_file", *args],
            cwd=settings.BASE_DIR,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=trouble,
            start_new_session=True,
        )
        try:
            assert child.stdin is not None
            try:
                for line in source:
                    child.stdin.write(line)
                child.stdin.close()
            except BrokenPipeError:
                pass  # it has ended, and says why
            status = child.wait(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            raise errors.NotReady(
                f"The Parquet file was not made within {TIMEOUT_S} seconds.", code="parquet_timeout"
            ) from error
        finally:
            child.kill()
            child.wait()
        said.seek(0)
        if status != 0:
            trouble.seek(0)
            last = trouble.read().decode("utf-8", "replace").strip().splitlines()[-1:]
            raise errors.NotReady(f"The Parquet file could not be made: {''.join(last)[:300]}", code="parquet_failed")
        found: dict[str, Any] = orjson.loads(said.read())
        return found
