"""A file of rows: answered at once when small, by a job when large; every row once, bad rows apart, whatever happens on the way."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import signal
import subprocess
import sys
from datetime import timedelta

import pyarrow
import pyarrow.parquet
import pytest
from django.conf import settings as live_settings
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile

from accounts.models import AuditEvent
from mlops.core import clock, storage
from mlops.jobs import runner
from mlops.jobs.models import Job, JobStatus
from serving import batch_work, jobs, prediction_log
from serving.models import BatchPart, BatchRun, PredictionLog
from serving.services import batches, deployments
from tests.runner_host import wait_until
from tests.serving.server import PROJECT
from tests.tiny_models import at_predict

URL = "/api/v1/predict/acme/flowers/batch"
NDJSON = "application/x-ndjson"


@pytest.fixture
def iris(tiny):
    return tiny["iris_joblib"]


@pytest.fixture
def flowers(world, ready_version):
    return deployments.create_deployment(
        organization=world.acme, name="flowers", version=ready_version(world.acme), caller=world.caller("dan")
    )


def send(client, body, content_type, query="", **extra):
    content = body if isinstance(body, bytes) else body.encode()
    return client.generic("POST", URL + query, content, content_type=content_type, **extra)


def as_csv(rows):
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def as_parquet(rows):
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    return file.getvalue()


def fetched(client, url):
    answer = client.get(url)
    assert answer.status_code == 200, answer.content
    assert answer.streaming
    content = b"".join(answer.streaming_content)
    assert int(answer["Content-Length"]) == len(content)
    return content


def run_of(client, jobs_now, body, content_type=NDJSON, query="", **extra):
    """Send it as a run and let its job work."""
    with jobs_now():
        answer = send(client, body, content_type, query, HTTP_PREFER="respond-async", **extra)
        assert answer.status_code == 202, answer.content
    return client.get(answer.json()["url"]).json()


# -- at once ------------------------------------------------------------------------------------------------------------


def test_a_small_file_is_answered_at_once_in_the_format_it_came_in(world, flowers, iris) -> None:
    api = world.api("vic")
    rows = iris.rows
    answer = send(api, json.dumps(rows), "application/json")
    assert answer.status_code == 200, answer.content
    assert [each["prediction"] for each in answer.json()["results"]] == iris.expected
    assert answer.json()["failed"] == []
    assert answer["X-Slipway-Rows"] == "3"
    assert answer["X-Slipway-Failed-Rows"] == "0"
    assert int(answer["RateLimit-Limit"]) > 0
    lines = send(api, as_jsonl(rows), NDJSON)
    assert [json.loads(line)["prediction"] for line in lines.content.splitlines()] == iris.expected
    table = send(api, as_csv(rows), "text/csv; charset=utf-8")
    assert table["Content-Type"] == "text/csv; charset=utf-8"
    assert [row["prediction"] for row in csv.DictReader(io.StringIO(table.content.decode()))] == [
        str(each) for each in iris.expected
    ]
    packed = send(api, as_parquet(rows), "application/vnd.apache.parquet")
    assert pyarrow.parquet.read_table(io.BytesIO(packed.content)).column("prediction").to_pylist() == iris.expected
    assert not BatchRun.objects.exists()


def test_the_format_of_the_answer_can_be_chosen(world, flowers, iris) -> None:
    api = world.api("vic")
    assert send(api, as_csv(iris.rows), "text/csv", "?format=json").json()["rows"] == 3
    assert (
        send(api, as_csv(iris.rows), "text/csv", HTTP_ACCEPT="application/x-ndjson, */*;q=0.1")["Content-Type"]
        == NDJSON
    )
    assert send(api, as_csv(iris.rows), "text/csv", HTTP_ACCEPT="text/html")["Content-Type"].startswith("text/csv")
    refused = send(api, as_csv(iris.rows), "text/csv", "?format=excel")
    assert (refused.status_code, refused.json()["code"]) == (400, "unknown_format")


def test_a_form_file_and_a_pinned_version(world, flowers, iris, ready_version) -> None:
    ready_version(world.acme)
    file = SimpleUploadedFile("My rows.csv", as_csv(iris.rows).encode())
    answer = world.api("vic").post(f"{URL}?version=2&format=json", {"file": file}, format="multipart")
    assert answer.status_code == 200, answer.content
    assert answer.json()["model"]["version"] == 2
    assert answer["X-Slipway-Version"] == "2"


def test_bad_rows_are_said_beside_the_good_ones_and_nothing_of_it_is_logged(world, flowers, iris) -> None:
    rows = [*iris.rows, iris.bad_row, {**iris.rows[0], "id": 7}]
    told = send(world.api("vic"), json.dumps({"inputs": rows}), "application/json").json()
    assert [each["row"] for each in told["results"]] == [0, 1, 2, 3, 4]
    assert told["failed"][0]["row"] == 3
    assert told["failed"][0]["column"] == list(iris.rows[0])[1]
    assert told["results"][4]["prediction"] == iris.expected[0]  # a column that the model does not take is passed over
    prediction_log.ship_once()
    assert not PredictionLog.objects.exists()


@pytest.mark.parametrize(
    ("body", "kind", "status", "code"),
    [
        (b"", "text/csv", 400, "empty_file"),
        (b"a,b\n1,2\n", "text/csv", 422, "columns_missing"),
        (b"<rows/>", "application/xml", 415, "unsupported_media_type"),
        (b"[1,2", "application/json", 422, "broken_json"),
        (b"[]", "application/json", 422, "no_rows"),
        (b"PAR1...", "application/vnd.apache.parquet", 422, "broken_parquet"),
        (b"x" * 5_000, "text/csv", 413, "too_large"),
    ],
)
def test_what_is_no_file_of_rows_is_refused(world, flowers, settings, body, kind, status, code) -> None:
    settings.BATCH_LIMIT_BYTES = 4_000
    answer = send(world.api("vic"), body, kind)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.content
    assert answer["Content-Type"] == "application/problem+json"
    assert not os.listdir(live_settings.FILE_UPLOAD_TEMP_DIR)


def test_who_may_not_predict_may_send_no_file(world, flowers, iris) -> None:
    body = as_csv(iris.rows)
    assert send(world.api("mallory"), body, "text/csv").status_code == 404
    assert send(world.api("dan", ["read"]), body, "text/csv").json()["code"] == "scope_missing"
    client = world.api("vic")
    client.credentials()
    assert send(client, body, "text/csv").status_code == 401
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {world.key('dan', ['predict'], deployment='other')}")
    assert send(client, body, "text/csv").json()["code"] == "key_bound"
    assert send(world.api("vic"), body, "text/csv", "?version=9").json()["code"] == "version_not_found"
    deployments.stop(flowers, world.caller("dan"))
    assert send(world.api("vic"), body, "text/csv").status_code == 503


# -- by a job -----------------------------------------------------------------------------------------------------------


def rows_for(iris, count, *, bad=()):
    draw = random.Random(count)
    names = list(iris.rows[0])
    rows = [{name: round(draw.uniform(0.1, 7.5), 2) for name in names} for _ in range(count)]
    for place in bad:
        rows[place][names[2]] = "wide"
    return rows


@pytest.mark.parametrize(
    ("fmt", "kind", "write"),
    [("csv", "text/csv", as_csv), ("jsonl", NDJSON, as_jsonl), ("json", "application/json", json.dumps)],
)
@pytest.mark.parametrize("output", ["csv", "jsonl", "parquet"])
def test_a_larger_file_is_predicted_by_a_job(world, flowers, iris, jobs_now, fmt, kind, write, output) -> None:
    api, rows = world.api("vic"), rows_for(iris, 2_500, bad=(0, 1_200, 2_499))
    with jobs_now():
        answer = send(api, write(rows), kind, f"?format={output}")
        started = answer.json()
        assert answer.status_code == 202, started
        assert answer["Location"] == started["url"]
        assert (started["status"], started["version"], started["results_url"]) == ("queued", 1, None)
        early = api.get(f"{started['url']}/results")
        assert (early.status_code, early.json()["code"]) == (409, "not_ended")
    run = api.get(started["url"]).json()
    assert (run["status"], run["rows_total"], run["rows_done"], run["rows_failed"], run["progress"]) == (
        "done",
        2_500,
        2_500,
        3,
        1.0,
    ), run
    assert run["classes"] == [0, 1, 2]
    content = fetched(api, run["results_url"])
    assert len(content) == run["result_bytes"]
    if output == "csv":
        found = list(csv.DictReader(io.StringIO(content.decode())))
    elif output == "jsonl":
        found = [json.loads(line) for line in content.splitlines()]
    else:
        found = pyarrow.parquet.read_table(io.BytesIO(content)).to_pylist()
    assert [int(each["row"]) for each in found] == list(range(2_500))
    whole = api.post("/api/v1/predict/acme/flowers", {"inputs": rows[1:1_200]}, format="json").json()
    assert [str(each["prediction"]) for each in found[1:1_200]] == [str(each) for each in whole["predictions"]]
    failed = [json.loads(line) for line in fetched(api, run["failed_url"]).splitlines()]
    assert [each["row"] for each in failed] == [0, 1_200, 2_499]
    assert failed[0]["input"] == rows[0]
    assert failed[0]["column"] == list(rows[0])[2]
    assert api.get(run["job"]["url"]).json()["status"] == "done"
    assert not default_storage.exists(BatchRun.objects.get().file_key)  # the input is needed no more
    assert AuditEvent.objects.filter(action="batch.start").count() == 1


def test_parquet_in_says_how_many_rows_there_are(world, flowers, iris, jobs_now) -> None:
    run = run_of(
        world.api("vic"),
        jobs_now,
        as_parquet([{**row, "id": 1} for row in rows_for(iris, 1_500)]),
        "application/parquet",
    )
    assert (run["rows_total"], run["rows_failed"], run["format"], run["passed_over"]) == (1_500, 0, "parquet", ["id"])


def test_a_broken_end_fails_the_run_and_keeps_what_came_before(world, flowers, iris, jobs_now) -> None:
    api = world.api("vic")
    run = run_of(api, jobs_now, json.dumps(rows_for(iris, 6_000))[:-1_000], "application/json", "?format=jsonl")
    assert run["status"] == "failed"
    assert run["error"]["code"] == "broken_json"
    assert run["rows_done"] > 4_000
    assert len(fetched(api, run["results_url"]).splitlines()) == run["rows_done"]
    wrong = run_of(api, jobs_now, b"a,b\n1,2\n", "text/csv")
    assert (wrong["status"], wrong["error"]["code"], wrong["results_url"]) == ("failed", "columns_missing", None)
    assert api.get(f"{wrong['url']}/results").status_code == 404


def test_a_file_of_which_no_row_fits_is_given_up(world, flowers, jobs_now) -> None:
    run = run_of(world.api("vic"), jobs_now, b'{"x": 1}\n' * 30_000)
    assert (run["status"], run["error"]["code"]) == ("failed", "no_row_fits")
    assert 10_000 <= run["rows_failed"] < 30_000


class _Killer:
    """A model that ends its process on the number 13 and raises on 7."""

    format, rows = "sklearn", [[1.0]]
    schema = {
        "kind": "table", "inputs": [{"name": "x", "type": "double", "nullable": False}], "tensor": None,
        "output": {"task": "regressor", "classes": None, "probabilities": False}, "source": "given",
    }  # fmt: skip

    def __init__(self, folder) -> None:
        self.path = folder / "killer.pkl"
        self.path.write_bytes(
            at_predict(
                "import os\nv = [float(r) for r in (X['x'] if hasattr(X, 'columns') else [r[0] for r in X])]\n"
                "if 13.0 in v: os._exit(3)\nassert 7.0 not in v, 'seven'\nreturn v"
            )
        )


def test_a_row_that_kills_the_model_is_found_and_its_neighbours_are_answered(
    world, ready_version, tmp_path, jobs_now
) -> None:
    version = ready_version(world.acme, _Killer(tmp_path), model="killer")
    deployments.create_deployment(organization=world.acme, name="flowers", version=version, caller=world.caller("dan"))
    rows = [{"x": float(i % 1_000 + 100)} for i in range(1_500)]
    rows[20]["x"], rows[1_400]["x"] = 13.0, 7.0
    api = world.api("dan")
    with jobs_now():  # small enough to be tried at once: the model dies, and a run takes over
        started = send(api, as_jsonl(rows[:900]), NDJSON)
    assert started.status_code == 202
    run = api.get(started.json()["url"]).json()
    assert (run["status"], run["rows_done"], run["rows_failed"]) == ("done", 900, 1)
    run = run_of(api, jobs_now, as_jsonl(rows))
    failed = {each["row"]: each for each in map(json.loads, fetched(api, run["failed_url"]).splitlines())}
    assert {row: each["code"] for row, each in failed.items()} == {20: "model_crashed", 1_400: "model_error"}
    assert failed[20]["input"] == {"x": 13.0}
    assert [json.loads(line)["row"] for line in fetched(api, run["results_url"]).splitlines()] == list(range(1_500))


# -- what may happen on the way -------------------------------------------------------------------------------------------


class Killed(BaseException):
    """What a kill -9 is to the code it hits."""


@pytest.mark.parametrize("place", ["read", "keep", "move", "progress"])
def test_a_worker_that_dies_anywhere_leaves_every_row_exactly_once(
    world, flowers, iris, jobs_now, monkeypatch, place
) -> None:
    monkeypatch.setattr(batch_work, "READ_ROWS", 300)
    monkeypatch.setattr(batch_work, "CHECKPOINT_S", 0.0)
    rows, deaths = rows_for(iris, 2_000, bad=(5,)), []
    target = {
        "read": (batch_work.Portion, "_read"), "keep": (storage, "keep"), "move": (batch_work.Portion, "_move"), "progress": (runner.JobRun, "progress"),
    }[place]  # fmt: skip
    real = getattr(*target)

    def dying(*args, **kwargs):
        deaths.append(1)
        if len(deaths) % 4 == 0:
            raise Killed
        return real(*args, **kwargs)

    with jobs_now(leave=("batch_predict",)):
        started = send(world.api("dan"), as_jsonl(rows), NDJSON).json()
    monkeypatch.setattr(*target, dying)
    kills = 0
    while True:
        Job.objects.filter(pk=started["job"]["id"]).update(status=JobStatus.QUEUED, attempts=0, lease_token=None)
        try:
            runner.run(started["job"]["id"])
        except Killed:
            kills += 1
            assert kills < 60
            continue
        break
    assert kills >= 2
    run = BatchRun.objects.get(pk=started["id"])
    assert (run.status, run.rows_done, run.rows_failed) == ("done", 2_000, 1)
    api = world.api("dan")
    results = [json.loads(line) for line in fetched(api, f"{started['url']}/results").splitlines()]
    assert [each["row"] for each in results] == list(range(2_000))
    assert [json.loads(line)["row"] for line in fetched(api, f"{started['url']}/failed").splitlines()] == [5]
    assert run.parts.count() > 2


def test_a_worker_that_was_taken_for_dead_adds_nothing(world, flowers, iris, jobs_now, monkeypatch) -> None:
    monkeypatch.setattr(batch_work, "READ_ROWS", 300)
    monkeypatch.setattr(batch_work, "CHECKPOINT_S", 0.0)
    real, seen = batch_work.Portion._checkpoint, []

    def slow(self):
        """While this worker sleeps at its second checkpoint, another one takes the job over and does all of it."""
        if self.done >= 600 and not seen:
            seen.append(self)
            Job.objects.filter(pk=self.job.job_id).update(status=JobStatus.QUEUED, attempts=0, lease_token=None)
            runner.run(self.job.job_id)
        return real(self)

    monkeypatch.setattr(batch_work.Portion, "_checkpoint", slow)
    run = run_of(world.api("dan"), jobs_now, as_jsonl(rows_for(iris, 1_500)))
    assert seen
    assert (run["status"], run["rows_done"]) == ("done", 1_500)
    rows = [json.loads(line)["row"] for line in fetched(world.api("dan"), run["results_url"]).splitlines()]
    assert rows == list(range(1_500))
    kept = set(BatchPart.objects.values_list("key", flat=True))
    folder = batches.folder_of(BatchRun.objects.get())
    stored = {
        f"{folder}/{name}/{file}"
        for name in default_storage.listdir(folder)[0]
        for file in default_storage.listdir(f"{folder}/{name}")[1]
    }
    assert stored == kept  # what the slow one wrote is gone again


def test_kill_minus_nine_of_the_worker_and_the_next_one_goes_on(local_slipway, iris) -> None:
    """The real thing: another process works, is killed with SIGKILL twice, and the sweeper hands its job on."""
    server = local_slipway
    rows = rows_for(iris, 60_000, bad=(7, 59_999))
    path = server.folder / "rows.jsonl"
    path.write_text(as_jsonl(rows))
    ids = json.loads(server.python(_START, str(path)).strip().splitlines()[-1])
    environment = {**server.environment, "SLOW": "1"}
    for kill in range(3):
        worker = subprocess.Popen([sys.executable, "-c", _WORK, str(ids["job"])], cwd=PROJECT, env=environment)
        if kill < 2:
            before = _state(server, ids["batch"])[1]
            wait_until(
                lambda before=before, worker=worker: (
                    _state(server, ids["batch"])[1] > before or worker.poll() is not None
                ),
                60,
                every_s=0.2,
            )
            assert worker.poll() is None, "it ended before it could be killed"
            os.kill(worker.pid, signal.SIGKILL)
        else:
            environment["SLOW"] = ""
        worker.wait(120)
    status, done, failed = _state(server, ids["batch"])
    assert (status, done, failed) == ("done", 60_000, 2)
    told = json.loads(server.python(_RESULTS, ids["batch"]).strip().splitlines()[-1])
    assert told == {"rows": 60_000, "in_order": True, "failed": [7, 59_999], "job": "done"}


_START = """
import django, json, sys
django.setup()
from accounts.caller import Caller
from accounts.models import User
from mlops.jobs import queue
from serving.batch_input import Sent
from serving.models import Deployment
from serving.services import batches
from mlops.core.storage import Spool
queue.send = lambda job_id: None
spool = Spool(limit_bytes=1 << 30, what="x")
spool.write(open(sys.argv[1], "rb").read())
spool.finish()
row = Deployment.objects.with_routes().get(name="flowers")
run = batches.start_run(deployment=row, version_id=row.live_version.pk, sent=Sent("rows.jsonl", "jsonl", spool), output="jsonl", caller=Caller(user=User.objects.get()))
print(json.dumps({"batch": str(run.pk), "job": run.job_id}))
"""
_WORK = """
import django, os, sys, time
django.setup()
from datetime import timedelta
from mlops.core import clock
from mlops.jobs import queue, runner
from mlops.jobs.models import Job
from serving import batch_work
queue.send = lambda job_id: None
batch_work.CHECKPOINT_S = 0.05
if os.environ.get("SLOW"):
    batch_work.READ_ROWS = 500
    real = batch_work.Portion._read
    batch_work.Portion._read = lambda self: (time.sleep(0.05), real(self))[1]
Job.objects.filter(status="running").update(lease_until=clock.now() - timedelta(seconds=1))
runner.sweep()
runner.run(int(sys.argv[1]))
"""
_STATE = """
import django, json, sys
django.setup()
from serving.models import BatchRun
run = BatchRun.objects.get(pk=sys.argv[1])
print(json.dumps([run.status, run.rows_done, run.rows_failed]))
"""
_RESULTS = """
import django, json, sys
django.setup()
from mlops.core import storage
from serving.models import BatchRun
from serving.services import batches
run = BatchRun.objects.select_related("job").get(pk=sys.argv[1])
def rows(kind):
    text = b"".join(b"".join(storage.open_stream(key)) for key in batches.file_of(run, kind)[0])
    return [json.loads(line)["row"] for line in text.splitlines()]
found = rows("result")
print(json.dumps({"rows": len(found), "in_order": found == list(range(len(found))), "failed": rows("failed"), "job": run.job.status}))
"""


def _state(server, batch_id):
    import sqlite3

    with sqlite3.connect(server.folder / "db.sqlite3") as database:
        key = batch_id.replace("-", "")
        return database.execute(
            "SELECT status, rows_done, rows_failed FROM serving_batchrun WHERE id = ?", [key]
        ).fetchone()


def test_long_runs_go_on_in_portions(world, flowers, iris, jobs_now, monkeypatch, settings) -> None:
    settings.BATCH_PORTION_S = 0
    monkeypatch.setattr(batch_work, "READ_ROWS", 400)
    run = run_of(world.api("dan"), jobs_now, as_csv(rows_for(iris, 1_000)), "text/csv")
    assert (run["status"], run["rows_done"]) == ("done", 1_000)
    assert BatchPart.objects.filter(kind="result").count() > 2
    rows = list(csv.DictReader(io.StringIO(fetched(world.api("dan"), run["results_url"]).decode())))
    assert [int(row["row"]) for row in rows] == list(range(1_000))  # one header line, in the first piece


def test_a_run_can_be_cancelled_and_what_was_done_stays(world, flowers, iris, jobs_now, monkeypatch) -> None:
    api = world.api("dan")
    with jobs_now(leave=("batch_predict",)):
        waiting = send(api, as_csv(rows_for(iris, 1_200)), "text/csv").json()
    cancelled = api.post(f"{waiting['url']}/cancel").json()
    assert cancelled["status"] == "cancelled"
    assert api.get(waiting["job"]["url"]).json()["status"] == "cancelled"
    again = api.post(f"{waiting['url']}/cancel")
    assert (again.status_code, again.json()["code"]) == (409, "already_ended")

    monkeypatch.setattr(batch_work, "READ_ROWS", 300)
    monkeypatch.setattr(batch_work, "CHECKPOINT_S", 0.0)
    real = batch_work.Portion._read

    def read(self):
        if self.done >= 600:
            batches.cancel(BatchRun.objects.get(pk=self.run.pk), world.caller("dan"))
        return real(self)

    monkeypatch.setattr(batch_work.Portion, "_read", read)
    run = run_of(api, jobs_now, as_jsonl(rows_for(iris, 1_200)))
    assert (run["status"], run["rows_done"]) == ("cancelled", 600)
    assert api.get(run["job"]["url"]).json()["status"] == "cancelled"
    assert len(fetched(api, run["results_url"]).splitlines()) == 600


def test_a_failed_run_goes_on_where_it_stopped_when_its_job_is_tried_again(
    world, flowers, iris, jobs_now, monkeypatch
) -> None:
    api = world.api("dan")
    monkeypatch.setattr(batch_work, "READ_ROWS", 300)
    monkeypatch.setattr(batch_work, "CHECKPOINT_S", 0.0)
    real = batch_work.Portion._read

    def read(self):
        if self.done >= 600:
            raise batch_work.SlipwayError("The runner host went away.", code="runner_host_unavailable")
        return real(self)

    with monkeypatch.context() as patched:
        patched.setattr(batch_work.Portion, "_read", read)
        run = run_of(api, jobs_now, as_jsonl(rows_for(iris, 1_200)))
    assert (run["status"], run["error"]["code"]) == ("failed", "runner_host_unavailable")
    with jobs_now():
        assert api.post(f"{run['job']['url']}/retry").status_code == 202
    run = api.get(run["url"]).json()
    assert (run["status"], run["rows_done"], run["error"]) == ("done", 1_200, None)
    assert [json.loads(line)["row"] for line in fetched(api, run["results_url"]).splitlines()] == list(range(1_200))


# -- whose it is, and how long --------------------------------------------------------------------------------------------


def test_a_run_is_its_senders_and_the_developers(world, flowers, iris, jobs_now) -> None:
    vic = world.api("vic", ["predict"])
    run = run_of(vic, jobs_now, as_csv(rows_for(iris, 20)), "text/csv")
    for path in ("", "/results"):
        assert vic.get(run["url"] + path).status_code == 200
        assert world.api("dan").get(run["url"] + path).status_code == 200
        assert world.api("mallory").get(run["url"] + path).status_code == 404
        stranger = world.api("vic")  # another key of a viewer
        assert (stranger.get(run["url"] + path).status_code, stranger.get(run["url"] + path).json()["code"]) == (
            403,
            "role_too_low",
        )
    assert [each["id"] for each in vic.get(URL).json()["results"]] == [run["id"]]
    assert world.api("vic").get(URL).json()["results"] == []
    assert len(world.api("dan").get(URL).json()["results"]) == 1
    assert world.api("vic").post(f"{run['url']}/cancel").status_code == 403
    bound = world.api("dan")
    bound.credentials(HTTP_AUTHORIZATION=f"Bearer {world.key('dan', deployment='other')}")
    assert bound.get(run["url"]).status_code == 404
    assert bound.get(URL).status_code == 404


def test_only_so_many_runs_may_wait(world, flowers, iris, jobs_now, settings) -> None:
    settings.BATCH_RUNS = 2
    api, body = world.api("dan"), as_csv(iris.rows)
    with jobs_now(leave=("batch_predict",)):
        answers = [send(api, body, "text/csv", HTTP_PREFER="respond-async") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [202, 202, 429]
    assert answers[2].json()["code"] == "too_many_runs"
    assert answers[2]["Retry-After"]


def test_the_same_idempotency_key_makes_one_run(world, flowers, iris, jobs_now) -> None:
    api, how = world.api("dan"), {"HTTP_PREFER": "respond-async", "HTTP_IDEMPOTENCY_KEY": "night-1"}
    with jobs_now(leave=("batch_predict",)):
        first, second = (send(api, as_csv(iris.rows), "text/csv", **how) for _ in range(2))
        other = send(api, as_csv(iris.rows[:1]), "text/csv", **how)
    assert first.json()["id"] == second.json()["id"]
    assert BatchRun.objects.count() == 1
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


def test_runs_are_forgotten_with_their_files(world, flowers, iris, jobs_now, settings) -> None:
    api = world.api("dan")
    old, new = (run_of(api, jobs_now, as_csv(rows_for(iris, 20, bad=(3,))), "text/csv") for _ in range(2))
    BatchRun.objects.filter(pk=old["id"]).update(
        finished_at=clock.now() - timedelta(days=settings.BATCH_KEEP_DAYS, minutes=1)
    )
    keys = list(BatchPart.objects.filter(run_id=old["id"]).values_list("key", flat=True))
    folder = batches.folder_of(BatchRun.objects.get(pk=old["id"]))
    assert len(keys) == 2
    storage.store(io.BytesIO(b"left by a killed worker"), folder=folder, filename="x.part", limit_bytes=100)
    jobs.forget_batches()
    assert api.get(old["url"]).status_code == 404
    assert api.get(new["url"]).status_code == 200
    assert not any(default_storage.exists(key) for key in keys)
    assert not default_storage.exists(folder)
