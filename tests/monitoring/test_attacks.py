"""What somebody tries who means harm: values of single rows for viewers, secrets that go elsewhere, one label that stops everybody's counting."""

from __future__ import annotations

import json

import pytest

from monitoring import channel_services, delivery
from monitoring.channels import apprise_child
from monitoring.drift.bins import fit
from monitoring.drift.causes import likely_causes
from monitoring.models import CustomMetric, Feedback, FeedbackLoss, QualityCount
from monitoring.quality import matching
from serving.models import PredictionLog
from tests.monitoring.receiver import receiving
from tests.monitoring.scene import SCHEMA, Scene
from tests.monitoring.test_channels import loopback, made  # noqa: F401  a fixture

PAGE = "/acme/deployments/fraud/quality/"
API = "/api/v1/acme/deployments/fraud/quality"
METRICS = "/api/v1/acme/deployments/fraud/metrics"
LABELS = "/api/v1/predict/acme/fraud/feedback"


# -- values of single rows ----------------------------------------------------------------------------------------------------


def test_a_label_that_came_to_nothing_is_shown_to_those_who_see_the_log(world, scene):
    FeedbackLoss.objects.create(
        deployment=scene.deployment,
        day=scene.deployment.live_since.date(),
        refused=1,
        example="0193: 'Mrs Smith' is none",
    )
    for name, sees in (("dan", True), ("vic", False)):
        assert ("Mrs Smith" in world.client(name).get(PAGE).content.decode()) is sees
        lost = world.api(name).get(API).json()["lost"]
        assert lost["refused"] == 1
        assert ("Mrs Smith" in lost["example"]) is sees


def test_the_snippet_of_the_quality_page_shows_viewers_no_prediction(world, scene):
    batch = scene.log(scene.rows(1))
    PredictionLog.objects.filter(batch=batch).update(prediction="owes-41972")
    row = PredictionLog.objects.get(batch=batch)
    for name, sees in (("dan", True), ("vic", False)):
        page = world.client(name).get(PAGE).content.decode()
        assert ("owes-41972" in page) is sees
        assert (str(row.pk) in page) is sees


def test_why_a_metric_failed_may_quote_rows_and_is_for_those_who_see_the_log(world, scene):
    CustomMetric.objects.create(
        organization=world.acme, deployment=scene.deployment, name="mine", language="python", source="def metric(): ...",
        error="ValueError: [{'name': 'Mrs Smith'}]",
    )  # fmt: skip
    for name, sees in (("dan", True), ("vic", False)):
        for url in (METRICS, f"{METRICS}/mine"):
            assert ("Mrs Smith" in world.api(name).get(url).content.decode()) is sees
        page = world.client(name).get(PAGE).content.decode()
        assert ("Mrs Smith" in page) is sees
        assert "text-danger" in page, "that it failed is no secret"


NAMES = [f"Ann Lee {number}" for number in range(400)]
SECRET = "Mrs Smith of Elm Street 41972"
CHANGES = {
    "new levels": ("categorical", ["red", "blue"] * 200, [SECRET, *NAMES[:199], *["red"] * 200]),
    "capitals": ("text", [f"a text of one's own {name}" for name in NAMES], [SECRET.upper(), *map(str.upper, NAMES)]),
    "wrong encoding": (
        "text",
        [f"a text of one's own {name}" for name in NAMES],
        [f"{SECRET} MÃ¼ller", *(f"{each} Ã¼" for each in NAMES)],
    ),
    "text in a number": ("numeric", [float(number) for number in range(400)], [SECRET, *map(str, NAMES)]),
    "dates": (
        "datetime",
        [f"2026-01-{1 + day % 28:02d}T10:00:00Z" for day in range(400)],
        ["11.07.1964", *["12.08.1970"] * 300],
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_no_cause_quotes_the_value_of_a_single_row(change):
    """Causes are told to viewers and mailed: what comes often is named, of what came once only what it looks like."""
    kind, before, now = CHANGES[change]
    bins = fit(before, kind)
    causes = likely_causes(bins, bins.tally(before), bins.tally(now), before, now)
    assert causes
    for cause in causes:
        for secret in ("Smith", "SMITH", "41972", "Ann Lee", "ANN LEE", "1964", "1970"):
            assert secret not in cause.sentence


# -- secrets ------------------------------------------------------------------------------------------------------------------


def test_a_token_does_not_follow_its_channel_to_another_server(bare, world, loopback):  # noqa: F811
    with receiving() as (url, theirs), receiving() as (elsewhere, asked):
        channel, _ = made(bare, world, f"{url}/team", "ntfy", token="tk_secret")
        channel = channel_services.change(channel, world.caller("alice"), address=f"{url}/other-topic")
        channel_services.send_test(channel, world.caller("alice"))
        delivery.deliver_due()
        assert theirs[0][1]["Authorization"] == "Bearer tk_secret", "the same server, another topic"
        channel = channel_services.change(channel, world.caller("alice"), address=f"{elsewhere}/team")
        channel_services.send_test(channel, world.caller("alice"))
        delivery.deliver_due()
    ((_, headers, _),) = asked
    assert "Authorization" not in headers
    assert channel.secret_sealed == ""


@pytest.mark.parametrize("text", ["@everyone", "@everyoneX", "@here_", "@EVERYONE1", "<!here>", "<@&1>"])
def test_no_name_calls_a_room_whatever_stands_behind_it(text):
    said = apprise_child._plain(f"`{text}` drifted")
    assert text not in said
    assert "@e" not in said.lower().replace("\u200b", "|")


# -- figures ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("actual", [1e150, -1e149, 1e80])
def test_one_absurd_label_stops_nobodys_counting(world, actual):
    schema = {**SCHEMA, "output": {"task": "regressor", "classes": None, "probabilities": False}}
    scene = type("Numbers", (Scene,), {"schema": schema, "answer": lambda *_: (2.5, None)})(world.acme)
    rows = list(PredictionLog.objects.filter(batch=scene.log(scene.rows(3))))
    given = [
        {"prediction_id": str(row.pk), "actual": value} for row, value in zip(rows, (actual, actual, 3), strict=True)
    ]
    assert world.api("dan").post(LABELS, given, format="json").status_code == 200
    matching.count_due()
    outcomes = QualityCount.objects.get().outcomes
    json.dumps(
        outcomes, allow_nan=False
    )  # PostgreSQL takes no other JSON, and the step is one transaction for everybody
    assert world.api("dan").get(API).status_code == 200
    world.api("dan").post(LABELS, [{**each, "actual": 3} for each in given], format="json")
    matching.count_due()
    assert not Feedback.objects.filter(due=True).exists()
    json.dumps(QualityCount.objects.get().outcomes, allow_nan=False)
