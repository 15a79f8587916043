"""The work of a comparison: the rows, both versions' answers to them through the sandboxed host, latencies, figures."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson

from mlops.core import clock, errors
from mlops.core.errors import SlipwayError
from mlops.core.storable import storable
from mlops.jobs.models import JobStatus
from mlops.jobs.runner import JobRun
from mlops.runtime.host import HostError, get_host
from mlops.runtime.schema import answers_labels
from registry.models import ModelVersion
from registry.services import artifacts
from serving import comparing, redaction, samples
from serving.asking import Asker
from serving.comparing import Given
from serving.errors import from_host
from serving.models import Comparison, PredictionLog

CHUNK_ROWS = 500
CHUNK_CHARACTERS = 8 << 20
TIMED_ROWS = 200  # asked one at a time, the two versions in turn
TIMED_S = 30.0
REPLY_BYTES = 48 << 20


def work(job: JobRun, comparison_id: int) -> None:
    """From nothing each time: an attempt whose worker died leaves no half figures."""
    row = (
        Comparison.objects.select_related("deployment", "champion__model", "candidate__model")
        .filter(pk=comparison_id)
        .first()
    )
    if row is None or row.status == JobStatus.DONE:
        return
    Comparison.objects.filter(pk=row.pk).update(status=JobStatus.RUNNING, error=None, finished_at=None)
    found = measured(job, row)
    Comparison.objects.filter(pk=row.pk, status=JobStatus.RUNNING).update(
        status=JobStatus.DONE, finished_at=clock.now(), **found
    )


def measured(job: JobRun, row: Comparison) -> dict[str, Any]:
    """What a comparison is filled with: source, rows, figures, examples. ``row`` need not be stored."""
    with job.step("collect") as step:
        source, rows, skipped = _rows(row)
        step["message"] = f"{len(rows):,} rows"
    askers = [Asker(version, spec_of(version), job.beat) for version in (row.champion, row.candidate)]
    try:
        with job.step("ask"):
            answers = _asked_both(askers, rows, (row.champion, row.candidate), job.progress)
        with job.step("time"):
            latency = _latency(askers, rows, answers, job.beat)
    finally:
        for asker in askers:
            asker.end()
    found = _figures(row, answers) | {"latency_ms": latency, "skipped": skipped}
    examples = _examples(found, rows, answers)
    return {"source": source, "rows": len(rows), "figures": _storable(found), "examples": _storable(examples)}


def answers_to(
    rows: list[Any], versions: tuple[ModelVersion, ModelVersion], beat: Callable[[], None]
) -> tuple[list[Given], list[Given]]:
    """What both versions answer to these rows (features by name, as logged), in runners of their own. Raises SlipwayError."""
    askers = [Asker(version, spec_of(version), beat) for version in versions]
    try:
        return _asked_both(askers, [{"features": each} for each in rows], versions, lambda _: beat())
    finally:
        for asker in askers:
            asker.end()


def _storable(value: Any) -> Any:
    """JSON that both databases keep: what models said may hold NUL, and the difference of two huge numbers is infinite."""
    return storable(orjson.loads(orjson.dumps(value, default=str)))


def spec_of(version: ModelVersion, work: str = "compare") -> Any:
    spec = artifacts.spec_for(version)
    return replace(spec, key=f"{work}-{spec.key}", limits=replace(spec.limits, reply_bytes=REPLY_BYTES))


# -- rows ---------------------------------------------------------------------------------------------------------------


def _rows(row: Comparison) -> tuple[str, list[dict[str, Any]], int]:
    """Where they come from, ``[{"features", "prediction_id"?}]``, and how many logged ones have no values to ask with.

    Logged ones, oldest first; without any, rows that came with a version. A log keeps no values of large tensors, nor redacted ones.
    """
    logged = PredictionLog.objects.production().filter(deployment=row.deployment).answered().order_by("-pk")
    latest = list(logged.values_list("pk", "features")[: row.last])
    redacted = {name for _, found in latest if isinstance(found, dict) for name in redaction.redacted_columns(found)}
    taken = [
        {"features": found, "prediction_id": str(pk)}
        for pk, found in latest
        if isinstance(found, dict) and found and not redaction.redacted_columns(found)
    ]
    skipped = len(latest) - len(taken)
    if taken:
        return Comparison.Source.LOG, taken[::-1], skipped
    for version in (row.champion, row.candidate):
        found = [each for each in samples.rows_of(version)[: row.last] if isinstance(each, (dict, list, str))]
        if found:
            return Comparison.Source.REFERENCE, [{"features": each} for each in found], skipped
    if redacted:
        raise redaction.refusal(redacted)
    raise errors.Conflict("There are no rows to compare with.", code="no_rows", hint="Send some requests first.")


def as_asked(features: Any, schema: dict[str, Any]) -> Any:
    """The row as this version takes it: a log keeps names, a tensor's values are ``f0, f1, ...``; what it does not take is left out."""
    if schema.get("kind") == "json":
        return features
    if schema.get("kind") == "tensor":
        return list(features.values()) if isinstance(features, dict) else features
    names = [column["name"] for column in schema.get("inputs") or []]
    if not isinstance(features, dict):
        return features
    if all(name in features for name in names):
        return [features[name] for name in names]
    return {name: features[name] for name in names if name in features}


# -- asking -------------------------------------------------------------------------------------------------------------


def _asked_both(
    askers: list[Asker],
    rows: list[dict[str, Any]],
    versions: tuple[ModelVersion, ModelVersion],
    progress: Callable[[float], None],
) -> tuple[list[Given], list[Given]]:
    """Chunk by chunk, one version after the other."""
    answers: tuple[list[Given], list[Given]] = ([], [])
    for start in range(0, len(rows), CHUNK_ROWS):
        for asker, version, found in zip(askers, versions, answers, strict=True):
            chunk = [as_asked(each["features"], version.schema or {}) for each in rows[start : start + CHUNK_ROWS]]
            found += row_answers(asker, chunk)
        progress(0.9 * min(1.0, (start + CHUNK_ROWS) / len(rows)))
    return answers


def row_answers(asker: Asker, rows: list[Any]) -> list[Given]:
    """One per row. A version that dies on too many of them has failed on the rest."""
    body = orjson.dumps({"rows": rows, "bad": {}})
    found: list[Given] = []
    while len(found) < len(rows):
        try:
            reply = asker.some(body, rows=len(rows), skip=len(found), start=0, format="jsonl")
        except SlipwayError as error:
            if error.code not in ("model_dies", "load_failed", "load_timeout"):
                raise
            lost = Given(error={"code": error.code, "message": error.detail})
            return found + [lost] * (len(rows) - len(found))
        if reply is not None:
            found += [_given(line) for line in reply.body[: reply.header["sizes"][0]].splitlines()][
                : reply.header["answered"]
            ]
    return found


def _given(line: bytes) -> Given:
    """What a runner says is its tenant's claim: anything may stand there."""
    try:
        said = orjson.loads(line)
        if "error" in said:
            return Given(error={name: str(said["error"].get(name, ""))[:300] for name in ("code", "message")})
        return Given(said.get("prediction"), said.get("probabilities"))
    except (orjson.JSONDecodeError, TypeError, AttributeError):
        return Given(error={"code": "model_error", "message": "The answer could not be read."})


# -- latency ------------------------------------------------------------------------------------------------------------


def _latency(
    askers: list[Asker], rows: list[dict[str, Any]], answers: tuple[list[Given], list[Given]], beat: Callable[[], None]
) -> dict[str, Any]:
    """Of single rows that both answered, asked in turn so that both meet the same machine: {"rows", "champion", "candidate"}."""
    good = [at for at, pair in enumerate(zip(*answers, strict=True)) if pair[0].error is None and pair[1].error is None]
    chosen = good[:: max(1, len(good) // TIMED_ROWS)][:TIMED_ROWS]
    times: tuple[list[float], list[float]] = ([], [])
    until, host = time.monotonic() + TIMED_S, get_host()
    for number, at in enumerate(chosen):
        for asker, found in zip(askers, times, strict=True):
            body = orjson.dumps({"inputs": [as_asked(rows[at]["features"], asker.version.schema or {})]})
            begun = time.perf_counter()
            try:
                reply = host.predict(asker.spec, body)
            except HostError as error:
                raise from_host(error) from error
            if number and reply.status == 200:  # the first of each only warms it
                found.append((time.perf_counter() - begun) * 1e3)
        if number % 20 == 0:
            beat()
        if time.monotonic() > until:
            break
    told = {}
    for name, found in zip(("champion", "candidate"), times, strict=True):
        ordered = sorted(found)
        told[name] = (
            {"p50": comparing.quantile(ordered, 0.5), "p95": comparing.quantile(ordered, 0.95)} if ordered else None
        )
    return {"rows": min(len(times[0]), len(times[1])), **told}


# -- figures ------------------------------------------------------------------------------------------------------------


def _figures(row: Comparison, answers: tuple[list[Given], list[Given]]) -> dict[str, Any]:
    before, after = row.champion.schema or {}, row.candidate.schema or {}
    outputs = [schema.get("output") or {} for schema in (before, after)]
    labels = answers_labels(before) or answers_labels(after)
    found = comparing.figures(*answers, (outputs[0].get("classes"), outputs[1].get("classes")), labels=labels)
    return found | {"schema": comparing.schema_differences(before, after)}


def _examples(
    found: dict[str, Any], rows: list[dict[str, Any]], answers: tuple[list[Given], list[Given]]
) -> list[dict[str, Any]]:
    """The flips with the largest change first, then rows that only the candidate failed on. Row numbers leave the figures."""
    places = [*found.pop("flips"), *found.pop("only_candidate_failed")]
    shown = [{**rows[at], "champion": _shown(answers[0][at]), "candidate": _shown(answers[1][at])} for at in places]
    size = 0
    for place, each in enumerate(shown):
        size += len(json.dumps(each, default=str))
        if size > CHUNK_CHARACTERS // 8:
            return shown[:place]
    return shown


def _shown(given: Given) -> dict[str, Any]:
    if given.error is not None:
        return {"error": given.error}
    chance = (
        max(given.probabilities)
        if given.probabilities and all(isinstance(each, (int, float)) for each in given.probabilities)
        else None
    )
    return {"prediction": given.prediction} | ({"probability": chance} if chance is not None else {})
