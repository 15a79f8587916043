"""Who may tell us of a push: signatures, replays, rotation, and bodies that lie. Nothing is fetched here."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from accounts.caller import Caller
from accounts.models import AuditEvent, Membership
from accounts.roles import Role
from mlops.core import clock
from registry import jobs
from registry.models import Source, SourceDelivery, SourcePush
from registry.services import sources
from tests.forge import hooks
from tests.forge.fixtures import Connected
from tests.forge.git_server import Forge, Repository

Connect = Callable[..., Connected]
SHA = "0123456789abcdef0123456789abcdef01234567"
HELD = ("deploy_push",)


@pytest.fixture
def repo(forge: Forge) -> Repository:
    return forge.repository()


@pytest.fixture
def github(connect: Connect, repo: Repository) -> Connected:
    return connect(repo)


@pytest.fixture
def generic(connect: Connect, repo: Repository, jobs_now: Any) -> Any:
    """``send(body, ...)`` to a generic source."""
    connected = connect(repo, kind="generic", token_user="oauth2", deployment="generic")

    def send(body: dict[str, Any], **more: Any) -> Any:
        with jobs_now(leave=HELD):
            return hooks.send_generic(connected.shown["hook_url"], more.pop("secret", connected.secret), body, **more)

    return send


# -- GitHub ---------------------------------------------------------------------------------------------------------------


def test_a_signed_push_is_queued_and_its_replay_is_not(github: Connected, repo: Repository) -> None:
    delivery = str(uuid.uuid4())
    first = github.send("push", hooks.push_body(repo, SHA), delivery=delivery, leave=HELD)
    again = github.send("push", hooks.push_body(repo, SHA), delivery=delivery, leave=HELD)
    push = SourcePush.objects.get()
    assert (first.status_code, first.json()) == (202, {"status": "queued", "push": push.pk})
    assert (again.status_code, again.json()) == (200, {"status": "duplicate"})
    assert (push.sha, push.branch, push.production, push.status) == (SHA, "main", True, "queued")
    assert push.job.args == {"push_id": push.pk}


@pytest.mark.parametrize("signature", ["sha256=" + "0" * 64, "sha1=abc", "", "é"])
def test_a_wrong_signature_is_refused_as_an_unknown_source_is(
    github: Connected, repo: Repository, signature: str
) -> None:
    body = json.dumps(hooks.push_body(repo, SHA)).encode()
    headers = {"X-GitHub-Event": "push", "X-GitHub-Delivery": "d-1", "X-Hub-Signature-256": signature}
    answers = [
        Client().post(f"/hooks/{place}", body, content_type="application/json", headers=headers)
        for place in (github.shown["id"], uuid.uuid4(), "nonsense")
    ]
    assert [answer.status_code for answer in answers] == [401] * 3
    said = [{name: value for name, value in answer.json().items() if name != "request_id"} for answer in answers]
    assert said[0] == said[1] == said[2]
    assert not SourceDelivery.objects.exists()


def test_the_signature_is_over_the_very_bytes(github: Connected, repo: Repository) -> None:
    body = json.dumps(hooks.push_body(repo, SHA)).encode()
    good = hooks.github_signature(github.secret, body)
    assert github.send("push", body + b" ", signature=good).status_code == 401
    assert github.send("push", body, signature=good, leave=HELD).status_code == 202


def test_a_secret_of_another_source_does_not_open_this_one(
    github: Connected, connect: Connect, forge: Forge, repo: Repository
) -> None:
    other = connect(forge.repository("acme/other"), model="other")
    answer = hooks.send_github(github.shown["hook_url"], other.secret, "push", hooks.push_body(repo, SHA))
    assert answer.status_code == 401


def test_two_secrets_are_good_while_one_takes_over(github: Connected, repo: Repository, monkeypatch: Any) -> None:
    old = github.secret
    rotated = github.api("post", "/rotate", {"overlap_hours": 1})
    assert rotated.status_code == 200
    new = rotated.json()["secret"]
    assert new not in str(github.api("get").json())

    def status(secret: str) -> int:
        return hooks.send_github(github.shown["hook_url"], secret, "ping", {"zen": "x"}).status_code

    assert (status(old), status(new)) == (200, 200)
    later = clock.now() + timedelta(hours=1, seconds=1)
    monkeypatch.setattr(clock, "now", lambda: later)
    assert (status(old), status(new)) == (401, 200)
    assert github.api("post", "/rotate", {"overlap_hours": 0}).status_code == 200
    assert status(new) == 401
    assert AuditEvent.objects.filter(action="source.secret_rotated").count() == 2


def test_a_change_made_meanwhile_does_not_bring_an_old_secret_back(github: Connected, repo: Repository) -> None:
    seen_before = github.source
    new = github.api("post", "/rotate", {"overlap_hours": 0}).json()["secret"]
    sources.change(seen_before, Caller(user=seen_before.created_by), previews=False)
    answer = hooks.send_github(github.shown["hook_url"], new, "push", hooks.push_body(repo, SHA, "faster"))
    assert (answer.status_code, answer.json()["reason"]) == (200, "previews are off")


def test_a_body_about_another_repository_is_refused(github: Connected, repo: Repository) -> None:
    lies = [
        {"full_name": "mallory/churn", "clone_url": repo.url},
        {"full_name": repo.name, "clone_url": "https://evil.example.test/acme/churn.git"},
        {"full_name": None, "clone_url": repo.url},
        "acme/churn",
    ]
    for lie in lies:
        answer = github.send("push", {**hooks.push_body(repo, SHA), "repository": lie})
        assert (answer.status_code, answer.json()["code"]) == (422, "other_repository"), lie
    assert not SourcePush.objects.exists()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"after": "main"}, 422),
        ({"after": None}, 422),
        ({"after": SHA[:7]}, 422),
        ({"after": f"--upload-pack={SHA}"}, 422),
    ],
)
def test_a_commit_is_a_hash_and_nothing_else(
    github: Connected, repo: Repository, change: dict[str, Any], code: int
) -> None:
    assert github.send("push", {**hooks.push_body(repo, SHA), **change}).status_code == code


@pytest.mark.parametrize(
    "ref", ["refs/tags/v1", "refs/heads/-evil", "refs/heads/a..b", "refs/heads/a b", "refs/heads/", "x"]
)
def test_other_refs_are_not_deployed(github: Connected, repo: Repository, ref: str) -> None:
    answer = github.send("push", {**hooks.push_body(repo, SHA), "ref": ref})
    assert (answer.status_code, answer.json()["status"]) == (200, "ignored")
    assert not SourcePush.objects.exists()


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'{"a":' * 2000])
def test_bodies_that_are_no_object_are_refused(github: Connected, body: bytes) -> None:
    assert github.send("push", body).status_code == 400


def test_a_body_over_a_megabyte_is_refused(github: Connected, repo: Repository) -> None:
    answer = github.send("push", {**hooks.push_body(repo, SHA), "padding": "x" * (1 << 20)})
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


def test_a_ping_and_events_of_other_kinds_change_nothing(github: Connected, repo: Repository) -> None:
    assert github.send("ping", {"zen": "Keep it logically awesome."}).json()["reason"] == "pong"
    assert github.send("issues", hooks.push_body(repo, SHA)).json()["status"] == "ignored"
    assert not SourcePush.objects.exists()


def test_a_pull_request_of_a_fork_is_not_deployed_and_one_of_the_repository_is(
    github: Connected, repo: Repository
) -> None:
    fork = github.pull_request(SHA, "faster", head="mallory/churn")
    assert fork.json() == {"status": "ignored", "reason": "from a fork"}
    own = github.send("pull_request", hooks.pull_request_body(repo, SHA, "faster"), leave=HELD)
    push = SourcePush.objects.get()
    assert (own.status_code, push.pull_request, push.ref, push.production) == (202, 42, "refs/pull/42/head", False)


def test_a_pull_request_out_of_the_production_branch_deploys_nothing(github: Connected, repo: Repository) -> None:
    answer = github.pull_request(SHA, "main")
    assert (answer.status_code, answer.json()["status"]) == (200, "ignored")
    assert not SourcePush.objects.exists()


def test_a_deleted_branch_closes_its_pushes_and_production_stays(github: Connected, repo: Repository) -> None:
    github.pushed(SHA, "faster", leave=HELD)
    github.pushed(SHA, leave=HELD)
    for branch in ("faster", "main"):
        body = {"ref": branch, "ref_type": "branch", "repository": hooks.repository_facts(repo)}
        assert github.send("delete", body, leave=HELD).json()["status"] == "closed"
    assert dict(SourcePush.objects.values_list("branch", "status")) == {"faster": "closed", "main": "queued"}
    github.send("push", hooks.push_body(repo, "0" * 40, "faster"))
    assert SourcePush.objects.count() == 2


def test_previews_can_be_off(connect: Connect, repo: Repository) -> None:
    connected = connect(repo, previews=False)
    answer = connected.send("push", hooks.push_body(repo, SHA, "faster"))
    assert answer.json() == {"status": "ignored", "reason": "previews are off"}


def test_a_source_that_is_switched_off_says_so_to_its_own_server_only(github: Connected, repo: Repository) -> None:
    assert github.api("patch", "", {"enabled": False}).json()["enabled"] is False
    assert github.send("push", hooks.push_body(repo, SHA)).status_code == 410
    assert hooks.send_github(github.shown["hook_url"], "wrong", "push", hooks.push_body(repo, SHA)).status_code == 401


def test_calls_are_limited(github: Connected, settings: Any) -> None:
    settings.HOOK_RATE = 2
    answers = [github.send("ping", {"zen": "x"}).status_code for _ in range(3)]
    assert answers == [200, 200, 429]


def test_an_organisation_has_so_many_pushes_under_way_and_a_newer_one_of_a_branch_takes_the_place_of_the_older(
    github: Connected, repo: Repository, settings: Any
) -> None:
    settings.ORG_VALIDATIONS = 2
    for branch in ("one", "two"):
        github.pushed(SHA, branch, leave=HELD)
    full = github.send("push", hooks.push_body(repo, SHA, "three"), leave=HELD)
    assert (full.status_code, full.json()["code"]) == (429, "too_many_pushes")
    github.pushed(SHA[::-1], "two", leave=HELD)
    assert SourcePush.objects.filter(status="queued").count() == 2
    assert not SourcePush.objects.filter(branch="three").exists()
    assert SourceDelivery.objects.count() == 3  # who is refused may come again


def test_a_source_does_no_more_than_who_connected_it(github: Connected, repo: Repository) -> None:
    Membership.objects.filter(user=github.world.alice).update(role=Role.VIEWER)
    push = github.pushed(SHA)
    assert (push.status, push.error["code"]) == ("failed", "source_without_owner")


# -- generic --------------------------------------------------------------------------------------------------------------


def test_a_generic_push_is_queued_once(generic: Any) -> None:
    body = {"ref": "refs/heads/main", "sha": SHA, "message": "Better", "author": "Ada"}
    assert generic(body, delivery="msg_1").status_code == 202
    assert generic(body, delivery="msg_1").json() == {"status": "duplicate"}
    push = SourcePush.objects.get()
    assert (push.sha, push.message, push.author) == (SHA, "Better", "Ada")
    assert generic({"ref": "feature", "after": SHA, "pull_request": 7}).status_code == 202
    assert SourcePush.objects.first().pull_request == 7
    assert generic({"pull_request": 7, "closed": True}).json()["status"] == "closed"
    assert SourcePush.objects.first().status == "closed"


def test_old_and_future_times_wrong_secrets_and_other_signatures_are_refused(generic: Any) -> None:
    body = {"ref": "main", "sha": SHA}
    now = int(time.time())
    refused = [
        generic(body, at=now - 301),
        generic(body, at=now + 302),
        generic(body, secret="whsec_" + "A" * 43 + "="),
        generic(body, signature="v1a,AAAA"),
        generic(body, signature="v1,"),
        generic(body, delivery="x" * 201),
    ]
    assert [answer.status_code for answer in refused] == [401] * 6
    assert generic(body, at=now - 290).status_code == 202


def test_a_generic_body_about_another_repository_is_refused(generic: Any) -> None:
    lie = {"ref": "main", "sha": SHA, "repository": {"clone_url": "https://evil.example.test/x/y"}}
    assert generic(lie).json()["code"] == "other_repository"
    assert generic({"ref": "main", "sha": "HEAD"}).status_code == 422


def test_notes_of_calls_that_cannot_come_again_are_forgotten(generic: Any, github: Connected) -> None:
    generic({"ref": "main", "sha": SHA})
    github.send("ping", {"zen": "x"})
    jobs.clear_git()
    assert SourceDelivery.objects.count() == 2
    SourceDelivery.objects.update(received_at=clock.now() - timedelta(days=2))
    jobs.clear_git()
    assert SourceDelivery.objects.get().source.kind == "github"


# -- connecting -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("git@github.com:acme/churn.git", "url_invalid"),
        ("ssh://git@github.com/acme/churn", "url_invalid"),
        ("https://user:secret@github.com/acme/churn", "url_invalid"),
        ("http://github.com/acme/churn", "https_only"),
        ("file:///etc/passwd", "url_invalid"),
        ("ext::sh -c touch% /tmp/x", "url_invalid"),
        ("https://github.com/acme/churn?x=1", "url_invalid"),
        ("https://github.com/acme/../churn", "url_invalid"),
        ("https://github.com/acme/-churn", "url_invalid"),
        ("https://github.com/acme", "url_invalid"),
        ("https://github.com/a\nb/c", "url_invalid"),
        ("https://2130706433/acme/churn", "url_invalid"),
        ("--upload-pack=x", "url_invalid"),
    ],
)
def test_addresses_that_git_could_misread_are_refused(world: Any, url: str, code: str) -> None:
    body = {"clone_url": url, "model": "churn"}
    answer = world.api("alice").post("/api/v1/acme/sources", body, format="json")
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert not Source.objects.exists()


def test_connecting_is_for_admins_its_secret_is_shown_once_and_it_is_audited(github: Connected, world: Any) -> None:
    body = {"clone_url": "https://github.com/acme/walk", "model": "walk"}
    assert world.api("dan").post("/api/v1/acme/sources", body, format="json").status_code == 403
    assert world.api("mallory").get(f"/api/v1/acme/sources/{github.shown['id']}").status_code == 404
    assert world.api("mallory").get("/api/v1/acme/sources").status_code == 404
    listed = world.api("vic").get("/api/v1/acme/sources").json()["results"]
    assert [each["id"] for each in listed] == [github.shown["id"]]
    assert "secret" not in listed[0]
    assert github.secret not in str(listed)
    assert github.source.secret_sealed != github.secret
    again = world.api("alice").post("/api/v1/acme/sources", {**body, "deployment": "churn"}, format="json")
    assert (again.status_code, again.json()["code"]) == (409, "source_exists")
    assert AuditEvent.objects.filter(action="source.connected").count() == 1


def test_a_disconnected_source_is_unknown(github: Connected, repo: Repository) -> None:
    github.pushed(SHA, leave=HELD)
    assert github.api("delete").status_code == 204
    assert github.send("push", hooks.push_body(repo, SHA)).status_code == 401
    assert not SourcePush.objects.exists()


@pytest.mark.parametrize(
    "given", [{"branch": "a..b"}, {"branch": "-x"}, {"folder": "../x"}, {"folder": "a/.git"}, {"app_id": "7"}, {"token": "a\nb"}, {"token_user": "a:b"}, {"app_id": "7", "installation_id": "8", "app_key": "no key"}]
)  # fmt: skip
def test_odd_branches_folders_and_credentials_are_refused(world: Any, given: dict[str, str]) -> None:
    body = {"clone_url": "https://github.com/acme/walk", "model": "walk", **given}
    assert world.api("alice").post("/api/v1/acme/sources", body, format="json").status_code == 422


def test_a_github_app_opens_a_repository_instead_of_a_token(connect: Connect, repo: Repository) -> None:
    pem = "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----"
    app = {"app_id": "7", "installation_id": "8", "app_key": pem.replace("\n", "\r\n")}  # as a web form sends it
    connected = connect(repo, **app)
    shown = connected.api("get").json()
    assert (shown["credential"], shown["app_id"], "app_key" in shown) == ("app", "7", False)
    assert connected.source.app_key == pem
    assert "MIIE" not in connected.source.app_key_sealed
    removed = connected.api("patch", "", {"app_id": "", "installation_id": "", "app_key": "", "token": "t"})
    assert (removed.status_code, removed.json()["credential"]) == (200, "token")
    assert connected.source.token == "t"
