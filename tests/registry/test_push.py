"""What a push refuses, and that nothing of a refused push is kept."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings as live_settings
from django.core.files.storage import default_storage

from mlops.core import storage
from mlops.jobs.models import Job
from registry import uploads
from registry.models import Dataset, ModelVersion, RegisteredModel
from tests.registry.conftest import named

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("nothing_left")]
URL = "/api/v1/acme/models/iris/versions"
GOOD = b"\x80\x04N."  # a pickle of None: enough to be stored


@pytest.fixture(autouse=True)
def _no_queue(monkeypatch) -> None:
    from mlops.jobs import queue

    monkeypatch.setattr(queue, "send", lambda job_id: None)


@pytest.fixture
def stored_files() -> list[str]:
    folder = Path(default_storage.path("organizations"))
    return sorted(str(path) for path in folder.rglob("*") if path.is_file()) if folder.exists() else []


def send(world, who="dan", url=URL, file=GOOD, name="m.pkl", **fields):
    data = {**fields}
    if file is not None:
        data["file"] = named(file, name)
    return world.api(who).post(url, data, format="multipart")


def refused(answer, status: int, code: str, sentence: str, hint: str) -> dict:
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code), problem
    assert answer["Content-Type"] == "application/problem+json"
    assert sentence in problem["detail"]
    assert hint in problem["hint"]
    assert problem["request_id"]
    assert not ModelVersion.objects.exists()
    assert not RegisteredModel.objects.exists()
    assert not Job.objects.exists()
    return problem


def test_a_good_push_is_stored_with_its_hash_and_numbered(world, django_capture_on_commit_callbacks) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        answers = [send(world, file=GOOD + bytes([number])) for number in range(3)]
    assert [answer.status_code for answer in answers] == [202, 202, 202]
    assert [answer.json()["version"] for answer in answers] == [1, 2, 3]
    assert answers[0].headers["Location"] == "/api/v1/acme/models/iris/versions/1"
    for version in ModelVersion.objects.all():
        assert storage.sha256_of(version.file_key) == version.sha256
        assert version.size_bytes == 5
    assert ModelVersion.objects.first().created_by == world.dan
    assert Job.objects.filter(kind="validate_version").count() == 3


def test_without_a_file(world) -> None:
    refused(send(world, file=None, metadata="{}"), 422, "file_missing", "no model file", "curl -F file=@model.joblib")


def test_an_empty_file(world) -> None:
    problem = refused(send(world, file=b""), 422, "empty_file", "empty (0 bytes)", "push the whole file")
    assert "file" in problem["errors"]


@pytest.mark.parametrize("name", ["model.exe", "model", "model.h5", "model.joblib.rar"])
def test_an_unknown_ending(world, name) -> None:
    refused(send(world, name=name), 422, "unknown_format", "not a format Slipway reads", ".onnx")


def test_a_wrong_content_type(world) -> None:
    answer = world.api("dan").post(URL, {"file": "abc"}, format="json")
    refused(answer, 415, "unsupported_media_type", "not application/json", "curl -F file=@model.joblib")


def test_a_broken_multipart_body(world) -> None:
    answer = world.api("dan").post(URL, b"nothing of that kind", content_type="multipart/form-data")
    refused(answer, 400, "malformed_multipart", "multipart body is broken", "HTTP library")


def test_past_the_limit_while_reading(world, settings) -> None:
    settings.UPLOAD_LIMIT_BYTES = 1000
    refused(send(world, file=b"x" * 1001), 413, "too_large", "The model file is larger than 1 kB", "administrator")
    assert send(world, file=b"x" * 1000).status_code == 202


def test_past_the_limit_by_content_length_before_a_byte_is_read(world, settings) -> None:
    settings.UPLOAD_LIMIT_BYTES = settings.DATASET_LIMIT_BYTES = 1
    client = world.api("dan")
    answer = client.generic(
        "POST", URL, b"", content_type="multipart/form-data; boundary=x", CONTENT_LENGTH=str(1 << 40)
    )
    refused(answer, 413, "too_large", "The upload is larger than 1 bytes", "administrator")


def test_the_limit_of_data_is_its_own(world, settings) -> None:
    settings.DATASET_LIMIT_BYTES = 10
    refused(
        send(world, reference=named(b"a,b\n1,2\n3,4\n", "r.csv")),
        413,
        "too_large",
        "The reference is larger",
        "administrator",
    )


@pytest.mark.parametrize(
    ("metadata", "sentence"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ('{"color": 1}', "unknown keys: color"),
        ('{"metrics": {"auc": "high"}}', "The metric 'auc'"),
        ('{"metrics": {"auc": NaN}}', "NaN"),
        ('{"tags": 7}', '"tags"'),
        ('{"description": 7}', '"description"'),
        ('{"description": "' + "x" * 10_001 + '"}', "10,000 characters"),
    ],
)
def test_bad_metadata(world, metadata, sentence) -> None:
    refused(send(world, metadata=metadata), 422, "bad_metadata", sentence, "")


def test_a_bad_schema_names_the_column(world) -> None:
    answer = send(world, metadata=json.dumps({"schema": {"inputs": [{"name": "age", "type": "wide"}]}}))
    problem = refused(answer, 422, "invalid_schema", "'age'", '{"name": "age"')
    assert problem["errors"][0]["column"] == "age"


@pytest.mark.parametrize("model", ["Fraud", "a_b", "-a", "x" * 64, "ä"])
def test_a_bad_model_name(world, model) -> None:
    refused(send(world, url=f"/api/v1/acme/models/{model}/versions"), 422, "bad_name", "1 to 63 lower-case letters", "")


def test_a_bad_deployment_name(world) -> None:
    refused(send(world, deploy="Not good!"), 422, "bad_name", "The deployment name", "'not-good' would do.")


def test_an_unknown_project(world) -> None:
    refused(
        send(world, metadata='{"project": "nowhere"}'), 422, "unknown_project", "no project 'nowhere'", "Make it first"
    )


def test_data_that_is_no_table(world) -> None:
    refused(
        send(world, reference=named(b"\x00\x01\x02", "r.csv")),
        422,
        "unknown_table_format",
        "The reference: The file is not CSV",
        "CSV",
    )
    assert not Dataset.objects.exists()


def test_an_unknown_file_field(world) -> None:
    refused(send(world, other=named(GOOD, "m.pkl")), 400, "unknown_field", "'other'", "file, sample, reference")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("../../etc/passwd.pkl", "passwd.pkl"),
        ("..\\..\\windows\\evil.pkl", "evil.pkl"),
        ("/etc/cron.d/evil.pkl", "evil.pkl"),
        (".hidden.pkl", "hidden.pkl"),
        ("a b\"c;d'.pkl", "a_b_c_d.pkl"),
        ("x" * 300 + ".pkl", "x" * 96 + ".pkl"),
        ("模型.pkl", "file.pkl"),
    ],
)
def test_a_file_name_cannot_leave_its_folder(world, given, kept) -> None:
    body = (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="'
        + given.replace('"', "%22").encode()
        + b'"\r\n\r\n'
        + GOOD
        + b"\r\n--x--\r\n"
    )
    answer = world.api("dan").generic("POST", URL, body, content_type="multipart/form-data; boundary=x")
    assert answer.status_code == 202, answer.json()
    version = ModelVersion.objects.get()
    assert uploads.safe_name(given) == kept
    assert "/" not in version.filename
    assert (
        Path(default_storage.path(version.file_key)).resolve().is_relative_to(Path(default_storage.location).resolve())
    )


# -- who may ------------------------------------------------------------------------------------------------------------
def test_a_viewer_may_not_push(world) -> None:
    refused(send(world, who="vic"), 403, "role_too_low", "developer", "Make a key with that role")


def test_a_key_without_the_scope_may_not_push(world) -> None:
    answer = world.api("dan", scopes=["read"]).post(URL, {"file": named(GOOD, "m.pkl")}, format="multipart")
    refused(answer, 403, "scope_missing", "'write'", "scope")


def test_a_stranger_sees_no_such_organisation(world) -> None:
    refused(send(world, who="mallory"), 404, "not_found", "no organisation 'acme'", "")
    refused(send(world, url="/api/v1/nowhere/models/iris/versions"), 404, "not_found", "no organisation 'nowhere'", "")


def test_nobody_is_asked_to_sign_in(world, client) -> None:
    answer = client.post(URL, {"file": named(GOOD, "m.pkl")})
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")


# -- trouble ------------------------------------------------------------------------------------------------------------
def test_a_full_disk_while_receiving(world, monkeypatch, stored_files) -> None:
    def full(*args, **kwargs) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(storage.os, "fsync", full)
    refused(send(world), 507, "storage_full", "disk is full", "nothing of this upload was kept")


def test_a_full_disk_while_storing_takes_the_first_files_out_again(world, monkeypatch, stored_files) -> None:
    real, moved = storage._move, []

    def second_fails(source, target) -> None:
        moved.append(target)
        if len(moved) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(source, target)

    monkeypatch.setattr(storage, "_move", second_fails)
    refused(send(world, sample=named(b'[{"a": 1}]', "s.json")), 507, "storage_full", "disk is full", "")
    assert not any(path.exists() for path in moved)


def test_a_storage_that_is_away(world, settings, tmp_path) -> None:
    settings.FILE_UPLOAD_TEMP_DIR = str(tmp_path / "gone")
    answer = send(world)
    settings.FILE_UPLOAD_TEMP_DIR = live_settings.FILE_UPLOAD_TEMP_DIR
    (tmp_path / "gone").mkdir()
    refused(answer, 503, "storage_unavailable", "storage does not answer", "Try again")
    assert answer.headers["Retry-After"]


def test_rows_that_cannot_be_written_leave_no_file(world, monkeypatch) -> None:
    from registry.services import blobs, versions

    kept = []
    monkeypatch.setattr(blobs, "keep", lambda *a, real=blobs.keep, **k: kept.append(real(*a, **k)) or kept[-1])

    def broken(*args) -> None:
        raise RuntimeError("the database went away")

    monkeypatch.setattr(versions, "start_validation", broken)
    client = world.api("dan")
    client.raise_request_exception = False
    assert client.post(URL, {"file": named(GOOD, "m.pkl")}, format="multipart").status_code == 500
    assert len(kept) == 1
    assert not default_storage.exists(kept[0].stored.key)
    assert not RegisteredModel.objects.exists()


def test_an_archived_model_takes_no_push(world, a_model) -> None:
    world.api("dan").post("/api/v1/acme/models/fraud/archive")
    answer = send(world, url="/api/v1/acme/models/fraud/versions")
    assert (answer.status_code, answer.json()["code"]) == (409, "model_archived")
    assert "Restore it first" in answer.json()["hint"]


def test_an_idempotency_key_pushes_once(world) -> None:
    client = world.api("dan")
    answers = [
        client.post(URL, {"file": named(GOOD, "m.pkl")}, format="multipart", HTTP_IDEMPOTENCY_KEY="once")
        for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json() == answers[1].json()
    assert ModelVersion.objects.count() == 1


_STREAM = """
import os, resource, sys, tempfile
os.environ["SLIPWAY_VAR"] = tempfile.mkdtemp(dir=sys.argv[1])
import django; os.environ["DJANGO_SETTINGS_MODULE"] = "mlops.settings"; django.setup()
from django.core.handlers.wsgi import WSGIRequest
from registry import uploads
class Body:
    head = b'--x\\r\\nContent-Disposition: form-data; name="file"; filename="m.pkl"\\r\\n\\r\\n'
    left = 200 << 20
    tail = b'\\r\\n--x--\\r\\n'
    readline = None
    def read(self, size=-1):
        if self.head: out, self.head = self.head, b''; return out
        if self.left: out = b'a' * min(size, self.left); self.left -= len(out); return out
        out, self.tail = self.tail, b''; return out
body = Body(); length = len(body.head) + body.left + len(body.tail)
request = WSGIRequest({"REQUEST_METHOD": "POST", "PATH_INFO": "/", "CONTENT_TYPE": "multipart/form-data; boundary=x", "CONTENT_LENGTH": str(length), "wsgi.input": body})
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with uploads.received(request):
    assert request.FILES["file"].size == 200 << 20
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_large_file_is_never_held_in_memory(world) -> None:
    """Streamed in 1 MiB pieces: 200 MB raise this process's memory by less than 40 MB."""
    grown = subprocess.run(
        [sys.executable, "-c", _STREAM, live_settings.FILE_UPLOAD_TEMP_DIR + "/.."],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(grown.stdout) < 40 << 10
