"""The baseline page, its confirmation, its CSV and its API, through the door that people and scripts have."""

from __future__ import annotations

import csv
import io

import pytest

from accounts.models import AuditEvent
from mlops.core import clock
from mlops.jobs import runner
from mlops.jobs.models import Job
from monitoring import baselines, checks, counting, profiles, windows
from monitoring.models import Baseline, Incident
from tests.monitoring.scene import HOUR

PAGE = "/acme/deployments/fraud/baseline/"
CONFIRM = f"{PAGE}new-normal/"
API = "/api/v1/acme/deployments/fraud/baseline"


@pytest.fixture
def moved(scene):
    """A day on which `amount` is three times what it was, and a fifth of `colour` is a new one."""
    baselines.make(scene.deployment, scene.version)
    for hours_ago in range(20, 0, -1):
        rows = scene.rows(40, amount=lambda value: value * 3)
        for row in rows[:8]:
            row["colour"] = "mauve"
        scene.log(rows, clock.now() - hours_ago * HOUR)
    counting.count_new()
    return scene


def _run_jobs(kind: str) -> None:
    for job in Job.objects.filter(kind=kind, status="queued"):
        runner.run(job.pk)


def test_the_page_says_what_is_compared_and_shows_both_sides(moved, world):
    page = world.client("vic").get(PAGE).content.decode()
    assert "Version 1 is compared with 3,000 rows: reference rows given at push." in page
    assert page.index('row-title">amount<') < page.index('row-title">member<')  # moved most, comes first
    assert "mauve" in page
    assert "160 never seen in the baseline" in page
    assert "new normal…" not in page  # a viewer may not


def test_from_the_page_to_the_new_normal_and_back(moved, world):
    dan = world.client("dan")
    checks.run(moved.deployment)
    confirm = dan.get(f"{CONFIRM}?days=1").content.decode()
    assert "Make the last 1 day the new normal?" in confirm
    assert "<code>amount</code> has moved (PSI " in confirm
    assert "This makes new values of <code>colour</code> normal: &quot;mauve&quot;" in confirm
    assert "Drifting now, and calm afterwards: " in confirm

    seen = baselines.of(moved.deployment, moved.version)
    answer = dan.post(f"{CONFIRM}?version=1", {"days": 1, "baseline": seen.pk})
    assert answer.status_code == 302
    assert "is being made" in dan.get(answer.url).content.decode()
    _run_jobs("new_normal")
    page = dan.get(PAGE).content.decode()
    assert "Version 1 is compared with 800 rows: its traffic from " in page
    assert "Take it back" in page
    assert Incident.objects.get().status == "resolved"
    assert AuditEvent.objects.filter(action="baseline.new_normal").get().detail["rows"] == 800

    assert dan.post(f"{PAGE}undo/?version=1").status_code == 302
    assert baselines.of(moved.deployment, moved.version) == seen
    assert "Take it back" not in dan.get(PAGE).content.decode()


def test_what_may_not_be_is_said_on_the_page_and_no_button_is_there(scene, world):
    baselines.make(scene.deployment, scene.version)
    scene.log(scene.rows(20))
    counting.count_new()
    page = world.client("dan").get(CONFIRM).content.decode()
    assert "Too little traffic: 20 rows in the last 7 days, and 300 are needed." in page
    assert 'type="submit">Make it the new normal' not in page
    refused = world.client("dan").post(f"{CONFIRM}?version=1", {"days": 7, "baseline": 0})
    assert refused.status_code == 409
    assert Job.objects.filter(kind="new_normal").count() == 0


def test_a_page_that_was_overtaken_is_refused(moved, world):
    dan, seen = world.client("dan"), baselines.of(moved.deployment, moved.version)
    dan.post(f"{CONFIRM}?version=1", {"days": 1, "baseline": seen.pk})
    _run_jobs("new_normal")
    assert dan.post(f"{CONFIRM}?version=1", {"days": 1, "baseline": seen.pk}).status_code == 409
    assert Baseline.objects.count() == 2


def test_a_new_normal_that_cannot_be_made_after_all_says_why_on_the_page(moved, world):
    from serving.models import PredictionLog

    dan, seen = world.client("dan"), baselines.of(moved.deployment, moved.version)
    dan.post(f"{CONFIRM}?version=1", {"days": 1, "baseline": seen.pk})
    PredictionLog.objects.update(features=None)  # the log policy was quicker
    _run_jobs("new_normal")
    assert "0 rows are still kept with their values" in dan.get(PAGE).content.decode()
    assert baselines.of(moved.deployment, moved.version) == seen


def test_a_version_that_still_learns_says_how_far_it_is(bare, world):
    bare.log(bare.rows(120))
    counting.count_new()
    page = world.client("vic").get(PAGE).content.decode()
    assert "There is no baseline yet." in page
    assert "120 of 300 rows" in page
    assert world.api("vic").get(API).status_code == 404
    assert world.client("vic").get(f"{PAGE}?version=9").status_code == 404


def test_the_csv_has_two_lines_a_column(moved, world):
    answer = world.client("vic").get(f"{PAGE}columns.csv?range=24h")
    lines = list(csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode())))
    assert [(line["column"], line["side"], line["rows"]) for line in lines[:2]] == [
        ("amount", "baseline", "3000"),
        ("amount", "now", "800"),
    ]
    now = next(line for line in lines if (line["column"], line["side"]) == ("colour", "now"))
    assert (now["unseen"], now["unique"], now["types"]) == ("160", "4", "string: 800")
    assert "mauve: 0.2000" in now["top"]


def test_the_api_gives_the_same_and_does_the_same(moved, world):
    seen = world.api("vic").get(f"{API}?range=24h").json()
    assert (seen["version"], seen["source"], seen["rows"], seen["undo_until"]) == (1, "reference", 3000, None)
    assert seen["columns"][0]["name"] == "amount"
    assert seen["columns"][0]["now"]["median"] > 2 * seen["columns"][0]["baseline"]["median"]

    preview = world.api("vic").get(f"{API}/new-normal?days=1").json()
    assert (preview["rows"], preview["blocked"]) == (800, "")
    body = {"days": 1, "baseline": preview["baseline"]}
    assert world.api("vic").post(f"{API}/new-normal", body, format="json").status_code == 403
    dan = world.api("dan")
    assert dan.post(f"{API}/new-normal", {"days": 99}, format="json").status_code == 422
    assert dan.post(f"{API}/new-normal", body, format="json").status_code == 202
    assert dan.post(f"{API}/new-normal", body, format="json").json()["code"] == "new_normal_running"
    _run_jobs("new_normal")
    made = dan.get(API).json()
    assert (made["source"], made["rows"], made["made_by"]) == ("window", 800, "key dan test")
    assert made["undo_until"] is not None
    assert dan.post(f"{API}/undo").json()["source"] == "reference"
    assert dan.post(f"{API}/undo").json()["code"] == "no_former_baseline"


# -- the profile ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "state", "unique", "types"),
    [
        ([1.0, 2.0, 2.0, None], "", 2, {"number": 3, "missing": 1}),
        ([5, 5, 5], "constant", 1, {"number": 3}),
        ([None, None, None], "empty", 0, {"missing": 3}),
        (["a", "a", "b", None], "", 2, {"string": 3, "missing": 1}),
        (["a", "a"], "constant", 1, {"string": 2}),
        ([True, True, False], "", 2, {"boolean": 3}),
    ],
)
def test_a_column_is_described(values, state, unique, types):
    from monitoring.columns import FEATURE, watch
    from monitoring.drift.bins import kind_for

    column = watch("x", FEATURE, values, kind_for(values))
    found = profiles.of(column, column.tally, profiles.distinct_of(values))
    assert (found.state, found.unique, found.types) == (state, unique, types)


def test_another_type_is_named(scene):
    baseline = baselines.make(scene.deployment, scene.version)
    scene.log(scene.rows(50, age=str))
    counting.count_new()
    column = next(each for each in windows.watched(baseline) if each.name == "age")
    now = clock.now()
    found = profiles.of(column, windows.total(baseline, [column], now - HOUR, now)["age"])
    assert (found.state, found.wrong_type, found.types) == ("mixed types", 50, {"numeric string": 50})
