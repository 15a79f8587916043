"""From a version's row to something that can run: its file on this machine's disk, and the spec the model host takes."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path
from typing import Any

from django.conf import settings

from mlops.core import errors, logs, storage
from mlops.runtime.host import HostError, Limits, ModelHost, ModelSpec, get_host
from registry import signing
from registry.models import Dataset, ModelVersion, VersionStatus
from registry.services import environments, stages, trees

log = logs.get(__name__)
KEEP_S = 7 * 86_400  # an artifact nobody asked for so long is fetched again when needed
KEEP_UPLOAD_S = 86_400  # a temporary file so old has lost its request


def limits(**changes: float) -> Limits:
    """What a model may use, from the settings."""
    values = {
        "load_s": settings.MODEL_LOAD_S,
        "predict_s": settings.MODEL_PREDICT_S,
        "replicas": settings.MODEL_REPLICAS,
        "memory_bytes": settings.MODEL_MEMORY_BYTES,
        **changes,
    }
    return Limits(**values)


def materialise(item: ModelVersion | Dataset) -> Path:
    """The item's file on this machine: read-only, verified when it came, fetched by one process while others wait.

    Raises NotFound when the storage has lost it, Conflict when its hash differs from the recorded one.
    """
    ending = Path(item.filename).suffix.lower()
    name = "model" if isinstance(item, ModelVersion) else "table"
    path = settings.ARTIFACT_DIR / item.sha256 / f"{name}{ending}"
    if not _whole(path, item.size_bytes):
        path.unlink(missing_ok=True)
        storage.fetch_to(item.file_key, item.sha256, path)
    with contextlib.suppress(OSError):
        os.utime(path.parent)  # the cleaner goes by this
    return path


def materialise_form(version: ModelVersion) -> Path:
    """The version's accelerated form on this machine, like its file. Raises NotFound, Conflict."""
    path = settings.ARTIFACT_DIR / version.accelerated_sha256 / "model.onnx"
    if not _whole(path, version.accelerated_bytes or 0):
        path.unlink(missing_ok=True)
        storage.fetch_to(version.accelerated_key, version.accelerated_sha256, path)
    with contextlib.suppress(OSError):
        os.utime(path.parent)
    return path


def unpack(version: ModelVersion, host: ModelHost, key: str, seconds: float) -> trees.Unpacked:
    """The files of the version's archive, taken out for the first time. Raises Invalid, HostError, StorageFull, NotFound, Conflict."""
    return trees.unpack(host, _archive_spec(version, key, seconds), _folder_of(version), seconds)


def materialise_tree(version: ModelVersion) -> Path:
    """The folder with the files of the version's archive on this machine: exactly those that were validated.

    One process unpacks while others wait. Raises NotFound, Conflict, NotReady (the sandbox is not there to unpack it).
    """
    folder = _folder_of(version)
    if not (folder / trees.TREE).is_dir():
        seconds = float(settings.VALIDATION_S)
        spec = _archive_spec(version, f"unpack-{version.sha256[:16]}", seconds)
        try:
            trees.bring_back(get_host(), spec, folder, version.contents["members"], seconds)
        except HostError as error:
            raise errors.NotReady(
                f"The version's files could not be unpacked: {error.detail}",
                code=error.code,
                hint=error.hint,
                retry_after_s=10,
            ) from error
    with contextlib.suppress(OSError):
        os.utime(folder)
    return tree_of(version)


def tree_of(version: ModelVersion) -> Path:
    """Where the files of its archive lie once they are unpacked."""
    return _folder_of(version) / trees.TREE


def _folder_of(version: ModelVersion) -> Path:
    return settings.ARTIFACT_DIR / version.sha256


def _archive_spec(version: ModelVersion, key: str, seconds: float) -> ModelSpec:
    within = limits(load_s=min(settings.MODEL_LOAD_S, seconds))
    return ModelSpec(key, str(materialise(version)), version.sha256, "bundle", limits=within)


def restore(version: ModelVersion) -> None:
    """Everything a runner reads of a version, brought back from the storage. Raises NotFound, Conflict."""
    if version.contents:
        if not trees.intact(_folder_of(version), version.contents["members"]):
            trees.drop(_folder_of(version))
        materialise_tree(version)
    else:
        materialise(version)
    if version.accelerated:
        with contextlib.suppress(errors.NotFound):  # without it the model answers by itself
            materialise_form(version)


def _whole(path: Path, size_bytes: int) -> bool:
    try:
        return path.stat().st_size == size_bytes
    except FileNotFoundError:
        return False


def spec_for(version: ModelVersion) -> ModelSpec:
    """The spec of a ready version: signature verified, file in place. Raises Conflict (not ready, revoked, bad signature), NotFound."""
    if version.status != VersionStatus.READY:
        raise errors.Conflict(
            f"{version} is {version.get_status_display().lower()}, not ready.",
            code="version_not_ready",
            hint="Deploy a version whose validation has passed.",
        )
    stages.refuse_revoked(version)
    signing.verify_version(version)
    form = _form_of(version)
    # A switched version has another key: for the second in which other processes do not know it yet, both forms are there.
    named = form["sha256"] if form else version.sha256
    return made(version, key=f"v-{version.pk}-{named[:12]}", schema=version.schema, accelerated=form)


def made(
    version: ModelVersion,
    *,
    key: str,
    schema: dict[str, Any] | None,
    within: Limits | None = None,
    accelerated: dict[str, Any] | None = None,
) -> ModelSpec:
    """A spec of what this version is, at whatever stage: its file, or the one in its folder, and what it runs with."""
    path, sha256, folder = _place_of(version)
    return ModelSpec(
        key=key,
        path=path,
        sha256=sha256,
        format=version.format,
        schema=schema,
        name=version.model.slug,
        version=version.number,
        limits=within or limits(),
        options=version.options,
        accelerated=accelerated,
        folder=folder,
        environment=environments.spec_of(version),
    )


def _place_of(version: ModelVersion) -> tuple[str, str, dict[str, Any] | None]:
    """(path, sha256, folder) of what a runner opens. Only code may read what lies beside it."""
    contents = version.contents
    if not contents:
        return str(materialise(version)), version.sha256, None
    root = materialise_tree(version)
    hashes = {member["name"]: member["sha256"] for member in contents["members"]}
    name = contents["code"] or contents["model"]
    folder = {"root": str(root), "files": hashes, "model": contents["model"]} if contents["code"] else None
    return str(root / name), hashes[name], folder


def _form_of(version: ModelVersion) -> dict[str, Any] | None:
    """Where the accelerated form lies, when it answers. One that the storage has lost is done without: nothing is wrong with the model."""
    if not version.accelerated:
        return None
    try:
        path = materialise_form(version)
    except errors.NotFound:
        log.warning("accelerated_form_lost", version=version.pk)
        return None
    return {
        "path": str(path),
        "sha256": version.accelerated_sha256,
        "eager": bool((version.acceleration or {}).get("open_both")),
    }


def forget_artifacts() -> dict[str, int]:
    """Remove local copies that nobody asked for in a week (never those of live versions) and temporary files of lost uploads."""
    counts = {"artifacts": 0, "uploads": 0}
    routed = ModelVersion.objects.filter(routes__isnull=False).values_list("sha256", "accelerated_sha256")
    live = {sha256 for row in routed for sha256 in row}
    for folder in _older(settings.ARTIFACT_DIR, KEEP_S):
        if folder.name not in live:
            shutil.rmtree(folder, ignore_errors=True)
            counts["artifacts"] += 1
    for file in _older(Path(settings.FILE_UPLOAD_TEMP_DIR), KEEP_UPLOAD_S):
        file.unlink(missing_ok=True)
        counts["uploads"] += 1
    log.info("files_forgotten", **counts)
    return counts


def _older(folder: Path, seconds: float) -> list[Path]:
    """What nobody has touched for so long; an upload may end while we look."""
    limit, found = time.time() - seconds, []
    for entry in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if entry.stat().st_mtime < limit:
                found.append(entry)
    return found
