"""Files: into the storage, out of it to a runner's folder, verified on the way, on disk and on S3."""

from __future__ import annotations

import errno
import io
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from django.core.files.storage import default_storage

from mlops.core import errors, storage
from registry import jobs
from registry.services import artifacts
from tests.registry.conftest import named

CONTENT = b"bytes of a model" * 100_000  # more than one chunk


def stored(content: bytes = CONTENT) -> storage.StoredFile:
    return storage.store(io.BytesIO(content), folder="test", filename="m.pkl", limit_bytes=1 << 24)


def test_a_file_is_stored_once_private_and_whole() -> None:
    file = stored()
    path = Path(default_storage.path(file.key))
    assert path.read_bytes() == CONTENT
    assert path.stat().st_mode & 0o777 == 0o600
    assert storage.sha256_of(file.key) == file.sha256
    storage.delete(file.key)
    storage.delete(file.key)
    with pytest.raises(errors.NotFound, match="not in the storage"):
        storage.sha256_of(file.key)


def test_past_the_limit_nothing_is_kept(settings) -> None:
    with pytest.raises(errors.TooLarge):
        storage.store(io.BytesIO(CONTENT), folder="test", filename="m.pkl", limit_bytes=len(CONTENT) - 1)
    assert list(Path(settings.FILE_UPLOAD_TEMP_DIR).iterdir()) == []


def test_across_disks_it_is_copied(monkeypatch, settings) -> None:
    real = os.replace

    def elsewhere(source, target) -> None:
        if str(source).startswith(settings.FILE_UPLOAD_TEMP_DIR):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        real(source, target)

    monkeypatch.setattr(storage.os, "replace", elsewhere)
    assert Path(default_storage.path(stored().key)).read_bytes() == CONTENT
    assert list(Path(settings.FILE_UPLOAD_TEMP_DIR).iterdir()) == []


def test_a_copy_for_runners_is_read_only_and_shares_the_disk_block(tmp_path) -> None:
    file = stored()
    target = Path(default_storage.location) / "local" / "model.pkl"
    storage.fetch_to(file.key, file.sha256, target)
    assert target.stat().st_mode & 0o777 == 0o444
    assert target.stat().st_ino == os.stat(default_storage.path(file.key)).st_ino


def test_a_changed_file_is_refused_and_leaves_nothing(tmp_path) -> None:
    file = stored()
    Path(default_storage.path(file.key)).write_bytes(b"something else")
    with pytest.raises(errors.Conflict) as caught:
        storage.fetch_to(file.key, file.sha256, tmp_path / "model.pkl")
    assert caught.value.code == "file_corrupt"
    assert "Push the model again" in caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_many_ask_at_once_one_fetches(tmp_path, monkeypatch) -> None:
    file, reads = stored(), []
    real = storage.open_stream
    monkeypatch.setattr(storage, "open_stream", lambda key: reads.append(key) or real(key))
    target = tmp_path / "a" / "model.pkl"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: storage.fetch_to(file.key, file.sha256, target), range(8)))
    assert target.read_bytes() == CONTENT
    assert len(reads) == 1


def test_a_file_that_goes_while_they_are_looked_through_stops_nobody(tmp_path):
    old = tmp_path / "old"
    old.touch()
    os.utime(old, (0, 0))
    (tmp_path / "gone").symlink_to("nowhere")  # listed, and not there when it is asked for
    assert artifacts._older(tmp_path, 60) == [old]


@pytest.mark.django_db
def test_old_copies_are_forgotten_but_not_those_of_live_versions(world, a_model, settings, tmp_path) -> None:
    from serving.models import Deployment, Route

    settings.ARTIFACT_DIR, settings.FILE_UPLOAD_TEMP_DIR = tmp_path / "artifacts", str(tmp_path / "uploads")
    version = a_model.versions.get()
    old, fresh, live = (settings.ARTIFACT_DIR / name for name in ("a" * 64, "b" * 64, version.sha256))
    for folder in (old, fresh, live):
        folder.mkdir(parents=True)
        (folder / "model.pkl").write_bytes(b"x")
    lost = tmp_path / "uploads" / "upload-lost"
    lost.parent.mkdir()
    lost.write_bytes(b"x")
    week_ago = time.time() - 8 * 86_400
    for path in (old, live, lost):
        os.utime(path, (week_ago, week_ago))
    deployment = Deployment.objects.create(organization=world.acme, name="fraud", model=a_model, status="live")
    Route.objects.create(deployment=deployment, version=version)
    jobs.forget_artifacts()
    assert [path.exists() for path in (old, fresh, live, lost)] == [False, True, True, False]


@pytest.mark.django_db
@pytest.mark.usefixtures("runner_host")
def test_a_lost_local_copy_is_fetched_again(push, tiny, settings) -> None:
    from registry.models import ModelVersion

    push(tiny["iris_joblib"].path)
    version = ModelVersion.objects.get()
    path = Path(artifacts.spec_for(version).path)
    path.unlink()
    path.write_bytes(b"cut short")
    assert Path(artifacts.spec_for(version).path).read_bytes() == tiny["iris_joblib"].path.read_bytes()


# -- S3 -----------------------------------------------------------------------------------------------------------------
@pytest.fixture
def s3(settings):
    from tests.services import s3 as service

    with service.running() as server:
        settings.STORAGES = {
            **settings.STORAGES,
            "default": {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": server.options()},
        }
        yield server


@pytest.mark.s3
@pytest.mark.slow
@pytest.mark.django_db
@pytest.mark.usefixtures("runner_host")
def test_a_model_on_s3_is_pushed_validated_downloaded_and_lost_gracefully(s3, push, tiny, world, settings) -> None:
    model = tiny["iris_skops"]
    pushed = push(
        model.path,
        "iris",
        reference="sepal_length,sepal_width,petal_length,petal_width\n5.1,3.5,1.4,0.2\n6.2,2.9,4.3,1.3\n",
    )
    assert pushed.shown["status"] == "ready", pushed.shown["findings"]
    answer = world.api("dan").get("/api/v1/acme/models/iris/versions/1/download")
    assert b"".join(answer.streaming_content) == model.path.read_bytes()
    assert list(Path(settings.FILE_UPLOAD_TEMP_DIR).iterdir()) == []
    away = {**s3.options(), "endpoint_url": "http://127.0.0.1:9"}
    settings.STORAGES = {**settings.STORAGES, "default": {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": away}}
    refused = world.api("dan").post(
        "/api/v1/acme/models/iris/versions", {"file": named(model.path)}, format="multipart"
    )
    assert (refused.status_code, refused.json()["code"]) == (503, "storage_unavailable")
    assert list(Path(settings.FILE_UPLOAD_TEMP_DIR).iterdir()) == []
