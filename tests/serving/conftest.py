"""Serving's tests run real models in a real runner host; ``ready_version`` makes the rows that validation would have made."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

from mlops.core import clock
from registry import signing
from registry.models import ModelVersion, Project, RegisteredModel
from serving import prediction_log, spool
from tests.serving.server import LocalServer


@pytest.fixture(autouse=True)
def own_spool(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Each test has a spool of its own."""
    settings.SPOOL_DIR = tmp_path / "spool"
    writer = spool.Writer(settings.SPOOL_DIR, settings.SPOOL_LIMIT_BYTES)
    monkeypatch.setattr(prediction_log, "_writer", writer)
    yield settings.SPOOL_DIR
    writer.close()


@pytest.fixture
def ready_version(runner_host: Any, tiny: dict) -> Callable[..., ModelVersion]:
    """``ready_version(organization, "iris_joblib", model="iris")``: the next ready version, its file stored and signed."""

    def make(organization: Any, name: Any = "iris_joblib", *, model: str = "iris", **fields: Any) -> ModelVersion:
        source = (
            tiny[name] if isinstance(name, str) else name
        )  # a HostileFile has the same attributes, as far as needed
        content = source.path.read_bytes()
        project, _ = Project.objects.get_or_create(
            organization=organization, slug="default", defaults={"name": "Default"}
        )
        row, _ = RegisteredModel.objects.get_or_create(
            organization=organization, slug=model, defaults={"name": model, "project": project}
        )
        row.last_number += 1
        row.save()
        version = ModelVersion(
            organization=organization,
            model=row,
            number=row.last_number,
            file_key=default_storage.save(f"test/{source.path.name}", ContentFile(content)),
            filename=source.path.name,
            sha256=hashlib.sha256(content).hexdigest(),
            size_bytes=len(content),
            format=source.format,
            framework=source.format,
            schema=getattr(source, "schema", None),
            example=source.rows[:1],
            status="received",
        )
        for field, value in fields.items():
            setattr(version, field, value)
        version.save()
        version.refresh_from_db()
        version.signature = signing.sign_version(version)
        version.status, version.ready_at = "ready", clock.now()
        version.save()
        return version

    return make


@pytest.fixture(scope="module")
def local_slipway(tiny: dict, runner_host: Any) -> Iterator[LocalServer]:
    """A Slipway in processes of its own, with a SQLite file of its own; web is started by who needs it."""
    with LocalServer(tiny["iris_joblib"], runner_host.socket_path) as server:
        yield server
