"""Sharing requests between versions: the table, who stays where, shadows, previews, pause; each with who is refused."""

from __future__ import annotations

import json
import math
import threading
from collections import Counter
from types import SimpleNamespace

import pytest
from django.db import IntegrityError, connection, transaction

from accounts.models import AuditEvent
from mlops.core import clock
from mlops.runtime.host import get_host
from monitoring import baselines, counting
from registry.models import ModelVersion
from registry.services import artifacts
from serving import prediction_log, routing, shadow, shadow_records
from serving.models import Deployment, PredictionLog, Preview, Route, ShadowBucket, ShadowFlip, TrafficBucket
from serving.services import deployments, warmth
from tests.runner_host import wait_until
from tests.serving.server import LocalServer

URL = "/api/v1/predict/acme/flowers"
API = "/api/v1/acme/deployments/flowers"


@pytest.fixture
def iris(tiny):
    return tiny["iris_joblib"]


@pytest.fixture
def contrary(iris, tmp_path):
    """A model of the same columns and classes that always says the last class."""
    import joblib
    import pandas
    from sklearn.dummy import DummyClassifier

    frame = pandas.DataFrame(iris.rows)
    rows = pandas.concat([frame] * len(iris.classes), ignore_index=True)
    target = [name for name in iris.classes for _ in range(len(frame))]
    model = DummyClassifier(strategy="constant", constant=iris.classes[-1]).fit(rows, target)
    path = tmp_path / "contrary.joblib"
    joblib.dump(model, path)
    return SimpleNamespace(path=path, format=iris.format, rows=iris.rows, schema=iris.schema)


@pytest.fixture
def versions(world, ready_version, contrary) -> list[ModelVersion]:
    return [ready_version(world.acme), ready_version(world.acme), ready_version(world.acme, contrary)]


@pytest.fixture
def flowers(world, versions) -> Deployment:
    return deployments.create_deployment(
        organization=world.acme, name="flowers", version=versions[0], caller=world.caller("dan")
    )


@pytest.fixture
def dan(world):
    return world.api("dan")


def _put(client, *routes, **more):
    return client.put(f"{API}/traffic", {"routes": list(routes), **more}, format="json")


def _ask(client, rows, url: str = URL, **headers) -> dict:
    answer = client.post(url, json.dumps({"inputs": rows}), content_type="application/json", **headers)
    assert answer.status_code == 200, answer.content
    return answer.json()


def _line(version: int, weight: int) -> dict:
    return {"version": version, "weight": weight}


def _settled() -> None:
    assert shadow.shadows.settle(20)
    prediction_log.ship_once()


# --- The table ------------------------------------------------------------------------------------------------------------


def test_a_table_is_put_whole_and_told(flowers, dan) -> None:
    answer = _put(dan, _line(1, 90), _line(2, 10), {"version": 3, "shadow": True}, sticky="key")
    assert answer.status_code == 200, answer.content
    assert answer.json()["traffic"] == [
        {"version": 1, "weight": 90, "shadow": False},
        {"version": 2, "weight": 10, "shadow": False},
        {"version": 3, "weight": 0, "shadow": True},
    ]
    assert (answer.json()["version"], answer.json()["sticky"]) == (1, "key")
    release = flowers.releases.first()
    assert (release.kind, release.note) == ("traffic", "v1 90 %, v2 10 %; shadow v3")
    event = AuditEvent.objects.get(action="deployment.traffic")
    assert event.detail["routes"][1] == {"version": 2, "weight": 10, "shadow": False}
    _put(dan, _line(1, 90), _line(2, 10), {"version": 3, "shadow": True})
    assert AuditEvent.objects.filter(action="deployment.traffic").count() == 1  # nothing changed, nothing told


@pytest.mark.parametrize(
    ("routes", "word"),
    [
        ([], "empty"),
        ([_line(1, 90)], "sum to 90"),
        ([_line(1, 60), _line(2, 60)], "sum to 120"),
        ([_line(1, 50), _line(1, 50)], "two lines"),
        ([_line(1, 100), {"version": 1, "shadow": True}], "two lines"),
        ([{"version": 1, "shadow": True}], "Every line is a shadow"),
        ([_line(1, 100), {"version": 2, "shadow": True, "weight": 5}], "is a shadow and has a weight"),
        ([_line(1, 100), _line(2, 0)], "Version 2 needs a weight"),
        ([_line(1, 110), _line(2, -10)], "Version 1 needs a weight"),
        ([_line(1, 100), {"version": 2}], "Version 2 needs a weight"),
        ([_line(1, 50), _line(7, 50)], "no version 7"),
        ([_line(1, 93), *({"version": n, "weight": 1} for n in range(2, 10))], "more than 8"),
    ],
)
def test_a_table_that_cannot_be_is_refused_by_what_is_wrong(flowers, dan, routes, word) -> None:
    answer = _put(dan, *routes)
    assert answer.status_code == 422, answer.content
    assert word in answer.json()["detail"], answer.json()
    assert answer.json()["errors"]["routes"]
    assert flowers.releases.count() == 1


@pytest.mark.parametrize(
    "body",
    [{}, {"routes": "all"}, {"routes": [7]}, {"routes": [{"version": "x"}]}, {"routes": [_line(1, 100)], "sticky": "glue"},
     {"routes": [{"version": 1, "weight": 33.3}]}, {"routes": [{"version": 10**30, "weight": 100}]}],
)  # fmt: skip
def test_nonsense_is_refused(flowers, dan, body) -> None:
    assert dan.put(f"{API}/traffic", body, format="json").status_code == 422


@pytest.mark.parametrize("status", ["received", "validating", "failed", "archived"])
def test_only_ready_versions_answer(flowers, dan, versions, status) -> None:
    ModelVersion.objects.filter(pk=versions[1].pk).update(status=status)
    answer = _put(dan, _line(1, 90), _line(2, 10))
    assert (answer.status_code, answer.json()["code"]) == (409, "not_deployable")


def test_a_version_that_does_not_load_changes_nothing(flowers, dan, world, ready_version, tmp_path) -> None:
    from tests import tiny_models

    hostile = tiny_models.hostile(tmp_path / "hostile")["exit_load"]
    ready_version(world.acme, hostile, schema={"kind": "table", "inputs": []})
    assert _put(dan, _line(1, 90), _line(4, 10)).json()["code"] == "load_failed"
    assert [route.weight for route in Route.objects.all()] == [100]


def test_a_viewer_is_refused_and_a_stranger_sees_nothing(flowers, world) -> None:
    vic, mallory = world.api("vic"), world.api("mallory")
    for method, rest, body in (
        ("put", "traffic", {"routes": [_line(1, 100)]}), ("post", "rollout", {"version": 2}), ("post", "rollout/abort", {}),
        ("post", "pause", {}), ("post", "resume", {}), ("post", "previews", {"name": "p", "version": 1}),
    ):  # fmt: skip
        assert getattr(vic, method)(f"{API}/{rest}", body, format="json").status_code == 403, rest
        assert getattr(mallory, method)(f"{API}/{rest}", body, format="json").status_code == 404, rest


def test_the_database_keeps_tables_sane(flowers, versions) -> None:
    for wrong in ({"weight": 0}, {"weight": 101}, {"weight": 50, "shadow": True}):
        with pytest.raises(IntegrityError), transaction.atomic():
            Route.objects.create(deployment=flowers, version=versions[1], **wrong)
    with pytest.raises(IntegrityError), transaction.atomic():
        Route.objects.create(deployment=flowers, version=versions[0], weight=50)


@pytest.mark.django_db(transaction=True)
def test_tables_put_at_the_same_time_come_one_after_the_other(flowers, world) -> None:
    tables = [[_line(1, weight), _line(2, 100 - weight)] for weight in (10, 25, 40, 60, 75, 90)]
    clients, answers = [world.api("dan") for _ in tables], []

    def put(client, routes) -> None:
        try:
            answers.append(_put(client, *routes).status_code)
        finally:
            connection.close()

    threads = [threading.Thread(target=put, args=pair) for pair in zip(clients, tables, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * len(tables)
    lines = [_line(route.version.number, route.weight) for route in Route.objects.order_by("version__number")]
    assert lines in tables  # one of them whole, never a mixture
    assert flowers.releases.count() == 1 + len(tables)


# --- Who answers whom -----------------------------------------------------------------------------------------------------


def _table(sticky: str = "header", **weights: int) -> routing.Table:
    lines = tuple(
        routing.Line(int(name[1:]), int(name[1:]), weight, False, None) for name, weight in sorted(weights.items())
    )
    return routing.Table(1, 1, 1, "flowers", True, 1, lines, sticky=sticky)


def _version(table: routing.Table, words: str = "", caller: str = "", seed: int = 0) -> int:
    return routing.choose(table.lines, routing.draw(table, words, caller, seed)).number


def test_a_caller_stays_while_the_weights_stay_and_only_the_needed_share_moves() -> None:
    people = [f"customer-{number}" for number in range(20_000)]
    before = [_version(_table(v3=90, v4=10), name) for name in people]
    assert before == [_version(_table(v3=90, v4=10), name, seed=number) for number, name in enumerate(people)]
    assert abs(before.count(4) - 2_000) < 5 * math.sqrt(20_000 * 0.09)
    after = [_version(_table(v3=50, v4=50), name) for name in people]
    moved = Counter((old, new) for old, new in zip(before, after, strict=True) if old != new)
    assert set(moved) == {(3, 4)}
    assert abs(moved[3, 4] - 8_000) < 5 * math.sqrt(20_000 * 0.24)


def test_what_keeps_a_caller_is_the_deployments_choice() -> None:
    seeds = range(400)

    def seen(sticky: str, words: str, caller: str) -> set[int]:
        return {_version(_table(sticky, v1=50, v2=50), words, caller, seed * 2_654_435_761) for seed in seeds}

    assert len(seen("header", "ann", "key:a")) == 1
    assert len(seen("header", "", "key:a")) == 2
    assert len(seen("key", "", "key:a")) == 1
    assert len(seen("off", "ann", "key:a")) == 2
    assert {_version(_table("key", v1=50, v2=50), f"user {n}", "key:a") for n in range(50)} == {
        1,
        2,
    }  # the header goes before


def test_requests_are_shared_by_weight_and_kept_by_header_through_the_public_door(flowers, dan, world, iris) -> None:
    _put(dan, _line(1, 70), _line(2, 30))
    vic = world.api("vic")
    seen = Counter(_ask(vic, iris.rows[:1])["model"]["version"] for _ in range(300))
    assert abs(seen[2] - 90) < 5 * math.sqrt(300 * 0.3 * 0.7), seen
    kept = {_ask(vic, iris.rows[:1], HTTP_X_SLIPWAY_STICKY="ann")["model"]["version"] for _ in range(20)}
    assert len(kept) == 1


def test_both_versions_are_counted_apart(flowers, dan, world, iris) -> None:
    _put(dan, _line(1, 50), _line(2, 50))
    for number in range(40):
        _ask(world.api("vic") if number == 0 else dan, iris.rows[:1])
    prediction_log.ship_once()
    counts = dict(TrafficBucket.objects.values_list("version__number", "requests"))
    assert counts[1] + counts[2] == 40
    assert min(counts.values()) > 5
    shown = dan.get(f"{API}/analytics?since=1h").json()
    assert {each["version"] for each in shown["versions"]} == {1, 2}


# --- Rollback, pause ------------------------------------------------------------------------------------------------------


def test_rolling_back_a_split_goes_to_the_version_that_answered_alone(flowers, dan) -> None:
    _put(dan, _line(1, 20), _line(2, 80), {"version": 3, "shadow": True})
    answer = dan.post(f"{API}/rollback", {}, format="json").json()
    assert answer["traffic"] == [
        {"version": 1, "weight": 100, "shadow": False},
        {"version": 3, "weight": 0, "shadow": True},
    ]


def test_paused_it_answers_503_and_keeps_its_table(flowers, dan, world, iris) -> None:
    _put(dan, _line(1, 70), _line(2, 30))
    assert dan.post(f"{API}/pause").json()["status"] == "paused"
    refused = dan.post(URL, json.dumps({"inputs": iris.rows}), content_type="application/json")
    assert (refused.status_code, refused.json()["code"]) == (503, "paused")
    assert int(refused["Retry-After"]) > 0
    assert dan.post(f"{API}/pause").status_code == 409
    assert _ask(dan, iris.rows, f"{URL}/previews/v2")["model"]["version"] == 2
    assert _put(dan, _line(1, 60), _line(2, 40)).json()["status"] == "paused"  # sharing does not resume
    resumed = dan.post(f"{API}/resume").json()
    assert (resumed["status"], [line["weight"] for line in resumed["traffic"]]) == ("live", [60, 40])
    _ask(dan, iris.rows)
    assert dan.post(f"{API}/resume").status_code == 409


def test_the_versions_one_may_go_back_to_stay_in_memory_while_there_is_room(
    flowers, dan, versions, runner_host, monkeypatch
) -> None:
    dan.post(f"{API}/versions", {"version": 2}, format="json")
    host, spec = get_host(), artifacts.spec_for(versions[0])
    host.unload(spec.key)
    full = {
        "ready": True,
        "entries": host.status()["entries"],
        "cache": {"devices": {"cpu": {"capacity_bytes": 10, "used_bytes": 6}}},
    }
    with monkeypatch.context() as patched:
        patched.setattr(type(host), "status", lambda self: full)
        assert warmth.keep() == 0
    assert warmth.keep() == 1
    assert not host.ensure(spec).cold


# --- Shadows --------------------------------------------------------------------------------------------------------------


def test_a_shadow_is_compared_and_never_answers(flowers, dan, iris) -> None:
    _put(dan, _line(1, 100), {"version": 3, "shadow": True})
    for _ in range(4):
        assert _ask(dan, iris.rows)["predictions"] == iris.expected
    _settled()
    (found,) = dan.get(f"{API}/shadows").json()["results"]
    same = iris.expected.count(iris.classes[-1])
    assert (found["version"], found["requests"], found["errors"], found["dropped"]) == (3, 4, 0, 0)
    assert found["rows"] == 4 * len(iris.rows)
    assert found["agreement"] == pytest.approx(same / len(iris.rows))
    assert 0.3 < found["mean_shift"] <= 1
    assert found["p95_ms"] > 0
    assert found["live_p95_ms"] > 0
    flip = found["flips"][0]
    assert flip["theirs"] == iris.classes[-1] != flip["ours"]
    assert flip["features"] in iris.rows
    assert PredictionLog.objects.filter(pk=flip["prediction_id"]).exists()


def test_a_shadow_is_neither_traffic_nor_logged(flowers, dan, iris) -> None:
    _put(dan, _line(1, 100), {"version": 3, "shadow": True})
    _ask(dan, iris.rows)
    _settled()
    assert {row.version.number for row in PredictionLog.objects.all()} == {1}
    assert {bucket.version.number for bucket in TrafficBucket.objects.all()} == {1}


def test_an_equal_shadow_agrees_and_a_viewer_sees_figures_without_rows(flowers, dan, world, iris) -> None:
    _put(dan, _line(1, 100), {"version": 2, "shadow": True}, {"version": 3, "shadow": True})
    _ask(dan, iris.rows)
    _settled()
    found = {each["version"]: each for each in world.api("vic").get(f"{API}/shadows").json()["results"]}
    assert (found[2]["agreement"], found[2]["mean_shift"], found[2]["flipped"]) == (1.0, 0.0, 0)
    assert found[3]["flipped"] > 0
    assert found[3]["flips"] == []


def test_a_shadow_that_fails_is_counted_and_nobody_notices(flowers, dan, iris, monkeypatch) -> None:
    _put(dan, _line(1, 100), {"version": 2, "shadow": True})
    from mlops.runtime.errors import ModelCrashed

    real = shadow.get_host()

    class Failing:
        def predict(self, spec, body, **words):
            raise ModelCrashed("it is gone", "")

    monkeypatch.setattr(shadow, "get_host", Failing)
    assert _ask(dan, iris.rows)["predictions"] == iris.expected
    _settled()
    assert real is not None
    assert (ShadowBucket.objects.get().requests, ShadowBucket.objects.get().errors) == (1, 1)


def test_a_slow_shadow_never_slows_an_answer_and_what_is_not_asked_is_counted(flowers, dan, iris, monkeypatch) -> None:
    _put(dan, _line(1, 100), {"version": 2, "shadow": True})
    gate, real = threading.Event(), shadow.get_host()

    class Slow:
        def predict(self, spec, body, **words):
            gate.wait(20)
            return real.predict(spec, body, **words)

    monkeypatch.setattr(shadow, "get_host", Slow)
    monkeypatch.setattr(shadow, "WAITING", 5)
    for _ in range(12):
        _ask(dan, iris.rows[:1])
    gate.set()
    _settled()
    _ask(dan, iris.rows[:1])
    _settled()
    bucket = ShadowBucket.objects.get()
    assert bucket.requests + bucket.dropped == 13
    assert bucket.dropped == 12 - 5 - shadow.THREADS


def test_refused_and_pinned_requests_and_previews_are_not_put_to_shadows(flowers, dan, iris) -> None:
    _put(dan, _line(1, 100), {"version": 3, "shadow": True})
    dan.post(URL, json.dumps({"inputs": [iris.bad_row]}), content_type="application/json")
    _ask(dan, iris.rows, f"{URL}?version=2")
    _ask(dan, iris.rows, f"{URL}/previews/v2")
    _settled()
    assert not ShadowBucket.objects.exists()


def test_only_the_newest_examples_are_kept(flowers, dan, iris) -> None:
    _put(dan, _line(1, 100), {"version": 3, "shadow": True})
    for _ in range(12):
        _ask(dan, iris.rows)
    _settled()
    assert ShadowFlip.objects.count() == shadow_records.EXAMPLES
    assert ShadowBucket.objects.get().rows == 12 * len(iris.rows)


def test_shadows_are_compared_in_every_dialect(flowers, dan, iris) -> None:
    _put(dan, _line(1, 100), {"version": 3, "shadow": True})
    answer = dan.post(
        f"{URL}/invocations", json.dumps({"dataframe_records": iris.rows}), content_type="application/json"
    )
    assert answer.status_code == 200, answer.content
    _settled()
    assert ShadowBucket.objects.get().rows == len(iris.rows)


# --- Previews -------------------------------------------------------------------------------------------------------------


def test_a_named_preview_answers_is_logged_and_is_no_traffic(flowers, dan, versions, iris) -> None:
    made = dan.post(f"{API}/previews", {"name": "pr-42-abc1234", "version": 3}, format="json")
    assert made.status_code == 201, made.content
    assert made.json()["url"].endswith(f"{URL}/previews/pr-42-abc1234")
    answer = _ask(dan, iris.rows, f"{URL}/previews/pr-42-abc1234")
    assert (answer["model"]["version"], set(answer["predictions"])) == (3, {iris.classes[-1]})
    prediction_log.ship_once()
    assert {row.via for row in PredictionLog.objects.all()} == {"preview"}
    assert not TrafficBucket.objects.exists()
    assert not PredictionLog.objects.production().exists()
    counting.count_new()
    assert baselines.live_rows_so_far(flowers, versions[2]) == 0
    flowers.refresh_from_db()
    assert flowers.first_call_at is None
    shown = dan.get(f"{API}/predictions").json()["results"]
    assert {row["via"] for row in shown} == {"preview"}


def test_every_ready_version_has_one_by_its_number(flowers, dan, versions, iris) -> None:
    assert _ask(dan, iris.rows, f"{URL}/previews/v3")["model"]["version"] == 3
    ModelVersion.objects.filter(pk=versions[1].pk).update(status="archived")
    for name in ("v2", "v99", "nothing", "v0"):
        refused = dan.post(f"{URL}/previews/{name}", json.dumps({"inputs": iris.rows}), content_type="application/json")
        assert (refused.status_code, refused.json()["code"]) == (404, "preview_not_found"), name


def test_previews_are_listed_deleted_and_expire(flowers, dan, world, iris) -> None:
    for name in ("one", "two"):
        dan.post(f"{API}/previews", {"name": name, "version": 2, "days": 1}, format="json")
    assert {each["name"] for each in world.api("vic").get(f"{API}/previews").json()["results"]} == {"one", "two"}
    assert world.api("vic").delete(f"{API}/previews/one").status_code == 403
    assert world.api("mallory").delete(f"{API}/previews/one").status_code == 404
    assert dan.delete(f"{API}/previews/one").status_code == 204
    Preview.objects.filter(name="two").update(expires_at=clock.now())
    for name in ("one", "two"):
        assert (
            dan.post(
                f"{URL}/previews/{name}", json.dumps({"inputs": iris.rows}), content_type="application/json"
            ).status_code
            == 404
        )
    assert dan.get(f"{API}/previews").json()["results"] == []
    assert {"preview.create", "preview.delete"} <= set(AuditEvent.objects.values_list("action", flat=True))
    assert dan.post(f"{API}/previews", {"name": "two", "version": 2}, format="json").status_code == 201


@pytest.mark.parametrize("body", [{"name": "v3", "version": 2}, {"name": "A b", "version": 2}, {"name": "x", "version": 2, "days": 1000}, {"name": "", "version": 2}, {"version": 2}])  # fmt: skip
def test_previews_that_cannot_be_are_refused(flowers, dan, body) -> None:
    assert dan.post(f"{API}/previews", body, format="json").status_code == 422
    dan.post(f"{API}/previews", {"name": "taken", "version": 2}, format="json")
    assert dan.post(f"{API}/previews", {"name": "taken", "version": 2}, format="json").status_code == 409


def test_a_stranger_cannot_ask_a_preview(flowers, dan, world, iris) -> None:
    dan.post(f"{API}/previews", {"name": "secret", "version": 2}, format="json")
    for name in ("secret", "v1"):
        asked = world.api("mallory").post(
            f"{URL}/previews/{name}", json.dumps({"inputs": iris.rows}), content_type="application/json"
        )
        assert asked.status_code == 404


# --- Rollouts by API ------------------------------------------------------------------------------------------------------


def test_a_rollout_by_api(flowers, dan, iris) -> None:
    assert dan.get(f"{API}/rollout").json()["code"] == "no_rollout"
    begun = dan.post(
        f"{API}/rollout", {"version": 2, "steps": [50, 100], "bake_seconds": 0, "min_requests": 5}, format="json"
    )
    assert begun.status_code == 201, begun.content
    assert (begun.json()["state"], begun.json()["share"]) == ("running", 50)
    assert dan.post(f"{API}/rollout", {"version": 3}, format="json").status_code == 409
    assert dan.post(f"{API}/rollout/pause").json()["state"] == "paused"
    assert dan.post(f"{API}/rollout/resume").json()["state"] == "running"
    assert dan.post(f"{API}/rollout/explode").status_code == 404
    for _ in range(60):
        _ask(dan, iris.rows[:1])
    prediction_log.ship_once()
    assert dan.get(f"{API}/rollout").json()["share"] == 100  # looking moves it
    for _ in range(6):
        _ask(dan, iris.rows[:1])
    prediction_log.ship_once()
    ended = dan.get(f"{API}/rollout").json()
    assert (ended["state"], dan.get(API).json()["version"]) == ("done", 2)
    assert len(dan.get(f"{API}/rollouts").json()["results"]) == 1
    assert dan.post(f"{API}/rollout", {"version": 3, "steps": [50]}, format="json").json()["errors"]["steps"]


def test_a_contrary_version_is_taken_back_through_the_real_doors(flowers, dan, iris) -> None:
    dan.post(f"{API}/rollout", {"version": 3, "steps": [50, 100], "bake_seconds": 0, "min_requests": 30}, format="json")
    for number in range(150):
        _ask(dan, [iris.rows[number % len(iris.rows)]])
    prediction_log.ship_once()
    ended = dan.get(f"{API}/rollout").json()
    assert ended["state"] == "rolled_back", ended
    assert "predicted differently" in ended["reason"]
    assert dan.get(API).json()["traffic"] == [{"version": 1, "weight": 100, "shadow": False}]


# --- Under load -----------------------------------------------------------------------------------------------------------

TWIN = """
import django
django.setup()
from registry.models import ModelVersion, RegisteredModel
from registry import signing
from mlops.core import clock
first = ModelVersion.objects.get(number=1)
for number in (2, 3):
    row = ModelVersion.objects.get(pk=first.pk)
    row.pk, row.number, row.status = None, number, "received"
    row._state.adding = True
    row.save()
    row.refresh_from_db()
    row.signature = signing.sign_version(row)
    row.status, row.ready_at = "ready", clock.now()
    row.save()
RegisteredModel.objects.update(last_number=3)
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_no_request_fails_while_versions_change_under_load(local_slipway: LocalServer) -> None:
    """Real gunicorn with two processes and the fast door; the table changes twenty times, with shadows, a rollback and a pause between."""
    server = local_slipway
    server.python(TWIN)
    server.start_web()
    statuses, versions, stop = Counter(), Counter(), threading.Event()

    def run() -> None:
        while not stop.is_set():
            answer = server.predict()
            statuses[answer["status"]] += 1
            versions[answer["model"]["version"]] += 1

    def change(method: str, rest: str, body: dict) -> None:
        headers = {"Authorization": f"Bearer {server.key}", "Content-Type": "application/json"}
        status, said = server.request(method, f"{API}/{rest}", json.dumps(body), headers)
        assert status == 200, said
        seen = sum(statuses.values())
        wait_until(lambda: sum(statuses.values()) > seen + 20, 60)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for turn in range(20):
            weight = 5 + 9 * (turn % 10)
            lines = [_line(1, weight), _line(2, 100 - weight), {"version": 3, "shadow": True}]
            if turn % 5 == 4:
                change("POST", "rollback", {})
            elif turn % 5 == 3:
                change("POST", "versions", {"version": 3})
            else:
                change("PUT", "traffic", {"routes": lines if turn % 2 else lines[:2]})
            tables = server.query("SELECT SUM(weight) FROM serving_route WHERE shadow = 0")
            assert tables == [(100,)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        server.kill_web(15)
    assert set(statuses) == {200}, statuses
    assert set(versions) == {1, 2, 3}


CONTRARY = """
import django, hashlib, sys
django.setup()
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from registry.models import ModelVersion, RegisteredModel
from registry import signing
from mlops.core import clock
content = open(sys.argv[1], "rb").read()
row = ModelVersion.objects.get(number=1)
row.pk, row.number, row.status = None, 40, "received"
row._state.adding = True
row.file_key, row.sha256, row.size_bytes = default_storage.save("contrary.joblib", ContentFile(content)), hashlib.sha256(content).hexdigest(), len(content)
row.save()
row.refresh_from_db()
row.signature = signing.sign_version(row)
row.status, row.ready_at = "ready", clock.now()
row.save()
RegisteredModel.objects.update(last_number=40)
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_under_load_a_version_that_predicts_otherwise_is_taken_back_by_the_shipper(local_slipway, contrary) -> None:
    """Real gunicorn and the real shipper; nobody looks, no request fails."""
    server = local_slipway
    server.python(CONTRARY, str(contrary.path))
    server.start_web()
    shipper = server.popen("ship_predictions")
    statuses, stop = Counter(), threading.Event()

    def run() -> None:
        while not stop.is_set():
            statuses[server.predict()["status"]] += 1

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        headers = {"Authorization": f"Bearer {server.key}", "Content-Type": "application/json"}
        server.request("POST", f"{API}/versions", json.dumps({"version": 1}), headers)
        plan = {"version": 40, "steps": [30, 100], "bake_seconds": 3600, "min_requests": 30}
        status, said = server.request("POST", f"{API}/rollout", json.dumps(plan), headers)
        assert status == 201, said
        wait_until(lambda: server.query("SELECT state FROM serving_rollout") == [("rolled_back",)], 90)
        wait_until(lambda: server.predict()["model"]["version"] == 1, 10)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        shipper.terminate()
        shipper.wait(30)
        server.kill_web(15)
    assert set(statuses) == {200}, statuses
    assert "predicted differently" in server.query("SELECT reason FROM serving_rollout")[0][0]
