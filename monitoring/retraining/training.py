"""A train.py of the user's in the sandbox: its code and data laid out, begun, looked at, and what it wrote pushed as a version.

The process belongs to the runner host: no worker waits for it, and none that dies takes it along.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
from django.conf import settings

from mlops.core import clock, errors, storage
from mlops.core.storable import storable
from mlops.jobs.runner import JobRun
from mlops.runtime.environments import requirements as wishes
from mlops.runtime.environments import tree
from mlops.runtime.host import HostError, Limits, ModelSpec, RunnerHost, get_host
from mlops.runtime.training import OUT, TEMPORARY
from monitoring.models import Retraining, RetrainingPolicy
from monitoring.retraining import candidates, rows, runs
from monitoring.retraining.runs import State
from registry.metadata import Metadata
from registry.models import ModelVersion
from registry.packing import FileToPack
from registry.services import artifacts, environments, trees
from registry.services.push import push_tree
from registry.uploads import SpooledFile
from serving.errors import from_host

CODE = "train.py"
UNPACK_S = 120.0
LOOK = timedelta(seconds=20)
TRIES = 2  # a training that its runner host lost begins once more
_GRACE = timedelta(minutes=10)
_WISHES_BYTES = 64 << 10
_DATA = {"reference": (".csv", ".parquet"), "sample": (".json", ".csv")}
_LOG = 64_000
_RAISED = re.compile(r"((?:[^:\n]{1,200}, line \d+: )?\w+(?:Error|Exception|Warning|Exit|Interrupt)): ")


# -- begin ----------------------------------------------------------------------------------------------------------


def begin(job: JobRun, run: Retraining) -> None:
    """Lay everything out and begin. May be killed anywhere and run again: a training that has begun is found by its name."""
    host = _host()
    place = str(run.figures.get("place") or "")
    if not (place and host.training(place)["state"] != "unknown"):
        _clear(place)
        place = f"r{run.pk}-{secrets.token_hex(4)}"
        tries = int(run.figures.get("tries") or 0)
        run = runs.keep(run, figures={"place": place, "tries": tries + 1})
        with job.step("prepare"):
            spec = _laid_out(job, run, place, host)
        try:
            host.train(spec, str(_folder(place)), settings.TRAINING_OUT_BYTES)
        except HostError as error:
            if error.retry_after_s is None:
                raise from_host(error) from error
            runs.later(run, LOOK, figures={"place": "", "tries": tries}, due_at=clock.now() + timedelta(days=1))
            _clear(place)
            return
    minutes = run.terms["minutes"]
    due = clock.now() + timedelta(minutes=minutes) + _GRACE
    runs.move(run, State.TRAINING, f"In the sandbox, for at most {minutes} minutes.", due_at=due)


def _host() -> RunnerHost:
    host = get_host()
    if not isinstance(host, RunnerHost):
        raise errors.Conflict(
            "This server runs models without the sandbox (SLIPWAY_TRUST_UPLOADERS), and trains none.",
            code="no_sandbox",
            hint="Use the webhook, or start Slipway with its runner host.",
        )
    return host


def _folder(place: str) -> Path:
    return Path(settings.TRAININGS_DIR).resolve() / place


def _clear(place: str) -> None:
    if place:
        tree.clear(_folder(place))


def _laid_out(job: JobRun, run: Retraining, place: str, host: RunnerHost) -> ModelSpec:
    folder = _folder(place)
    data, work = folder / "data", folder / "work"
    for path in (data, work / OUT, work / TEMPORARY):
        path.mkdir(parents=True)
    os.chmod(folder.parent, 0o711)  # noqa: S103  a training's user must reach its folder by name; nobody else learns the names
    root, name, digest, members = _code(run, host)
    environment = _environment(job, run, root if members else None)
    for file in rows.files(run):
        _write(data / file, rows.content(run, file), job.beat)
    _write(data / "about.json", iter([orjson.dumps(_about(run), option=orjson.OPT_INDENT_2)]), job.beat)
    terms = run.terms
    return ModelSpec(
        place,
        str(root / name),
        digest,
        "training",
        name=run.deployment.model.slug,
        limits=Limits(load_s=60.0 * terms["minutes"], memory_bytes=terms["memory_mb"] << 20),
        options={"data": str(data), "work": str(work)},
        folder={"root": str(root), "files": members, "model": None} if members else None,
        environment=environment,
    )


def _write(path: Path, content: Iterator[bytes], beat: Callable[[], None]) -> None:
    with storage.trouble_named(), path.open("wb") as file:
        for number, piece in enumerate(content):
            file.write(piece)
            if number % 5_000 == 0:
                beat()


def _about(run: Retraining) -> dict[str, Any]:
    """What train.py may want to know beside the rows."""
    reference = run.champion.reference
    return {
        "retraining": run.pk,
        "deployment": run.deployment.name,
        "model": run.deployment.model.slug,
        "champion": run.champion.number,
        "reason": {key: run.reason.get(key) for key in ("what", "since", "why", "kinds")},
        "window": {"since": rows.since(run).isoformat(), "until": run.until.isoformat()},
        "files": list(rows.files(run)),
        "inputs": [column["name"] for column in (run.champion.schema or {}).get("inputs") or []],
        "target": run.champion.claims.get("target"),
        "reference_rows": reference.rows if reference is not None else None,
    }


# -- its code and libraries -----------------------------------------------------------------------------------------


def _code(run: Retraining, host: RunnerHost) -> tuple[Path, str, str, dict[str, str]]:
    """(folder, name and sha256 of the code, every file's sha256; none for a single file). Raises Invalid, NotFound, Conflict."""
    terms = run.terms
    if terms["code"] == RetrainingPolicy.Code.VERSION:
        listed = (run.champion.contents or {}).get("members") or []
        members = {each["name"]: each["sha256"] for each in listed}
        _require(members, f"Version {run.champion.number} is no archive that holds it.")
        return artifacts.materialise_tree(run.champion), CODE, members[CODE], members
    folder = Path(settings.ARTIFACT_DIR) / terms["bundle_sha256"]
    if terms["bundle_name"].lower().endswith(".py"):
        path = folder / CODE
        if not path.exists():
            storage.fetch_to(terms["bundle_key"], terms["bundle_sha256"], path)
        return folder, CODE, terms["bundle_sha256"], {}
    path = folder / f"bundle{''.join(Path(terms['bundle_name'].lower()).suffixes[-2:])}"
    if not path.exists():
        storage.fetch_to(terms["bundle_key"], terms["bundle_sha256"], path)
    within = artifacts.limits(load_s=UNPACK_S)
    spec = ModelSpec(
        f"bundle-{terms['bundle_sha256'][:16]}", str(path), terms["bundle_sha256"], "bundle", limits=within
    )
    try:
        found = trees.unpack(host, spec, folder, UNPACK_S)
    except HostError as error:
        raise from_host(error) from error
    members = {each["name"]: each["sha256"] for each in found.members}
    _require(members, "The bundle holds none.")
    return folder / trees.TREE, CODE, members[CODE], members


def _require(members: dict[str, str], detail: str) -> None:
    if CODE not in members:
        raise errors.Invalid(
            f"There is no {CODE}. {detail}",
            code="no_train_py",
            hint=f"{CODE} with train(data_dir, out_dir) stands at the top of the archive.",
        )


def _environment(job: JobRun, run: Retraining, root: Path | None) -> dict[str, str] | None:
    """The libraries it is run with: those of the version whose code it is, or what the bundle's requirements.txt asks for."""
    if run.terms["code"] == RetrainingPolicy.Code.VERSION:
        return environments.spec_of(run.champion)
    path = root / "requirements.txt" if root is not None else None
    if path is None or not path.exists():
        return None
    try:
        wanted = wishes.parse(path.read_bytes()[:_WISHES_BYTES].decode("utf-8", "replace"))
    except wishes.RequirementsError as error:
        raise errors.Invalid(f"requirements.txt: {error.message}", code=error.code, hint=error.hint) from error
    if not environments.missing(wanted):
        return None

    def tell(lines: list[str]) -> None:
        job.beat()
        if lines:
            job.log("\n".join(lines))

    found = environments.ensure(environments.environment_for(wanted), tell)
    return {"id": found.pk, "path": str(environments.site_of(found)), "owner": str(run.organization_id)}


# -- look -----------------------------------------------------------------------------------------------------------


def look(job: JobRun, run: Retraining) -> None:
    """How it goes; when it has ended, what it wrote becomes a version."""
    place = str(run.figures.get("place") or "")
    told = _host().training(place)
    log = storable(str(told.get("log") or ""))[-_LOG:]
    match told["state"]:
        case "running":
            runs.later(run, LOOK, log=log)
        case "unknown":
            _again(run, place)
        case "done":
            run = runs.keep(run, log=log, metrics=storable(told.get("metrics") or {}))
            with job.step("push"):
                version = pushed(run)
            candidates.accept(run, version)
            forget(run)
        case _:
            error = _plain(told.get("error") or {"detail": "The training was stopped."})
            whole, error["detail"] = str(error["detail"]), _without_values(str(error["detail"]))
            if error["detail"] != whole:
                log = storable(f"{log}\n{whole}")[-_LOG:]
            runs.move(run, State.FAILED, error["detail"], log=log, error=storable(error))
            forget(run)


def _again(run: Retraining, place: str) -> None:
    _clear(place)
    if int(run.figures.get("tries") or 0) < TRIES:
        runs.move(
            run,
            State.QUEUED,
            "The runner host was started anew: the training begins again.",
            due_at=clock.now() + timedelta(days=1),
        )
    else:
        runs.move(run, State.FAILED, f"The runner host was lost {TRIES} times while it trained.")


def _without_values(detail: str) -> str:
    """ "train.py, line 7: ValueError: could not convert 'Ann Lee'" -> "train.py, line 7: ValueError. ...": what code raises quotes rows,
    and this is read by everybody, mailed and sent to channels."""
    raised = _RAISED.match(detail)
    return f"{raised[1]}. What it said stands in the training's log." if raised else detail


def _plain(error: dict[str, Any]) -> dict[str, Any]:
    return {name: error.get(name) for name in ("code", "detail", "hint")}


def stop(run: Retraining, why: str) -> None:
    """End its process, if there is one. Never raises: what is gone is gone."""
    place = str(run.figures.get("place") or "")
    host = get_host()
    if place and isinstance(host, RunnerHost):
        try:
            host.stop_training(place, why)
        except HostError:
            return


def forget(run: Retraining) -> None:
    """Its folder goes; what it wrote is a version by now, or nothing."""
    place = str(run.figures.get("place") or "")
    if not place:
        return
    _clear(place)
    host = get_host()
    if isinstance(host, RunnerHost):
        try:
            host.forget_training(place)
        except HostError:
            return


def live_log(run: Retraining) -> str:
    """What it has printed up to now, asked of the runner host; what was written down where that cannot say."""
    place = str(run.figures.get("place") or "")
    host = get_host()
    if run.state == State.TRAINING and place and isinstance(host, RunnerHost):
        try:
            return str(host.training(place).get("log") or run.log)
        except HostError:
            return run.log
    return run.log


def sweep() -> int:
    """Folders that no run trains in: what a killed worker left. Returns how many went."""
    root = Path(settings.TRAININGS_DIR)
    if not root.is_dir():
        return 0
    at_work = {
        str(figures.get("place"))
        for figures in Retraining.objects.filter(ended_at__isnull=True).values_list("figures", flat=True)
    }
    gone = [path for path in root.iterdir() if path.name not in at_work and path.name.startswith("r")]
    for path in gone:
        tree.clear(path)
    return len(gone)


# -- what it wrote --------------------------------------------------------------------------------------------------


def pushed(run: Retraining) -> ModelVersion:
    """The version made of what it wrote; the one an attempt before has made, if there is one. Raises Invalid and what a push raises."""
    known = candidates.of(run)
    if known is not None:
        return known
    caller = runs.caller_of(run, "model.write")
    out = _folder(str(run.figures["place"])) / "work" / OUT
    found = _listed(out)
    data = {kind: _taken(out, found, kind) for kind in _DATA}
    try:
        version, _ = push_tree(
            run.organization,
            caller,
            model=run.deployment.model.slug,
            files=_files(out, found),
            metadata=Metadata(
                description=f"Retraining {run.pk}: {run.reason.get('what') or run.get_trigger_display()}"[:500],
                metrics={name: float(value) for name, value in list(run.metrics.items())[:50]},
                claims={"retraining": run.pk, **_claims(run)},
            ),
            data=dict(data),
            check=lambda: candidates.refuse_second(run),
        )
    except candidates.Known as known_now:
        return known_now.version
    finally:
        for file in data.values():
            if file is not None:
                file.close()
    return version


def _claims(run: Retraining) -> dict[str, Any]:
    return {name: run.champion.claims[name] for name in ("target",) if run.champion.claims.get(name)}


def _listed(out: Path) -> list[str]:
    """Relative names of its files, sorted. Raises Invalid for anything that is no plain file or folder, and for none at all."""
    found: list[str] = []
    left = [""]
    while left:
        below = left.pop()
        try:
            entries = list(os.scandir(out / below))
        except OSError as error:
            raise _odd(below, "cannot be read") from error
        for entry in entries:
            name = f"{below}/{entry.name}".lstrip("/")
            info = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(info.st_mode):
                left.append(name)
            elif not stat.S_ISREG(info.st_mode) or info.st_nlink != 1:
                raise _odd(name, "is no plain file")
            else:
                found.append(name)
    if not found:
        raise errors.Invalid(
            "train() wrote nothing into out_dir.",
            code="nothing_trained",
            hint="Write model.joblib (or another model file) into out_dir.",
        )
    return sorted(found)


def _odd(name: str, what: str) -> errors.Invalid:
    return errors.Invalid(
        f"{name[:200]!r} in out_dir {what}.",
        code="odd_output",
        hint="Write plain files and folders: no links, no pipes.",
    )


def _taken(out: Path, found: list[str], kind: str) -> SpooledFile | None:
    """reference.* and sample.* at the top are data of the version, not part of its archive."""
    name = next((f"{kind}{ending}" for ending in _DATA[kind] if f"{kind}{ending}" in found), None)
    if name is None:
        return None
    found.remove(name)
    with _opened(out / name) as source:
        spool = storage.spool_of(source, limit_bytes=settings.DATASET_LIMIT_BYTES, what=f"The {kind}")
    return SpooledFile(name, spool, None)


def _files(out: Path, found: list[str]) -> Iterator[FileToPack]:
    for name in found:
        with _opened(out / name) as file:
            yield name, os.fstat(file.fileno()).st_size, iter(lambda file=file: file.read(1 << 20), b"")


def _opened(path: Path) -> Any:
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")
