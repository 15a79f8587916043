"""The drift page's parts: periods, windows, versions, a column's past, files, the budget; and the same through the API."""

from __future__ import annotations

import csv
import io
import json

import pytest
from django.urls import reverse

from mlops.core import clock
from monitoring import checks, column_history, lookback
from monitoring.models import DriftCheck, WatchPolicy
from serving.models import Deployment, Route
from tests.monitoring.scene import HOUR


def page(view: str, query: str = "", /, **kwargs) -> str:
    return reverse(view, kwargs={"org": "acme", "name": "fraud", **kwargs}) + query


def lines(response) -> list[dict[str, str]]:
    assert response["Content-Type"].startswith("text/csv")
    return list(csv.DictReader(io.StringIO(response.getvalue().decode())))


def chart(text: str, data_id: str) -> dict:
    return json.loads(text.split(f'<script id="{data_id}" type="application/json">')[1].split("</script>")[0])


@pytest.fixture
def watched(scene, at):
    """Version 1 drifts since six hours ago, version 2 does not; three looks."""
    now = clock.now()
    second = scene.add_version(2)
    scene.reference(version=second)
    Route.objects.filter(deployment=scene.deployment).update(weight=70)
    Route.objects.create(deployment=scene.deployment, version=second, weight=30)
    scene.deployment = Deployment.objects.with_routes().get(pk=scene.deployment.pk)
    for back, factor in ((30, 1), (6, 3), (0, 3)):
        at(now - back * HOUR)
        scene.log(scene.rows(400, amount=lambda value, factor=factor: value * factor))
        scene.log(scene.rows(350), version=second)
        checks.run(scene.deployment)
    return scene


def test_sentence_then_picture_then_table(watched, world):
    text = world.client("vic").get(page("deployment_drift")).content.decode()
    places = [
        text.index(part)
        for part in ("<code>amount</code> moved: PSI", 'id="drift-history"', '<th scope="col">Column</th>')
    ]
    assert places == sorted(places)
    assert "Columns together" in text
    assert "at most one in 90 days" in text
    assert 'aria-label="Version"' in text


def test_the_period_is_in_the_address_and_an_unknown_one_is_refused(watched, world):
    client = world.client("vic")
    week = chart(client.get(page("deployment_drift")).content.decode(), "drift-history")
    day = chart(client.get(page("deployment_drift", "?range=24h")).content.decode(), "drift-history")
    assert (len(week["x"]), len(day["x"])) == (3, 2)
    assert {mark["tone"] for mark in day["marks"]} == {"deploy", "incident"}
    assert client.get(page("deployment_drift", "?range=1y")).status_code == 422
    assert client.get(page("deployment_drift", "?version=two")).status_code == 422


def test_a_version_is_chosen(watched, world):
    text = world.client("vic").get(page("deployment_drift", "?version=2")).content.decode()
    assert "No drift in 6 of 6 columns" in text
    assert "<dd>v2</dd>" in text
    assert chart(text, "drift-history")["series"][0]["values"][-1] < 0.1


def test_a_window_is_chosen_and_says_what_it_found(watched, world):
    text = world.client("vic").get(page("deployment_drift", "?version=1&window=7d")).content.decode()
    assert "<p>The last 7 days: " in text
    assert "1,200 rows" in text


def test_a_columns_past_is_drawn_from_counts(watched, world):
    text = world.client("vic").get(page("deployment_drift", "?version=1&column=amount&range=24h")).content.decode()
    drawn = chart(text, "column-history")
    assert [series["label"] for series in drawn["series"]] == ["PSI", "PSI by chance"]
    assert min(value for value in drawn["series"][0]["values"] if value) > 0.5
    assert "Jensen-Shannon (base e)" in text
    assert "column-history" not in world.client("vic").get(page("deployment_drift", "?column=")).content.decode()
    unknown = world.client("vic").get(page("deployment_drift", "?column=nothing"))
    assert unknown.status_code == 200
    assert chart(unknown.content.decode(), "column-history")["x"] == []


def test_steps_with_few_rows_and_what_chance_shows(scene, at):
    now = at(clock.floor(clock.now(), HOUR) + HOUR / 2)
    scene.log(scene.rows(20), now - 2 * HOUR)
    scene.log(scene.rows(500), now - HOUR)
    check = checks.run(scene.deployment)
    few, enough = column_history.read(check.baseline, "amount", now - 10 * HOUR, HOUR)
    assert (few.rows, few.psi, few.by_chance) == (20, None, None)
    assert enough.psi < 0.1
    assert enough.by_chance == pytest.approx(9 * (1 / 500 + 1 / 3000), abs=1e-4)
    assert column_history.read(check.baseline, "nothing", now - HOUR, HOUR) == []


def test_the_column_table_is_a_file(watched, world):
    rows = lines(world.client("vic").get(page("deployment_drift_columns", "?version=1")))
    assert [row["name"] for row in rows][0] == "amount"
    assert float(rows[0]["psi"]) > 0.2
    assert {"kl", "js", "hellinger", "wasserstein_normed", "p_value", "alpha", "since", "cause"} < set(rows[0])
    hour = lines(world.client("vic").get(page("deployment_drift_columns", "?version=1&window=1h")))
    assert float(next(row for row in hour if row["name"] == "amount")["psi"]) > 0.2


def test_the_history_is_a_file_of_checks_or_of_one_column(watched, world):
    client = world.client("vic")
    rows = lines(client.get(page("deployment_drift_history", "?range=7d")))
    assert len(rows) == 6
    assert {row["version"] for row in rows} == {"1", "2"}
    assert rows == sorted(rows, key=lambda row: row["at"])
    steps = lines(client.get(page("deployment_drift_history", "?version=1&column=amount&range=24h")))
    assert [row["column"] for row in steps] == ["amount"] * len(steps)
    assert float(steps[-1]["psi"]) > 0.5


def test_a_cell_that_looks_like_a_formula_is_text_in_the_file(scene, world):
    scene.log(scene.rows(400))
    check = checks.run(scene.deployment)
    check.columns = [{**check.columns[0], "name": "=1+1"}, *check.columns[1:]]
    check.save()
    assert lines(world.client("vic").get(page("deployment_drift_columns")))[0]["name"] == "'=1+1"


@pytest.mark.parametrize("view", ["deployment_drift_columns", "deployment_drift_history", "deployment_budget"])
def test_strangers_see_404(scene, world, client, view):
    assert world.client("mallory").get(page(view)).status_code == 404
    assert "login" in client.get(page(view))["Location"]


def test_files_of_a_deployment_that_was_never_checked_are_empty(scene, world):
    assert lines(world.client("vic").get(page("deployment_drift_columns"))) == []
    assert lines(world.client("vic").get(page("deployment_drift_history", "?column=amount"))) == []


# -- the budget -------------------------------------------------------------------------------------------------------


def test_the_budget_is_read_by_all_and_changed_by_developers(scene, world):
    url = page("deployment_budget")
    text = world.client("vic").get(url).content.decode()
    assert "At most one in 90 days" in text
    assert "needs the role developer" in text
    data = {"budget_days": "30", "fixed_psi": "", "multivariate": "on"}
    assert world.client("vic").post(url, data).status_code == 403
    assert world.client("dan").post(url, data).status_code == 302
    kept = WatchPolicy.objects.get()
    assert (kept.budget_days, kept.fixed_psi, kept.multivariate) == (30, None, True)
    assert (
        "at most one in 30 days" not in world.client("vic").get(page("deployment_drift")).content.decode()
    )  # not checked yet
    assert "At most one in 30 days" in world.client("vic").get(url).content.decode()


def test_a_senseless_budget_is_refused_beside_its_field(scene, world):
    answer = world.client("dan").post(page("deployment_budget"), {"budget_days": "0", "fixed_psi": "99"})
    assert answer.status_code == 422
    assert b"is between 1 and 3650" in answer.content
    assert b"is between 0.01 and 10" in answer.content
    assert not WatchPolicy.objects.exists()


def test_the_budget_through_the_api(scene, world):
    url = reverse("api_drift_policy", kwargs={"org": "acme", "name": "fraud"})
    dan, vic = world.api("dan"), world.api("vic")
    assert vic.get(url).json() == {"budget_days": 90, "fixed_psi": None, "multivariate": True}
    assert vic.patch(url, {"budget_days": 7}, format="json").status_code == 403
    assert dan.patch(url, {"budget_days": 7, "fixed_psi": 0.2}, format="json").json()["fixed_psi"] == 0.2
    assert dan.patch(url, {"fixed_psi": None}, format="json").json() == {
        "budget_days": 7,
        "fixed_psi": None,
        "multivariate": True,
    }
    assert dan.patch(url, {}, format="json").status_code == 422
    assert dan.patch(url, {"budget_days": 0}, format="json").status_code == 422
    assert world.api("mallory").get(url).status_code == 404


# -- the API ----------------------------------------------------------------------------------------------------------


def test_the_api_says_versions_windows_and_columns_together(watched, world):
    url = reverse("api_drift", kwargs={"org": "acme", "name": "fraud"})
    found = world.api("vic").get(url).json()
    assert (found["verdict"], found["version"], found["versions"]) == ("drift", 1, [2, 1])
    assert [each["code"] for each in found["windows"]] == ["1h", "24h", "7d"]
    assert sum(each["told"] for each in found["windows"]) == 1
    assert found["multivariate"]["alpha"] == pytest.approx(0.25 / (90 * 24 * 2))
    assert found["columns"][0]["js"] > 0
    second = world.api("vic").get(url, {"version": 2, "window": "7d"}).json()
    assert (second["verdict"], second["version"]) == ("ok", 2)
    assert second["columns"][0]["histogram"]["current"] != found["columns"][0]["histogram"]["current"]
    assert world.api("vic").get(url, {"version": "x"}).status_code == 422


def test_ranges_are_those_of_the_page():
    assert list(lookback.RANGES) == ["24h", "7d", "30d", "90d"]


def test_checks_of_before_windows_were_kept_are_still_shown(scene, world):
    scene.log(scene.rows(400))
    check = checks.run(scene.deployment)
    DriftCheck.objects.filter(pk=check.pk).update(windows=[], facts={"rows_needed": 300})
    text = world.client("vic").get(page("deployment_drift")).content.decode()
    assert "No drift in 6 of 6 columns" in text
    assert lines(world.client("vic").get(page("deployment_drift_columns", "?window=7d")))
