"""What a pushed version must pass, in order. Each check says what it found; the first that fails ends the validation.

Nothing here opens the model: looking at bytes is ``mlops.runtime.inspect``, everything else happens in the sandboxed runner.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

from mlops.core import errors, storage
from mlops.core.storable import storable
from mlops.core.words import ms, number, size
from mlops.runtime import inspect
from mlops.runtime.formats import FORMATS
from mlops.runtime.host import HostError
from registry import acceleration, profiling, signing, smoke
from registry.checking import Level, Said, Validation, answer, refuse
from registry.contents import check_contents
from registry.dependencies import check_dependencies
from registry.models import Finding
from registry.schemas import decide


# -- checks -------------------------------------------------------------------------------------------------------------
def check_received(validation: Validation) -> list[Said]:
    version = validation.version
    said = [Said(f"{version.filename}, {size(version.size_bytes)}.")]
    said += [
        Said(f"{dataset.get_kind_display()}: {dataset.filename}, {size(dataset.size_bytes)}.")
        for dataset in version.datasets.all()
    ]
    return said


def check_hash(validation: Validation) -> list[Said]:
    """What the storage holds is what came in."""
    version = validation.version
    if storage.sha256_of(version.file_key) != version.sha256:
        refuse(
            "file_corrupt", "The stored file does not have the hash that was taken at upload.", "Push the model again."
        )
    validation.remaining_s()
    return [Said(f"sha256 {version.sha256[:16]}… read back from the storage.")]


def check_scan(validation: Validation) -> list[Said]:
    """Advice only: the sandbox is what keeps a hostile file in."""
    validation.report = inspect.look(validation.path, validation.version.filename)
    advice = [
        Said(found["message"], found["level"], found["hint"])
        for found in validation.report.findings
        if found["level"] in ("warning", "info")
    ]
    return advice or [Said("Nothing odd was seen from outside.")]


def check_format(validation: Validation) -> list[Said]:
    report = validation.report
    for found in report.findings:
        if found["level"] == "error":
            refuse("not_a_model" if report.format is None else "broken_file", found["message"], found["hint"])
    if report.format is None:
        refuse(
            "not_a_model", "The file is not a model format we know.", "Push one of " + " ".join(sorted(FORMATS)) + "."
        )
    validation.save(format=report.format)
    return [Said(found["message"]) for found in report.findings if found["level"] == "ok"]


def check_load(validation: Validation) -> list[Said]:
    """Open it where it can do no harm."""
    version = validation.version
    spec = validation.spec("load", None)
    info = validation.ensure(spec)
    validation.describe = describe = answer(validation.host.call(spec, "describe", {}), "")
    libraries = {name: str(found) for name, found in (describe.get("libraries") or {}).items()}
    profile = {
        "load_ms": round(info.load_ms, 1),
        "memory_bytes": info.memory_bytes,
        "device": info.device,
        "libraries": libraries,
    }
    validation.save(framework=str(describe.get("framework") or version.format)[:40], profile=profile)
    used = ", ".join(f"{name} {found}" for name, found in libraries.items())
    said = [
        Said(
            f"Opened in the sandbox in {ms(info.load_ms)}, {size(info.memory_bytes)} of memory{f'; {used}' if used else ''}."
        )
    ]
    said += [
        Said(note, Level.WARNING, _note_hint(note))
        for note in dict.fromkeys([*info.notes, *(describe.get("notes") or [])])
    ]
    return said


def _note_hint(note: str) -> str:
    if "version" in note.lower():
        return "It was saved with other library versions than Slipway runs. If predictions differ, save it again with these versions."
    return ""


def check_schema(validation: Validation) -> list[Said]:
    """Which columns it takes: given by its author, else seen in the sample, else in the reference, else told by the model."""
    found = decide(validation)
    validation.schema = found
    validation.save(schema=found)
    where = {
        "given": "as given",
        "sample": "seen in the sample",
        "reference": "seen in the reference",
        "model": "told by the model",
    }[found["source"]]
    output = found["output"]
    what = output["task"] + (f" of {len(output['classes'])} classes" if output["classes"] else "")
    if found["kind"] == "tensor":
        pictures = " (or pictures)" if found["tensor"].get("encoding") == "image" else ""
        return [Said(f"A tensor {found['tensor']['dtype']} {found['tensor']['shape']}{pictures}, {where}; {what}.")]
    if found["kind"] == "json":
        named = ", ".join(f"{each['name']} {each['dtype']} {each['shape']}" for each in found.get("tensors") or [])
        return [Said(f"{named or 'Rows of any JSON'}, {where}; {what}.")]
    count = len(found["inputs"])
    return [Said(f"{count} column{'' if count == 1 else 's'}, {where}; {what}."), *validation.notes]


def check_smoke(validation: Validation) -> list[Said]:
    """It must predict, and predict numbers."""
    with contextlib.suppress(HostError):
        validation.host.unload(
            validation.key("load")
        )  # its successor knows the schema; two copies would cost twice the memory
    validation.ensure(validation.ready_spec)
    result = smoke.predict(validation)
    profile = {**validation.version.profile, **result.timings, "answered": result.answered}
    validation.save(example=result.rows[:3], profile=profile)
    shown = f"{result.count} row{'' if result.count == 1 else 's'} from {result.origin}"
    told = ", equal to what was expected" if result.compared else ""
    p50, p95 = ms(result.timings["predict_ms_p50"]), ms(result.timings["predict_ms_p95"])
    return [Said(f"Predicted {shown}{told}. One row takes {p50} (p95 {p95}).")]


def check_profile(validation: Validation) -> list[Said]:
    """The reference through the model: what drift is measured against."""
    profiled = profiling.profile(validation)
    if profiled is None:
        hint = "Push a reference (CSV or Parquet of training rows) to be told about drift from the first day."
        return [Said("No reference came with it: the first traffic will serve as one.", Level.INFO, hint)]
    said = [Said(f"{number(profiled.rows)} of {number(profiled.rows_total)} rows profiled and predicted.")]
    if profiled.target:
        said.append(
            Said(
                f"{profiled.target} is taken for what really happened: the quality of live answers is compared with it."
            )
        )
    unused = [name for name in profiled.extra if name != profiled.target]
    if unused:
        named = ", ".join(unused[:8])
        said.append(Said(f"Columns the model does not take were left out: {named}.", Level.INFO))
    if profiled.cut_short:
        said.append(
            Said(
                "Not every row could be predicted in the time a validation has.",
                Level.WARNING,
                "Push a smaller reference, or a faster model.",
            )
        )
    return said


def check_accelerate(validation: Validation) -> list[Said]:
    """A faster form, proven equal; never a reason to fail."""
    return acceleration.accelerate(validation)


def check_sign(validation: Validation) -> list[Said]:
    validation.version.refresh_from_db()  # sign what the database gives back, for that is what will be verified
    envelope = signing.sign_version(validation.version)
    validation.save(signature=envelope)
    signing.verify_version(validation.version)
    return [Said(f"Signed with key {envelope['signatures'][0]['keyid']}.")]


CHECKS: tuple[tuple[str, str, Callable[[Validation], list[Said]]], ...] = (
    ("received", "Received", check_received),
    ("hash", "Hash", check_hash),
    ("scan", "Static scan", check_scan),
    ("format", "Format", check_format),
    ("contents", "Contents", check_contents),
    ("dependencies", "Dependencies", check_dependencies),
    ("load", "Load in the sandbox", check_load),
    ("schema", "Schema", check_schema),
    ("smoke", "Smoke prediction", check_smoke),
    ("profile", "Profile of the reference", check_profile),
    ("accelerate", "Acceleration", check_accelerate),
    ("sign", "Signature", check_sign),
)
READY = ("ready", "Ready")
LABELS = {**{name: label for name, label, _ in CHECKS}, READY[0]: READY[1]}


# The runner host's own hints speak to somebody who predicts; these to somebody who pushed.
_HINTS = {
    (check, code): hint
    for check in ("smoke", "profile")
    for code, hint in (
        ("model_crashed", "Predict the same rows on your machine with the library versions named above, then push a model that does not crash."),
        ("deadline_exceeded", "A prediction must be done in that time: push a smaller or faster model."),
        ("out_of_memory", "Push a smaller model, or ask your administrator to raise the memory limit."),
    )
}  # fmt: skip


def run_checks(validation: Validation) -> None:
    """All checks, each a step of the job with its findings written as it ends. Raises SlipwayError at the first failure."""
    for place, (name, label, check) in enumerate(CHECKS, 1):
        with validation.run.step(name) as step:
            started = time.perf_counter()
            try:
                validation.remaining_s()
                said = check(validation)
            except HostError as error:
                _log_of(validation, error)
                hint = _HINTS.get((name, error.code), error.hint)
                failure = errors.SlipwayError(error.detail, code=error.code, hint=hint, status=error.status)
                _fail(validation, step, name, failure, time.perf_counter() - started)
                raise failure from error
            except errors.SlipwayError as error:
                profiling.explain(validation, error)
                _fail(validation, step, name, error, time.perf_counter() - started)
                raise
            _write(validation, name, said, time.perf_counter() - started)
            step["message"], step["hint"] = _shown(said)
            if any(line.level == Level.WARNING for line in said):
                step["status"] = "warning"
        validation.run.log(f"{label.lower()}: {said[0].message}")
        validation.run.progress(place / (len(CHECKS) + 1))


def _shown(said: list[Said]) -> tuple[str, str]:
    """The line of a step: the gravest finding, else the first."""
    line = next((line for line in said if line.level == Level.WARNING), said[0])
    return line.message, line.hint


def _fail(validation: Validation, step: dict[str, Any], name: str, error: errors.SlipwayError, seconds: float) -> None:
    step["message"], step["hint"] = error.detail, error.hint
    _write(validation, name, [Said(error.detail, Level.ERROR, error.hint)], seconds)
    validation.run.log(f"{LABELS[name].lower()} failed: {error.detail}")


def _write(validation: Validation, name: str, said: list[Said], seconds: float) -> None:
    rows = [
        Finding(
            version=validation.version,
            check_name=name,
            level=line.level,
            message=storable(line.message),
            hint=storable(line.hint),
        )
        for line in said
    ]
    rows[0].seconds = round(seconds, 3)
    Finding.objects.bulk_create(rows)


def _log_of(validation: Validation, error: HostError) -> None:
    """What the model printed before it failed, for its author to read."""
    printed = str(error.fields.get("log") or "")
    for key in validation.keys:
        if not printed:
            with contextlib.suppress(HostError):
                printed = validation.host.logs(key)
    if printed.strip():
        validation.run.log("the model printed:\n" + printed[-4000:].strip())
