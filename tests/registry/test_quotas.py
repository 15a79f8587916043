"""What an organisation may have: told, refused early with the numbers, and never passed, whoever comes at the same time."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import connection

from accounts.models import AuditEvent, Organization
from mlops.core import errors
from registry.models import ModelVersion, Upload
from registry.services import uploads
from tests.registry.conftest import named
from tests.registry.test_tus import Tus, refused
from tests.world import World

GOOD = b"\x80\x04N."
URL = "/api/v1/acme/models/iris/versions"
pytestmark = pytest.mark.django_db


def limit(world: Any, **limits: int | None) -> None:
    Organization.objects.filter(pk=world.acme.pk).update(**limits)


def send(world: Any, file: bytes = GOOD, **fields: Any) -> Any:
    return world.api("dan").post(URL, {"file": named(file, "m.pkl"), **fields}, format="multipart")


def shown(world: Any) -> dict[str, Any]:
    return world.api("vic").get("/api/v1/acme/storage").json()


def test_the_same_content_is_counted_once(world: Any) -> None:
    limit(world, storage_limit_bytes=10)
    assert [send(world).status_code for _ in range(5)] == [202] * 5
    assert shown(world) == {
        "used_bytes": 4, "stored_bytes": 4, "reserved_bytes": 0, "free_bytes": 6, "limit_bytes": 10, "versions": 5, "version_limit": 0,
    }  # fmt: skip


def test_what_does_not_fit_is_refused_with_the_numbers_and_nothing_is_kept(world: Any) -> None:
    limit(world, storage_limit_bytes=10)
    send(world)
    problem = send(world, b"x" * 7).json()
    assert (problem["status"], problem["code"]) == (413, "storage_quota")
    assert problem["detail"] == "7 bytes do not fit: Acme uses 4 bytes of 10 bytes."
    assert "raise the limit" in problem["hint"]
    assert send(world, b"x" * 6).status_code == 202
    assert shown(world)["free_bytes"] == 0
    assert ModelVersion.objects.count() == 2


def test_all_files_of_a_push_count(world: Any) -> None:
    limit(world, storage_limit_bytes=10)
    assert send(world, sample=named(b'[{"a": 1}]', "s.json")).json()["code"] == "storage_quota"
    assert shown(world)["used_bytes"] == 0


def test_a_large_push_is_refused_before_a_byte_is_read(world: Any) -> None:
    limit(world, storage_limit_bytes=1 << 20)
    answer = world.api("dan").generic(
        "POST", URL, b"", content_type="multipart/form-data; boundary=x", CONTENT_LENGTH=str(100 << 20)
    )
    assert (answer.status_code, answer.json()["code"]) == (413, "storage_quota")


def test_an_upload_reserves_its_whole_length_until_it_is_used_or_discarded(world: Any) -> None:
    limit(world, storage_limit_bytes=10)
    tus = Tus(world)
    url = tus.url(length=6)
    assert shown(world)["reserved_bytes"] == 6
    problem = refused(tus.create(length=5), 413, "storage_quota")
    assert (
        problem["detail"] == "5 bytes do not fit: Acme uses 6 bytes of 10 bytes, 6 bytes of it for uploads under way."
    )
    assert send(world, b"12345").json()["code"] == "storage_quota"
    second = tus.url(length=4)
    tus.api.delete(second, headers={"Tus-Resumable": "1.0.0"})
    tus.patch(url, b"\x80\x04N.ab", 0)
    assert tus.api.post(URL, {"upload": url}, format="multipart").status_code == 202  # what it reserved, it may use
    assert (shown(world)["stored_bytes"], shown(world)["reserved_bytes"]) == (6, 0)


def test_a_number_of_versions(world: Any, settings: Any) -> None:
    settings.ORG_VERSIONS = 2
    assert [send(world).status_code for _ in range(2)] == [202, 202]
    problem = send(world).json()
    assert (problem["status"], problem["code"]) == (409, "version_quota")
    assert "2 of 2 model versions" in problem["detail"]
    limit(world, version_limit=0)
    assert send(world).status_code == 202


def test_a_number_of_validations_at_once(world: Any, settings: Any) -> None:
    settings.ORG_VALIDATIONS = 2
    assert [send(world).status_code for _ in range(2)] == [202, 202]
    answer = send(world)
    assert (answer.status_code, answer.json()["code"]) == (429, "too_many_validations")
    assert answer["Retry-After"] == "30"
    ModelVersion.objects.filter(number=1).update(status="failed")
    assert send(world).status_code == 202


def test_zero_is_no_limit_and_empty_is_the_servers(world: Any, settings: Any) -> None:
    settings.ORG_STORAGE_BYTES = 3
    assert send(world).json()["code"] == "storage_quota"
    limit(world, storage_limit_bytes=0)
    assert send(world).status_code == 202
    assert (shown(world)["limit_bytes"], shown(world)["free_bytes"]) == (0, None)


def test_the_settings_page_tells_it(world: Any) -> None:
    limit(world, storage_limit_bytes=1000)
    send(world)
    page = world.client("vic").get("/acme/settings/").content.decode()
    for words in ("<strong>4 B</strong>", "of 1 kB used", "996 B free", "1 model version."):
        assert words in " ".join(page.split()), words


def test_staff_set_it_and_that_is_audited(world: Any) -> None:
    world.olga.is_staff = world.olga.is_superuser = True
    world.olga.save()
    client = world.client("olga")
    url = f"/admin/accounts/organization/{world.acme.pk}/change/"
    form = {"name": "Acme", "storage_limit_bytes": "1000", "version_limit": "", "calls_per_minute": ""}
    management = {f"-1-{name}": "0" for name in ("TOTAL_FORMS", "INITIAL_FORMS")}
    answer = client.post(url, {**form, **management})
    assert answer.status_code == 302, answer.content.decode()[-3000:]
    assert shown(world)["limit_bytes"] == 1000
    event = AuditEvent.objects.get(action="admin.organization_changed")
    assert event.detail["fields"] == ["storage_limit_bytes"]


@pytest.mark.django_db(transaction=True)
def test_many_at_once_never_pass_the_limit() -> None:
    world = World()
    limit(world, storage_limit_bytes=100)
    start, results = threading.Barrier(6), []

    def one(number: int) -> None:
        try:
            start.wait(20)
            uploads.begin(world.acme, world.caller("dan"), purpose="file", filename="m.pkl", length=30 + number)
            results.append("begun")
        except errors.TooLarge as error:
            results.append(error.code)
        finally:
            connection.close()

    threads = [threading.Thread(target=one, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(results) == ["begun"] * results.count("begun") + ["storage_quota"] * (6 - results.count("begun"))
    assert results.count("begun") in (2, 3)
    assert sum(Upload.objects.values_list("length", flat=True)) <= 100
