"""The shapes scripts may rely on (the predict answer and the management API), key by key, on a small company at work."""

from __future__ import annotations

import re
import uuid
from datetime import datetime
from typing import Any

import pytest
from rest_framework.test import APIClient

from tests.stage import Stage, named

NUMBER = (int, float)
SHA256 = re.compile(r"^[0-9a-f]{64}$")
COUNTS = {"requests": int, "errors": int, "p50_ms": NUMBER, "p95_ms": NUMBER, "p99_ms": NUMBER}


def shape(body: dict[str, Any], **keys: Any) -> dict[str, Any]:
    """Each key is there and of its type (``None`` in a tuple: may be null)."""
    for name, kind in keys.items():
        assert name in body, f"{name} is missing: {sorted(body)}"
        kinds = kind if isinstance(kind, tuple) else (kind,)
        allowed = tuple(each for each in kinds if each is not None)
        assert isinstance(body[name], allowed) or (body[name] is None and None in kinds), f"{name} is {body[name]!r}"
    return body


def listed(body: dict[str, Any]) -> list[dict[str, Any]]:
    assert set(body) == {"results", "next"}
    assert body["next"] is None or body["next"].startswith("http")
    return body["results"]


def is_time(text: str) -> bool:
    return datetime.fromisoformat(text).tzinfo is not None


def problem(answer: Any, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.content
    assert answer["Content-Type"] == "application/problem+json"
    body = shape(answer.json(), code=str, detail=str, hint=str, request_id=str, status=int, title=str)
    assert (body["code"], body["request_id"]) == (code, answer["X-Request-Id"])
    return body


# -- people -------------------------------------------------------------------------------------------------------------


def test_sign_up_sign_in_refresh_me(db: None) -> None:
    client, who = APIClient(), {"email": "ada@example.test", "password": "violet-harbour-93"}
    made = client.post("/api/v1/auth/register", who, format="json")
    assert made.status_code == 201, made.content
    shape(made.json(), access=str, refresh=str, organization=dict)
    slug = shape(made.json()["organization"], slug=str)["slug"]
    tokens = client.post("/api/v1/auth/login", who, format="json")
    assert tokens.status_code == 200
    again = client.post("/api/v1/auth/refresh", {"refresh": tokens.json()["refresh"]}, format="json")
    shape(again.json(), access=str, refresh=str)
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {again.json()['access']}")
    me = client.get("/api/v1/auth/me").json()
    assert me["email"] == who["email"]
    assert [(each["slug"], each["role"]) for each in me["organizations"]] == [(slug, "owner")]
    key = client.post(f"/api/v1/{slug}/keys", {"name": "laptop", "scopes": ["predict", "read"]}, format="json")
    assert key.status_code == 201, key.content
    shape(key.json(), id=int, prefix=str, key=str)
    assert key.json()["key"].startswith(f"sk_live_{key.json()['prefix']}_")
    wrong = client.post("/api/v1/auth/login", {**who, "password": "violet-harbour-94"}, format="json")
    assert wrong.status_code == 401
    assert "WWW-Authenticate" in wrong


# -- the rest, on one stage ---------------------------------------------------------------------------------------------


def test_every_shape_of_a_company_at_work(stage: Stage) -> None:
    """One stage for all of them: building it is the slow part."""
    _push(stage)
    _jobs(stage)
    _models(stage)
    _predictions_of(stage)
    _log(stage)
    _drift(stage)
    _incident(stage)
    _audit(stage)
    _refusals(stage)
    _deployments(stage)


def _push(stage: Stage) -> None:
    pushed = stage.pushed[1]
    shape(pushed, model=str, version=int, status=str, sha256=str, url=str, job=dict)
    assert (pushed["model"], pushed["version"], pushed["status"]) == ("churn", 2, "validating")
    assert SHA256.match(pushed["sha256"])
    shape(pushed["job"], id=int, url=str)
    assert pushed["job"]["url"].endswith(f"/api/v1/acme/jobs/{pushed['job']['id']}")


def _jobs(stage: Stage) -> None:
    job = stage.get(f"jobs/{stage.job.pk}")
    assert job["status"] == "done"
    assert job["progress"] == 1
    assert "error" not in job
    for step in job["steps"]:
        shape(step, name=str, status=str, seconds=NUMBER)
    assert listed(stage.get("jobs"))


def _models(stage: Stage) -> None:
    assert [row["model"] for row in listed(stage.get("models"))] == ["churn"]
    shape(stage.get("models/churn"), model=str, name=str, project=str, tags=dict, aliases=list, latest=dict)
    version = stage.get("models/churn/versions/2")
    shape(
        version,
        status=str,
        findings=list,
        schema=dict,
        sha256=str,
        size_bytes=int,
        signature=dict,
        metrics=dict,
        format=str,
        framework=str,
    )
    assert version["status"] == "ready"
    for finding in version["findings"]:
        shape(finding, check=str, level=str, message=str, hint=str)
    assert [column["name"] for column in version["schema"]["inputs"]] == ["plan", "months", "spend"]
    assert [row["version"] for row in listed(stage.get("models/churn/versions"))] == [2, 1]


def _predictions_of(stage: Stage) -> None:
    rows = stage.churn.rows
    answer = stage.predict(rows)
    assert answer["predictions"] == stage.churn.expected
    assert answer["probabilities"] == [pytest.approx(each, abs=1e-5) for each in stage.churn.probabilities]
    assert answer["classes"] == ["leaves", "stays"]
    assert answer["model"] == {"name": "churn", "version": 2}
    assert all(isinstance(value, NUMBER) for value in answer["timings_ms"].values())
    ids = [uuid.UUID(each) for each in answer["prediction_ids"]]
    assert [each.int - ids[0].int for each in ids] == [0, 1, 2, 3]
    assert stage.predict(rows[0])["predictions"] == stage.churn.expected[:1]  # one row, as an object
    assert stage.predict([list(row.values()) for row in rows])["predictions"] == stage.churn.expected
    pinned = stage.api.post("/api/v1/predict/acme/churn?version=1", {"inputs": rows}, format="json")
    assert pinned.json()["model"]["version"] == 1
    described = stage.api.get("/api/v1/predict/acme/churn/schema").json()
    shape(described, schema=dict, example=(list, dict))
    document = stage.api.get("/api/v1/predict/acme/churn/openapi.json").json()
    assert document["openapi"].startswith("3.")


def _log(stage: Stage) -> None:
    numbers = shape(stage.get("deployments/churn/analytics?since=24h"), versions=list, buckets=list, **COUNTS)
    assert (numbers["requests"], numbers["errors"]) == (16, 3)
    shape(numbers["versions"][0], version=(int, None), **COUNTS)
    shape(numbers["buckets"][0], at=str, **COUNTS)
    rows = listed(stage.get("deployments/churn/predictions?since=24h"))
    shape(rows[0], id=str, at=str, version=int, status=int, latency_ms=NUMBER, features=dict)
    assert stage.get(f"deployments/churn/predictions/{rows[0]['id']}")["id"] == rows[0]["id"]


def _drift(stage: Stage) -> None:
    shape(stage.check_job, id=int, status=str, url=str)
    drift = shape(stage.get("deployments/churn/drift"), verdict=str, sentence=str, rows=int, columns=list)
    assert drift["verdict"] == "drift"
    for column in drift["columns"]:
        shape(
            column,
            name=str,
            kind=str,
            psi=(*NUMBER, None),
            kl=(*NUMBER, None),
            p_value=(*NUMBER, None),
            severity=str,
            since=(str, None),
        )
    moved = {column["name"] for column in drift["columns"] if column["severity"] == "drift"}
    assert {"plan", "months"} <= moved
    assert "report_url" not in drift  # it is not drawn yet


def _incident(stage: Stage) -> None:
    (incident,) = listed(stage.get("incidents?state=open"))
    shape(incident, id=int, state=str, what=str, since=str, why=str, actions=dict, deployment=str)
    assert is_time(incident["since"])
    known = stage.post(f"incidents/{incident['id']}/acknowledge", status=200)
    assert (known["state"], "acknowledge" in known["actions"]) == ("acknowledged", False)
    assert stage.post(f"incidents/{incident['id']}/snooze", {"hours": 2}, 200)["state"] == "snoozed"
    assert stage.post(f"incidents/{incident['id']}/resolve", status=200)["state"] == "resolved"


def _audit(stage: Stage) -> None:
    rows = listed(stage.world.api("alice").get("/api/v1/acme/audit?limit=200").json())
    for newer, older in zip(rows, rows[1:], strict=False):
        assert newer["previous_hash"] == older["hash"]
        assert newer["number"] == older["number"] + 1
    assert {"version.pushed", "deployment.deploy", "invitation.sent"} <= {row["action"] for row in rows}


def _refusals(stage: Stage) -> None:
    base = "/api/v1/predict/acme/churn"
    wrong = problem(stage.api.post(base, {"inputs": [stage.churn.bad_row]}, format="json"), 422, "schema_mismatch")
    assert wrong["errors"][0]["column"] == "plan"
    assert wrong["schema_url"] == f"{base}/schema"
    problem(stage.api.post(base, "plan=pro", content_type="text/plain"), 415, "unsupported_media_type")
    problem(stage.api.post("/api/v1/predict/acme/nothing", {"inputs": []}, format="json"), 404, "not_found")
    problem(
        stage.api.post(stage.url("models/new/versions"), {"sample": named("[]", "s.json")}, format="multipart"),
        422,
        "file_missing",
    )
    assert problem(APIClient().get(stage.url("models")), 401, "unauthenticated")
    problem(stage.world.api("vic").post(stage.url("models"), {"model": "x"}, format="json"), 403, "role_too_low")


def _deployments(stage: Stage) -> None:
    made = stage.post("deployments", {"name": "churn-eu", "model": "churn", "version": 1})
    shape(made, name=str, status=str, url=str, version=int, traffic=list)
    assert (made["status"], made["version"]) == ("live", 1)
    assert made["traffic"] == [{"version": 1, "weight": 100, "shadow": False}]
    assert made["url"].endswith("/api/v1/predict/acme/churn-eu")
    assert stage.get("deployments/churn-eu") == made
    assert stage.post("deployments/churn-eu/versions", {"version": 2}, 200)["version"] == 2
    assert stage.post("deployments/churn-eu/rollback", status=200)["version"] == 1
    assert stage.post("deployments/churn-eu/stop", status=200)["status"] == "stopped"
    away = stage.api.post("/api/v1/predict/acme/churn-eu", {"inputs": stage.churn.rows}, format="json")
    problem(away, 503, "not_deployed")
    assert int(away["Retry-After"]) > 0
    assert stage.post("deployments/churn-eu/start", status=200)["status"] == "live"
