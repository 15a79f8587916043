"""Quality as people and scripts see it: realised, estimated, by version; labels by form and file; what a viewer sees."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from mlops.core import clock
from monitoring.models import AlertRule, Feedback, Incident, QualityBaseline, ScoreCount
from monitoring.quality import baselines, feedback, matching, scoring, watch
from monitoring.quality.reading import Entry
from registry.services import datasets
from serving.models import PredictionLog
from tests.monitoring.scene import answer

URL = "/acme/deployments/fraud/quality/"
API = "/api/v1/acme/deployments/fraud/quality"
HOUR = timedelta(hours=1)


def truth(scene, row, wrong: float = 0.0) -> str:
    """What happens: mostly what the score says; ``wrong`` of all rows the contrary of the answer."""
    prediction, chances = answer(row)
    if scene.random.random() < wrong:
        return "no" if prediction == "yes" else "yes"
    return "yes" if scene.random.random() < chances[1] else "no"


def with_outcomes(scene) -> None:
    """The reference says what happened."""
    dataset = scene.version.datasets.get()
    content = datasets.read_columns(dataset)
    names = list(content["columns"])
    rows = [dict(zip(names, values, strict=True)) for values in zip(*content["columns"].values(), strict=True)]
    content["target"] = {"name": "happened", "values": [truth(scene, row) for row in rows]}
    dataset.columns_key = datasets.write_columns(dataset, content)
    dataset.save()


def traffic(scene, caller, count: int, at, wrong: float = 0.0, label: bool = True) -> list[PredictionLog]:
    batch = scene.log(scene.rows(count), at=at)
    rows = list(PredictionLog.objects.filter(batch=batch))
    if label:
        given = [Entry(place, row.pk, truth(scene, row.features, wrong)) for place, row in enumerate(rows, 1)]
        feedback.receive(scene.deployment, caller, given)
    scoring.count_new()
    matching.count_due()
    return rows


@pytest.fixture
def known(world, scene, at):
    """A version with a reference that has outcomes, 600 labelled predictions of yesterday, 400 unlabelled ones of today."""
    now = at(clock.floor(clock.now(), HOUR) + timedelta(minutes=30))
    with_outcomes(scene)
    baselines.ensure(scene.deployment, scene.version)
    scene.labelled = traffic(scene, world.caller("dan"), 600, now - timedelta(days=1))
    scene.unlabelled = traffic(scene, world.caller("dan"), 400, now - timedelta(hours=2), label=False)
    at(now + timedelta(minutes=20))
    return scene


def test_the_answer_has_metrics_with_intervals_estimates_and_the_baseline(world, known):
    said = world.api("vic").get(API, {"since": "7d"}).json()
    found = {each["name"]: each for each in said["metrics"]}
    assert (said["answered"], said["labelled"], said["kind"]) == (1000, 600, "class")
    for name in ("accuracy", "f1", "auc"):
        each = found[name]
        assert each["low"] < each["value"] < each["high"]
        assert abs(each["estimated"] - each["baseline"]) < 0.08, "the world is as it was"
    assert abs(found["accuracy"]["value"] - found["accuracy"]["baseline"]) < 0.08
    assert said["versions"][0]["baseline"] == "reference"
    assert said["versions"][0]["calibrated"] is True
    assert sum(sum(row) for row in said["confusion"]["rows"]) == 600
    assert "labelled of 1,000 predictions" in said["sentence"]
    assert "reference 0." in said["sentence"]


def test_counting_again_counts_nothing_twice(known):
    before = ScoreCount.objects.get(rows=600).scores
    for _ in range(3):
        scoring.count_new()
        matching.count_due()
    assert ScoreCount.objects.get(rows=600).scores == before
    assert sum(ScoreCount.objects.values_list("rows", flat=True)) == 1000


def test_the_page_says_it_first_and_draws_it(world, known):
    page = world.client("vic").get(URL).content.decode()
    assert page.index("Accuracy 0.") < page.index("quality-chart")
    assert "600 labelled of 1,000 predictions in the last 7 days" in page
    for part in ("Confusion", "By version", "calibrat", "prediction_ids"):
        assert part in page
    assert "Upload labels" in page, "a viewer may predict, so he may say what happened"
    assert "New metric" not in page, "only a developer makes metrics"
    assert "New metric" in world.client("dan").get(URL + "?range=30d&metric=auc").content.decode()
    assert world.client("mallory").get(URL).status_code == 404


def test_a_page_without_anything_says_what_to_do(world, bare):
    page = world.client("dan").get(URL).content.decode()
    assert "No predictions were counted" in page
    assert world.api("dan").get(API).json()["metrics"] == []


def test_the_export_has_a_line_for_each_metric_and_hour(world, known):
    answer_ = world.client("vic").get(URL + "export.csv?range=24h")
    lines = b"".join(answer_.streaming_content).decode().splitlines()
    assert lines[0].startswith("at,version,answered,labelled,metric,value,low,high,estimated")
    assert any(",accuracy," in line for line in lines)


def test_a_file_of_labels_is_uploaded_and_each_row_answered(world, known):
    rows = known.unlabelled[:3]
    text = f"prediction_id,actual\n{rows[0].pk},yes\n{rows[1].pk},maybe\nnonsense,yes\n"
    file = SimpleUploadedFile("labels.csv", text.encode(), content_type="text/csv")
    page = world.client("dan").post(URL + "feedback/", {"file": file}).content.decode()
    assert "none of the classes" in page
    assert "nonsense" in page
    assert Feedback.objects.filter(prediction_id=rows[0].pk, counted="yes").exists()


def test_a_prediction_has_a_form_for_its_outcome_and_shows_the_words_before(world, known):
    row = known.unlabelled[0]
    client, where = world.client("dan"), f"/acme/deployments/fraud/predictions/{row.pk}/"
    client.post(where + "feedback/", {"actual": "yes"})
    client.post(where + "feedback/", {"actual": "no"})
    page = client.get(where).content.decode()
    assert "Said by Dan" in page
    assert "before: yes" in page
    client.post(where + "feedback/", {"actual": "maybe"})
    assert Feedback.objects.get(prediction_id=row.pk).actual == "no"


def test_a_drop_beyond_chance_opens_an_incident_and_a_calm_week_does_not(world, known, at):
    rule = AlertRule.objects.get_or_create(
        deployment=known.deployment, kind="quality",
        defaults={"organization": world.acme, "threshold": 0.03, "window_minutes": 7 * 1440, "minimum_rows": 200},
    )[0]  # fmt: skip
    assert watch.look(known.deployment) == 0
    now = clock.now()
    traffic(known, world.caller("dan"), 900, now - timedelta(hours=3), wrong=0.45)
    assert watch.look(known.deployment) == 1
    signal = Incident.objects.get().signals["quality"]
    assert "it was 0." in signal["what"]
    assert "the reference" in signal["what"]
    assert rule.kind == "quality"


def test_few_labels_say_nothing(world, scene, at):
    now = at(clock.now())
    with_outcomes(scene)
    AlertRule.objects.create(
        organization=world.acme,
        deployment=scene.deployment,
        kind="quality",
        threshold=0.03,
        window_minutes=7 * 1440,
        minimum_rows=200,
    )
    traffic(scene, world.caller("dan"), 100, now - HOUR, wrong=1.0)
    assert watch.look(scene.deployment) == 0
    assert not Incident.objects.exists()


def test_without_a_reference_the_first_labelled_rows_calibrate_and_until_then_it_says_uncalibrated(world, bare, at):
    now = at(clock.now())
    traffic(bare, world.caller("dan"), 200, now - HOUR, label=False)
    assert baselines.ensure(bare.deployment, bare.version).source == QualityBaseline.Source.NONE
    assert "uncalibrated" in world.api("dan").get(API).json()["sentence"]
    traffic(bare, world.caller("dan"), 1100, now - HOUR)
    assert baselines.ensure(bare.deployment, bare.version).source == QualityBaseline.Source.FEEDBACK
    assert world.api("dan").get(API).json()["versions"][0]["calibrated"] is True
