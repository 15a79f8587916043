"""Labels by the door a client has: what is accepted, changed, held and refused, and that the sums have each exactly once."""

from __future__ import annotations

import uuid
from datetime import timedelta

import orjson
import pytest
from django.db import transaction

from mlops.core import clock, ids
from monitoring.models import Feedback, FeedbackLoss, QualityCount
from monitoring.quality import feedback, matching
from monitoring.quality.live import Past
from serving.models import PredictionLog
from tests.monitoring.scene import SCHEMA, Scene, answer

URL = "/api/v1/predict/acme/fraud/feedback"


def logged(scene: Scene, count: int = 10, at=None) -> list[PredictionLog]:
    batch = scene.log(scene.rows(count), at=at)
    return list(PredictionLog.objects.filter(batch=batch).order_by("at"))


def quality(scene: Scene):
    now = clock.now() + timedelta(hours=1)
    return Past(scene.deployment, now - timedelta(days=30), now).quality()


def confusion(scene: Scene) -> dict:
    return dict(quality(scene).outcomes.confusion)


def test_one_label_is_accepted_and_counted(world, scene):
    [row] = logged(scene, 1)
    said = world.api("dan").post(URL, {"prediction_id": str(row.pk), "actual": "yes"}, format="json")
    assert said.status_code == 200, said.data
    assert (said.data["accepted"], said.data["unknown"], said.data["invalid"]) == (1, [], [])
    assert "RateLimit-Limit" in said
    matching.count_due()
    assert confusion(scene) == {("yes", row.prediction): 1}


def test_a_list_a_wrapped_list_lines_and_csv_are_the_same(world, scene):
    rows = logged(scene, 8)
    api = world.api("vic", ["predict"])
    pairs = [{"prediction_id": str(row.pk), "actual": "no"} for row in rows]
    assert api.post(URL, pairs[:2], format="json").data["accepted"] == 2
    assert api.post(URL, {"feedback": pairs[2:4]}, format="json").data["accepted"] == 2
    lines = "\n".join(f'{{"prediction_id": "{row.pk}", "actual": "no"}}' for row in rows[4:6])
    assert api.generic("POST", URL, lines, content_type="application/x-ndjson").data["accepted"] == 2
    table = "note,actual,prediction_id\n" + "".join(f"x,no,{row.pk}\r\n" for row in rows[6:])
    assert api.generic("POST", URL, table, content_type="text/csv").data["accepted"] == 2
    matching.count_due()
    assert quality(scene).labelled == 8


def test_the_same_again_changes_nothing_and_another_word_corrects(world, scene, at):
    [row] = logged(scene, 1)
    api = world.api("dan")
    for wanted, actual in (("accepted", "yes"), ("unchanged", "yes"), ("updated", "no"), ("unchanged", "no")):
        said = api.post(URL, {"prediction_id": str(row.pk), "actual": actual}, format="json").data
        assert {name: said[name] for name in ("accepted", "updated", "unchanged")} == {
            "accepted": 0, "updated": 0, "unchanged": 0, wanted: 1,
        }  # fmt: skip
        matching.count_due()
    assert confusion(scene) == {("no", row.prediction): 1}
    [kept] = Feedback.objects.all()
    assert [change["actual"] for change in kept.history] == ["yes"]


def test_a_correction_counts_in_the_hour_of_the_prediction_also_when_the_log_has_forgotten_it(world, scene):
    [row] = logged(scene, 1, at=clock.now() - timedelta(days=9))
    api = world.api("dan")
    api.post(URL, {"prediction_id": str(row.pk), "actual": "yes"}, format="json")
    matching.count_due()
    [hour] = QualityCount.objects.all()
    PredictionLog.objects.all().delete()
    Feedback.objects.update(actual="no", due=True)
    matching.count_due()
    [again] = QualityCount.objects.all()
    assert again.hour == hour.hour == clock.floor(row.at, timedelta(hours=1))
    assert confusion(scene) == {("no", row.prediction): 1}


def test_an_unknown_id_is_told_and_an_early_one_counted_when_its_row_arrives(world, scene, at):
    now = at(clock.now())
    early = ids.uuid7()
    said = (
        world.api("dan")
        .post(
            URL,
            [{"prediction_id": str(early), "actual": "yes"}, {"prediction_id": str(uuid.uuid4()), "actual": "no"}],
            format="json",
        )
        .data
    )
    assert (said["accepted"], said["unknown_count"], said["held"]) == (0, 2, 1)
    assert str(early) in said["unknown"]
    assert matching.count_due() == 1
    assert quality(scene).labelled == 0
    [row] = logged(scene, 1)
    PredictionLog.objects.filter(pk=row.pk).update(id=early)
    at(now + timedelta(minutes=2))
    matching.count_due()
    assert confusion(scene) == {("yes", row.prediction): 1}


def test_what_is_never_predicted_is_dropped_after_a_day_and_reported(world, scene, at):
    now = at(clock.now())
    world.api("dan").post(URL, {"prediction_id": str(ids.uuid7()), "actual": "yes"}, format="json")
    at(now + timedelta(hours=25))
    matching.count_due()
    assert not Feedback.objects.exists()
    [loss] = FeedbackLoss.objects.all()
    assert (loss.unmatched, loss.refused) == (1, 0)


def test_an_early_label_that_turns_out_to_be_no_class_is_reported(world, scene, at):
    now = at(clock.now())
    early = ids.uuid7()
    world.api("dan").post(URL, {"prediction_id": str(early), "actual": "perhaps"}, format="json")
    [row] = logged(scene, 1)
    PredictionLog.objects.filter(pk=row.pk).update(id=early)
    at(now + timedelta(minutes=2))
    matching.count_due()
    [loss] = FeedbackLoss.objects.all()
    assert (loss.unmatched, loss.refused) == (0, 1)
    assert "none of the classes" in loss.example


def test_an_id_of_another_deployment_or_organisation_looks_unknown(world, scene):
    [theirs] = logged(Scene(world.globex), 1)
    [other] = logged(Scene(world.acme, "other"), 1)
    said = (
        world.api("dan")
        .post(URL, [{"prediction_id": str(row.pk), "actual": "yes"} for row in (theirs, other)], format="json")
        .data
    )
    nobody = world.api("dan").post(URL, [{"prediction_id": str(ids.uuid7()), "actual": "yes"}] * 1, format="json").data
    assert (said["accepted"], said["unknown_count"], said["held"]) == (0, 2, 2)
    assert (nobody["accepted"], nobody["unknown_count"], nobody["held"]) == (0, 1, 1)
    matching.count_due()
    assert not QualityCount.objects.exists()


def test_wrong_labels_are_named_by_their_row(world, scene):
    rows = logged(scene, 4)
    sent = [
        {"prediction_id": str(rows[0].pk), "actual": "maybe"},
        {"prediction_id": "not-an-id", "actual": "yes"},
        {"prediction_id": str(rows[1].pk)},
        {"prediction_id": str(rows[2].pk), "actual": None},
        "nonsense",
        {"prediction_id": str(rows[3].pk), "actual": "yes"},
    ]
    said = world.api("dan").post(URL, sent, format="json").data
    assert said["accepted"] == 1
    assert [each["row"] for each in said["invalid"]] == [1, 2, 3, 4, 5] or sorted(
        each["row"] for each in said["invalid"]
    ) == [1, 2, 3, 4, 5]
    assert any("no, yes" in each["detail"] for each in said["invalid"])


@pytest.mark.parametrize(
    ("classes", "given", "kept"),
    [
        ([0, 1], "1", 1),
        ([0, 1], 1.0, 1),
        ([0, 1], True, None),
        (["0", "1"], 1, "1"),
        ([False, True], "true", True),
        ([False, True], 1, True),
    ],
)
def test_a_class_is_known_by_its_type(world, bare, classes, given, kept):
    bare.version.schema = {**SCHEMA, "output": {**SCHEMA["output"], "classes": classes}}
    bare.version.save()
    [row] = logged(bare, 1)
    said = world.api("dan").post(URL, {"prediction_id": str(row.pk), "actual": given}, format="json").data
    if kept is None:
        assert said["invalid_count"] == 1
    else:
        assert said["accepted"] == 1
        assert Feedback.objects.get().actual is kept or Feedback.objects.get().actual == kept


@pytest.mark.parametrize(("given", "good"), [(3, True), ("3.5", True), ("three", False), (True, False), (1e400, False)])
def test_a_regressor_takes_numbers(world, bare, given, good):
    bare.version.schema = {**SCHEMA, "output": {"task": "regressor", "classes": None, "probabilities": False}}
    bare.version.save()
    [row] = logged(bare, 1)
    PredictionLog.objects.update(prediction=2.0, probabilities=None)
    found = feedback.receive(bare.deployment, world.caller("dan"), [feedback.Entry(1, row.pk, given)])
    assert found.accepted == good
    matching.count_due()
    assert quality(bare).labelled == good


def test_bodies_that_are_no_feedback_are_refused(world, scene):
    api = world.api("dan")
    assert api.generic("POST", URL, "{", content_type="application/json").status_code == 400
    assert api.generic("POST", URL, "3", content_type="application/json").status_code == 422
    assert api.generic("POST", URL, "a,b\n1,2\n", content_type="text/csv").status_code == 422
    assert api.generic("POST", URL, "<xml/>", content_type="text/xml").status_code == 415


def test_who_may_not_predict_may_not_say_what_happened(world, scene):
    [row] = logged(scene, 1)
    body = {"prediction_id": str(row.pk), "actual": "yes"}
    assert world.api("mallory").post(URL, body, format="json").status_code == 404
    assert world.api("dan", ["read"]).post(URL, body, format="json").status_code == 403
    assert not Feedback.objects.exists()


def test_an_idempotency_key_answers_again(world, scene):
    [row] = logged(scene, 1)
    api, body = world.api("dan"), {"prediction_id": str(row.pk), "actual": "yes"}
    first = api.post(URL, body, format="json", HTTP_IDEMPOTENCY_KEY="k1")
    again = api.post(URL, body, format="json", HTTP_IDEMPOTENCY_KEY="k1")
    assert first.data["accepted"] == again.json()["accepted"] == 1
    assert again["Idempotency-Replayed"] == "true"


def test_more_rows_than_a_call_takes_are_refused(world, scene, monkeypatch):
    from monitoring.quality import reading

    monkeypatch.setattr(reading, "MAX_ROWS", 3)
    said = world.api("dan").post(URL, [{"prediction_id": str(uuid.uuid4()), "actual": 1}] * 4, format="json")
    assert said.status_code == 413


def test_a_crash_in_the_middle_of_counting_neither_loses_nor_doubles(world, scene, monkeypatch):
    rows = logged(scene, 30)
    feedback.receive(
        scene.deployment,
        world.caller("dan"),
        [feedback.Entry(n, row.pk, row.prediction) for n, row in enumerate(rows, 1)],
    )
    real = matching._write

    def crash(*given):
        real(*given)
        raise RuntimeError("pulled the plug")

    monkeypatch.setattr(matching, "_write", crash)
    with pytest.raises(RuntimeError), transaction.atomic():
        matching.count_step()
    assert not QualityCount.objects.exists()
    monkeypatch.undo()
    for _ in range(3):
        matching.count_due()
    assert quality(scene).metrics["accuracy"].value == 1.0
    assert quality(scene).labelled == 30


def test_a_prediction_just_made_is_known_at_once(world, scene):
    """Its row waits in the spool of this machine: it is shipped before the id is called unknown."""
    from serving import prediction_log

    base, row = ids.prediction_base(), scene.row()
    prediction, probabilities = answer(row)
    prediction_log.append(
        base_id=base, organization_id=scene.organization.pk, deployment_id=scene.deployment.pk, version_id=scene.version.pk,
        at=clock.now().timestamp(), latency_ms=1.0, status=200, code="", detail="", key_prefix="", request_id="r1", via="api",
        request=orjson.dumps({"inputs": [row]}),
        response=orjson.dumps({"predictions": [prediction], "probabilities": [probabilities]}), pinned=False,
    )  # fmt: skip
    said = world.api("dan").post(URL, {"prediction_id": str(base), "actual": "yes"}, format="json").data
    assert (said["accepted"], said["unknown"]) == (1, [])
