"""Each content lies once in an organisation, as long as a row names it, and no longer than that; what is under way is never swept."""

from __future__ import annotations

import hashlib
import io
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import default_storage

from mlops.core import clock, errors, storage
from registry.models import Blob, Dataset, ModelVersion, Upload
from registry.services import blobs, push, sweeping
from tests.registry.conftest import named
from tests.registry.test_tus import CONTENT, Tus

pytestmark = pytest.mark.django_db
GOOD = b"\x80\x04N."
SHA = hashlib.sha256(GOOD).hexdigest()


@pytest.fixture(autouse=True)
def own_files(settings: Any, tmp_path: Path) -> Path:
    """A storage of this test alone."""
    storages = {**settings.STORAGES}
    storages["default"] = {
        **storages["default"],
        "OPTIONS": {"location": str(tmp_path), "file_permissions_mode": 0o600},
    }
    settings.STORAGES = storages
    return tmp_path


def send(world: Any, who: str = "dan", model: str = "iris", file: bytes = GOOD, **fields: Any) -> ModelVersion:
    org = "acme" if who == "dan" else "globex"
    data = {"file": named(file, "m.pkl"), **fields}
    answer = world.api(who).post(f"/api/v1/{org}/models/{model}/versions", data, format="multipart")
    assert answer.status_code == 202, answer.json()
    return ModelVersion.objects.get(organization__slug=org, model__slug=model, number=answer.json()["version"])


def later(monkeypatch: Any, **time: float) -> None:
    real = clock.now
    monkeypatch.setattr(clock, "now", lambda: real() + timedelta(**time))


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_the_same_bytes_lie_there_once(world: Any, own_files: Path) -> None:
    first, second = send(world), send(world, model="other", sample=named(b'[{"a": 1}]', "s.json"))
    assert first.file_key == second.file_key == f"organizations/{world.acme.pk}/blobs/{SHA}"
    assert len(files(own_files)) == 2
    assert Blob.objects.filter(organization=world.acme).count() == 2


def test_two_organisations_share_nothing_so_that_neither_learns_of_the_other(world: Any) -> None:
    ours, theirs = send(world), send(world, "mallory")
    assert ours.file_key != theirs.file_key
    assert (
        Path(default_storage.path(ours.file_key)).stat().st_ino
        != Path(default_storage.path(theirs.file_key)).stat().st_ino
    )


def test_a_content_goes_with_the_last_row_that_names_it(world: Any, monkeypatch: Any) -> None:
    first, second = send(world), send(world, model="other")
    later(monkeypatch, days=2)
    first.delete()
    assert sweeping.sweep()["contents"] == 0
    assert default_storage.exists(second.file_key)
    second.model.delete()
    assert sweeping.sweep()["contents"] == 1
    assert not default_storage.exists(second.file_key)
    assert not Blob.objects.exists()


def test_a_dataset_keeps_its_content_too(world: Any, monkeypatch: Any) -> None:
    version = send(world, sample=named(b'[{"a": 1}]', "s.json"))
    sample = Dataset.objects.get(version=version)
    later(monkeypatch, days=2)
    assert sweeping.sweep() == {"contents": 0, "files": 0, "multiparts": 0}
    sample.delete()
    assert sweeping.sweep()["contents"] == 1
    assert not default_storage.exists(sample.file_key)
    assert default_storage.exists(version.file_key)


def test_what_an_organisation_left_goes_though_its_rows_are_gone(world: Any, own_files: Path, monkeypatch: Any) -> None:
    send(world)
    ours = send(world, "mallory")
    old = own_files / f"organizations/{world.acme.pk}/blobs/{SHA}"
    os.utime(old, (0, 0))
    ModelVersion.objects.filter(organization=world.acme).delete()
    Blob.objects.filter(organization=world.acme).delete()
    assert sweeping.sweep()["files"] == 1
    assert not old.exists()
    assert default_storage.exists(ours.file_key)


def test_files_from_before_there_were_contents_go_on_working_and_are_swept_like_them(
    world: Any, own_files: Path, a_model: Any
) -> None:
    folder = own_files / f"organizations/{world.acme.pk}/models"
    for name in ("named", "lost"):
        (folder / name).mkdir(parents=True)
        (folder / name / "m.pkl").write_bytes(GOOD)
        os.utime(folder / name / "m.pkl", (0, 0))
    key = f"organizations/{world.acme.pk}/models/named/m.pkl"
    ModelVersion.objects.filter(model=a_model).update(file_key=key, sha256=SHA, size_bytes=len(GOOD))
    answer = world.api("dan").get("/api/v1/acme/models/fraud/versions/1/download")
    assert b"".join(answer.streaming_content) == GOOD
    assert sweeping.sweep()["files"] == 1
    assert files(folder) == ["named/m.pkl"]


def test_young_things_are_left_alone(world: Any, own_files: Path) -> None:
    version = send(world)
    version.delete()
    (own_files / f"organizations/{world.acme.pk}/blobs/{'a' * 64}").write_bytes(b"just coming")
    assert sweeping.sweep() == {"contents": 0, "files": 0, "multiparts": 0}
    assert len(files(own_files)) == 2


def test_the_sweeper_never_takes_what_is_being_pushed(world: Any, monkeypatch: Any) -> None:
    """An old content without a row is pushed again just when the sweeper has found it."""
    send(world).model.delete()
    later(monkeypatch, days=2)
    real, seen = blobs.remove_unnamed, []

    def pushed_first(*args: Any, **options: Any) -> bool:
        seen.append(send(world))
        return real(*args, **options)

    monkeypatch.setattr(blobs, "remove_unnamed", pushed_first)
    assert sweeping.sweep()["contents"] == 0
    assert storage.sha256_of(seen[0].file_key) == SHA


def test_nor_between_a_contents_arrival_and_its_rows(world: Any, monkeypatch: Any) -> None:
    send(world).model.delete()
    later(monkeypatch, days=2)
    kept = blobs.keep(world.acme, storage.spool_of(io.BytesIO(GOOD), limit_bytes=100))
    assert sweeping.sweep()["contents"] == 0
    blobs.release(world.acme.pk, [kept.stored.key])
    assert default_storage.exists(kept.stored.key)


def test_a_push_that_fails_takes_back_only_what_nobody_else_counts_on(
    world: Any, monkeypatch: Any, own_files: Path
) -> None:
    version = send(world)

    def broken(*args: Any) -> None:
        raise errors.Conflict("not now")

    monkeypatch.setattr(push.versions, "start_validation", broken)
    for file in (GOOD, b"\x80\x04N.other"):
        answer = world.api("dan").post(
            "/api/v1/acme/models/iris/versions", {"file": named(file, "m.pkl")}, format="multipart"
        )
        assert answer.status_code == 409
    assert default_storage.exists(version.file_key)
    assert len(files(own_files)) == Blob.objects.count() == 1


def test_what_a_disk_has_damaged_is_mended_by_pushing_it_again(world: Any) -> None:
    version = send(world)
    Path(default_storage.path(version.file_key)).write_bytes(b"\0\0\0\0")
    send(world)
    assert storage.sha256_of(version.file_key) == SHA


def test_an_upload_that_is_waited_for_is_not_swept_and_a_lost_one_is(world: Any, own_files: Path) -> None:
    tus = Tus(world)
    tus.patch(tus.url(), CONTENT[:100], 0)
    waiting = Upload.objects.get()
    lost = own_files / waiting.key.replace(str(waiting.pk), "0199c0de-0000-7000-8000-000000000000")
    lost.write_bytes(b"its row is gone")
    for path in (own_files / waiting.key, lost):
        os.utime(path, (0, 0))
    assert sweeping.sweep()["files"] == 1
    assert (own_files / waiting.key).exists()
    assert not lost.exists()
