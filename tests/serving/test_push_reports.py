"""What a git server hears of a push: a real ``git push``, a signed webhook, the jobs, and GitHub's REST API on loopback."""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from markdown_it import MarkdownIt

from mlops.jobs import queue
from mlops.jobs.models import Job
from registry.git import github
from registry.models import PushStatus, Source, SourcePush
from registry.services import pushes
from serving import jobs, push_reports, push_words
from tests.forge.fixtures import Connected
from tests.forge.git_server import Forge, Repository

Connect = Callable[..., Connected]
HELD = ("deploy_push",)
SHA = "5" * 40


@pytest.fixture
def repo(forge: Forge) -> Repository:
    return forge.repository()


@pytest.fixture
def told(forge: Forge, connect: Connect, repo: Repository) -> Connected:
    """Connected with a token that may write."""
    forge.token = "t0ken"
    forge.github.tokens["t0ken"] = "slipway-bot"
    return connect(repo, token="t0ken")


@pytest.fixture
def model(tiny: dict[str, Any]) -> bytes:
    return tiny["churn_pipeline"].path.read_bytes()


def comments(forge: Forge) -> list[str]:
    return [each["body"] for each in forge.github.comments.values()]


# -- the whole way --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_push_a_pull_request_a_second_push_and_its_end_are_told(
    told: Connected,
    forge: Forge,
    repo: Repository,
    model: bytes,
    tiny: Any,
    world: Any,
    runner_host: Any,
    own_spool: Any,
) -> None:
    rows = tiny["churn_pipeline"].rows[:2]
    main = repo.commit({"model.joblib": model})
    assert told.pushed(main).status == "live"
    states = forge.github.states(main)
    assert (states[0], states[-1]) == ("pending", "success")
    last = forge.github.statuses[-1]
    assert (last["context"], last["description"]) == ("slipway/churn", "churn answers with version 1")
    assert re.search(rf"/acme/sources/{told.source.pk}/pushes/\d+/$", last["target_url"])
    page = urlsplit(last["target_url"]).path
    assert world.client("vic").get(page).status_code == 200
    assert page in world.client("vic").get("/acme/models/churn/versions/1/").content.decode()

    sha = repo.commit({"notes.txt": "faster"}, branch="faster")
    assert told.pull_request(sha, "faster").status_code == 202
    push = SourcePush.objects.first()
    assert (push.status, push.preview) == ("live", f"pr-42-{sha[:7]}")
    (said,) = comments(forge)
    assert said.startswith(f"<!-- slipway:{told.source.pk} -->\n")
    for part in (
        f"/api/v1/predict/acme/churn/previews/pr-42-{sha[:7]}",
        "The same columns, types and classes.",
        "0 % changed class",
        "against version 1",
        "| p95 of one row |",
        "curl ",
        "Slipway's own libraries",
        "| Make the preview | done |",
    ):
        assert part in said, part
    facts = push.report["facts"]
    assert (facts["against"], facts["predictions"]["changed"], facts["schema"]) == (1, 0, [])
    shown = told.api("get", "/pushes").json()["results"][0]["changes"]
    assert (shown["against"], shown["predictions"]["changed"], shown["environment"]) == (1, 0, None)
    command = re.search(r"````bash\n(.*)\n````", said, re.DOTALL)
    assert command is not None
    words = shlex.split(command[1].replace("\\\n", " "))
    called = world.api("vic").post(urlsplit(words[1]).path, json.loads(words[-1]), format="json")
    assert called.status_code == 200, called.content

    newer = repo.commit({"notes.txt": "still faster"}, branch="faster")
    assert told.pull_request(newer, "faster", action="synchronize").status_code == 202
    (said,) = comments(forge)
    assert f"previews/pr-42-{newer[:7]}" in said
    assert sha[:7] not in said
    assert told.pull_request(newer, "faster", action="closed").json()["status"] == "closed"
    (said,) = comments(forge)
    assert "preview of `churn` is closed and gone" in said
    assert "curl" not in said
    address = f"/api/v1/predict/acme/churn/previews/pr-42-{newer[:7]}"
    assert world.api("vic").post(address, {"inputs": rows}, format="json").status_code == 404
    assert forge.github.states(newer)[-1] == "success"


@pytest.mark.slow
def test_a_model_that_fails_is_a_failure_with_its_reasons(
    told: Connected, forge: Forge, repo: Repository, runner_host: Any
) -> None:
    sha = repo.commit({"model.joblib": b"not a model at all"}, branch="broken")
    told.pull_request(sha, "broken")
    push = SourcePush.objects.get()
    assert push.status == "failed"
    assert forge.github.states(sha)[-1] == "failure"
    assert forge.github.statuses[-1]["description"] == push.error["detail"][:140]
    (said,) = comments(forge)
    rendered = MarkdownIt().render(said).replace(push_words._APART, "").replace("&quot;", '"')
    assert "### Slipway: preview of `churn` failed" in said
    assert push.error["detail"] in rendered
    assert push.error["hint"] in rendered


@pytest.mark.slow
def test_a_changed_model_is_told_with_what_callers_would_notice(
    told: Connected, forge: Forge, repo: Repository, tiny: Any, runner_host: Any, own_spool: Any
) -> None:
    told.pushed(repo.commit({"model.joblib": tiny["churn_pipeline"].path.read_bytes()}))
    other = tiny["sklearn_joblib"] if "sklearn_joblib" in tiny else tiny["text_pipeline"]
    sha = repo.commit({"model.joblib": other.path.read_bytes()}, branch="other")
    told.pull_request(sha, "other")
    assert SourcePush.objects.first().status == "live"
    (said,) = comments(forge)
    assert "*breaks callers*" in said
    assert "**Predictions, against version 1**" in said


# -- one comment ----------------------------------------------------------------------------------------------------------


def test_a_deleted_comment_is_written_anew_and_one_of_somebody_else_is_left_alone(
    told: Connected, forge: Forge, repo: Repository
) -> None:
    copied = f"<!-- slipway:{told.source.pk} -->\n### not ours"
    forge.github.add_comment(42, copied, "mallory")
    told.pull_request(SHA, "faster")  # there is no such commit: it fails
    assert len(comments(forge)) == 2
    push = SourcePush.objects.get()
    assert push.comment_id == list(forge.github.comments)[1]
    del forge.github.comments[push.comment_id]
    told.pull_request(SHA, "faster", action="closed")
    assert [("is closed and gone" in each, each == copied) for each in comments(forge)] == [
        (False, True),
        (True, False),
    ]


def test_a_job_that_was_killed_between_comment_and_row_finds_its_comment(
    told: Connected, forge: Forge, repo: Repository
) -> None:
    mine = forge.github.add_comment(42, f"<!-- slipway:{told.source.pk} -->\n### Slipway", "slipway-bot")
    told.pull_request(SHA, "faster")
    assert len(comments(forge)) == 1
    assert SourcePush.objects.get().comment_id == mine


def test_nothing_is_said_twice(told: Connected, forge: Forge, repo: Repository) -> None:
    told.pull_request(SHA, "faster")
    push, calls = SourcePush.objects.get(), len(forge.github.asked)
    with told.jobs_now():
        push_reports.enqueue(push)
    assert len(forge.github.asked) == calls


def test_a_report_that_finds_another_one_at_work_leaves_it_to_that(
    told: Connected, forge: Forge, repo: Repository
) -> None:
    told.pull_request(SHA, "faster")
    push = SourcePush.objects.get()
    other = Job.objects.filter(kind="report_push").first()
    Job.objects.filter(pk=other.pk).update(status="running", lease_token="00000000-0000-4000-8000-000000000000")
    push_reports._save(push, job=other.pk)
    calls = len(forge.github.asked)
    told.pull_request(SHA, "faster", action="closed")
    push.refresh_from_db()
    assert push.status == PushStatus.CLOSED
    assert len(forge.github.asked) == calls


def test_the_newest_push_has_the_last_word(
    told: Connected, forge: Forge, repo: Repository, jobs_now: Any, monkeypatch: Any
) -> None:
    """The older one's comment is on its way while the newer one comes, is told and ends."""
    real, newer = github.GitHub.comment, []

    def late(self: github.GitHub, *args: Any, **more: Any) -> int:
        if not newer:
            with jobs_now():
                newer.append(pushes.receive(told.source, branch="faster", sha="6" * 40, pull_request=42)[0])
        return real(self, *args, **more)

    monkeypatch.setattr(github.GitHub, "comment", late)
    told.pull_request(SHA, "faster")
    with jobs_now():
        for job in Job.objects.filter(status="queued"):
            queue.send(job.pk)
    (said,) = comments(forge)
    assert "`6666666`" in said


def test_a_report_whose_job_is_lost_is_told_by_another(
    told: Connected, forge: Forge, repo: Repository, jobs_now: Any
) -> None:
    push = told.pushed(SHA)
    SourcePush.objects.update(report={"job": 1})
    push_reports.end_failed({"code": "worker_lost"}, push.pk)
    before = len(forge.github.statuses)
    push.refresh_from_db()
    assert push.report["again_at"] > time.time()
    SourcePush.objects.update(report={**push.report, "again_at": 1.5})
    with jobs_now():
        jobs.report_again()
    assert len(forge.github.statuses) == before + 1


# -- what goes wrong ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_forge_whose_api_is_away_or_a_wrong_token_stops_no_deploy_and_is_shown(
    connect: Connect,
    forge: Forge,
    repo: Repository,
    model: bytes,
    world: Any,
    runner_host: Any,
    own_spool: Any,
    jobs_now: Any,
) -> None:
    connected = connect(repo, token="wrong")
    push = connected.pushed(repo.commit({"model.joblib": model}))
    assert push.status == "live"
    assert push.report["trouble"]["code"] == "github_unauthorized"
    page = world.client("vic").get(f"/acme/sources/{connected.source.pk}/").content.decode()
    assert "GitHub does not take the token." in page

    forge.github.tokens["good"] = "slipway-bot"
    forge.github.refuse(500)
    connected.api("patch", "", {"token": "good"})  # is told at once
    push.refresh_from_db()
    assert (push.report["trouble"]["code"], push.report["tries"] > 1) == ("github_failed", True)
    assert push.report["again_at"] > time.time()
    SourcePush.objects.update(report={**push.report, "again_at": time.time() - 1})
    with jobs_now():
        jobs.report_again()
    push.refresh_from_db()
    assert (push.report.get("trouble"), push.report.get("again_at"), push.status) == (None, None, "live")
    assert forge.github.states(push.sha) == ["success"]
    assert (
        "GitHub does not take" not in world.client("vic").get(f"/acme/sources/{connected.source.pk}/").content.decode()
    )


def test_a_token_without_the_right_is_named(told: Connected, forge: Forge, repo: Repository) -> None:
    forge.github.forbidden.add("t0ken")
    push = told.pushed(SHA)
    assert push.report["trouble"]["code"] == "github_forbidden"
    assert "Commit statuses: write" in push.report["trouble"]["hint"]
    told.api("patch", "", {"token": ""})
    push.refresh_from_db()
    assert "trouble" not in push.report  # without a token there is nobody to tell


@pytest.mark.parametrize(
    ("status", "headers", "least"),
    [
        (429, {"Retry_After": "120"}, 115),
        (403, {"Retry_After": "77"}, 70),
        (403, {"X_RateLimit_Remaining": "0", "X_RateLimit_Reset": "in 900 s"}, 800),
        (429, {}, 55),
    ],
)
def test_a_rate_limit_makes_the_report_wait_its_turn(
    told: Connected, forge: Forge, repo: Repository, jobs_now: Any, status: int, headers: dict[str, str], least: int
) -> None:
    if "X_RateLimit_Reset" in headers:
        headers = {**headers, "X_RateLimit_Reset": str(int(time.time()) + 900)}
    forge.github.refuse(status, **headers)
    push = told.pushed(SHA)
    assert push.report["trouble"]["code"] == "github_busy"
    assert push.report["again_at"] > time.time() + least
    assert len(forge.github.asked) == 1  # nothing more is asked before its time
    SourcePush.objects.update(report={**push.report, "again_at": time.time() - 1})
    with jobs_now():
        jobs.report_again()
    assert forge.github.states(SHA) == ["failure"]
    assert set(Job.objects.filter(kind="report_push").values_list("status", flat=True)) == {"done"}


@pytest.mark.parametrize("app", [False, True])
def test_a_public_repository_is_fetched_although_the_credential_is_not_good(
    connect: Connect, forge: Forge, repo: Repository, model: bytes, app: bool
) -> None:
    forge.token, forge.public = "t0ken", True
    forge.github.with_app()
    key = "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----"
    wrong = {"app_id": "7", "installation_id": "88", "app_key": key} if app else {"token": "wrong"}
    push = connect(repo, **wrong).pushed(repo.commit({"model.joblib": model}), leave=("validate_version",))
    assert (push.status, push.error) == ("validating", None)
    assert push.report["trouble"]["code"] == ("app_key_invalid" if app else "github_unauthorized")
    forge.public = False
    private = connect(repo, deployment="private", **wrong).pushed("6" * 40)
    assert private.error["code"] == ("app_key_invalid" if app else "git_refused")


# -- Apps -----------------------------------------------------------------------------------------------------------------


def test_an_app_fetches_and_tells_with_one_short_lived_token(
    connect: Connect, forge: Forge, repo: Repository, model: bytes
) -> None:
    pem = forge.github.with_app()
    forge.token = "of-the-developer"
    connected = connect(repo, app_id="7", installation_id="88", app_key=pem)
    push = connected.pushed(repo.commit({"model.joblib": model}), leave=("validate_version",))
    assert push.status == "validating", push.error
    assert forge.github.states(push.sha)[-1] == "pending"
    assert forge.github.minted == 1
    connected.pull_request(SHA, "faster")
    assert forge.github.minted == 1
    assert [each["user"]["login"] for each in forge.github.comments.values()] == ["slipway[bot]"]
    assert "ghs_" not in str(list(SourcePush.objects.values())) + str(list(Source.objects.values()))


def test_an_apps_token_near_its_end_and_a_revoked_one_are_replaced(
    connect: Connect, forge: Forge, repo: Repository
) -> None:
    pem = forge.github.with_app()
    forge.github.token_life_s = 200
    connected = connect(repo, app_id="7", installation_id="88", app_key=pem)
    source = connected.source
    assert [github.installation_token(source) for _ in range(2)] == ["ghs_1", "ghs_2"]
    forge.github.token_life_s = 3600
    assert [github.installation_token(source) for _ in range(2)] == ["ghs_3", "ghs_3"]
    forge.github.tokens.clear()
    github.github_of(source).set_status(SHA, state="pending", description="x" * 300, context="c", target_url="http://x")
    assert len(forge.github.statuses[0]["description"]) == 140
    assert forge.github.minted == 4


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"app_id": "9"}, "github_unauthorized"),
        ({"installation_id": "9"}, "github_missing"),
        ({"app_key": "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----"}, "app_key_invalid"),
    ],
)
def test_an_app_that_is_not_let_in_is_told_why(
    connect: Connect, forge: Forge, repo: Repository, change: dict[str, str], code: str
) -> None:
    app = {"app_id": "7", "installation_id": "88", "app_key": forge.github.with_app(), **change}
    push = connect(repo, **app).pushed(SHA)
    assert (push.status, push.error["code"], push.report["trouble"]["code"]) == ("failed", code, code)


def test_a_comment_stays_within_githubs_limit(told: Connected, repo: Repository) -> None:
    push = told.pushed(SHA)
    long = {
        "version": 1, "size_bytes": 1, "p95_ms": 1.0, "environment": None, "packages": 0, "against": 1, "predictions": None, "sentence": "",
        "schema": [{"level": "error", "text": "@" * 100_000}] * 40,
    }  # fmt: skip
    steps = [{"stage": "fetch", "name": "x", "label": "|" * 1000, "status": "done", "seconds": 1.0}] * 500
    told = push_words.comment(push, None, steps, long)
    assert len(told) <= push_words.MOST_CHARS
    assert told.rstrip().endswith(f"/pushes/{push.pk}/)")
