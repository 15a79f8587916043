"""Uploads in pieces, through the API's door: what tus promises, what it refuses, and that a push may use what came."""

from __future__ import annotations

import base64
import hashlib
import io
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as live_settings
from django.core.files.storage import default_storage

from mlops.core import clock, hashing, partial, storage
from registry.models import ModelVersion, Upload
from registry.services import sweeping, uploads

pytestmark = pytest.mark.django_db
LIST = "/api/v1/acme/uploads"
PUSH = "/api/v1/acme/models/iris/versions"
TUS = {"Tus-Resumable": "1.0.0"}
BYTES = "application/offset+octet-stream"
CONTENT = bytes(range(256)) * 400  # 102,400 bytes


def b64(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


class Tus:
    """A client that speaks the protocol by hand, so that every header can be wrong."""

    def __init__(self, world: Any, who: str = "dan") -> None:
        self.api = world.api(who)

    def create(self, length: int | str = len(CONTENT), name: str = "m.pkl", purpose: str = "", **headers: str) -> Any:
        metadata = f"filename {b64(name)}" + (f",purpose {b64(purpose)}" if purpose else "")
        every = {**TUS, "Upload-Length": str(length), "Upload-Metadata": metadata, **headers}
        return self.api.post(LIST, headers=every)

    def url(self, **options: Any) -> str:
        answer = self.create(**options)
        assert answer.status_code == 201, answer.content
        return answer["Location"]

    def patch(self, url: str, content: bytes, offset: int, kind: str = BYTES, **headers: str) -> Any:
        every = {**TUS, "Upload-Offset": str(offset), **headers}
        return self.api.generic("PATCH", url, content, content_type=kind, headers=every)

    def cut(self, url: str, content: bytes, offset: int, announced: int, **headers: str) -> Any:
        """A PATCH whose connection breaks after ``content``."""
        every = {**TUS, "Upload-Offset": str(offset), "Content-Length": str(announced), **headers}
        body = {"wsgi.input": io.BytesIO(content)}
        return self.api.generic("PATCH", url, b"", content_type=BYTES, headers=every, **body)

    def head(self, url: str) -> Any:
        return self.api.head(url, headers=TUS)

    def whole(self, content: bytes = CONTENT, **options: Any) -> str:
        url = self.url(length=len(content), **options)
        assert self.patch(url, content, 0).status_code == 204
        return url


@pytest.fixture
def tus(world: Any) -> Tus:
    return Tus(world)


def refused(answer: Any, status: int, code: str) -> dict[str, Any]:
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code), problem
    assert problem["hint"]
    assert answer["Tus-Resumable"] == "1.0.0"
    return problem


def row(url: str) -> Upload:
    return Upload.objects.get(pk=url.rsplit("/", 1)[1])


# -- the protocol -------------------------------------------------------------------------------------------------------
def test_a_client_can_ask_what_the_server_can_do(tus: Tus) -> None:
    answer = tus.api.options(LIST)
    assert answer.status_code == 204
    assert answer["Tus-Version"] == answer["Tus-Resumable"] == "1.0.0"
    assert answer["Tus-Extension"] == "creation,creation-with-upload,expiration,checksum,termination"
    assert int(answer["Tus-Max-Size"]) == live_settings.UPLOAD_LIMIT_BYTES
    assert answer["Tus-Checksum-Algorithm"] == "sha256,sha1"


def test_a_file_comes_in_pieces_and_its_hash_is_known_without_reading_it_again(tus: Tus, monkeypatch) -> None:
    monkeypatch.setattr(storage, "sha256_of", lambda key: pytest.fail("read again"))
    made = tus.create()
    assert made.status_code == 201
    assert (made["Upload-Offset"], made["Tus-Resumable"]) == ("0", "1.0.0")
    assert made["Upload-Expires"].endswith("GMT")
    url, at = made["Location"], 0
    for size in (1, 99, 50_000, 0, len(CONTENT)):
        answer = tus.patch(url, CONTENT[at : at + size], at)
        at = min(at + size, len(CONTENT))
        assert (answer.status_code, answer["Upload-Offset"]) == (204, str(at))
        told = tus.head(url)
        assert (told["Upload-Offset"], told["Upload-Length"]) == (str(at), str(len(CONTENT)))
        assert told["Cache-Control"] == "no-store"
    shown = tus.api.get(url).json()
    assert shown["whole"] is True
    assert shown["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert (shown["filename"], shown["purpose"]) == ("m.pkl", "file")


def test_the_hash_is_right_where_it_cannot_be_put_down(tus: Tus, monkeypatch) -> None:
    monkeypatch.setattr(hashing, "AVAILABLE", False)
    url = tus.url()
    tus.patch(url, CONTENT[:70], 0)
    tus.patch(url, CONTENT[70:], 70)
    assert row(url).sha256 == hashlib.sha256(CONTENT).hexdigest()


def test_the_first_bytes_may_come_with_the_creation(tus: Tus) -> None:
    headers = {**TUS, "Upload-Length": str(len(CONTENT)), "Upload-Metadata": f"filename {b64('m.pkl')}"}
    made = tus.api.generic("POST", LIST, CONTENT[:100], content_type=BYTES, headers=headers)
    assert (made.status_code, made["Upload-Offset"]) == (201, "100")
    assert tus.patch(made["Location"], CONTENT[100:], 100)["Upload-Offset"] == str(len(CONTENT))


def test_a_creation_whose_first_bytes_are_refused_reserves_nothing_for_nobody_knows_where_it_is(tus: Tus) -> None:
    headers = {**TUS, "Upload-Length": str(len(CONTENT)), "Upload-Metadata": f"filename {b64('m.pkl')}"}
    wrong = {**headers, "Upload-Checksum": f"sha256 {b64(bytes(32))}"}
    refused(tus.api.generic("POST", LIST, CONTENT[:100], content_type=BYTES, headers=wrong), 460, "checksum_mismatch")
    broken = {**headers, "Content-Length": "500"}
    body = {"wsgi.input": io.BytesIO(CONTENT[:100])}
    refused(tus.api.generic("POST", LIST, b"", content_type=BYTES, headers=broken, **body), 400, "upload_incomplete")
    assert not Upload.objects.exists()
    assert tus.api.get("/api/v1/acme/storage").json()["reserved_bytes"] == 0


@pytest.mark.parametrize("algorithm", ["sha256", "sha1"])
def test_a_checksum_is_judged_and_of_a_wrong_piece_nothing_is_kept(tus: Tus, algorithm: str) -> None:
    url = tus.url()
    digest = b64(hashlib.new(algorithm, CONTENT[:500]).digest())
    assert tus.patch(url, CONTENT[:500], 0, **{"Upload-Checksum": f"{algorithm} {digest}"}).status_code == 204
    wrong = tus.patch(url, CONTENT[500:900], 500, **{"Upload-Checksum": f"{algorithm} {digest}"})
    refused(wrong, 460, "checksum_mismatch")
    assert tus.head(url)["Upload-Offset"] == "500"
    assert storage.local(row(url).key).stat().st_size == 500
    tus.patch(url, CONTENT[500:], 500)
    assert row(url).sha256 == hashlib.sha256(CONTENT).hexdigest()


@pytest.mark.parametrize("header", ["md5 abc", "sha256", "sha256 !!!", f"sha256 {b64(b'short')}"])
def test_a_checksum_that_cannot_be_used(tus: Tus, header: str) -> None:
    url = tus.url()
    refused(tus.patch(url, b"x", 0, **{"Upload-Checksum": header}), 400, "bad_checksum")
    assert tus.head(url)["Upload-Offset"] == "0"


def test_an_upload_ends_when_its_client_says_so(tus: Tus) -> None:
    url = tus.url()
    tus.patch(url, CONTENT[:100], 0)
    path = storage.local(row(url).key)
    assert path.exists()
    assert tus.api.delete(url, headers=TUS).status_code == 204
    assert not path.exists()
    refused(tus.patch(url, b"x", 100), 404, "not_found")


def test_a_client_behind_an_old_proxy_posts_what_it_means(tus: Tus) -> None:
    url = tus.url()
    every = {**TUS, "Upload-Offset": "0", "X-HTTP-Method-Override": "PATCH"}
    answer = tus.api.generic("POST", url, CONTENT, content_type=BYTES, headers=every)
    assert (answer.status_code, answer["Upload-Offset"]) == (204, str(len(CONTENT)))
    assert tus.api.generic("POST", url, b"", content_type=BYTES, headers=TUS).status_code == 405


# -- refusals -----------------------------------------------------------------------------------------------------------
def test_another_offset_is_told_the_right_one(tus: Tus) -> None:
    url = tus.url()
    tus.patch(url, CONTENT[:100], 0)
    for offset in (0, 99, 101):
        answer = tus.patch(url, CONTENT[offset:], offset)
        refused(answer, 409, "wrong_offset")
        assert answer["Upload-Offset"] == "100"


def test_who_is_refused_while_still_sending_gets_to_read_why(tus: Tus) -> None:
    url = tus.url()
    every = {**TUS, "Upload-Offset": "7", "Content-Length": str(len(CONTENT))}
    body = io.BytesIO(CONTENT)
    answer = tus.api.generic("PATCH", url, b"", content_type=BYTES, headers=every, **{"wsgi.input": body})
    refused(answer, 409, "wrong_offset")
    assert body.tell() == len(CONTENT)
    assert tus.head(url)["Upload-Offset"] == "0"


def test_bytes_of_another_type(tus: Tus) -> None:
    refused(tus.patch(tus.url(), b"x", 0, kind="application/octet-stream"), 415, "unsupported_media_type")


def test_more_bytes_than_announced(tus: Tus) -> None:
    url = tus.url(length=10)
    refused(tus.patch(url, b"x" * 11, 0), 413, "over_length")
    assert tus.head(url)["Upload-Offset"] == "0"


def test_another_version_of_the_protocol(tus: Tus) -> None:
    url = tus.url()
    answer = tus.patch(url, b"x", 0, **{"Tus-Resumable": "0.2.2"})
    refused(answer, 412, "tus_version")
    assert answer["Tus-Version"] == "1.0.0"


def test_an_upload_nobody_began(tus: Tus) -> None:
    refused(tus.patch(f"{LIST}/0199c0de-0000-7000-8000-000000000000", b"x", 0), 404, "not_found")


@pytest.mark.parametrize("length", ["", "-1", "1e3", "9" * 30])
def test_a_length_that_is_none(tus: Tus, length: str) -> None:
    refused(tus.create(length=length), 400, "bad_header")


@pytest.mark.parametrize("metadata", ["filename !!!", "filename //4=", "x" * 5000])
def test_metadata_that_cannot_be_read(tus: Tus, metadata: str) -> None:
    refused(tus.create(**{"Upload-Metadata": metadata}), 400, "bad_header")


def test_a_file_no_push_would_take_is_refused_before_a_byte_is_sent(tus: Tus, settings: Any) -> None:
    settings.UPLOAD_LIMIT_BYTES = 1000
    refused(tus.create(length=1001), 413, "too_large")
    refused(tus.create(length=10, name="m.exe"), 422, "unknown_format")
    refused(tus.create(length=10, name="m.pkl", purpose="sample"), 422, "unknown_format")
    refused(tus.create(length=10, purpose="other"), 400, "unknown_field")
    refused(tus.create(length=0), 422, "empty_file")
    assert not Upload.objects.exists()


def test_who_may(world: Any, tus: Tus) -> None:
    url = tus.url()
    refused(Tus(world, "vic").create(), 403, "role_too_low")
    refused(Tus(world, "vic").patch(url, b"x", 0), 403, "role_too_low")
    refused(Tus(world, "mallory").patch(url, b"x", 0), 404, "not_found")
    theirs = url.replace("/acme/", "/globex/")
    refused(Tus(world, "mallory").patch(theirs, b"x", 0), 404, "not_found")
    assert Tus(world, "alice").head(url).status_code == 200


def test_who_lost_an_uploads_address_finds_it_to_go_on_or_to_discard_it(tus: Tus, world: Any) -> None:
    used, expired, open_one = tus.whole(), tus.url(), tus.url()
    Upload.objects.filter(pk=row(used).pk).update(used_at=clock.now())
    Upload.objects.filter(pk=row(expired).pk).update(expires_at=clock.now())
    shown = tus.api.get(LIST).json()
    assert [(each["id"], each["offset"]) for each in shown["results"]] == [(str(row(open_one).pk), 0)]
    assert world.api("vic").get(LIST).status_code == 403
    assert world.api("mallory").get(LIST).status_code == 404


def test_an_upload_expires(tus: Tus, settings: Any, monkeypatch) -> None:
    url = tus.url()
    tus.patch(url, CONTENT[:100], 0)
    path, real = storage.local(row(url).key), clock.now
    monkeypatch.setattr(clock, "now", lambda: real() + settings.UPLOAD_KEEP - timedelta(minutes=1))
    assert tus.patch(url, CONTENT[100:200], 100).status_code == 204  # every byte that comes gives it its time again
    monkeypatch.setattr(clock, "now", lambda: real() + settings.UPLOAD_KEEP)
    assert tus.head(url).status_code == 200
    monkeypatch.setattr(clock, "now", lambda: real() + 2 * settings.UPLOAD_KEEP)
    refused(tus.patch(url, CONTENT[200:], 200), 410, "upload_expired")
    assert tus.head(url).status_code == 410
    assert sweeping.forget_uploads() == 1
    assert not path.exists()
    assert not Upload.objects.exists()


# -- connections that break, calls at the same time ----------------------------------------------------------------------
def test_what_arrived_before_the_connection_broke_is_kept(tus: Tus) -> None:
    url = tus.url()
    answer = tus.cut(url, CONTENT[:300], 0, 5000)
    refused(answer, 400, "upload_incomplete")
    assert "300 of 102,400 bytes are here" in answer.json()["detail"]
    assert tus.head(url)["Upload-Offset"] == "300"
    tus.patch(url, CONTENT[300:], 300)
    assert row(url).sha256 == hashlib.sha256(CONTENT).hexdigest()


def test_with_a_checksum_a_broken_call_leaves_nothing_for_it_cannot_be_judged(tus: Tus) -> None:
    url = tus.url()
    digest = b64(hashlib.sha256(CONTENT[:5000]).digest())
    answer = tus.cut(url, CONTENT[:300], 0, 5000, **{"Upload-Checksum": f"sha256 {digest}"})
    refused(answer, 400, "upload_incomplete")
    assert tus.head(url)["Upload-Offset"] == "0"


class Stops(Exception):  # noqa: N818
    """The process is killed here."""


def test_a_process_that_dies_loses_only_what_was_not_told_as_received(tus: Tus, monkeypatch) -> None:
    monkeypatch.setattr(partial, "STRETCH_BYTES", 10_000)
    upload, sent = row(tus.url()), iter([CONTENT[:10_000], CONTENT[10_000:15_000]])

    def source(count: int) -> bytes:
        chunk = next(sent, None)
        if chunk is None:
            raise Stops
        return chunk

    with pytest.raises(Stops):
        uploads.append(upload, source, offset=0, size=len(CONTENT))
    upload.refresh_from_db()
    assert upload.offset == 10_000
    assert storage.local(upload.key).stat().st_size == 15_000  # bytes nobody was told of: written again
    url = f"{LIST}/{upload.pk}"
    assert tus.patch(url, CONTENT[10_000:], 10_000).status_code == 204
    assert row(url).sha256 == hashlib.sha256(CONTENT).hexdigest() == storage.sha256_of(upload.key)


def test_one_call_writes_at_a_time(tus: Tus) -> None:
    url = tus.url()
    seen: list[Any] = []

    def source(count: int) -> bytes:
        if not seen:
            seen.append(tus.patch(url, CONTENT, 0))
            seen.append(tus.api.delete(url, headers=TUS))
            return CONTENT[:100]
        return b""

    uploads.append(row(url), source, offset=0, size=len(CONTENT))
    for answer in seen:
        refused(answer, 423, "upload_busy")
        assert answer["Retry-After"]
    assert tus.head(url)["Upload-Offset"] == "100"
    assert tus.patch(url, CONTENT[100:], 100).status_code == 204


def test_a_call_that_hangs_is_taken_over_and_writes_nothing_more(tus: Tus, monkeypatch) -> None:
    url, real = tus.url(), clock.now
    monkeypatch.setattr(uploads, "RENEW_S", 0.0)
    pieces = iter([CONTENT[:100], None, b"\0" * 50])

    def source(count: int) -> bytes:
        piece = next(pieces)
        if piece is None:  # half a minute nothing comes; the client has begun again meanwhile
            monkeypatch.setattr(clock, "now", lambda: real() + uploads.LOCK * 2)
            assert tus.patch(url, CONTENT[:500], 0).status_code == 204
            return next(pieces)
        return piece

    with pytest.raises(uploads.errors.Conflict):
        uploads.append(row(url), source, offset=0, size=len(CONTENT))
    assert tus.head(url)["Upload-Offset"] == "500"
    assert storage.local(row(url).key).read_bytes() == CONTENT[:500]


# -- used by a push -------------------------------------------------------------------------------------------------------
def push(tus: Tus, url: str = PUSH, **fields: Any) -> Any:
    return tus.api.post(url, fields, format="multipart")


def test_a_push_uses_an_upload_once(tus: Tus, django_capture_on_commit_callbacks) -> None:
    url = tus.whole()
    key = row(url).key
    with django_capture_on_commit_callbacks(execute=True):
        answer = push(tus, upload=url.rsplit("/", 1)[1])
    assert answer.status_code == 202, answer.json()
    version = ModelVersion.objects.get()
    assert (version.filename, version.size_bytes) == ("m.pkl", len(CONTENT))
    assert version.sha256 == storage.sha256_of(version.file_key) == hashlib.sha256(CONTENT).hexdigest()
    assert not default_storage.exists(key)
    refused_push = push(tus, upload=url)
    assert (refused_push.status_code, refused_push.json()["code"]) == (410, "upload_used")
    refused(tus.api.delete(url, headers=TUS), 410, "upload_used")
    assert ModelVersion.objects.count() == 1


def test_every_file_of_a_push_may_be_an_upload(tus: Tus) -> None:
    sample = tus.whole(b'[{"a": 1}]', name="s.json", purpose="sample")
    reference = tus.whole(b"a,b\n1,2\n3,4\n", name="r.csv", purpose="reference")
    answer = push(tus, upload=tus.whole(), sample_upload=sample, reference_upload=reference)
    assert answer.status_code == 202, answer.json()
    version = ModelVersion.objects.get()
    assert {data.kind: data.format for data in version.datasets.all()} == {"sample": "json", "reference": "csv"}
    assert version.reference.sha256 == hashlib.sha256(b"a,b\n1,2\n3,4\n").hexdigest()


def test_what_cannot_be_pushed(tus: Tus, world: Any) -> None:
    half = tus.url()
    tus.patch(half, CONTENT[:10], 0)
    sample = tus.whole(b'[{"a": 1}]', name="s.json", purpose="sample")
    theirs = tus.whole()
    for fields, status, code in (
        ({"upload": half}, 409, "upload_unfinished"),
        ({"upload": "nonsense"}, 422, "unknown_upload"),
        ({"upload": sample}, 422, "wrong_purpose"),
    ):
        problem = push(tus, **fields).json()
        assert (problem["status"], problem["code"]) == (status, code)
        assert problem["errors"]["file"]
    problem = push(Tus(world, "mallory"), "/api/v1/globex/models/iris/versions", upload=theirs).json()
    assert problem["code"] == "unknown_upload"
    assert not ModelVersion.objects.exists()


def test_a_push_that_fails_leaves_the_upload_to_be_used_again(tus: Tus) -> None:
    url = tus.whole()
    bad = push(tus, upload=url, deploy="Not good!")
    assert bad.status_code == 422
    wrong = push(tus, upload=url, metadata='{"project": "nowhere"}')
    assert wrong.status_code == 422
    assert push(tus, upload=url).status_code == 202


def test_two_pushes_at_once_use_it_once(tus: Tus, monkeypatch) -> None:
    from registry.services import push as pushing

    url, real = tus.whole(), pushing.versions.start_validation
    seen: list[Any] = []

    def meanwhile(*args: Any) -> Any:
        if not seen:
            seen.append(None)
            seen[0] = push(tus, "/api/v1/acme/models/other/versions", upload=url)
        return real(*args)

    monkeypatch.setattr(pushing.versions, "start_validation", meanwhile)
    assert push(tus, upload=url).status_code == 202
    assert (seen[0].status_code, seen[0].json()["code"]) == (410, "upload_used")
    assert ModelVersion.objects.count() == 1


def test_an_upload_that_is_discarded_while_it_is_pushed_is_told_as_gone(tus: Tus, monkeypatch) -> None:
    from registry.services import push as pushing

    url, real = tus.whole(), pushing._model

    def meanwhile(*args: Any) -> Any:
        assert tus.api.delete(url, headers=TUS).status_code == 204
        return real(*args)

    monkeypatch.setattr(pushing, "_model", meanwhile)
    answer = push(tus, upload=url)
    assert (answer.status_code, answer.json()["code"]) == (410, "upload_discarded")
    assert not ModelVersion.objects.exists()


def test_the_pages_speak_it_too(world: Any) -> None:
    browser = world.client("dan")
    headers = {**TUS, "Upload-Length": "4", "Upload-Metadata": f"filename {b64('m.pkl')}"}
    made = browser.post("/acme/uploads/", headers=headers)
    assert made.status_code == 201
    url = made["Location"]
    assert url.startswith("/acme/uploads/")
    answer = browser.generic("PATCH", url, b"\x80\x04N.", content_type=BYTES, headers={**TUS, "Upload-Offset": "0"})
    assert answer.status_code == 204
    pushed = browser.post("/acme/upload/", {"model": "iris", "upload": url})
    assert pushed.status_code == 302, pushed.content
    assert ModelVersion.objects.get().sha256 == hashlib.sha256(b"\x80\x04N.").hexdigest()
    again = browser.post("/acme/upload/", {"model": "iris", "upload": url})
    assert again.status_code == 410
    assert "was used by a push" in again.content.decode()


def test_nothing_of_it_lies_among_the_temporary_files(tus: Tus) -> None:
    tus.whole()
    assert list(Path(live_settings.FILE_UPLOAD_TEMP_DIR).iterdir()) == []
