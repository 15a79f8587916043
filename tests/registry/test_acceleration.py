"""The faster form of a version through the doors people use: made at validation, signed, shown, switched, and never a reason to fail."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as live_settings

from accounts.models import AuditEvent
from mlops.core import clock, errors, storage
from mlops.runtime.errors import ArtifactInvalid
from mlops.runtime.host import get_host
from registry import acceleration, signing
from registry.models import ModelVersion
from registry.services import artifacts, blobs
from serving.models import Deployment, DeploymentStatus, Route
from serving.routing import snapshot
from tests import tiny_models

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("runner_host")]

BASE = "/api/v1/acme/models/iris/versions/1"


@pytest.fixture
def flowers(push: Any, tiny: dict) -> ModelVersion:
    """A ready version, accelerated."""
    sent = push(tiny["iris_joblib"].path, "iris")
    assert sent.shown["status"] == "ready", sent.shown["findings"]
    return ModelVersion.objects.select_related("model", "organization").get(model__slug="iris")


@pytest.fixture
def live(world: Any, flowers: ModelVersion) -> Deployment:
    row = Deployment.objects.create(
        organization=world.acme, name="iris", model=flowers.model, status=DeploymentStatus.LIVE, route_epoch=1
    )
    Route.objects.create(deployment=row, version=flowers, weight=100)
    return row


def asked(spec: Any, rows: Any) -> list[Any]:
    rows = [list(row.values()) for row in rows]  # pushed without a schema, its columns are f0, f1, ...
    reply = get_host().predict(spec, json.dumps({"inputs": rows}).encode())
    assert reply.status == 200, reply.body
    return json.loads(reply.body)["predictions"]


def told(spec: Any) -> dict[str, Any]:
    return json.loads(get_host().call(spec, "describe", {}).body)


def test_a_push_is_converted_proven_measured_signed_and_told(push: Any, tiny: dict) -> None:
    model = tiny["iris_joblib"]
    sent = push(model.path, "iris", sample={"inputs": model.rows, "expected": model.expected})
    shown = sent.shown["acceleration"]
    assert (shown["on"], shown["wanted"], shown["status"], shown["precision"]) == (True, True, "accelerated", "float64")
    assert shown["max_difference"] <= shown["tolerance"] == 1e-5
    assert shown["speedup"] > 1.2
    assert shown["rows"] > 100
    assert set(shown["native_us"]) == set(shown["accelerated_us"]) == {"1", "100"}
    finding = sent.finding("accelerate")
    assert finding["level"] == "ok"
    assert finding["message"].startswith("Accelerated with ONNX Runtime:")
    assert "x faster" in finding["message"]
    version = ModelVersion.objects.get()
    assert shown["sha256"] == version.accelerated_sha256 == storage.sha256_of(version.accelerated_key)
    predicate = signing.verify_version(version)["predicate"]
    assert predicate["accelerated_sha256"] == version.accelerated_sha256
    spec = artifacts.spec_for(version)
    assert asked(spec, model.rows) == model.expected
    assert told(spec)["accelerated"] == {"precision": "float64", "native_open": False}


def test_a_signature_covers_the_form_and_none_of_before_is_broken(flowers: ModelVersion) -> None:
    swapped = ModelVersion.objects.get(pk=flowers.pk)
    swapped.accelerated_sha256 = "0" * 64
    with pytest.raises(errors.Conflict, match="another file"):
        signing.verify_version(swapped)
    swapped.accelerated_sha256 = ""  # taken away: not what was signed either
    with pytest.raises(errors.Conflict, match="another file"):
        signing.verify_version(swapped)
    signed = signing._opened(swapped.signature)
    assert signed["predicate"]["accelerated_sha256"] == flowers.accelerated_sha256


def test_a_file_that_was_changed_is_not_opened(flowers: ModelVersion, tiny: dict) -> None:
    path = artifacts.materialise_form(flowers)
    raw = bytearray(path.read_bytes())
    raw[-20] ^= 1
    path.unlink()
    path.write_bytes(raw)
    get_host().unload(artifacts.spec_for(flowers).key)  # a runner of the same bytes may be there from another test
    with pytest.raises(ArtifactInvalid):
        get_host().predict(artifacts.spec_for(flowers), json.dumps({"inputs": tiny["iris_joblib"].rows}).encode())
    path.unlink()


def test_a_form_that_the_storage_lost_is_done_without(flowers: ModelVersion, tiny: dict) -> None:
    artifacts.materialise_form(flowers).unlink()
    storage.delete(flowers.accelerated_key)
    spec = artifacts.spec_for(flowers)
    assert spec.accelerated is None
    assert asked(spec, tiny["iris_joblib"].rows) == tiny["iris_joblib"].expected


# -- the switch -----------------------------------------------------------------------------------------------------------


def test_the_switch_changes_live_deployments_at_once(
    world: Any, live: Deployment, flowers: ModelVersion, tiny: dict
) -> None:
    model = tiny["iris_joblib"]
    before = snapshot.find("acme", "iris")
    assert before is not None
    assert before.lines[0].spec.accelerated
    off = world.api("dan").patch(BASE, {"accelerate": False}, format="json")
    assert (off.status_code, off.json()["acceleration"]["on"], off.json()["acceleration"]["wanted"]) == (
        200,
        False,
        False,
    )
    after = snapshot.find("acme", "iris")
    assert after is not None
    assert after.epoch > before.epoch
    spec = after.lines[0].spec
    assert spec.accelerated is None
    assert spec.key != before.lines[0].spec.key
    assert not spec.same_model(before.lines[0].spec)
    assert asked(spec, model.rows) == model.expected
    assert "accelerated" not in told(spec)
    on = world.api("dan").patch(BASE, {"accelerate": True}, format="json")
    assert on.json()["acceleration"]["on"] is True
    again = snapshot.find("acme", "iris")
    assert again is not None
    assert again.lines[0].spec == before.lines[0].spec
    assert again.epoch > after.epoch
    events = AuditEvent.objects.filter(action="version.acceleration_switched").order_by("number")
    assert [event.detail["on"] for event in events] == [False, True]
    assert signing.verify_version(ModelVersion.objects.get(pk=flowers.pk))


def test_the_same_position_again_is_no_event(world: Any, flowers: ModelVersion) -> None:
    assert world.api("dan").patch(BASE, {"accelerate": True}, format="json").status_code == 200
    assert not AuditEvent.objects.filter(action="version.acceleration_switched").exists()


def test_who_may_not_write_may_not_switch(world: Any, live: Deployment) -> None:
    assert world.api("vic").patch(BASE, {"accelerate": False}, format="json").status_code == 403
    assert world.api("mallory").patch(BASE, {"accelerate": False}, format="json").status_code == 404
    assert world.api("dan").patch(BASE, {"accelerate": "perhaps"}, format="json").status_code == 422
    assert ModelVersion.objects.get(model__slug="iris").accelerate is True


def test_a_model_without_a_faster_form_cannot_be_switched_on(world: Any, push: Any, tiny: dict) -> None:
    sent = push(tiny["iris_onnx"].path, "iris")
    assert sent.shown["status"] == "ready", sent.shown["findings"]
    shown = sent.shown["acceleration"]
    assert (shown["on"], shown["status"], shown["reason"]) == (False, "native", "it is ONNX already")
    assert (sent.shown["status"], sent.finding("accelerate")["level"]) == ("ready", "info")
    dan = world.api("dan")
    assert dan.patch(BASE, {"accelerate": False}, format="json").status_code == 200
    refused = dan.patch(BASE, {"accelerate": True}, format="json")
    assert (refused.status_code, refused.json()["code"]) == (409, "not_accelerated")


def test_the_page_shows_it_and_switches_it(world: Any, live: Deployment) -> None:
    page = "/acme/models/iris/versions/1/"
    dan = world.client("dan")
    found = dan.get(page).content.decode()
    assert "x faster" in found
    assert "Switch off" in found
    part = dan.post(page + "acceleration/", {"on": "0"}, headers={"HX-Request": "true"})
    assert part.status_code == 200
    assert "Switch on" in part.content.decode()
    assert "<html" not in part.content.decode()
    assert ModelVersion.objects.get(model__slug="iris").accelerate is False
    whole = dan.post(page + "acceleration/", {"on": "1"})
    assert (whole.status_code, whole["Location"]) == (302, page)
    vic = world.client("vic")
    assert "Switch off" not in vic.get(page).content.decode()
    assert vic.post(page + "acceleration/", {"on": "0"}).status_code == 403


# -- it never fails a validation ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("does", "words"), [("import time; time.sleep(30)", "took longer than"), ("import os; os.abort()", "crashed")]
)
def test_a_conversion_that_hangs_or_crashes_leaves_the_model_native(
    push: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does: str, words: str
) -> None:
    monkeypatch.setattr(acceleration, "CONVERT_S", 3.0)
    path = tmp_path / "model.pkl"
    path.write_bytes(tiny_models.at_predict(f"if len(X) > 100:\n    {does}\nreturn [1.0] * len(X)"))
    schema = {"inputs": [{"name": "a", "type": "double"}], "output": {"task": "regressor"}}
    sent = push(path, "iris", metadata={"schema": schema})
    assert sent.shown["status"] == "ready", sent.shown["findings"]
    assert sent.shown["acceleration"]["status"] == "native"
    assert words in sent.shown["acceleration"]["reason"]
    assert ModelVersion.objects.get().accelerated_key == ""


def test_a_runner_that_lies_about_its_form_is_read_as_words_and_numbers() -> None:
    from mlops.runtime.host import Reply

    lies: list[Any] = [
        None, "yes", {}, {"status": "accelerated"}, {"status": "accelerated", "speedup": "<b>", "native_us": {"1": 1, "100": 2}},
        {"status": "accelerated", "speedup": True, "native_us": [], "accelerated_us": {}},
    ]  # fmt: skip
    for lie in lies:
        record, file = acceleration._read(Reply(200, {"record": lie}, b"bytes"))
        assert (record["status"], file) == ("native", b"")
    honest = {
        "status": "accelerated", "speedup": 3.0, "native_us": {"1": 9, "100": 9}, "accelerated_us": {"1": 3, "100": 3}, "max_difference": 0,
        "rows": 5, "native_texts": [{"a": 1}], "secret": "x" * 10**6, "precision": "float64" * 99,
    }  # fmt: skip
    record, file = acceleration._read(Reply(200, {"record": honest}, b"bytes"))
    assert file == b"bytes"
    assert len(json.dumps(record)) < 1000
    assert "secret" not in record


def test_a_version_validated_again_leaves_no_old_form(push: Any, tiny: dict, world: Any, jobs_now: Any) -> None:
    sent = push(tiny["iris_joblib"].path, "iris")
    assert sent.shown["acceleration"]["status"] == "accelerated", sent.shown
    version = ModelVersion.objects.get()
    old = version.accelerated_key
    ModelVersion.objects.filter(pk=version.pk).update(status="failed")
    with jobs_now():
        assert world.api("dan").post(f"{BASE}/validate").status_code == 202
    version.refresh_from_db()
    assert version.status == "ready"
    assert storage.sha256_of(version.accelerated_key) == version.accelerated_sha256
    swept = {blob.key for blob in blobs.unnamed(clock.now())}
    assert swept == (
        {old} - {version.accelerated_key}
    )  # the same conversion gives the same content, which lies there once


def test_local_copies_of_live_forms_stay(live: Deployment, flowers: ModelVersion) -> None:
    folder = artifacts.materialise_form(flowers).parent
    assert folder.parent == Path(live_settings.ARTIFACT_DIR)
    old = time.time() - artifacts.KEEP_S - 60
    os.utime(folder, (old, old))
    artifacts.forget_artifacts()
    assert folder.exists()
    Route.objects.all().delete()
    os.utime(folder, (old, old))
    artifacts.forget_artifacts()
    assert not folder.exists()
