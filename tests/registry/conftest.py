"""Registry tests push real files through the API and run the validation in a real sandbox."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as live_settings
from django.core.files.uploadedfile import SimpleUploadedFile

from registry.models import ModelVersion
from tests import tiny_models


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tiny_models.HostileFile]:
    return tiny_models.hostile(tmp_path_factory.mktemp("hostile"))


@pytest.fixture(autouse=True)
def _own_log(own_spool: Any) -> None:
    """What another test has logged is no traffic of this one's deployments, whose numbers may be the same."""


@dataclass
class Push:
    """An answer of the push call and, once its job has run, the version as the API shows it."""

    status: int
    body: dict[str, Any]
    shown: dict[str, Any]

    def finding(self, check: str) -> dict[str, Any]:
        return next(found for found in self.shown["findings"] if found["check"] == check)

    @property
    def error(self) -> dict[str, Any]:
        return next(found for found in self.shown["findings"] if found["level"] == "error")


def named(content: bytes | Path | str, name: str = "") -> io.BytesIO:
    raw = (
        content.read_bytes() if isinstance(content, Path) else content.encode() if isinstance(content, str) else content
    )
    file = io.BytesIO(raw)
    file.name = name or (content.name if isinstance(content, Path) else "file")
    return file


@pytest.fixture
def push(world: Any, jobs_now: Any) -> Callable[..., Push]:
    """``push(path, "iris", reference="a,b\\n1,2")``: as Dan, through the API, validated before it returns."""

    def send(
        file: Any,
        model: str = "iris",
        *,
        filename: str = "",
        who: str = "dan",
        org: str = "acme",
        sample: Any = None,
        reference: Any = None,
        **fields: Any,
    ) -> Push:
        client = world.api(who)
        data: dict[str, Any] = {
            name: json.dumps(value) if isinstance(value, dict) else value for name, value in fields.items()
        }
        data["file"] = named(file, filename)
        if sample is not None:
            data["sample"] = (
                sample
                if hasattr(sample, "read")
                else named(json.dumps(sample) if not isinstance(sample, str) else sample, "sample.json")
            )
        if reference is not None:
            data["reference"] = reference if hasattr(reference, "read") else named(reference, "reference.csv")
        with jobs_now():
            answer = client.post(f"/api/v1/{org}/models/{model}/versions", data, format="multipart")
        shown = {}
        if answer.status_code == 202:
            shown = client.get(f"/api/v1/{org}/models/{model}/versions/{answer.json()['version']}").json()
        return Push(answer.status_code, answer.json(), shown)

    return send


@pytest.fixture
def nothing_left(db: None) -> Any:
    """After the test: no temporary file, and no stored file without a row."""
    yield
    assert list(Path(live_settings.FILE_UPLOAD_TEMP_DIR).iterdir()) == []


@pytest.fixture
def a_model(world: Any) -> Any:
    """A model with one received version: rows only, for tests of rights and rows."""
    from registry.models import RegisteredModel
    from registry.services.projects import default_project

    model = RegisteredModel.objects.create(
        organization=world.acme, project=default_project(world.acme), slug="fraud", name="Fraud", last_number=1
    )
    ModelVersion.objects.create(
        organization=world.acme,
        model=model,
        number=1,
        status="failed",
        file_key="nowhere",
        filename="fraud.joblib",
        sha256="0" * 64,
        size_bytes=3,
    )
    return model


def upload(content: bytes, name: str) -> SimpleUploadedFile:
    return SimpleUploadedFile(name, content)
