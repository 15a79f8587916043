"""Nothing is loaded whose row or file is not what was signed: every door that loads, every fact that is bound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as live_settings
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

from mlops.runtime.host import get_host
from registry import signing
from registry.models import Environment, ModelVersion
from registry.services import artifacts
from serving.routing import snapshot

pytestmark = pytest.mark.django_db
BASE = "/api/v1/acme"
ROW = {"inputs": [[5.1, 3.5, 1.4, 0.2]]}


@pytest.fixture
def iris(world: Any, ready_version: Any) -> list[ModelVersion]:
    """Versions 1 (live as ``iris``) and 2."""
    versions = [ready_version(world.acme) for _ in range(2)]
    answer = world.api("dan").post(
        f"{BASE}/deployments", {"name": "iris", "model": "iris", "version": 1}, format="json"
    )
    assert answer.status_code == 201, answer.content
    return versions


def _deploy(dan: Any, jobs_now: Any) -> dict[str, Any]:
    return dan.post(f"{BASE}/deployments/iris/versions", {"version": 2}, format="json").json()


def _rollout(dan: Any, jobs_now: Any) -> dict[str, Any]:
    return dan.post(f"{BASE}/deployments/iris/rollout", {"version": 2}, format="json").json()


def _shadow(dan: Any, jobs_now: Any) -> dict[str, Any]:
    routes = {"routes": [{"version": 1, "weight": 100}, {"version": 2, "shadow": True}]}
    return dan.put(f"{BASE}/deployments/iris/traffic", routes, format="json").json()


def _preview(dan: Any, jobs_now: Any) -> dict[str, Any]:
    return dan.post("/api/v1/predict/acme/iris/previews/v2", ROW, format="json").json()


def _compare(dan: Any, jobs_now: Any) -> dict[str, Any]:
    with jobs_now():
        started = dan.post(f"{BASE}/deployments/iris/compare", {"version": 2, "last": 10}, format="json").json()
    return dan.get(f"{BASE}/deployments/iris/comparisons/{started['id']}").json()["error"]


@pytest.mark.parametrize("door", [_deploy, _rollout, _shadow, _preview, _compare])
def test_every_door_refuses_a_row_that_was_changed(world, iris, jobs_now, door) -> None:
    dan = world.api("dan")
    dan.post("/api/v1/predict/acme/iris", ROW, format="json")
    ModelVersion.objects.filter(pk=iris[1].pk).update(format="onnx")
    told = door(dan, jobs_now)
    assert told["code"] == "signature_invalid", told
    assert "Push the model again" in told["hint"]


def test_a_batch_run_refuses_it_too(world, iris, jobs_now) -> None:
    dan = world.api("dan")
    assert dan.post("/api/v1/predict/acme/iris", ROW, format="json").status_code == 200  # this process knows the routes
    ModelVersion.objects.filter(pk=iris[0].pk).update(format="onnx")
    with jobs_now():
        run = dan.post(
            "/api/v1/predict/acme/iris/batch", ROW["inputs"], format="json", HTTP_PREFER="respond-async"
        ).json()
    shown = dan.get(f"/api/v1/predict/acme/iris/batch/{run['id']}").json()
    assert shown["error"]["code"] == "signature_invalid", shown


def test_a_process_that_learns_of_the_routes_anew_refuses_it(world, iris) -> None:
    dan = world.api("dan")
    assert dan.post("/api/v1/predict/acme/iris", ROW, format="json").status_code == 200
    ModelVersion.objects.filter(pk=iris[0].pk).update(schema={"kind": "table", "inputs": []})
    snapshot.clear()  # as a process that has just started
    answer = dan.post("/api/v1/predict/acme/iris", ROW, format="json")
    assert (answer.status_code, answer.json()["code"]) == (409, "signature_invalid")


CHANGES: dict[str, dict[str, Any]] = {
    "another file": {"sha256": "0" * 64},
    "another format": {"format": "onnx"},
    "another schema": {"schema": {"kind": "table", "inputs": []}},
    "another number": {"number": 77},
    "a faster form slipped in": {"accelerated_sha256": "0" * 64, "accelerated_key": "x"},
    "other class names, claimed": {"claims": {"output": {"task": "classifier", "classes": ["a", "b"]}}},
    "other class names, given": {"given_schema": {"output": {"task": "classifier", "classes": ["a", "b"]}}},
    "other contents": {"contents": {"members": [{"name": "predict.py", "size_bytes": 1, "sha256": "0" * 64}]}},
    "an empty signature": {"signature": {}},
    "no payload": {"signature": {"payloadType": signing.PAYLOAD_TYPE, "payload": "!", "signatures": []}},
}


@pytest.mark.parametrize("what", CHANGES)
def test_every_bound_fact_is_missed_when_it_changes(world, ready_version, what: str) -> None:
    version = ready_version(world.acme)
    assert artifacts.spec_for(version)
    ModelVersion.objects.filter(pk=version.pk).update(**CHANGES[what])
    with pytest.raises(Exception, match="signature is not valid") as caught:
        artifacts.spec_for(ModelVersion.objects.get(pk=version.pk))
    assert caught.value.code == "signature_invalid"


def test_a_signature_of_another_version_or_of_a_promotion_is_none_of_this_one(world, ready_version) -> None:
    first, second = ready_version(world.acme), ready_version(world.acme)
    for envelope in (second.signature, signing.sign_promotion(first, {"to": "production", "approvers": []})):
        ModelVersion.objects.filter(pk=first.pk).update(signature=envelope)
        with pytest.raises(Exception, match="signature is not valid"):
            artifacts.spec_for(ModelVersion.objects.get(pk=first.pk))


def test_a_file_that_was_changed_is_refused_where_it_is_fetched_and_where_it_is_opened(world, iris) -> None:
    dan, version = world.api("dan"), iris[1]
    spec = artifacts.spec_for(version)
    get_host().unload(spec.key)
    get_host().unload(artifacts.spec_for(iris[0]).key)  # the same bytes
    path = Path(spec.path)
    good = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))  # here, of the same size
    try:
        told = dan.post(f"{BASE}/deployments/iris/versions", {"version": 2}, format="json")
        assert (told.status_code, told.json()["code"]) == (422, "artifact_invalid"), told.content
    finally:
        path.unlink()
    default_storage.delete(version.file_key)  # and where it is kept
    default_storage.save(version.file_key, ContentFile(good[:-1] + bytes([good[-1] ^ 1])))
    told = dan.post(f"{BASE}/deployments/iris/versions", {"version": 2}, format="json")
    assert (told.status_code, told.json()["code"]) == (409, "file_corrupt"), told.content
    assert not list(Path(live_settings.ARTIFACT_DIR, version.sha256).glob("model*"))


def test_the_libraries_it_runs_with_are_bound_too(world, ready_version) -> None:
    built = {
        "requirements": "six==1.17.0",
        "python": "3.11",
        "platform": "here",
        "status": "ready",
        "lock": "six==1.17.0",
    }
    ours, other = (Environment.objects.create(id=letter * 64, digest=letter * 64, **built) for letter in "ab")
    version = ready_version(world.acme, environment=ours)
    fresh = ModelVersion.objects.get(pk=version.pk)
    assert signing.verify_version(fresh)["predicate"]["environment"] == f"{'a' * 64}:{'a' * 64}"
    ModelVersion.objects.filter(pk=version.pk).update(environment=other)
    with pytest.raises(Exception, match="signature is not valid"):
        artifacts.spec_for(ModelVersion.objects.get(pk=version.pk))
    ModelVersion.objects.filter(pk=version.pk).update(environment=ours)
    Environment.objects.filter(pk=ours.pk).update(digest="c" * 64)  # other files under the same name
    with pytest.raises(Exception, match="signature is not valid"):
        artifacts.spec_for(ModelVersion.objects.get(pk=version.pk))
