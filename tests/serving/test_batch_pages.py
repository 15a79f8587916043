"""Batch and Compare in the browser: the form, the run, the downloads, and who sees what."""

from __future__ import annotations

import io
import json
import re

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from serving import prediction_log
from serving.models import BatchRun, Comparison, Rollout
from serving.services import deployments

BATCHES = "/acme/deployments/flowers/batches/"
COMPARE = "/acme/deployments/flowers/compare/"


@pytest.fixture
def iris(tiny):
    return tiny["iris_joblib"]


@pytest.fixture
def flowers(world, ready_version):
    return deployments.create_deployment(
        organization=world.acme, name="flowers", version=ready_version(world.acme), caller=world.caller("dan")
    )


def rows_file(rows, name="rows.jsonl"):
    return SimpleUploadedFile(name, "".join(json.dumps(row) + "\n" for row in rows).encode())


def send(client, jobs_now, file, **fields):
    with jobs_now():
        return client.post(BATCHES, {"file": file, "output": "csv", **fields})


def test_a_file_is_sent_watched_and_its_results_are_fetched(world, flowers, iris, jobs_now) -> None:
    vic = world.client("vic")
    assert "No file was sent yet." in vic.get(BATCHES).content.decode()
    answer = send(vic, jobs_now, rows_file([*iris.rows, iris.bad_row]))
    run = BatchRun.objects.get()
    assert answer["Location"] == f"{BATCHES}{run.pk}/"
    page = vic.get(answer["Location"]).content.decode()
    assert "4 rows, 1 of them could not be predicted." in page
    assert list(iris.rows[0])[1] in page  # the failed row and its reason are shown
    results = vic.get(f"{answer['Location']}results/")
    assert results["Content-Disposition"].startswith('attachment; filename="flowers-')
    assert b"".join(results.streaming_content).startswith(b"row,prediction,")
    failed = vic.get(f"{answer['Location']}failed/")
    assert json.loads(b"".join(failed.streaming_content))["row"] == 3
    assert "rows.jsonl" in vic.get(BATCHES).content.decode()


def test_others_see_a_run_only_with_a_developers_role(world, flowers, iris, jobs_now) -> None:
    path = send(world.client("dan"), jobs_now, rows_file(iris.rows))["Location"]
    assert world.client("alice").get(path).status_code == 200
    assert world.client("vic").get(path).status_code == 403
    assert world.client("mallory").get(path).status_code == 404
    assert world.client("mallory").post(BATCHES, {"file": rows_file(iris.rows), "output": "csv"}).status_code == 404
    listed = world.client("vic").get(BATCHES).content.decode()
    assert "rows.jsonl" not in listed
    assert "Compare" not in re.search(r'aria-label="Deployment".*?</nav>', listed, re.DOTALL)[0]


def test_what_is_wrong_with_a_file_is_said_in_the_form(world, flowers, iris, jobs_now, settings) -> None:
    dan = world.client("dan")
    for fields, words in (
        ({"file": rows_file(iris.rows, "rows.xlsx")}, "ends in &#x27;.xlsx&#x27;"),
        ({"file": rows_file([])}, "empty"),
        ({}, "This field is required."),
        ({"file": rows_file(iris.rows), "version": "7"}, "Select a valid choice"),
    ):
        answer = dan.post(BATCHES, {"output": "csv", **fields})
        assert answer.status_code == 422
        assert words in answer.content.decode(), words
    settings.BATCH_LIMIT_BYTES = 100
    assert dan.post(BATCHES, {"output": "csv", "file": rows_file(iris.rows)}).status_code == 413
    assert not BatchRun.objects.exists()
    deployments.stop(flowers, world.caller("dan"))
    assert "Nothing answers here." in dan.get(BATCHES).content.decode()


def test_a_waiting_run_is_live_and_can_be_cancelled(world, flowers, iris, jobs_now) -> None:
    dan = world.client("dan")
    with jobs_now(leave=("batch_predict",)):
        path = dan.post(BATCHES, {"file": rows_file(iris.rows), "output": "parquet"})["Location"]
    assert "data-poll" in dan.get(path).content.decode()
    part = dan.get(path, HTTP_HX_REQUEST="true").content.decode()
    assert part.lstrip().startswith('<section id="batch-run"')
    assert dan.get(f"{path}results/").status_code == 409
    assert world.client("vic").post(f"{path}cancel/").status_code == 403
    assert dan.post(f"{path}cancel/").status_code == 302
    page = dan.get(path).content.decode()
    assert "Cancelled" in page
    assert "data-poll" not in page.split("<main")[1]
    assert dan.post(f"{path}retry/").status_code == 409


def test_a_failed_run_goes_on_by_a_click(world, flowers, iris, jobs_now) -> None:
    dan = world.client("dan")
    path = send(dan, jobs_now, SimpleUploadedFile("rows.csv", b"a,b\n1,2\n"))["Location"]
    page = dan.get(path).content.decode()
    assert "lacks the columns" in page
    assert "Go on from row 0" in page
    with jobs_now():
        assert dan.post(f"{path}retry/").status_code == 302
    assert BatchRun.objects.get().status == "failed"  # for the same reason, of course


def test_a_comparison_is_started_read_and_promoted(world, flowers, iris, ready_version, jobs_now) -> None:
    dan = world.client("dan")
    assert "There is no other version" in dan.get(COMPARE).content.decode()
    ready_version(world.acme)
    world.api("dan").post("/api/v1/predict/acme/flowers", {"inputs": iris.rows}, format="json")
    prediction_log.ship_once()
    with jobs_now():
        answer = dan.post(COMPARE, {"version": "2", "last": "100"})
    row = Comparison.objects.get()
    assert answer["Location"] == f"{COMPARE}{row.pk}/"
    page = dan.get(answer["Location"]).content.decode()
    assert "Version 2 agrees on 100 % of the last 3 logged rows." in page
    assert "Promote version 2" in page
    assert "p50 of one row" in page
    assert "Version 2 agrees" in dan.get(COMPARE).content.decode()
    assert dan.post("/acme/deployments/flowers/deploy/", {"version": row.candidate_id}).status_code == 302
    assert "Promote version 2" not in dan.get(answer["Location"]).content.decode()
    assert world.client("vic").get(answer["Location"]).status_code == 403
    assert world.client("vic").post(COMPARE, {"version": "1", "last": "100"}).status_code == 403
    assert world.client("mallory").get(COMPARE).status_code == 404
    wrong = dan.post(COMPARE, {"version": "99", "last": "0"})
    assert wrong.status_code == 422
    assert io.BytesIO(wrong.content).read().count(b"field-error") >= 2


def test_a_compared_version_begins_as_a_canary_with_one_click(world, flowers, ready_version, jobs_now) -> None:
    dan = world.client("dan")
    ready_version(world.acme)
    with jobs_now():
        path = dan.post(COMPARE, {"version": "2", "last": "100"})["Location"]
    page = dan.get(path).content.decode()
    form = next(part for part in page.split("<form")[1:] if "Start canary" in part)
    assert 'action="/acme/deployments/flowers/routing/rollout/"' in form
    fields = dict(re.findall(r'name="(\w+)" value="([^"]+)"', form.split("</form>")[0]))
    assert world.client("vic").post("/acme/deployments/flowers/routing/rollout/", fields).status_code == 403
    assert not Rollout.objects.exists()
    assert dan.post("/acme/deployments/flowers/routing/rollout/", fields).status_code == 302
    rollout = Rollout.objects.get()
    assert (rollout.candidate.number, rollout.share, rollout.steps) == (2, 1, [1, 10, 50, 100])
    begun = dan.get(path).content.decode()
    assert "Promote version 2" in begun
    assert "Start canary" not in begun


def test_no_canary_is_offered_where_nothing_answers(world, flowers, ready_version, jobs_now) -> None:
    dan = world.client("dan")
    ready_version(world.acme)
    with jobs_now():
        path = dan.post(COMPARE, {"version": "2", "last": "100"})["Location"]
    deployments.stop(flowers, world.caller("dan"))
    assert "Start canary" not in dan.get(path).content.decode()
