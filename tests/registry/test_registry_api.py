"""Models, projects, versions, aliases and data sets for scripts: what works, and who may not."""

from __future__ import annotations

import hashlib

import pytest

from accounts.models import AuditEvent
from registry import signing
from registry.models import Alias, Dataset, ModelVersion, RegisteredModel

pytestmark = pytest.mark.django_db


@pytest.fixture
def ready(world, a_model) -> ModelVersion:
    """Version 2 of ``fraud``: ready, with its file in the storage."""
    import io

    from mlops.core import storage

    content = b"the model's bytes" * 1000
    stored = storage.store(io.BytesIO(content), folder="test", filename="fraud.joblib", limit_bytes=1 << 20)
    version = ModelVersion.objects.create(
        organization=world.acme, model=a_model, number=2, file_key=stored.key, filename='fra"ud\r\n.joblib', sha256=stored.sha256,
        size_bytes=stored.size_bytes, format="sklearn", framework="sklearn", schema={"kind": "table", "inputs": []},
    )  # fmt: skip
    version.signature = signing.sign_version(version)
    version.status, version.ready_at = "ready", version.created_at
    version.save()
    RegisteredModel.objects.filter(pk=a_model.pk).update(last_number=2)
    return version


@pytest.fixture
def live(world, ready, a_model) -> ModelVersion:
    """The same version, answering calls."""
    from serving.models import Deployment, Route

    deployment = Deployment.objects.create(organization=world.acme, name="fraud", model=a_model, status="live")
    Route.objects.create(deployment=deployment, version=ready)
    return ready


BASE = "/api/v1/acme/models/fraud"


def test_models_are_made_listed_and_filtered(world) -> None:
    dan = world.api("dan")
    dan.post("/api/v1/acme/projects", {"name": "Risk team"}, format="json")
    made = dan.post(
        "/api/v1/acme/models", {"model": "churn", "project": "risk-team", "tags": {"team": "risk"}}, format="json"
    )
    assert (made.status_code, made.json()["project"], made.json()["latest"]) == (201, "risk-team", None)
    dan.post("/api/v1/acme/models", {"model": "fraud", "tags": ["money"]}, format="json")

    def listed(query: str) -> list[str]:
        answer = world.api("vic").get(f"/api/v1/acme/models?{query}").json()
        return [row["model"] for row in answer["results"]]

    assert listed("") == ["fraud", "churn"]
    assert listed("q=CHU") == listed("project=risk-team") == listed("tag=team") == listed("tag=team=risk") == ["churn"]
    assert listed("tag=team=other") == listed("status=ready") == listed("framework=torch") == []
    first = world.api("vic").get("/api/v1/acme/models?limit=1").json()
    second = world.api("vic").get(first["next"]).json()
    assert [row["model"] for row in first["results"] + second["results"]] == ["fraud", "churn"]
    assert second["next"] is None


def test_a_taken_or_bad_name_is_refused(world, a_model) -> None:
    dan = world.api("dan")
    taken = dan.post("/api/v1/acme/models", {"model": "fraud"}, format="json")
    assert (taken.status_code, taken.json()["code"]) == (409, "name_taken")
    bad = dan.post("/api/v1/acme/models", {"model": "Not Good"}, format="json")
    assert (bad.status_code, bad.json()["code"], bad.json()["hint"]) == (422, "bad_name", "'not-good' would do.")
    long = dan.post("/api/v1/acme/models", {"model": "x" * 64}, format="json")
    assert (long.status_code, long.json()["code"]) == (422, "invalid")


def test_an_idempotency_key_makes_one_model(world) -> None:
    dan = world.api("dan")
    answers = [
        dan.post("/api/v1/acme/models", {"model": "one"}, format="json", HTTP_IDEMPOTENCY_KEY="k") for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [201, 201]
    other = dan.post("/api/v1/acme/models", {"model": "two"}, format="json", HTTP_IDEMPOTENCY_KEY="k")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


def test_metadata_is_edited_and_audited(world, a_model) -> None:
    dan = world.api("dan")
    changed = dan.patch(BASE, {"description": "New words", "tags": ["money"]}, format="json").json()
    assert (changed["description"], changed["tags"]) == ("New words", {"money": ""})
    version = dan.patch(f"{BASE}/versions/1", {"metrics": {"auc": 0.5}, "description": "Mine"}, format="json").json()
    assert (version["metrics"], version["description"]) == ({"auc": 0.5}, "Mine")
    assert list(AuditEvent.objects.order_by("number").values_list("action", flat=True)) == [
        "model.edited",
        "version.edited",
    ]
    bad = dan.patch(f"{BASE}/versions/1", {"metrics": {"auc": "high"}}, format="json")
    assert (bad.status_code, bad.json()["code"]) == (422, "bad_metadata")


def test_a_schema_can_be_given_until_the_version_is_ready(world, ready) -> None:
    dan = world.api("dan")
    schema = {"inputs": [{"name": "age", "type": "float"}]}
    given = dan.patch(f"{BASE}/versions/1", {"schema": schema}, format="json")
    assert given.status_code == 200
    assert dan.get(f"{BASE}/versions/1/schema").json()["given"]["inputs"][0] == {
        "name": "age",
        "type": "double",
        "nullable": False,
    }
    fixed = dan.patch(f"{BASE}/versions/2", {"schema": schema}, format="json")
    assert (fixed.status_code, fixed.json()["code"]) == (409, "schema_fixed")
    assert "metadata" in fixed.json()["hint"]


def test_aliases_point_to_ready_versions_only(world, ready) -> None:
    dan = world.api("dan")
    assert dan.put(f"{BASE}/aliases/staging", {"version": 2}, format="json").json()["version"] == 2
    assert dan.get(f"{BASE}/versions/2").json()["aliases"] == ["staging"]
    not_ready = dan.put(f"{BASE}/aliases/staging", {"version": 1}, format="json")
    assert (not_ready.status_code, not_ready.json()["code"]) == (409, "version_not_ready")
    unknown = dan.put(f"{BASE}/aliases/blue", {"version": 2}, format="json")
    assert (unknown.status_code, unknown.json()["hint"]) == (422, "The aliases are dev, staging, production.")
    assert dan.put(f"{BASE}/aliases/dev", {"version": 9}, format="json").status_code == 404
    assert dan.delete(f"{BASE}/aliases/staging").status_code == 204
    assert dan.delete(f"{BASE}/aliases/staging").status_code == 404
    assert not Alias.objects.exists()


def test_archive_and_restore_a_version(world, ready) -> None:
    dan = world.api("dan")
    assert dan.post(f"{BASE}/versions/2/archive").json()["status"] == "archived"
    assert dan.post(f"{BASE}/versions/2/restore").json()["status"] == "ready"
    assert dan.post(f"{BASE}/versions/1/archive").json()["status"] == "archived"
    assert dan.post(f"{BASE}/versions/1/restore").json()["status"] == "failed"


def test_what_is_live_or_aliased_cannot_be_archived(world, live) -> None:
    dan = world.api("dan")
    for url in (f"{BASE}/versions/2/archive", f"{BASE}/archive"):
        refused = dan.post(url)
        assert (refused.status_code, refused.json()["code"]) == (409, "version_live")
        assert refused.json()["hint"]
    live.routes.all().delete()
    dan.put(f"{BASE}/aliases/dev", {"version": 2}, format="json")
    aliased = dan.post(f"{BASE}/versions/2/archive")
    assert (aliased.status_code, aliased.json()["code"]) == (409, "version_aliased")
    assert dan.post(f"{BASE}/archive").json()["archived_at"]
    assert world.api("vic").get("/api/v1/acme/models").json()["results"] == []
    assert len(world.api("vic").get("/api/v1/acme/models?status=archived").json()["results"]) == 1
    assert dan.post(f"{BASE}/restore").json()["archived_at"] is None


def test_a_download_is_the_file_with_its_hash(world, ready) -> None:
    answer = world.api("dan").get(f"{BASE}/versions/2/download")
    content = b"".join(answer.streaming_content)
    assert hashlib.sha256(content).hexdigest() == answer["X-Content-SHA256"] == ready.sha256
    assert int(answer["Content-Length"]) == len(content)
    assert "\n" not in answer["Content-Disposition"]
    assert answer["Content-Disposition"].startswith("attachment")
    low = world.api("vic").get(f"{BASE}/versions/2/download")
    assert (low.status_code, low.json()["code"]) == (403, "role_too_low")


def test_a_lost_file_is_said_to_be_lost(world, a_model) -> None:
    answer = world.api("dan").get(f"{BASE}/versions/1/download")
    assert (answer.status_code, answer.json()["code"]) == (404, "file_missing")
    assert "backup" in answer.json()["hint"]


def test_data_sets_are_listed_and_downloaded(world, ready) -> None:
    Dataset.objects.create(
        organization=world.acme,
        version=ready,
        kind="reference",
        file_key=ready.file_key,
        filename="r.csv",
        format="csv",
        sha256=ready.sha256,
        size_bytes=17000,
    )
    rows = world.api("dan").get("/api/v1/acme/datasets").json()["results"]
    assert [(row["model"], row["version"], row["kind"]) for row in rows] == [("fraud", 2, "reference")]
    assert b"".join(world.api("dan").get(rows[0]["download_url"]).streaming_content).startswith(b"the model")
    assert world.api("vic").get("/api/v1/acme/datasets").status_code == 403
    assert world.api("mallory").get(rows[0]["download_url"]).status_code == 404


def test_only_a_failed_version_is_validated_again(world, ready) -> None:
    dan = world.api("dan")
    again = dan.post(f"{BASE}/versions/1/validate")
    assert (again.status_code, again.json()["status"]) == (202, "validating")
    busy = dan.post(f"{BASE}/versions/1/validate")
    assert (busy.status_code, busy.json()["hint"]) == (409, "Wait for the validation that is running.")
    done = dan.post(f"{BASE}/versions/2/validate")
    assert (done.status_code, done.json()["code"]) == (409, "not_failed")


READS = ["", "/versions", "/versions/1", "/versions/1/schema"]
WRITES = [
    ("patch", "", {"description": "x"}),
    ("post", "/archive", None),
    ("post", "/restore", None),
    ("put", "/aliases/dev", {"version": 1}),
    ("delete", "/aliases/dev", None),
    ("patch", "/versions/1", {"description": "x"}),
    ("post", "/versions/1/validate", None),
    ("post", "/versions/1/archive", None),
    ("post", "/versions/1/restore", None),
]


@pytest.mark.parametrize("path", READS)
def test_viewers_read_and_strangers_see_nothing(world, a_model, path) -> None:
    assert world.api("vic").get(BASE + path).status_code == 200
    foreign = world.api("mallory").get(BASE + path)
    assert (foreign.status_code, foreign.json()["code"]) == (404, "not_found")
    assert "belongs to someone else" in foreign.json()["detail"]


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_viewers_do_not_write_and_strangers_see_nothing(world, a_model, method, path, body) -> None:
    low = getattr(world.api("vic"), method)(BASE + path, body, format="json")
    assert (low.status_code, low.json()["code"]) == (403, "role_too_low")
    assert "Make a key with that role" in low.json()["hint"]
    assert getattr(world.api("mallory"), method)(BASE + path, body, format="json").status_code == 404


def test_the_public_keys_verify_a_signature_without_us(ready, client) -> None:
    import base64

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    keys = client.get("/.well-known/slipway-keys.json").json()["keys"]
    envelope = ready.signature
    signed = envelope["signatures"][0]
    key = next(key for key in keys if key["kid"] == signed["keyid"])
    payload = base64.b64decode(envelope["payload"])
    pae = b"DSSEv1 %d %s %d %s" % (
        len(envelope["payloadType"]),
        envelope["payloadType"].encode(),
        len(payload),
        payload,
    )
    public = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(key["x"] + "="))
    public.verify(base64.b64decode(signed["sig"]), pae)
    assert ready.sha256.encode() in payload
