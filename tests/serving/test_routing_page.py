"""The routing page: what it shows of shares, rollout, shadows and previews, and what one can do there."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from django.utils.html import escape

from serving import prediction_log, shadow
from serving.models import Deployment, Preview, Rollout
from serving.services import deployments, rollouts
from serving.services.rollouts import Plan
from tests.browser import SCHEMES, WIDTHS
from tests.serving.test_routing import contrary, iris  # noqa: F401  fixtures

PAGE = "/acme/deployments/flowers/routing/"
URL = "/api/v1/predict/acme/flowers"


@pytest.fixture
def flowers(world, ready_version, contrary) -> Deployment:  # noqa: F811  the fixture of that name
    made = [ready_version(world.acme), ready_version(world.acme), ready_version(world.acme, contrary)]
    return deployments.create_deployment(
        organization=world.acme, name="flowers", version=made[0], caller=world.caller("dan")
    )


def _shown(client, path: str = PAGE, status: int = 200, **headers) -> str:
    answer = client.get(path, **headers)
    assert answer.status_code == status
    return answer.content.decode()


def _send(client, path: str, data: dict | None = None, status: int = 302) -> str:
    answer = client.post(PAGE + path, data or {})
    assert answer.status_code == status, answer.content
    return answer.content.decode()


def _table(row: Deployment) -> dict[int, int]:
    return {route.version.number: 0 if route.shadow else route.weight for route in row.routes.all()}


def test_shares_are_changed_by_form(flowers, world) -> None:
    dan = world.client("dan")
    assert "Change the shares" in _shown(dan)
    _send(dan, "shares/", {"weight_1": "80", "weight_2": "20", "shadow_3": "on", "sticky": "key"})
    row = Deployment.objects.get()
    assert (_table(row), row.sticky) == ({1: 80, 2: 20, 3: 0}, "key")
    page = _shown(dan)
    assert "80 %" in page
    assert "Shadow v3" in page
    assert "v1 80 %, v2 20 %; shadow v3" in _shown(dan, "/acme/deployments/flowers/")


@pytest.mark.parametrize(
    ("data", "word"),
    [
        ({"weight_1": "80"}, "sum to 80"),
        ({"weight_1": "x"}, "whole number"),
        ({}, "empty"),
        ({"weight_9": "100"}, "no version 9"),
    ],
)
def test_shares_that_cannot_be_are_told_in_place(flowers, world, data, word) -> None:
    page = _send(world.client("dan"), "shares/", data, status=422)
    assert word in page
    if "weight_1" in data:
        assert f'value="{data["weight_1"]}"' in page  # what was typed is still there
    assert _table(Deployment.objects.get()) == {1: 100}


def test_a_rollout_begins_is_watched_held_and_taken_back(flowers, world) -> None:
    dan = world.client("dan")
    version = flowers.model.versions.get(number=2)
    form = {"version": version.pk, "steps": "5, 100", "bake_minutes": "10", "min_requests": "50", "max_error_increase": "2", "max_latency_factor": "1.5", "max_shift": ""}  # fmt: skip
    assert "Begin the rollout" in _shown(dan)
    _send(dan, "rollout/", form)
    found = Rollout.objects.get()
    assert (found.steps, found.bake_s, found.max_error_increase, found.max_shift) == ([5, 100], 600, 0.02, None)
    page = _shown(dan)
    assert "Waiting for traffic: 0 of 50 requests of this step." in page
    assert "Begin the rollout" not in page
    live = _shown(dan, HTTP_HX_REQUEST="true")
    assert live.lstrip().startswith("<section")
    assert "hx-get" in live
    _send(dan, "rollout/hold/")
    assert "Go on" in _shown(dan)
    _send(dan, "rollout/go-on/")
    _send(dan, "rollout/abort/")
    assert _table(Deployment.objects.get()) == {1: 100}
    page = _shown(dan)
    assert escape(f"Ended by {world.dan} at 5 %.") in page
    assert "hx-get" not in _shown(dan, HTTP_HX_REQUEST="true")
    _send(dan, "rollout/abort/", status=409)
    _send(dan, "rollout/explode/", status=404)


@pytest.mark.parametrize(
    "wrong",
    [{"steps": "100, 5"}, {"steps": "five"}, {"bake_minutes": "-1"}, {"min_requests": "0"}, {"version": "99999"}],
)
def test_a_plan_that_cannot_be_is_told_in_place(flowers, world, wrong) -> None:
    version = flowers.model.versions.get(number=2)
    form = {"version": version.pk, "steps": "5, 100", "bake_minutes": "10", "min_requests": "50", "max_error_increase": "2", "max_latency_factor": "1.5", "max_shift": "10"}  # fmt: skip
    _send(world.client("dan"), "rollout/", form | wrong, status=422)
    assert not Rollout.objects.exists()


def test_previews_are_made_and_deleted(flowers, world) -> None:
    dan, version = world.client("dan"), flowers.model.versions.get(number=3)
    _send(dan, "previews/", {"version": version.pk, "name": "pr-42", "days": "3"})
    assert "/previews/pr-42" in _shown(dan)
    assert "There is a preview" in _send(
        dan, "previews/", {"version": version.pk, "name": "pr-42", "days": "3"}, status=409
    )
    _send(dan, "previews/", {"version": version.pk, "name": "v3", "days": "3"}, status=422)
    _send(dan, "previews/pr-42/delete/")
    assert not Preview.objects.exists()
    _send(dan, "previews/pr-42/delete/", status=404)


def test_pause_and_resume_stand_on_the_overview(flowers, world) -> None:
    dan = world.client("dan")
    assert dan.post("/acme/deployments/flowers/pause/").status_code == 302
    page = _shown(dan, "/acme/deployments/flowers/")
    assert "Resume" in page
    assert "Paused: calls get 503" in page
    assert dan.post("/acme/deployments/flowers/resume/").status_code == 302
    assert "Pause" in _shown(dan, "/acme/deployments/flowers/")
    assert world.client("vic").post("/acme/deployments/flowers/pause/").status_code == 403


def test_a_viewer_looks_and_a_stranger_does_not(flowers, world) -> None:
    page = _shown(world.client("vic"))
    assert "Change the shares" not in page
    assert "Who answers" in page
    _shown(world.client("mallory"), status=404)
    for path in ("shares/", "rollout/", "rollout/abort/", "previews/", "previews/x/delete/"):
        _send(world.client("vic"), path, status=403)
        _send(world.client("mallory"), path, status=404)


def test_a_stopped_one_shows_that_nothing_answers(flowers, world) -> None:
    deployments.stop(flowers, world.caller("dan"))
    assert "Nothing answers." in _shown(world.client("dan"))


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_it_is_clean_in_every_state(flowers, world, iris, page_at, live_server) -> None:  # noqa: F811
    """Rollout under way beside a shadow that disagrees; then rolled back. Light and dark, desk and phone."""
    dan, caller = world.api("dan"), world.caller("dan")
    rollouts.start(flowers, flowers.model.versions.get(number=2), caller, Plan(steps=(10, 50, 100), min_requests=500))
    routes = [{"version": 1, "weight": 100}, {"version": 3, "shadow": True}]
    for act in (None, "shadow"):
        if act:
            dan.put("/api/v1/acme/deployments/flowers/traffic", {"routes": routes}, format="json")
            rollouts.start(
                Deployment.objects.get(), flowers.model.versions.get(number=2), caller, Plan(min_requests=500)
            )
        for number in range(60):
            row = iris.rows[number % len(iris.rows)]
            assert dan.post(URL, json.dumps({"inputs": [row]}), content_type="application/json").status_code == 200
        assert shadow.shadows.settle(20)
        prediction_log.ship_once()
    dan.post("/api/v1/acme/deployments/flowers/previews", {"name": "pr-42-abc1234", "version": 3}, format="json")
    looks = {
        (width, scheme): page_at("/healthz", width=width, scheme=scheme, client=world.client("dan"))
        for width in WIDTHS
        for scheme in SCHEMES
    }
    found = []
    for state in ("running", "paused", "ended"):
        if state == "paused":
            rollouts.hold(rollouts.latest(flowers), caller)
        if state == "ended":
            rollouts.abort(rollouts.latest(flowers), caller)
        for (width, scheme), seen in looks.items():
            for page in ("routing/", ""):
                seen.visit(f"{live_server.url}/acme/deployments/flowers/{page}")
                found += [f"{state} {page} {width} {scheme}: {problem}" for problem in seen.problems()]
                if folder := os.environ.get("SLIPWAY_SCREENSHOTS"):
                    seen.screenshot(Path(folder) / f"{page.strip('/') or 'overview'}-{state}-{width}-{scheme}.png")
    assert found == []
