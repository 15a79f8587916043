"""A model shared with another organisation: looked at, called, copied; private by default, revocable, audited on both sides."""

from __future__ import annotations

import pytest
from django.urls import reverse

from accounts.models import AuditEvent, Organization
from registry.models import ModelVersion, Share
from serving import prediction_log
from serving.models import BatchRun, Deployment, PredictionLog
from serving.routing import snapshot
from serving.services import deployments, previews

URL = "/api/v1/predict/acme/flowers"
SHARES = "/api/v1/acme/models/iris/shares"
SHARED = "/api/v1/globex/shared"
ROWS = {"inputs": [[5.1, 3.5, 1.4, 0.2]]}


@pytest.fixture
def flowers(world, ready_version) -> Deployment:
    """Live with version 1 of iris; there is a version 2."""
    first = ready_version(world.acme)
    ready_version(world.acme)
    return deployments.create_deployment(
        organization=world.acme, name="flowers", version=first, caller=world.caller("dan")
    )


def share(world, rights=("predict",), **more):
    return world.api("alice").post(SHARES, {"organization": "globex", "rights": list(rights), **more}, format="json")


def ask(api, url=URL):
    return api.post(url, ROWS, format="json")


@pytest.mark.django_db
def test_a_model_is_private_until_it_is_shared(world, flowers) -> None:
    mallory = world.api("mallory")
    assert ask(mallory).status_code == 404
    assert mallory.get(SHARED).json()["results"] == []
    for address in (f"{URL}/schema", f"{URL}/openapi.json", "/acme/v2/models/flowers", "/api/v1/acme/models/iris"):
        assert mallory.get(address).status_code == 404, address


@pytest.mark.django_db
def test_a_guest_predicts_with_his_own_key_and_the_owner_sees_the_call(world, flowers) -> None:
    made = share(world)
    assert made.status_code == 201
    assert made.json()["rights"] == ["read", "predict"]
    mallory = world.api("mallory")
    answer = ask(mallory)
    assert answer.status_code == 200
    assert answer.json()["model"] == {"name": "iris", "version": 1}
    assert ask(mallory, f"{URL}?version=2").json()["model"]["version"] == 2
    assert mallory.get(f"{URL}/schema").json()["model"]["name"] == "iris"
    found = mallory.get("/acme/v2/models/flowers").json()
    assert found["name"] == "flowers"
    tensor = {"name": "x", "shape": [1, 4], "datatype": "FP64", "data": ROWS["inputs"][0]}
    inferred = mallory.post("/acme/v2/models/flowers/infer", {"inputs": [tensor]}, format="json")
    assert inferred.status_code == 200
    # and nothing else of the owner's
    assert mallory.get("/api/v1/acme/deployments/flowers").status_code == 404
    assert mallory.get("/api/v1/acme/deployments/flowers/predictions").status_code == 404
    assert mallory.get("/api/v1/acme/models/iris/versions/1/download").status_code == 404


@pytest.mark.django_db
def test_what_a_guest_asked_is_in_the_owners_log_only(world, flowers) -> None:
    share(world)
    assert ask(world.api("mallory")).status_code == 200
    prediction_log.ship_once()
    row = PredictionLog.objects.get()
    assert (row.organization, row.status) == (world.acme, 200)
    assert world.api("mallory").get("/api/v1/acme/deployments/flowers/predictions").status_code == 404


@pytest.mark.django_db
def test_a_share_of_one_version_answers_for_no_other(world, flowers) -> None:
    share(world, version=2)
    mallory = world.api("mallory")
    assert ask(mallory, f"{URL}?version=2").json()["model"]["version"] == 2
    for other in (URL, f"{URL}?version=1", f"{URL}/previews/v1"):
        refused = ask(mallory, other)
        assert (refused.status_code, refused.json()["code"]) == (404, "version_not_found"), other
    assert ask(mallory, f"{URL}/previews/v2").status_code == 200
    listed = mallory.get(SHARED).json()["results"][0]
    detail = mallory.get(f"{SHARED}/{listed['id']}").json()
    assert [version["version"] for version in detail["versions"]] == [2]
    assert detail["endpoints"][0]["url"].endswith("/flowers?version=2")
    assert mallory.get(f"{URL}/schema").json()["model"]["version"] == 2


@pytest.mark.django_db
def test_two_shares_of_versions_add_up(world, flowers) -> None:
    share(world, version=1)
    share(world, version=2)
    for number in (1, 2):
        assert ask(world.api("mallory"), f"{URL}?version={number}").status_code == 200


@pytest.mark.django_db
def test_a_revoked_share_ends_also_where_its_route_is_known(world, flowers) -> None:
    made = share(world).json()
    mallory = world.api("mallory")
    assert ask(mallory).status_code == 200
    assert snapshot.find("acme", "flowers", warm=True).guests
    assert world.api("alice").delete(f"{SHARES}/{made['id']}").status_code == 204
    snapshot.refresh()  # what every process does each second
    assert ask(mallory).status_code == 404
    assert mallory.get(f"{SHARED}/{made['id']}").status_code == 404
    assert world.api("vic").get(SHARES).json()["results"][0]["status"] == "revoked"
    assert share(world).status_code == 201  # and it may be shared again


@pytest.mark.django_db
def test_rights_are_what_they_say(world, flowers) -> None:
    made = share(world, rights=["read"]).json()
    mallory = world.api("mallory")
    assert ask(mallory).status_code == 404
    seen = mallory.get(f"{SHARED}/{made['id']}").json()
    assert seen["endpoints"] == []
    assert seen["versions"][0]["schema"]["kind"]
    refused = mallory.post(f"{SHARED}/{made['id']}/copy", {"version": 1}, format="json")
    assert (refused.status_code, refused.json()["code"]) == (403, "share_right_missing")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"organization": "nobody-here", "rights": ["read"]}, 422, "unknown_organization"),
        ({"organization": "acme", "rights": ["read"]}, 422, "own_organization"),
        ({"organization": "globex", "rights": []}, 422, "invalid"),
        ({"organization": "globex", "rights": ["own"]}, 422, "invalid"),
        ({"organization": "globex", "rights": ["read"], "version": 99}, 404, "not_found"),
    ],
)
def test_what_cannot_be_shared_is_refused_with_the_reason(world, flowers, body, status, code) -> None:
    answer = world.api("alice").post(SHARES, body, format="json")
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert not Share.objects.exists()


@pytest.mark.django_db
def test_only_admins_share_and_nothing_is_shared_twice(world, flowers) -> None:
    body = {"organization": "globex", "rights": ["read"]}
    for name, status in (("dan", 403), ("vic", 403), ("mallory", 404)):
        assert world.api(name).post(SHARES, body, format="json").status_code == status
    assert share(world).status_code == 201
    again = share(world)
    assert (again.status_code, again.json()["code"]) == (409, "already_shared")


@pytest.mark.django_db
def test_a_key_bound_to_a_deployment_is_no_guest(world, flowers, client) -> None:
    share(world)
    key = world.key("mallory", deployment="flowers")  # of the same name, at home
    refused = client.post(URL, ROWS, content_type="application/json", headers={"Authorization": f"Bearer {key}"})
    assert (refused.status_code, refused.json()["code"]) == (403, "key_bound")


@pytest.mark.django_db
def test_both_sides_have_it_in_their_audit_logs(world, flowers) -> None:
    made = share(world).json()
    world.api("alice").delete(f"{SHARES}/{made['id']}")
    assert list(AuditEvent.objects.filter(organization=world.acme, action__startswith="share").values_list("action", flat=True).order_by("pk")) == [
        "share.made", "share.revoked",
    ]  # fmt: skip
    theirs = AuditEvent.objects.filter(organization=world.globex, action__startswith="share").order_by("pk")
    assert [event.action for event in theirs] == ["share.made_with_us", "share.revoked_with_us"]
    assert "alice" not in str([event.detail for event in theirs]).lower()


@pytest.mark.django_db
def test_a_copy_is_the_guests_own_and_is_validated_there(world, flowers, jobs_now) -> None:
    made = share(world, rights=["copy"]).json()
    mallory = world.api("mallory")
    private = {"git": {"url": "https://git.acme.test/secret", "author": "Dan"}, "run": "nightly 7", "target": "species"}
    ModelVersion.objects.filter(organization=world.acme, number=2).update(claims=private)
    with jobs_now():
        copied = mallory.post(f"{SHARED}/{made['id']}/copy", {"version": 2, "model": "our-iris"}, format="json")
    assert copied.status_code == 202
    version = ModelVersion.objects.get(organization=world.globex)
    original = ModelVersion.objects.get(organization=world.acme, number=2)
    assert (version.status, version.model.slug, version.sha256) == ("ready", "our-iris", original.sha256)
    assert version.file_key != original.file_key
    assert version.claims["copied_from"]["organization"] == "acme"
    assert set(version.claims) == {"copied_from", "target"}  # whose commit it was is the owner's affair
    world.api("alice").delete(f"{SHARES}/{made['id']}")
    assert mallory.get("/api/v1/globex/models/our-iris/versions/1").json()["status"] == "ready"
    assert AuditEvent.objects.filter(organization=world.acme, action="share.copied").exists()


@pytest.mark.django_db
def test_the_pages_of_both_sides(world, flowers) -> None:
    alice, mallory = world.client("alice"), world.client("mallory")
    page = reverse("model_sharing", kwargs={"org": "acme", "model": "iris"})
    assert "Nobody outside this organisation" in alice.get(page).content.decode()
    assert "Nothing is shared with us" in mallory.get("/globex/shared/").content.decode()
    refused = alice.post(page, {"organization": "nobody", "rights": ["read"], "version": ""})
    assert refused.status_code == 422
    assert "There is no organisation of this name" in refused.content.decode()
    assert alice.post(page, {"organization": "globex", "rights": ["predict", "copy"], "version": ""}).status_code == 302
    found = Share.objects.get()
    listed = mallory.get("/globex/shared/").content.decode()
    assert "iris" in listed
    detail = mallory.get(f"/globex/shared/{found.pk}/").content.decode()
    assert "/api/v1/predict/acme/flowers" in detail
    assert "Copy this version" in detail
    assert world.client("dan").get(f"/globex/shared/{found.pk}/").status_code == 404
    ended = alice.post(reverse("share_revoke", kwargs={"org": "acme", "model": "iris", "share_id": found.pk}))
    assert ended.status_code == 302
    assert mallory.get(f"/globex/shared/{found.pk}/").status_code == 404


@pytest.mark.django_db
def test_a_guests_calls_count_against_the_owners_limit_whatever_his_own_is(world, flowers) -> None:
    share(world)
    Organization.objects.filter(pk=world.globex.pk).update(calls_per_minute=1)
    Organization.objects.filter(pk=world.acme.pk).update(calls_per_minute=5)
    dan, mallory = world.api("dan"), world.api("mallory")
    answers = [ask(api) for api in (mallory, dan, mallory, dan, mallory)]
    assert [answer.status_code for answer in answers] == [200] * 5
    assert [answer["RateLimit-Remaining"] for answer in answers] == ["4", "3", "2", "1", "0"]
    for api in (mallory, dan):
        refused = ask(api)
        assert refused.status_code == 429
        assert refused["RateLimit-Policy"] == '5;w=60;comment="organization"'


@pytest.mark.django_db
def test_a_guest_of_some_versions_learns_nothing_of_the_others(world, flowers) -> None:
    share(world, version=2)
    previews.create(deployment=flowers, name="secret", version=flowers.live_version, caller=world.caller("dan"))
    mallory = world.api("mallory")

    def refused(address: str, what: str) -> str:
        said = ask(mallory, address).json()
        return str({name: said[name] for name in ("code", "detail", "hint")}).replace(what, "?")

    assert refused(f"{URL}?version=1", "1") == refused(f"{URL}?version=9", "9")
    assert refused(f"{URL}/previews/v1", "v1") == refused(f"{URL}/previews/v9", "v9")
    assert refused(f"{URL}/previews/secret", "secret") == refused(f"{URL}/previews/nothing", "nothing")


@pytest.mark.django_db
def test_a_guest_sends_a_file_and_fetches_what_came_of_it(world, flowers, jobs_now) -> None:
    made = share(world, version=1).json()
    mallory = world.api("mallory")
    with jobs_now():
        sent = mallory.post(f"{URL}/batch", ROWS["inputs"] * 3, format="json", headers={"Prefer": "respond-async"})
    assert sent.status_code == 202, sent.content
    run = mallory.get(sent["Location"]).json()
    assert (run["status"], run["rows_done"]) == ("done", 3)
    kept, told = BatchRun.objects.get(), AuditEvent.objects.get(action="batch.start")
    assert (kept.created_by, kept.job.created_by, kept.actor) == (None, None, f"guest, {kept.maker}")  # not his name
    assert (told.actor_user, told.actor_key, told.detail["guest"]) == (None, None, kept.maker)
    assert [row["id"] for row in mallory.get(f"{URL}/batch").json()["results"]] == [run["id"]]
    assert mallory.get(f"{URL}/batch/{run['id']}/results").status_code == 200
    # another of the guest's keys is another caller, and nothing is left when the share has ended
    assert world.api("mallory").get(sent["Location"]).status_code == 404
    world.api("alice").delete(f"{SHARES}/{made['id']}")
    snapshot.refresh()
    assert mallory.get(sent["Location"]).status_code == 404
    assert mallory.get(f"{URL}/batch").status_code == 404


@pytest.mark.django_db
def test_a_revoked_version_is_not_shared_and_a_share_of_one_leads_nowhere(world, flowers) -> None:
    made = share(world, rights=["predict", "copy"], version=2).json()
    gone = world.api("dan").post("/api/v1/acme/models/iris/versions/2/revoke", {"reason": "Leaks"}, format="json")
    assert gone.status_code == 200
    snapshot.clear()  # known for five seconds
    mallory = world.api("mallory")
    assert ask(mallory, f"{URL}?version=2").status_code == 404
    seen = mallory.get(f"{SHARED}/{made['id']}").json()
    assert seen["versions"] == []
    assert [place["version"] for place in seen["endpoints"]] == [None]
    assert mallory.get(f"{URL}/schema").status_code == 503
    copied = mallory.post(f"{SHARED}/{made['id']}/copy", {"version": 2}, format="json")
    assert copied.status_code == 404
    page = world.client("mallory").get(reverse("shared_detail", kwargs={"org": "globex", "share_id": made["id"]}))
    assert page.status_code == 200
    world.api("alice").delete(f"{SHARES}/{made['id']}")
    again = share(world, version=2)
    assert (again.status_code, again.json()["code"]) == (409, "version_revoked")
