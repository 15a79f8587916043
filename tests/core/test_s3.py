"""Files on a real S3 server: the whole way of a model, a file that was damaged there, and a server that is away."""

from __future__ import annotations

import hashlib
import io
import socket
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import default_storage

from mlops.core import errors, storage
from registry.models import Dataset, ModelVersion, RegisteredModel
from registry.services import artifacts
from tests.services import s3
from tests.stage import Stage, named

pytestmark = [pytest.mark.s3, pytest.mark.slow, pytest.mark.django_db]


@pytest.fixture(scope="session")
def s3_server() -> Iterator[s3.S3Server]:
    with s3.running() as server:
        yield server


def _storages(settings: Any, server: s3.S3Server, **changes: Any) -> None:
    storages = deepcopy(settings.STORAGES)
    storages["default"] = {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": {**server.options(), **changes}}
    settings.STORAGES = storages


@pytest.fixture
def on_s3(settings: Any, s3_server: s3.S3Server, tmp_path: Path) -> s3.S3Server:
    _storages(settings, s3_server)
    return s3_server


@pytest.fixture
def bucket(on_s3: s3.S3Server) -> Any:
    """The bucket, asked by a client of its own."""
    return on_s3.client()


def _held(bucket: Any, server: s3.S3Server, key: str) -> bytes:
    return bucket.get_object(Bucket=server.bucket, Key=key)["Body"].read()


def _forget_local(version: ModelVersion) -> Path:
    """As on another machine, or after the cleaner: no local copy."""
    path = artifacts.materialise(version)
    path.unlink()
    return path


def test_a_model_lives_on_s3_from_push_to_prediction(on_s3: s3.S3Server, bucket: Any, stage: Stage) -> None:
    """The stage pushed, validated, deployed and predicted with its files there."""
    version, content = stage.version, stage.churn.path.read_bytes()
    assert _held(bucket, on_s3, version.file_key) == content
    reference = Dataset.objects.get(version=version, kind="reference")
    assert hashlib.sha256(_held(bucket, on_s3, reference.file_key)).hexdigest() == reference.sha256
    assert stage.predict(stage.churn.rows)["predictions"] == stage.churn.expected

    answer = stage.api.get(stage.url("models/churn/versions/2/download"))
    assert answer.streaming
    assert b"".join(answer.streaming_content) == content
    assert answer["X-Content-SHA256"] == version.sha256

    path = _forget_local(version)
    assert artifacts.materialise(version) == path
    assert path.read_bytes() == content
    assert path.stat().st_mode & 0o777 == 0o444

    _forget_local(version)
    bucket.put_object(Bucket=on_s3.bucket, Key=version.file_key, Body=content[:-1] + b"x")
    with pytest.raises(errors.Conflict) as refused:
        artifacts.materialise(version)
    assert refused.value.code == "file_corrupt"
    assert not path.exists()

    bucket.delete_object(Bucket=on_s3.bucket, Key=version.file_key)
    lost = stage.api.get(stage.url("models/churn/versions/2/download"))
    assert (lost.status_code, lost.json()["code"]) == (404, "file_missing")


def test_a_server_that_is_away_is_503_and_leaves_nothing(
    world: Any, tiny: dict, settings: Any, s3_server: s3.S3Server
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
    from botocore.config import Config

    quick = Config(
        signature_version="s3v4",
        s3={"addressing_style": "path"},
        connect_timeout=1,
        read_timeout=2,
        retries={"max_attempts": 0},
    )
    _storages(
        settings, s3_server, endpoint_url=nobody, client_config=quick, signature_version=None, addressing_style=None
    )
    source = tiny["iris_joblib"].path
    answer = world.api("dan").post(
        "/api/v1/acme/models/iris/versions", {"file": named(source.read_bytes(), source.name)}, format="multipart"
    )
    assert answer.status_code == 503, answer.content
    assert answer.json()["code"] == "storage_unavailable"
    assert int(answer["Retry-After"]) > 0
    assert not ModelVersion.objects.exists()
    assert not RegisteredModel.objects.exists()
    assert list(Path(settings.FILE_UPLOAD_TEMP_DIR).iterdir()) == []


def test_a_folder_goes_with_everything_below_it(on_s3, bucket) -> None:
    kept = [
        storage.store(io.BytesIO(b"x"), folder=f"batches/{name}", filename="a.part", limit_bytes=9)
        for name in ("7", "7", "8")
    ]
    storage.delete_folder("batches/7")
    assert [default_storage.exists(file.key) for file in kept] == [False, False, True]
    storage.delete_folder("batches/7")  # nothing there is fine
