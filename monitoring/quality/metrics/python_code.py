"""Python of a user's, run where models run: a runner of its own without network, processes or files, killed at its limits.

The user writes ``def metric(rows, predictions, actuals) -> float``. It is put beside a predict.py of ours, so that nothing new has to be
trusted: to the sandbox this is one more model, loaded for one call and ended after it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import uuid
from pathlib import Path

import orjson
from django.conf import settings

from mlops.core import errors
from mlops.runtime.host import (
    Busy,
    CacheFull,
    HostError,
    HostUnavailable,
    Limits,
    ModelSpec,
    Reply,
    SandboxUnavailable,
    get_host,
)
from monitoring.quality.metrics.rows import Sample

MAX_CHARACTERS = 20_000
SECONDS = 10.0
LOAD_S = 30.0  # a runner is started for it, and imports what the code imports
MEMORY_BYTES = 1 << 30
REPLY_BYTES = 1 << 20
BODY_BYTES = 48 << 20
_OURS, _THEIRS = "predict.py", "metric.py"
_BESIDE = '''"""Calls the metric."""

import metric


def load(path):
    if not callable(getattr(metric, "metric", None)):
        raise ValueError("metric.py has no function metric(rows, predictions, actuals).")
    return metric.metric


def predict(model, rows):
    asked = rows[0]
    value = model(asked["rows"], asked["predictions"], asked["actuals"])
    if value is None:
        return [None]
    return [float(value)]
'''
_SCHEMA = {
    "kind": "json",
    "inputs": [],
    "tensor": None,
    "output": {"task": "other", "classes": None, "probabilities": False},
    "source": "given",
}
HINT = "Write def metric(rows, predictions, actuals): ... that returns a number; rows are dicts, actuals None where unknown."


def check(source: str) -> None:
    """What can be said without running it. Raises Invalid."""
    if not source.strip():
        raise _invalid("The code is empty.")
    if len(source) > MAX_CHARACTERS or "\x00" in source:
        raise _invalid(f"The code is longer than {MAX_CHARACTERS:,} characters, or holds a NUL.")
    if "def metric" not in source:
        raise _invalid("The code has no function metric.")


def value(source: str, sample: Sample) -> float | None:
    """What the metric gives; None for a NaN or None. Raises Invalid with the file and line of an error in it, NotReady when nothing
    can be run now."""
    check(source)
    asked = {"rows": sample.rows, "predictions": sample.predictions, "actuals": sample.actuals}
    body = orjson.dumps({"inputs": [asked]})
    if len(body) > BODY_BYTES:
        raise errors.TooLarge(f"The sample is larger than {BODY_BYTES >> 20} MB.", hint="Choose a shorter window.")
    spec, host = _spec(source), get_host()
    try:
        host.ensure(spec)
        reply = host.predict(spec, body, timeout_s=SECONDS)
    except HostError as error:
        raise _told(error) from error
    finally:
        with contextlib.suppress(HostError):
            host.unload(spec.key)
    return _number(reply)


def _number(reply: Reply) -> float | None:
    said = orjson.loads(reply.body)
    if reply.status != 200:
        detail = str(said.get("detail", "The metric failed.")).replace(_OURS, "the metric")
        raise _invalid(detail[:2000], str(said.get("hint", "")) or HINT)
    found = (said.get("predictions") or [None])[0]
    if found is None or not isinstance(found, int | float) or isinstance(found, bool) or not abs(found) < 1e300:
        return None
    return float(found)


def _told(error: HostError) -> errors.SlipwayError:
    """A failure of the code is its author's to mend; a host that is away is nobody's."""
    if isinstance(error, Busy | CacheFull | HostUnavailable | SandboxUnavailable):
        return errors.NotReady(error.detail, code=error.code, hint=error.hint, retry_after_s=10)
    hints = {
        "deadline_exceeded": f"A metric must be done in {SECONDS:g} s.",
        "load_timeout": f"What stands outside of metric() must be done in {LOAD_S:g} s.",
        "out_of_memory": f"A metric has {MEMORY_BYTES >> 20} MB.",
    }
    return _invalid(error.detail[:2000], hints.get(error.code, error.hint) or HINT)


def _invalid(message: str, hint: str = HINT) -> errors.Invalid:
    return errors.Invalid(message, code="bad_metric", hint=hint, fields={"source": [message]})


def _spec(source: str) -> ModelSpec:
    """Each run has a key of its own: nothing of one is seen by the next."""
    contents = {_OURS: _BESIDE.encode(), _THEIRS: source.encode("utf-8", "replace")}
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    root = _folder(hashlib.sha256("".join(sorted(hashes.values())).encode()).hexdigest(), contents)
    limits = Limits(load_s=LOAD_S, predict_s=SECONDS, memory_bytes=MEMORY_BYTES, reply_bytes=REPLY_BYTES, replicas=1)
    return ModelSpec(
        key=f"metric-{uuid.uuid4().hex[:16]}",
        path=str(root / _OURS),
        sha256=hashes[_OURS],
        format="python",
        schema=dict(_SCHEMA),
        name="metric",
        version=1,
        limits=limits,
        options={"root": str(root), "model": None},
        folder={"root": str(root), "files": hashes, "model": None},
    )


def _folder(name: str, contents: dict[str, bytes]) -> Path:
    """On this machine's disk, made whole or not at all; the daily clearing of artifacts takes what nobody used for a week."""
    root = Path(settings.ARTIFACT_DIR) / f"metric-{name}"
    if not root.is_dir():
        root.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=root.parent, prefix=".metric-"))
        made.chmod(0o755)
        for each, content in contents.items():
            (made / each).write_bytes(content)
        try:
            os.rename(made, root)
        except OSError:  # another process was first
            shutil.rmtree(made, ignore_errors=True)
    with contextlib.suppress(OSError):
        os.utime(root)
    return root
