"""A version's faster form: asked for at validation, kept when it was proven, and told in words.

Nothing of it can fail a validation: what does not convert answers with its own library, and the record says why.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import replace
from typing import Any

import orjson

from mlops.core import errors, logs
from mlops.core.words import number
from mlops.runtime.host import DeadlineExceeded, HostError, ModelCrashed, OutOfMemory, Reply
from registry import profiling
from registry.checking import Level, Said, Validation
from registry.models import ModelVersion
from registry.services import blobs

log = logs.get(__name__)

CONVERT_S = 20.0  # of the whole conversion, after which its runner is ended
_TRYING_S = 12.0  # after which no other way is begun
_LEAST_S = 25.0  # of the validation that must be left for it
_LAST_STEPS_S = 5.0
MAX_FORM_BYTES = 256 << 20
_SLOW_LOAD_MS = 2_000  # a model that opens slower than this is opened before the first request that needs it
_SAMPLE_ROWS, _REFERENCE_ROWS, _CELLS = 300, 700, 400_000


def accelerate(validation: Validation) -> list[Said]:
    """Have the model converted in the sandbox, and keep what came of it."""
    left_s = validation.remaining_s() - _LAST_STEPS_S
    if validation.version.format == "python":
        record, file = _native("code of its own (predict.py) is not converted"), b""
    elif left_s < _LEAST_S:
        record, file = _native("the validation had no time left for it"), b""
    else:
        record, file = _asked(validation, min(CONVERT_S, left_s))
    if file and record.get("status") == "accelerated":
        record = _kept(validation, record, file)
    validation.save(acceleration=record)
    return said(record)


def _native(reason: str) -> dict[str, Any]:
    return {"status": "native", "reason": reason}


def _asked(validation: Validation, seconds: float) -> tuple[dict[str, Any], bytes]:
    """What the sandboxed model's runner says: a claim, read as plain numbers and words."""
    host, spec = validation.host, validation.spec(f"convert-{validation.version.sha256[:8]}", validation.schema)
    limits = replace(spec.limits, memory_bytes=2 * spec.limits.memory_bytes, reply_bytes=MAX_FORM_BYTES)
    spec = replace(spec, limits=limits)
    try:
        with contextlib.suppress(HostError):
            host.unload(validation.key("smoke"))
        validation.ensure(spec)
        args = {"budget_s": min(_TRYING_S, seconds * 0.6)}
        reply = host.call(spec, "convert", args, orjson.dumps(_rows(validation)), timeout_s=seconds)
        return _read(reply)
    except DeadlineExceeded:
        return _native(f"the conversion took longer than {seconds:.0f} s"), b""
    except OutOfMemory:
        return _native("the conversion needs more memory than there is for it"), b""
    except ModelCrashed:
        return _native("the converter crashed on it"), b""
    except (HostError, errors.SlipwayError) as error:
        return _native(f"it could not be tried: {error.detail}"), b""
    finally:
        with contextlib.suppress(HostError):
            host.unload(spec.key)


def _rows(validation: Validation) -> dict[str, Any]:
    """Some rows of the sample and the reference, which the other checks have already read."""
    schema = validation.schema
    tables = []
    for table, most in (
        (profiling.sample_of(validation), _SAMPLE_ROWS),
        (profiling.reference_of(validation), _REFERENCE_ROWS),
    ):
        if table is not None:
            tables.append((table, most))
    if schema["kind"] == "json":
        return {}
    if schema["kind"] == "tensor":
        with contextlib.suppress(errors.SlipwayError):
            rows = [_values(row) for table, most in tables[:1] for row in table.rows_for(schema, most)]
            return {"tensor": rows} if not any(isinstance(row, str) for row in rows) else {}  # pictures: random ones do
        return {}
    names = [column["name"] for column in schema["inputs"]]
    most_rows = max(1, _CELLS // max(1, len(names)))
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for found, most in tables:
        table = found.named(names)
        if all(name in table.columns for name in names):
            step = max(1, len(table.columns[names[0]]) // min(most, most_rows))
            for name in names:
                columns[name] += table.columns[name][::step][: min(most, most_rows)]
    return {"columns": columns}


def _values(row: Any) -> Any:
    return list(row.values()) if isinstance(row, dict) else row


_NUMBERS = ("speedup", "max_difference", "tolerance", "rows", "size_bytes", "seconds")
_TIMES = ("native_us", "accelerated_us")


def _read(reply: Reply) -> tuple[dict[str, Any], bytes]:
    """Only what we know by name and kind goes on: the runner is the model's."""
    told = reply.header.get("record")
    if reply.status != 200 or not isinstance(told, dict):
        return _native("the converter gave no answer"), b""
    if told.get("status") != "accelerated" or not reply.body:
        return {
            **_native(str(told.get("reason") or "the converter said nothing")[:1000]),
            **_plain(told, ("seconds",)),
        }, b""
    times = {name: _plain(told.get(name) or {}, ("1", "100")) for name in _TIMES}
    if any(len(each) != 2 for each in times.values()) or not _plain(told, ("speedup",)):
        return _native("the converter gave no measurements"), b""
    texts = told.get("native_texts") if isinstance(told.get("native_texts"), list) else []
    return {
        "status": "accelerated",
        "precision": str(told.get("precision"))[:10],
        **_plain(told, _NUMBERS),
        **times,
        "missing_values": "onnx" if told.get("missing_values") == "onnx" else "native",
        "native_texts": [str(name)[:200] for name in texts[:50]],
    }, reply.body


def _plain(told: Any, names: tuple[str, ...]) -> dict[str, float]:
    if not isinstance(told, dict):
        return {}
    return {
        name: told[name]
        for name in names
        if isinstance(told.get(name), (int, float)) and not isinstance(told[name], bool)
    }


def _kept(validation: Validation, record: dict[str, Any], file: bytes) -> dict[str, Any]:
    version = validation.version
    try:
        stored = blobs.store(
            version.organization_id, io.BytesIO(file), limit_bytes=MAX_FORM_BYTES, what="The accelerated form"
        )
    except errors.SlipwayError as error:
        return _native(f"its faster form could not be stored: {error.detail}")
    validation.save(accelerated_key=stored.key, accelerated_sha256=stored.sha256, accelerated_bytes=stored.size_bytes)
    slow = float(version.profile.get("load_ms") or 0) > _SLOW_LOAD_MS
    return {**record, "sha256": stored.sha256, "size_bytes": stored.size_bytes, "open_both": slow}


def forget(version: ModelVersion) -> None:
    """The file of an earlier attempt goes, once no row names it any more."""
    blobs.release(version.organization_id, [version.accelerated_key])


# -- words --------------------------------------------------------------------------------------------------------------
def said(record: dict[str, Any]) -> list[Said]:
    """The record as the findings of a check."""
    if record["status"] != "accelerated":
        return [
            Said(
                f"Answers with its own library: {record['reason']}.",
                Level.INFO,
                "Nothing is wrong with it; it is only not faster.",
            )
        ]
    return [Said(words(record))]


def words(record: dict[str, Any]) -> str:
    """One sentence: how much faster, and how it was proven."""
    native, fast = record["native_us"]["1"], record["accelerated_us"]["1"]
    return (
        f"Accelerated with ONNX Runtime: {number(round(record['speedup'], 1))} x faster ({number(round(native))} -> {number(round(fast, 1))} us a row), "
        f"largest difference {record['max_difference']:.0e} over {number(record['rows'])} rows."
    )
