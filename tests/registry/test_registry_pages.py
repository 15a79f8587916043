"""The pages: push in the browser, watch the validation, look, edit, archive."""

from __future__ import annotations

import subprocess
import sys

import pytest
from django.test import Client

from mlops.jobs import queue
from registry.models import ModelVersion, Project, RegisteredModel
from registry.services import versions
from tests.registry.conftest import upload

GOOD = b"\x80\x04N."
FORM = {
    "model": "iris",
    "description": "Three flowers",
    "metrics": "acc=0.97",
    "tags": "flowers, team=bio",
    "deploy": "",
    "project": "",
}


@pytest.fixture
def quiet(monkeypatch) -> None:
    monkeypatch.setattr(queue, "send", lambda job_id: None)


@pytest.mark.django_db
@pytest.mark.usefixtures("quiet", "nothing_left")
class TestUpload:
    def send(self, world, who="dan", **fields):
        data = {**FORM, "file": upload(GOOD, "iris.pkl"), **fields}
        return world.client(who).post(
            "/acme/upload/", {name: value for name, value in data.items() if value is not None}
        )

    def test_a_push_leads_to_its_live_validation(self, world) -> None:
        page = world.client("dan").get("/acme/upload/?model=iris").content.decode()
        assert 'value="iris"' in page
        assert "/api/v1/acme/models/my-model/versions" in page
        answer = self.send(world, sample=upload(b'[{"a": 1}]', "s.json"))
        assert (answer.status_code, answer.url) == (302, "/acme/models/iris/versions/1/validation/")
        version = ModelVersion.objects.get()
        assert (version.metrics, version.tags, version.description) == (
            {"acc": 0.97},
            {"flowers": "", "team": "bio"},
            "Three flowers",
        )
        live = world.client("vic").get(answer.url).content.decode()
        assert f'hx-get="{answer.url}"' in live
        assert "Load in the sandbox" in live

    @pytest.mark.parametrize(
        ("fields", "sentence"),
        [
            ({"file": None}, "Choose the model file."),
            ({"file": b""}, "The file is empty (0 bytes)"),
            ({"file": ("iris.exe", GOOD)}, "which is not a format Slipway reads"),
            ({"model": "Not Good"}, "&#x27;not-good&#x27; would do."),
            ({"model": "x" * 64}, "at most 63 characters"),
            ({"metrics": "acc=high"}, "acc needs a number"),
            ({"deploy": "Not Good"}, "1 to 63 lower-case letters"),
            ({"reference": ("r.csv", b"\x00\x01")}, "The file is not CSV, Parquet or JSON."),
        ],
    )
    def test_what_is_wrong_stands_at_its_field_and_what_was_typed_stays(self, world, fields, sentence) -> None:
        given = {
            name: upload(*reversed(v)) if isinstance(v, tuple) else upload(v, "iris.pkl") if isinstance(v, bytes) else v
            for name, v in fields.items()
        }
        answer = self.send(world, **given)
        page = answer.content.decode()
        assert answer.status_code == 422
        assert sentence in page
        assert "Three flowers" in page
        assert not RegisteredModel.objects.exists()

    def test_too_large_is_refused_with_a_page(self, world, settings) -> None:
        settings.UPLOAD_LIMIT_BYTES = 2
        answer = self.send(world)
        assert answer.status_code == 413
        assert "The model file is larger than 2 bytes." in answer.content.decode()

    def test_without_the_csrf_token_nothing_is_kept(self, world) -> None:
        client = Client(enforce_csrf_checks=True)
        client.force_login(world.dan, backend="allauth.account.auth_backends.AuthenticationBackend")
        answer = client.post("/acme/upload/", {**FORM, "file": upload(GOOD, "iris.pkl")})
        assert answer.status_code == 403
        assert not ModelVersion.objects.exists()

    def test_who_may(self, world, client) -> None:
        assert self.send(world, who="vic").status_code == 403
        assert self.send(world, who="mallory").status_code == 404
        assert client.post("/acme/upload/", {"file": upload(GOOD, "iris.pkl")}).url.startswith("/accounts/login/")
        assert not ModelVersion.objects.exists()

    def test_a_second_project_can_be_chosen(self, world) -> None:
        Project.objects.create(organization=world.acme, slug="bio", name="Biology")
        assert self.send(world, project="bio").status_code == 302
        assert RegisteredModel.objects.get().project.slug == "bio"


@pytest.mark.django_db
@pytest.mark.usefixtures("quiet")
class TestPages:
    def test_the_live_part_stops_with_the_validation(self, world, a_model) -> None:
        version, url = a_model.versions.get(), "/acme/models/fraud/versions/1/validation/"
        client = world.client("dan")
        ended = client.get(url).content.decode()
        assert "data-poll" not in ended.split("<main")[1]
        assert "Validate again" in ended
        assert client.post("/acme/models/fraud/versions/1/validate/").url == url
        part = client.get(url, headers={"HX-Request": "true"}).content.decode()
        assert 'data-poll="1"' in part
        assert "<html" not in part
        assert "waiting for a worker" in part
        assert version.findings.count() == 0

    def test_a_list_without_models_offers_a_push_to_those_who_may(self, world) -> None:
        assert "Push a model" in world.client("dan").get("/acme/models/").content.decode()
        assert (
            "A developer of this organisation can push one."
            in world.client("vic").get("/acme/models/").content.decode()
        )

    def test_the_list_is_filtered_and_paged(self, world, a_model) -> None:
        for number in range(30):
            RegisteredModel.objects.create(
                organization=world.acme, project=a_model.project, slug=f"m{number}", name=f"m{number}"
            )
        client = world.client("vic")
        assert "26–31 of 31" in client.get("/acme/models/?page=2").content.decode()
        found = client.get("/acme/models/?status=failed", headers={"HX-Request": "true"}).content.decode()
        assert "Fraud" in found
        assert "m29" not in found
        assert "No model fits" in client.get("/acme/models/?q=nothing").content.decode()

    @pytest.mark.parametrize(
        "path",
        [
            "models/",
            "models/fraud/",
            "models/fraud/versions/",
            "models/fraud/versions/1/",
            "models/fraud/versions/1/validation/",
            "models/fraud/versions/1/schema/",
            "projects/",
        ],
    )
    def test_viewers_look_strangers_do_not_nobody_signs_in(self, world, a_model, client, path) -> None:
        assert world.client("vic").get(f"/acme/{path}").status_code == 200
        assert world.client("mallory").get(f"/acme/{path}").status_code == 404
        assert client.get(f"/acme/{path}").status_code == 302

    @pytest.mark.parametrize(
        "path",
        [
            "models/fraud/settings/", "models/fraud/archive/", "models/fraud/restore/", "models/fraud/versions/1/validate/", "models/fraud/versions/1/edit/",
            "models/fraud/versions/1/schema/", "models/fraud/versions/1/archive/", "models/fraud/versions/1/restore/", "models/fraud/versions/1/alias/", "projects/",
        ],
    )  # fmt: skip
    def test_viewers_change_nothing(self, world, a_model, path) -> None:
        answer = world.client("vic").post(f"/acme/{path}")
        assert answer.status_code == 403
        assert "needs the role developer" in answer.content.decode()
        assert world.client("mallory").post(f"/acme/{path}").status_code == 404

    def test_edit_archive_and_restore(self, world, a_model) -> None:
        client = world.client("dan")
        client.post(
            "/acme/models/fraud/settings/",
            {"name": "Fraud 2", "description": "new", "tags": "a=b", "project": "default"},
        )
        a_model.refresh_from_db()
        assert (a_model.name, a_model.tags) == ("Fraud 2", {"a": "b"})
        client.post("/acme/models/fraud/versions/1/edit/", {"description": "x", "metrics": "auc=0.5", "tags": ""})
        assert a_model.versions.get().metrics == {"auc": 0.5}
        bad = client.post("/acme/models/fraud/versions/1/edit/", {"metrics": "auc=much"})
        assert (bad.status_code, "auc needs a number" in bad.content.decode()) == (422, True)
        client.post("/acme/models/fraud/versions/1/archive/")
        assert a_model.versions.get().status == "archived"
        client.post("/acme/models/fraud/versions/1/restore/")
        assert a_model.versions.get().status == "failed"
        client.post("/acme/models/fraud/archive/")
        assert "Fraud 2" in client.get("/acme/models/?status=archived").content.decode()
        assert "Fraud 2" not in client.get("/acme/models/").content.decode()

    def test_a_failed_version_gets_a_schema_and_another_try(self, world, a_model) -> None:
        client, url = world.client("dan"), "/acme/models/fraud/versions/1/schema/"
        bad = client.post(url, {"schema": '{"inputs": [{"name": "age", "type": "wide"}]}'})
        assert (bad.status_code, "the type is one of" in bad.content.decode()) == (422, True)
        assert client.post(url, {"schema": '{"inputs": [{"name": "age", "type": "float"}]}'}).status_code == 302
        version = a_model.versions.get()
        assert (version.status, version.given_schema["inputs"][0]["type"]) == ("validating", "double")
        assert versions.latest_job(version).status == "queued"
        assert client.post(url, {"schema": ""}).status_code == 409

    def test_a_project_is_made_once(self, world) -> None:
        client = world.client("dan")
        assert client.post("/acme/projects/", {"name": "Risk team", "slug": "", "description": ""}).status_code == 302
        again = client.post("/acme/projects/", {"name": "Risk team", "slug": "", "description": ""})
        assert (again.status_code, "already a project" in again.content.decode()) == (422, True)


@pytest.mark.usefixtures("runner_host")
def test_a_ready_version_s_page_shows_what_was_measured(push, tiny, world) -> None:
    rows = "\n".join(["plan,months,spend", *[f"basic,{n},{n}.5" for n in range(40)]])
    push(tiny["churn_pipeline"].path, "churn", reference=rows, metadata={"metrics": {"auc": 0.9}})
    client = world.client("dan")
    model, version = (
        client.get("/acme/models/churn/").content.decode(),
        client.get("/acme/models/churn/versions/1/").content.decode(),
    )
    assert "Filled from what was measured" in model
    assert "reference.csv, 40 rows" in model
    for shown in ("Ed25519", "months", "Every check passed", "Point here", ModelVersion.objects.get().sha256):
        assert shown in version
    assert client.post("/acme/models/churn/versions/1/alias/", {"alias": "staging"}).status_code == 302
    assert "this version" in client.get("/acme/models/churn/versions/1/").content.decode()
    client.post("/acme/models/churn/versions/1/alias/", {"alias": "staging", "remove": "1"})
    assert ModelVersion.objects.get().aliases.count() == 0
    got = client.get("/acme/models/churn/versions/1/datasets/reference/")
    assert b"".join(got.streaming_content).startswith(b"plan,months")
    assert client.get("/acme/datasets/").status_code == 200
    assert world.client("vic").get("/acme/datasets/").status_code == 403


@pytest.mark.usefixtures("quiet")
def test_the_snippets_push(live_server, world, settings, tmp_path) -> None:
    """Exactly what the page shows, in a shell and in Python, in a folder with those two files."""
    settings.BASE_URL = live_server.url
    from registry.snippets import push as snippets

    (tmp_path / "model.joblib").write_bytes(GOOD)
    (tmp_path / "train.csv").write_text("a,b\n1,2\n")
    told, environment = snippets(world.acme), {"PATH": "/usr/bin:/bin", "SLIPWAY_KEY": world.key("dan")}
    for words in (["sh", "-c", told["curl"]], [sys.executable, "-c", told["python"]]):
        ran = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
        assert ran.returncode == 0, ran.stderr
        assert "/acme/models/my-model/versions/" in ran.stdout
    assert [version.metrics for version in ModelVersion.objects.all()] == [{"auc": 0.94}] * 2
