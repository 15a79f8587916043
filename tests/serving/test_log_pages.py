"""The Data page, the log's filters and exports, and traffic in a sentence: through the doors a person and a script have."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pyarrow.parquet
import pytest
from django.urls import reverse

from mlops.core import clock
from monitoring.models import Incident
from serving import log_export, prediction_log, traffic_words
from serving.models import Deployment, LogPolicy, PredictionLog
from serving.periods import period
from serving.services import deployments, log_policies
from serving.traffic import Counts

API = "/api/v1/acme/deployments/flowers"


@pytest.fixture
def flowers(world, ready_version) -> Deployment:
    return deployments.create_deployment(
        organization=world.acme, name="flowers", version=ready_version(world.acme), caller=world.caller("dan")
    )


@pytest.fixture
def asked(flowers, world) -> Callable[[int], None]:
    """Through the predict path, and shipped."""

    def ask(count: int) -> None:
        for place in range(count):
            answer = world.api("dan").post(
                "/api/v1/predict/acme/flowers", {"inputs": [[5.1 + place, 3.5, 1.4, 0.2]]}, format="json"
            )
            assert answer.status_code == 200
        prediction_log.ship_once()

    return ask


def _body(answer: Any) -> bytes:
    assert answer.status_code == 200, answer.content
    return b"".join(answer.streaming_content)


def test_the_policy_is_changed_on_the_page_and_told_in_a_sentence(flowers, world, asked) -> None:
    asked(1)
    page = reverse("deployment_data", kwargs={"org": "acme", "name": "flowers"})
    dan = world.client("dan")
    assert "Rows are kept for 30 days; then they are deleted." in dan.get(page).content.decode()
    form = {"retention_days": "14", "sample_percent": "10", "archive": "on", "archive_days": "365", "column_1": "hash"}
    assert dan.post(page, form).status_code == 302
    policy = LogPolicy.objects.get()
    second = list(PredictionLog.objects.get().features)[1]
    assert (policy.retention_days, policy.sample_share, policy.redactions) == (14, 0.1, {second: "hash"})
    told = dan.get(page).content.decode()
    assert "Rows are kept for 14 days, 10 % of the answered ones after the first day" in told
    assert "then they are archived for 365 days" in told
    wrong = dan.post(page, {**form, "retention_days": "400"})
    assert wrong.status_code == 422
    assert world.client("vic").get(page).status_code == 403


def test_the_policy_of_scripts_changes_only_what_is_named(flowers, world) -> None:
    api = world.api("dan")
    assert api.get(f"{API}/log").json()["default_retention_days"] == 30
    assert api.patch(f"{API}/log", {"sample_share": 0.5}, format="json").status_code == 200
    found = api.patch(f"{API}/log", {"retention_days": 3}, format="json").json()
    assert (found["sample_share"], found["retention_days"], found["archive"]) == (0.5, 3, False)
    refused = api.patch(f"{API}/log", {"redactions": {"nothing": "hash"}}, format="json")
    assert (refused.status_code, "nothing" in refused.json()["detail"]) == (422, True)
    assert world.api("vic").patch(f"{API}/log", {"retention_days": 3}, format="json").status_code == 403


def test_a_redacted_row_says_so_and_offers_no_call(flowers, world, asked) -> None:
    api = world.api("dan")
    asked(1)
    name = next(iter(PredictionLog.objects.get().features))
    api.patch(f"{API}/log", {"redactions": {name: "remove"}}, format="json")
    asked(1)
    older, newer = (
        world.client("dan").get(reverse("deployment_prediction", kwargs={"org": "acme", "name": "flowers", "prediction_id": pk})).content.decode()
        for pk in PredictionLog.objects.order_by("pk").values_list("pk", flat=True)
    )  # fmt: skip
    assert ("The same call again" in older, "The same call again" in newer) == (True, False)
    assert "cannot be asked again" in newer
    assert "(removed)" in newer


def test_the_log_is_filtered_by_its_address(flowers, world, asked) -> None:
    asked(3)
    world.api("dan").post("/api/v1/predict/acme/flowers", {"inputs": [["a"]]}, format="json")
    prediction_log.ship_once()
    page, dan = reverse("deployment_predictions", kwargs={"org": "acme", "name": "flowers"}), world.client("dan")
    one = PredictionLog.objects.answered().first()

    def shown(query: str) -> int:
        return len(dan.get(page + query).context["predictions"])

    found = [shown(each) for each in ("", "?status=ok", "?status=error", "?version=1", "?version=7", "?range=1h", f"?find={one.pk}", f"?find={one.request_id}", "?since=2020-01-01&until=2025-12-31")]  # fmt: skip
    assert found == [4, 3, 1, 4, 0, 4, 1, 1, 0]
    assert [dan.get(page + each).status_code for each in ("?version=x", "?range=9y", "?since=never")] == [422] * 3


def test_the_log_is_exported_in_three_formats(flowers, world, asked) -> None:
    asked(3)
    api = world.api("dan")
    lines = [json.loads(line) for line in _body(api.get(f"{API}/predictions/export?as=jsonl")).splitlines()]
    table = list(csv.DictReader(io.StringIO(_body(api.get(f"{API}/predictions/export")).decode())))
    rows = pyarrow.parquet.read_table(
        io.BytesIO(_body(api.get(f"{API}/predictions/export?as=parquet&status=ok")))
    ).to_pylist()
    ids = [str(pk) for pk in PredictionLog.objects.order_by("-pk").values_list("pk", flat=True)]
    assert [line["id"] for line in lines] == [row["id"] for row in table] == ids
    assert [row["id"] for row in rows] == [pk.replace("-", "") for pk in ids]
    assert json.loads(rows[0]["features"]) == lines[0]["features"]
    first = next(iter(lines[0]["features"]))
    assert float(table[0][f"feature.{first}"]) == lines[0]["features"][first]
    assert api.get(f"{API}/predictions/export?as=xlsx").status_code == 422
    assert world.api("vic").get(f"{API}/predictions/export").status_code == 403


def test_an_export_is_bounded_and_says_where_to_go_on(flowers, world, asked, monkeypatch) -> None:
    asked(5)
    monkeypatch.setattr(log_export, "MOST_ROWS", 2)
    seen, query = [], "?as=jsonl"
    for _ in range(3):
        answer = world.api("dan").get(f"{API}/predictions/export{query}")
        seen += [json.loads(line)["id"] for line in _body(answer).splitlines()]
        query = f"?as=jsonl&before={answer.get(log_export.NEXT, '')}"
    assert seen == [str(pk) for pk in PredictionLog.objects.order_by("-pk").values_list("pk", flat=True)]
    assert log_export.NEXT not in answer


@pytest.mark.parametrize("begin", ["=", "+", "-", " =", "\n=", "\uff1d"])
def test_a_text_of_a_client_is_no_formula_in_a_spreadsheet(flowers, world, asked, begin) -> None:
    asked(1)
    row = PredictionLog.objects.get()
    first, text = next(iter(row.features)), f"{begin}HYPERLINK(1)"
    PredictionLog.objects.update(features={**row.features, first: text}, prediction="@sum")
    told = next(csv.DictReader(io.StringIO(_body(world.api("dan").get(f"{API}/predictions/export")).decode())))
    assert (told[f"feature.{first}"], told["prediction"]) == (f"'{text}", "'@sum")


def test_deletion_by_the_api_counts_first_and_ends_with_a_certificate(flowers, world, asked, jobs_now) -> None:
    asked(4)
    first = log_policies.columns_of(flowers)[0]
    api, body = world.api("alice"), {"column": first, "value": 6.1}
    assert world.api("dan").post(f"{API}/log/deletions", body, format="json").status_code == 403
    with jobs_now():
        made = api.post(f"{API}/log/deletions", body, format="json")
    url = f"{API}/log/deletions/{made.json()['id']}"
    counted = api.get(url).json()
    assert (made.status_code, counted["stage"], counted["found"]["rows"]) == (202, "confirm", 1)
    assert api.get(f"{url}/certificate").status_code == 404
    with jobs_now():
        assert api.post(f"{url}/confirm").status_code == 202
    done = api.get(url).json()
    assert (done["stage"], done["deleted"]["rows"], PredictionLog.objects.count()) == ("done", 1, 3)
    assert api.get(f"{url}/certificate").content.startswith(b"CERTIFICATE OF DELETION")
    assert api.post(f"{url}/confirm").status_code == 409
    assert api.post(f"{url}/destroy").status_code == 404


def test_deletion_on_the_page_finds_the_number_that_was_typed(flowers, world, asked, jobs_now) -> None:
    asked(3)
    first = log_policies.columns_of(flowers)[0]
    alice, names = world.client("alice"), {"org": "acme", "name": "flowers"}
    with jobs_now():
        sent = alice.post(reverse("deployment_deletions", kwargs=names), {"column": first, "value": "6.1"})
    page = alice.get(sent["Location"]).content.decode()
    assert "1 rows of the log and 0 of archives fit. Nothing is deleted yet." in page
    with jobs_now():
        alice.post(f"{sent['Location']}confirm/")
    assert "CERTIFICATE OF DELETION" in alice.get(sent["Location"]).content.decode()
    assert PredictionLog.objects.count() == 2
    empty = alice.post(reverse("deployment_deletions", kwargs=names), {"value": "", "ids": ""})
    assert (empty.status_code, b"Say which rows" in empty.content) == (422, True)
    assert world.client("dan").post(reverse("deployment_deletions", kwargs=names), {}).status_code == 403


# -- traffic --------------------------------------------------------------------------------------------------------------


def _counts(requests: int, failed: int = 0, ms: float = 12.0) -> Counts:
    found = Counts()
    for place in range(requests):
        found.add(500 if place < failed else 200, 1, ms)
    return found


@pytest.mark.parametrize(
    ("now", "before", "words"),
    [
        (_counts(1204, 4), _counts(1003), "1,204 requests in the last 24 hours, 0.33 % failed, p95 13 ms, 20 % more than the day before."),
        (_counts(50), _counts(100), "50 requests in the last 24 hours, none failed, p95 13 ms, 50 % fewer than the day before."),
        (_counts(1, 1), _counts(0), "1 request in the last 24 hours, 100 % failed, none the day before."),
        (_counts(400), _counts(100), "400 requests in the last 24 hours, none failed, p95 13 ms, 4 times as many as the day before."),
        (_counts(0), _counts(7), "No requests in the last 24 hours; 7 the day before."),
    ],
)  # fmt: skip
def test_traffic_is_told_in_a_sentence(now: Counts, before: Counts, words: str) -> None:
    assert traffic_words.sentence(now, before, period({})) == words


def test_a_period_of_ones_own_ends_where_it_says(flowers, world, asked) -> None:
    asked(2)
    page, dan = reverse("deployment_traffic", kwargs={"org": "acme", "name": "flowers"}), world.client("dan")
    assert dan.get(page).context["total"].requests == 2
    hour_ago = clock.now() - timedelta(hours=1)
    past = dan.get(page, {"since": (hour_ago - timedelta(hours=1)).isoformat(), "until": hour_ago.isoformat()})
    assert past.context["total"].requests == 0
    assert "data-poll" not in past.content.decode().split('id="deployment-traffic"')[1].split(">")[0]
    assert dan.get(page, {"since": "2026-01-02", "until": "2026-01-01"}).status_code == 422


def test_traffic_is_exported_as_it_was_counted(flowers, world, asked) -> None:
    asked(3)
    url = reverse("deployment_traffic_export", kwargs={"org": "acme", "name": "flowers"})
    rows = list(csv.DictReader(io.StringIO(_body(world.client("vic").get(f"{url}?range=1h")).decode())))
    assert [(row["version"], row["requests"], row["client_errors"]) for row in rows] == [("1", "3", "0")]
    assert float(rows[0]["p95_ms"]) > 0


def test_deploys_and_incidents_are_marked_on_every_chart(flowers, world, asked) -> None:
    asked(1)
    incident = Incident.objects.create(
        organization=world.acme, deployment=flowers, title="Drift", since=clock.now(), opened_at=clock.now()
    )
    page = world.client("vic").get(reverse("deployment_traffic", kwargs={"org": "acme", "name": "flowers"}))
    for chart in ("requests_chart", "latency_chart"):
        marks = {(mark["label"], mark["tone"]) for mark in page.context[chart]["marks"]}
        assert marks == {("v1", "deploy"), (f"incident #{incident.pk}", "incident")}
