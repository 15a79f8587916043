"""The pages of a deployment: what a person sees and does, and who may."""

from __future__ import annotations

import json
import re

import pytest
from django.test import Client

from accounts.models import ApiKey, AuditEvent
from mlops.jobs.models import Job
from mlops.runtime.host import get_host
from serving import prediction_log, snippets
from serving.models import Deployment, PredictionLog
from serving.services import deployments

BASE = "/acme/deployments/"
PAGES = ["", "new/", "flowers/", "flowers/traffic/", "flowers/predictions/", "flowers/docs/"]


@pytest.fixture
def versions(world, ready_version):
    return [ready_version(world.acme) for _ in range(2)]


@pytest.fixture
def flowers(world, versions) -> Deployment:
    return deployments.create_deployment(
        organization=world.acme, name="flowers", version=versions[0], caller=world.caller("dan")
    )


def _text(response) -> str:
    assert response.status_code == 200, response.content[:500]
    return response.content.decode()


def _predict(world, body: str = '{"inputs": [[5.1, 3.5, 1.4, 0.2]]}') -> None:
    world.api("vic").post("/api/v1/predict/acme/flowers", body, content_type="application/json")
    prediction_log.ship_once()


@pytest.mark.parametrize("page", PAGES)
def test_pages_open_for_a_developer_and_not_for_a_stranger_or_nobody(world, flowers, page: str) -> None:
    text = _text(world.client("dan").get(f"{BASE}{page}"))
    assert not re.search(r"<[^>]+\sstyle=|<style|\son[a-z]+=", text)
    assert world.client("mallory").get(f"{BASE}{page}").status_code == 404
    assert Client().get(f"{BASE}{page}").status_code == 302


@pytest.mark.parametrize(
    ("page", "status"),
    [("", 200), ("flowers/", 200), ("flowers/traffic/", 200), ("new/", 403), ("flowers/predictions/", 403)],
)
def test_a_viewer_sees_deployments_but_not_the_log(world, flowers, page: str, status: int) -> None:
    assert world.client("vic").get(f"{BASE}{page}").status_code == status


@pytest.mark.parametrize("verb", ["deploy", "rollback", "stop", "start", "key", "samples"])
def test_a_viewer_may_not_change_anything_and_a_stranger_finds_nothing(world, flowers, verb: str) -> None:
    assert world.client("vic").post(f"{BASE}flowers/{verb}/").status_code == 403
    assert world.client("mallory").post(f"{BASE}flowers/{verb}/").status_code == 404
    assert world.client("dan").get(f"{BASE}flowers/{verb}/").status_code == 405
    assert Deployment.objects.get().status == "live"


def test_a_change_needs_the_csrf_token(world, flowers) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(world.dan, backend="allauth.account.auth_backends.AuthenticationBackend")
    assert client.post(f"{BASE}flowers/stop/").status_code == 403
    assert client.post(f"{BASE}flowers/try/", "{}", content_type="application/json").status_code == 403
    assert Deployment.objects.get().status == "live"


def test_an_empty_list_offers_the_next_step(world, ready_version) -> None:
    assert "New deployment" not in _text(world.client("vic").get(BASE))
    assert "Deploy a model" in _text(world.client("dan").get(BASE))
    assert "There is no model yet." in _text(world.client("dan").get(f"{BASE}new/"))


def test_deploying_by_the_form(world, versions) -> None:
    client = world.client("dan")
    page = _text(client.get(f"{BASE}new/?model=iris&version=2"))
    assert f'<option value="{versions[1].pk}" selected>' in page
    response = client.post(f"{BASE}new/", {"version": versions[1].pk, "name": "flowers"})
    assert (response.status_code, response["Location"]) == (302, f"{BASE}flowers/")
    assert Deployment.objects.get().live_version.number == 2
    again = client.post(f"{BASE}new/", {"version": versions[1].pk, "name": "flowers"})
    assert again.status_code == 422
    assert "There is a deployment" in again.content.decode()
    assert client.post(f"{BASE}new/", {"version": versions[1].pk, "name": "Not a name"}).status_code == 422


def test_another_organisations_version_cannot_be_chosen(world, flowers, ready_version) -> None:
    foreign = ready_version(world.globex)
    client = world.client("dan")
    assert client.post(f"{BASE}new/", {"version": foreign.pk, "name": "stolen"}).status_code == 422
    assert client.post(f"{BASE}flowers/deploy/", {"version": foreign.pk}).status_code == 404


def test_a_version_that_loads_slowly_is_deployed_by_a_job(world, versions, jobs_now) -> None:
    versions[1].profile = {"load_ms": 20_000}
    versions[1].save()
    client = world.client("dan")
    with jobs_now():
        client.post(f"{BASE}new/", {"version": versions[1].pk, "name": "slow"})
        assert "Starting" in _text(client.get(f"{BASE}slow/"))
    assert "Live" in _text(client.get(f"{BASE}slow/"))


def test_deploy_roll_back_stop_and_start_by_buttons(world, flowers, versions) -> None:
    client = world.client("dan")

    def live() -> int | None:
        version = Deployment.objects.get().live_version
        return version.number if version else None

    client.post(f"{BASE}flowers/deploy/", {"version": versions[1].pk})
    assert live() == 2
    page = _text(client.get(f"{BASE}flowers/"))
    assert "Roll back to v1" in page
    assert "Roll back to this" in page
    client.post(f"{BASE}flowers/rollback/", {"to": "1"})
    assert live() == 1
    client.post(f"{BASE}flowers/stop/")
    assert live() is None
    page = _text(client.get(f"{BASE}flowers/"))
    assert "calls get 503" in page
    assert "data-tryit" not in page
    client.post(f"{BASE}flowers/start/")
    assert live() == 1


def test_the_try_it_form_is_filled_from_the_example_and_predicts(world, flowers, tiny) -> None:
    client = world.client("vic")
    page = _text(client.get(f"{BASE}flowers/"))
    for name, value in tiny["iris_joblib"].rows[0].items():
        assert f'name="{name}" data-type="double" type="number" step="any" value="{value}"' in page
    answer = client.post(
        f"{BASE}flowers/try/", json.dumps({"inputs": tiny["iris_joblib"].rows[:1]}), content_type="application/json"
    )
    assert answer.json()["predictions"] == tiny["iris_joblib"].expected[:1]
    bad = client.post(
        f"{BASE}flowers/try/", json.dumps({"inputs": [tiny["iris_joblib"].bad_row]}), content_type="application/json"
    )
    assert bad.json()["errors"][0]["column"] == "sepal_width"
    assert world.client("mallory").post(f"{BASE}flowers/try/", "{}", content_type="application/json").status_code == 404


def test_what_the_form_sends_is_logged_but_is_not_the_first_call(world, flowers, tiny) -> None:
    client = world.client("vic")
    client.post(
        f"{BASE}flowers/try/", json.dumps({"inputs": tiny["iris_joblib"].rows[:1]}), content_type="application/json"
    )
    prediction_log.ship_once()
    assert PredictionLog.objects.get().key_prefix == ""
    assert "Waiting for the first call" in _text(client.get(f"{BASE}flowers/"))
    _predict(world)
    part = _text(client.get(f"{BASE}flowers/", headers={"HX-Request": "true"}))
    assert "First call received" in part
    assert "<html" not in part
    assert "data-poll" not in part


def test_a_tensor_model_gets_a_json_field(world, ready_version) -> None:
    version = ready_version(world.acme, "torch_export", model="net")
    deployments.create_deployment(organization=world.acme, name="net", version=version, caller=world.caller("dan"))
    assert "data-tryit-json" in _text(world.client("vic").get(f"{BASE}net/"))


def test_a_key_made_on_the_page_stands_in_the_snippets_and_works_there_only(world, flowers) -> None:
    response = world.client("dan").post(f"{BASE}flowers/key/")
    page = _text(response)
    key = re.search(r"sk_live_[a-z0-9]{8}_[A-Za-z0-9-]+", page)[0]
    assert page.count(key) >= 3
    assert "no-store" in response["Cache-Control"]
    row = ApiKey.objects.get(prefix=key.split("_")[2])
    assert (row.scopes, row.deployment, row.role) == (["predict"], "flowers", "viewer")
    client = Client(headers={"Authorization": f"Bearer {key}"})
    assert (
        client.post(
            "/api/v1/predict/acme/flowers", '{"inputs": [[1, 1, 1, 1]]}', content_type="application/json"
        ).status_code
        == 200
    )
    assert client.post("/api/v1/acme/deployments/flowers/stop").status_code == 403


def test_sample_requests_go_through_the_real_path(world, flowers, jobs_now) -> None:
    client = world.client("dan")
    with jobs_now():
        assert client.post(f"{BASE}flowers/samples/")["Location"] == f"{BASE}flowers/traffic/"
    assert Job.objects.get(kind="send_samples").status == "done"
    prediction_log.ship_once()
    assert PredictionLog.objects.count() == 200
    page = _text(client.get(f"{BASE}flowers/traffic/?range=1h"))
    assert "200" in page
    assert json.loads(re.search(r'id="requests-data"[^>]*>(.*?)</script>', page)[1])["marks"][0]["label"] == "v1"


def test_the_traffic_page_shows_ranges_versions_and_refuses_others(world, flowers) -> None:
    _predict(world)
    _predict(world, '{"inputs": [{}]}')
    client = world.client("vic")
    for chosen in ("1h", "24h", "7d", "30d"):
        assert "v1" in _text(client.get(f"{BASE}flowers/traffic/?range={chosen}"))
    assert client.get(f"{BASE}flowers/traffic/?range=9y").status_code == 422
    assert "<html" not in _text(client.get(f"{BASE}flowers/traffic/", headers={"HX-Request": "true"}))


def test_the_log_and_one_prediction(world, flowers, tiny) -> None:
    _predict(world)
    _predict(world, '{"inputs": [{"sepal_length": "<script>alert(1)</script>"}]}')
    client = world.client("dan")
    page = _text(client.get(f"{BASE}flowers/predictions/"))
    answered, failed = PredictionLog.objects.answered().get(), PredictionLog.objects.failed().get()
    assert f"/predictions/{answered.pk}/" in page
    assert f"/predictions/{failed.pk}/" in page
    assert f"/predictions/{answered.pk}/" not in _text(client.get(f"{BASE}flowers/predictions/?status=error"))
    detail = _text(client.get(f"{BASE}flowers/predictions/{answered.pk}/"))
    assert "sepal_length" in detail
    assert "curl" in detail
    bad = _text(client.get(f"{BASE}flowers/predictions/{failed.pk}/"))
    assert "<script>alert" not in bad
    assert "&lt;script&gt;" in bad
    assert world.client("vic").get(f"{BASE}flowers/predictions/{answered.pk}/").status_code == 403
    assert world.client("mallory").get(f"{BASE}flowers/predictions/{answered.pk}/").status_code == 404


def test_the_log_is_paged(world, flowers) -> None:
    body = json.dumps({"inputs": [[1, 1, 1, 1]] * 120})
    _predict(world, body)
    client, seen, url = world.client("dan"), set(), f"{BASE}flowers/predictions/"
    while url:
        page = _text(client.get(url))
        seen |= set(re.findall(r"/predictions/([0-9a-f-]{36})/", page))
        older = re.search(r'rel="next" href="([^"]+)"', page)
        url = f"{BASE}flowers/predictions/{older[1]}".replace("&amp;", "&") if older else ""
    assert len(seen) == 120


def test_model_memory_is_for_admins_and_shows_their_own_models_only(world, flowers, ready_version) -> None:
    foreign = ready_version(world.globex, model="secret-model")
    deployments.create_deployment(organization=world.globex, name="g", version=foreign, caller=world.caller("mallory"))
    page = _text(world.client("alice").get("/acme/settings/runtime/"))
    assert "iris v1" in page
    assert "secret-model" not in page
    assert "Batches: " in page
    assert "Launcher: " in page
    assert "Control groups: " in page
    assert world.client("dan").get("/acme/settings/runtime/").status_code == 403
    assert world.client("mallory").get("/acme/settings/runtime/").status_code == 404


def test_an_admin_pins_a_model_of_his_own_and_no_other(world, flowers, ready_version) -> None:
    foreign = ready_version(world.globex, model="secret-model")
    deployments.create_deployment(organization=world.globex, name="g", version=foreign, caller=world.caller("mallory"))
    keys = {
        entry["key"].split("-")[1]: entry["key"]
        for entry in get_host().status()["entries"]
        if entry["key"].startswith("v-")
    }
    client, url = world.client("alice"), "/acme/settings/runtime/pin/"
    mine, other = keys[str(flowers.live_version.pk)], keys[str(foreign.pk)]
    assert client.post(url, {"key": mine, "pinned": "1"}, follow=True).status_code == 200
    assert "Unpin" in _text(client.get("/acme/settings/runtime/"))
    assert AuditEvent.objects.filter(action="version.pinned").count() == 1
    client.post(url, {"key": mine, "pinned": "0"})
    assert "Unpin" not in _text(client.get("/acme/settings/runtime/"))
    for key in (other, "nonsense", "v-99999999-0"):
        assert client.post(url, {"key": key, "pinned": "1"}).status_code == 404
    assert world.client("dan").post(url, {"key": mine, "pinned": "1"}).status_code == 403


def test_the_list_of_deployments_has_a_fixed_number_of_queries(world, versions, django_assert_max_num_queries) -> None:
    for number in range(8):
        deployments.create_deployment(
            organization=world.acme, name=f"d{number}", version=versions[0], caller=world.caller("dan")
        )
    client = world.client("dan")
    client.get(BASE)
    with django_assert_max_num_queries(16):
        assert "d7" in _text(client.get(BASE))


def test_snippets_survive_quotes_and_run_in_a_shell(tmp_path) -> None:
    import subprocess

    body = {"inputs": [{"name": 'it\'s "so" $HOME `x`', "ok": True, "none": None}]}
    command = snippets.curl("http://127.0.0.1:9/x?version=3", body)
    shown = subprocess.run(
        ["sh", "-c", command.replace("curl ", "printf '%s\\n' ", 1)],
        capture_output=True,
        text=True,
        env={"SLIPWAY_KEY": "k"},
        check=True,
    ).stdout
    assert "Authorization: Bearer k" in shown
    assert json.loads(shown.strip().splitlines()[-1]) == body
    program = snippets.python("http://127.0.0.1:9/x", body)
    compile(program, "snippet", "exec")
    space: dict = {}
    exec(program.split("request =")[0].replace('os.environ["SLIPWAY_KEY"]', "'k'"), space)
    assert json.loads(space["body"]) == body
