"""Uploads in pieces on a real S3 server: parts as they fill, the rest in an object of its own, any machine may go on; what is left is swept."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from copy import deepcopy
from datetime import timedelta
from typing import Any

import pytest
from django.core.files.storage import default_storage

from mlops.core import clock, partial, s3, storage
from registry.models import Blob, ModelVersion, Upload
from registry.services import sweeping, uploads
from tests.registry.test_tus import PUSH, TUS, Stops, Tus, b64
from tests.services import s3 as service

pytestmark = [pytest.mark.s3, pytest.mark.slow, pytest.mark.django_db]
PART = 5 << 20  # the least S3 takes
CONTENT = os.urandom(2 * PART + 1234)


@pytest.fixture(scope="module")
def server() -> Iterator[service.S3Server]:
    with service.running() as running:
        yield running


@pytest.fixture(autouse=True)
def on_s3(settings: Any, server: service.S3Server, monkeypatch: Any) -> None:
    storages = deepcopy(settings.STORAGES)
    storages["default"] = {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": server.options()}
    settings.STORAGES = storages
    monkeypatch.setattr(partial, "PART_BYTES", PART)


def keys() -> list[str]:
    return sorted(key for key, _ in s3.objects("organizations/"))


def test_pieces_of_any_size_become_one_object_and_then_a_version(
    world: Any, django_capture_on_commit_callbacks: Any, monkeypatch: Any
) -> None:
    tus = Tus(world)
    url, at = tus.url(length=len(CONTENT)), 0
    for size in (1000, PART - 1000, 3, 100, PART, len(CONTENT)):
        answer = tus.patch(url, CONTENT[at : at + size], at)
        at = min(at + size, len(CONTENT))
        assert (answer.status_code, answer["Upload-Offset"]) == (204, str(at))
    upload = Upload.objects.get()
    assert upload.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert keys() == [upload.key]
    with django_capture_on_commit_callbacks(execute=True):
        assert tus.api.post(PUSH, {"upload": url}, format="multipart").status_code == 202
    version = ModelVersion.objects.get()
    assert keys() == [version.file_key] == [upload.key]  # nothing was copied
    assert storage.sha256_of(version.file_key) == version.sha256 == hashlib.sha256(CONTENT).hexdigest()

    again = tus.whole(CONTENT)
    with django_capture_on_commit_callbacks(execute=True):
        assert tus.api.post(PUSH, {"upload": again}, format="multipart").status_code == 202
    assert keys() == [version.file_key]
    later = clock.now() + timedelta(days=3)
    monkeypatch.setattr(clock, "now", lambda: later)
    assert sweeping.forget_uploads() == 2
    assert sweeping.sweep() == {"contents": 0, "files": 0, "multiparts": 0}
    assert keys() == [version.file_key]
    ModelVersion.objects.all().delete()
    assert sweeping.sweep()["contents"] == 1
    assert keys() == []


def test_a_push_that_fails_leaves_the_upload_where_it_is(world: Any) -> None:
    tus = Tus(world)
    url = tus.whole(CONTENT[:1000])
    sample = tus.whole(b"\x00\x01", name="s.json", purpose="sample")
    assert tus.api.post(PUSH, {"upload": url, "sample_upload": sample}, format="multipart").status_code == 422
    world.api("dan").post("/api/v1/acme/models", {"model": "shelved"}, format="json")
    world.api("dan").post("/api/v1/acme/models/shelved/archive")
    answer = tus.api.post("/api/v1/acme/models/shelved/versions", {"upload": url}, format="multipart")
    assert answer.json()["code"] == "model_archived"
    assert not Blob.objects.exists()
    assert tus.api.post(PUSH, {"upload": url}, format="multipart").status_code == 202
    version = ModelVersion.objects.get()
    assert storage.sha256_of(version.file_key) == version.sha256 == hashlib.sha256(CONTENT[:1000]).hexdigest()
    for key in keys():
        default_storage.delete(key)


def test_a_killed_server_loses_no_part_and_what_it_was_told_twice_is_right(world: Any) -> None:
    tus = Tus(world)
    url = tus.url(length=len(CONTENT))
    tus.patch(url, CONTENT[:700], 0)  # a tail
    upload = Upload.objects.get()
    sent = iter([CONTENT[700:PART], CONTENT[PART : PART + 999]])

    def source(count: int) -> bytes:
        chunk = next(sent, None)
        if chunk is None:
            raise Stops
        assert len(chunk) <= PART
        return chunk

    with pytest.raises(Stops):
        uploads.append(upload, source, offset=700, size=len(CONTENT) - 700)
    assert tus.head(url)["Upload-Offset"] == str(PART)
    digest = b64(hashlib.sha256(b"another").digest())
    wrong = tus.patch(url, os.urandom(PART), PART, **{"Upload-Checksum": f"sha256 {digest}"})
    assert wrong.status_code == 460
    assert tus.head(url)["Upload-Offset"] == str(PART)
    assert tus.patch(url, CONTENT[PART:], PART).status_code == 204
    upload.refresh_from_db()
    assert storage.sha256_of(upload.key) == upload.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert tus.api.delete(url, headers=TUS).status_code == 204
    assert keys() == []


def test_a_server_that_dies_while_it_ends_an_upload_ends_it_later(world: Any, monkeypatch: Any) -> None:
    tus = Tus(world)
    url = tus.url(length=len(CONTENT))
    real = partial.end

    def dies(*args: Any) -> None:
        real(*args)
        raise Stops

    monkeypatch.setattr(partial, "end", dies)
    with pytest.raises(Stops):
        tus.patch(url, CONTENT, 0)
    monkeypatch.setattr(partial, "end", real)
    assert Upload.objects.get().sha256 == ""
    assert tus.api.post(PUSH, {"upload": url}, format="multipart").status_code == 202
    version = ModelVersion.objects.get()
    assert storage.sha256_of(version.file_key) == version.sha256 == hashlib.sha256(CONTENT).hexdigest()
    for key in keys():
        default_storage.delete(key)


def test_half_uploads_and_lost_parts_are_swept(world: Any, monkeypatch: Any) -> None:
    tus = Tus(world)
    tus.patch(tus.url(length=len(CONTENT)), CONTENT[: PART + 10], 0)
    upload = Upload.objects.get()
    s3.begin_multipart("organizations/1/blobs/lost")
    real = clock.now
    monkeypatch.setattr(clock, "now", lambda: real() + timedelta(days=3))
    assert sweeping.sweep() == {"contents": 0, "files": 0, "multiparts": 1}  # the upload's row still stands
    assert keys() == [partial.tail_key(upload.key)]
    assert sweeping.forget_uploads() == 1
    assert keys() == []
    assert list(s3.multiparts("organizations/")) == []
