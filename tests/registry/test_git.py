"""From ``git push`` to a live model, against a real git server; and what hostile repositories and servers get."""

from __future__ import annotations

import os
import socket
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as live_settings
from django.core.files.storage import default_storage

from accounts.roles import Scope
from mlops.core import outbound
from mlops.jobs import runner
from mlops.jobs.models import Job
from mlops.jobs.queue import enqueue
from registry import pushing
from registry.git import process
from registry.models import ModelVersion, SourcePush
from serving.models import Deployment, Preview
from serving.services import git_releases
from tests.forge import git_server
from tests.forge.fixtures import Connected
from tests.forge.git_server import Forge, Repository, git
from tests.forge.hooks import push_body, repository_facts

Connect = Callable[..., Connected]
LATE = ("remove_preview",)


@pytest.fixture
def repo(forge: Forge) -> Repository:
    return forge.repository()


@pytest.fixture
def model(tiny: dict[str, Any]) -> bytes:
    return tiny["churn_pipeline"].path.read_bytes()


def error_of(connected: Connected, sha: str, **more: Any) -> str:
    """The code with which the push of this commit failed, before there was a version."""
    push = connected.pushed(sha, **more)
    assert push.status == "failed", (push.status, push.error)
    assert push.error["detail"]
    assert push.version is None
    return push.error["code"]


# -- the way to live ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_push_to_the_production_branch_is_live_and_another_branch_gets_a_preview(
    connect: Connect,
    repo: Repository,
    model: bytes,
    tiny: Any,
    world: Any,
    runner_host: Any,
    own_spool: Any,
) -> None:
    connected = connect(repo)
    rows = tiny["churn_pipeline"].rows[:2]
    push = connected.pushed(repo.commit({"model.joblib": model, "README.md": "# Churn"}))
    assert (push.status, push.version.number, push.message, push.author) == ("live", 1, "A model", "Ada")
    answer = world.api("vic").post("/api/v1/predict/acme/churn", {"inputs": rows}, format="json")
    assert answer.status_code == 200, answer.content

    sha = repo.commit({"notes.txt": "faster"}, branch="feature/faster")
    other = connected.pushed(sha, "feature/faster")
    assert (other.status, other.preview) == ("live", f"feature-faster-{sha[:7]}")
    answer = world.api("vic").post(
        f"/api/v1/predict/acme/churn/previews/{other.preview}", {"inputs": rows}, format="json"
    )
    assert answer.status_code == 200, answer.content
    assert Deployment.objects.get(name="churn").live_version == push.version

    assert connected.pull_request(sha, "feature/faster").status_code == 200
    other.refresh_from_db()
    assert (other.status, other.pull_request, other.preview) == ("live", 42, f"pr-42-{sha[:7]}")
    assert [each.name for each in Preview.objects.all()] == [other.preview]
    newer = connected.pushed(repo.commit({"notes.txt": "still faster"}, branch="feature/faster"), "feature/faster")
    assert newer.preview == f"pr-42-{newer.sha[:7]}"

    closed = connected.pull_request(newer.sha, "feature/faster", action="closed")
    assert closed.json()["status"] == "closed"
    assert not Preview.objects.exists()
    assert set(SourcePush.objects.filter(branch="feature/faster").values_list("status", flat=True)) == {"closed"}

    merged = connected.pushed(newer.sha)  # fast-forward: the commit is known, nothing is fetched or validated again
    assert (merged.status, merged.version) == ("live", newer.version)
    push.refresh_from_db()
    assert push.status == "superseded"
    assert ModelVersion.objects.count() == 3


@pytest.mark.slow
def test_a_preview_before_the_first_production_deploy_waits_and_says_so(
    connect: Connect,
    repo: Repository,
    model: bytes,
    runner_host: Any,
) -> None:
    connected = connect(repo)
    main = repo.commit({"model.joblib": model})
    push = connected.pushed(repo.commit({"x.txt": "x"}, branch="try"), "try")
    assert (push.status, push.error["code"]) == ("waiting", "no_deployment")
    assert connected.pushed(main).status == "live"
    push.refresh_from_db()
    assert (push.status, push.error, push.preview) == ("live", None, f"try-{push.sha[:7]}")


@pytest.mark.slow
def test_a_branch_that_was_deleted_and_pushed_again_keeps_its_preview(
    connect: Connect, repo: Repository, model: bytes, jobs_now: Any, runner_host: Any
) -> None:
    connected = connect(repo)
    connected.pushed(repo.commit({"model.joblib": model}))
    sha = repo.commit({"x.txt": "x"}, branch="try")
    first = connected.pushed(sha, "try")
    connected.send("delete", {"ref": "try", "ref_type": "branch", "repository": repository_facts(repo)}, leave=LATE)
    again = connected.pushed(sha, "try")
    assert (again.status, again.preview) == ("live", first.preview)
    late = Job.objects.get(kind="remove_preview")
    runner.run(late.pk)  # of the deletion: no worker had come to it yet
    assert Preview.objects.get().name == again.preview
    connected.send("delete", {"ref": "try", "ref_type": "branch", "repository": repository_facts(repo)})
    assert not Preview.objects.exists()


@pytest.mark.slow
def test_a_pull_request_that_is_opened_while_its_preview_is_made_names_it(
    connect: Connect, repo: Repository, model: bytes, monkeypatch: Any, runner_host: Any
) -> None:
    connected = connect(repo)
    connected.pushed(repo.commit({"model.joblib": model}))
    sha = repo.commit({"x.txt": "x"}, branch="try")
    real = git_releases._preview

    def meanwhile(*args: Any) -> str:
        SourcePush.objects.filter(sha=sha).update(pull_request=42)  # as the webhook does, on another machine
        return real(*args)

    monkeypatch.setattr(git_releases, "_preview", meanwhile)
    assert connected.pushed(sha, "try").preview == f"pr-42-{sha[:7]}"


@pytest.mark.slow
def test_where_production_needs_approval_a_push_waits_for_it(
    connect: Connect, repo: Repository, model: bytes, world: Any, runner_host: Any, jobs_now: Any
) -> None:
    base, olga = "/api/v1/acme/models/churn", world.api("olga", [Scope.READ, Scope.WRITE, Scope.ADMIN])
    assert olga.post("/api/v1/acme/models", {"model": "churn"}, format="json").status_code == 201
    assert olga.put(f"{base}/policy", {"production_approvals": 1}, format="json").status_code == 200
    push = connect(repo).pushed(repo.commit({"model.joblib": model}))
    assert (push.status, push.error["code"]) == ("waiting", "not_promoted")
    assert not Deployment.objects.exists()
    asked = world.api("dan").post(f"{base}/versions/1/promotions", {"to_stage": "production"}, format="json")
    assert asked.status_code == 201, asked.content
    with jobs_now():
        said = olga.post(f"{base}/versions/1/promotions/{asked.json()['id']}/approve", {}, format="json")
        assert said.status_code == 200, said.content
    push.refresh_from_db()
    assert (push.status, push.error) == ("live", None)


@pytest.mark.slow
def test_a_model_that_fails_its_validation_ends_its_push_with_the_finding(
    connect: Connect,
    repo: Repository,
    runner_host: Any,
) -> None:
    push = connect(repo).pushed(repo.commit({"model.joblib": b"not a model at all"}))
    assert (push.status, push.error["code"], push.version.status) == ("failed", "validation_failed", "failed")
    assert push.error["detail"]
    assert not Deployment.objects.exists()


def test_deploy_now_asks_the_server_for_the_head(connect: Connect, repo: Repository, model: bytes) -> None:
    connected = connect(repo)
    sha = repo.commit({"models/churn/model.joblib": model, "other/huge.txt": "x"})
    queued = connected.api("post", "/deploy", {}, who="dan")
    assert (queued.status_code, queued.json()["status"]) == (202, "queued")
    push = SourcePush.objects.get()
    assert (push.sha, push.message) == (sha, "A model")
    assert connected.api("post", "/deploy", {"ref": "nowhere"}).status_code == 202
    assert SourcePush.objects.first().error["code"] == "branch_gone"
    assert connected.api("post", "/deploy", {}, who="vic").status_code == 403
    assert connected.api("post", "/deploy", {"ref": "a..b"}).json()["code"] == "branch_invalid"


def test_only_the_folder_of_the_source_is_pushed(connect: Connect, repo: Repository, model: bytes) -> None:
    sha = repo.commit({"models/churn/model.joblib": model, "other/data.csv": "a,b", "models/churn/.hidden": "x"})
    push = connect(repo, folder="models/churn").pushed(sha, leave=("validate_version",))
    assert push.status == "validating"
    assert _names(push.version) == ["model.joblib"]
    assert push.version.claims["git"]["sha"] == sha
    assert error_of(connect(repo, folder="models/none", deployment="none"), sha) == "folder_missing"


def _names(version: ModelVersion) -> list[str]:
    with default_storage.open(version.file_key) as file, tarfile.open(fileobj=file) as archive:
        return archive.getnames()


# -- once, in order -------------------------------------------------------------------------------------------------------


def test_the_same_commit_twice_does_nothing_twice(connect: Connect, repo: Repository, model: bytes) -> None:
    connected = connect(repo)
    sha = repo.commit({"model.joblib": model})
    connected.pushed(sha, leave=("validate_version",))
    again = connected.send("push", push_body(repo, sha))
    assert (again.status_code, again.json()["reason"]) == (200, "this commit is known")
    now = connected.api("post", "/deploy", {})
    assert now.status_code == 202
    assert SourcePush.objects.first().error["code"] == "nothing_new"
    assert ModelVersion.objects.count() == 1


def test_a_newer_push_supersedes_one_that_is_not_validated_yet(
    connect: Connect, repo: Repository, model: bytes
) -> None:
    connected = connect(repo)
    older = connected.pushed(repo.commit({"model.joblib": model}), leave=("deploy_push",))
    newer = connected.pushed(repo.commit({"x.txt": "x"}), leave=("validate_version",))
    older.refresh_from_db()
    assert (older.status, newer.status) == ("superseded", "validating")
    runner.run(older.job_id)
    assert ModelVersion.objects.get().pk == newer.version_id


@pytest.mark.parametrize("moment", ["fetched", "made"])
def test_a_job_that_was_killed_goes_on_without_a_second_version(
    connect: Connect,
    repo: Repository,
    model: bytes,
    monkeypatch: Any,
    moment: str,
) -> None:
    class Killed(BaseException):
        pass

    def die(*args: Any, **kwargs: Any) -> None:
        raise Killed

    connected = connect(repo)
    push = connected.pushed(repo.commit({"model.joblib": model}), leave=("deploy_push",))
    with monkeypatch.context() as patched:
        patched.setattr(*((pushing, "push_tree") if moment == "fetched" else (pushing.pushes, "link")), die)
        with pytest.raises(Killed):
            runner.run(push.job_id)
    push.refresh_from_db()
    assert push.status == "fetching"
    Job.objects.filter(pk=push.job_id).update(status="queued", lease_token=None)
    runner.run(push.job_id)
    push.refresh_from_db()
    assert (push.status, ModelVersion.objects.count()) == ("validating", 1)


def test_one_commit_on_two_branches_fetched_by_two_workers_is_one_version(
    connect: Connect, repo: Repository, model: bytes, monkeypatch: Any
) -> None:
    connected = connect(repo)
    sha = repo.commit({"model.joblib": model})
    first = connected.pushed(sha, leave=("deploy_push",))
    second = connected.pushed(sha, "release", leave=("deploy_push",))
    real, others = pushing.push_tree, [second.job_id]

    def meanwhile(*args: Any, **kwargs: Any) -> Any:
        if others:
            runner.run(others.pop())  # the other worker is as far, and a moment quicker
        return real(*args, **kwargs)

    monkeypatch.setattr(pushing, "push_tree", meanwhile)
    runner.run(first.job_id)
    for push in (first, second):
        push.refresh_from_db()
    version = ModelVersion.objects.get()
    assert [(push.status, push.version) for push in (first, second)] == [("validating", version)] * 2
    assert version.model.last_number == 1
    assert default_storage.exists(version.file_key)


@pytest.mark.parametrize("old_protocol", [False, True])
def test_a_commit_that_was_pushed_over_is_gone(
    connect: Connect,
    forge: Forge,
    repo: Repository,
    model: bytes,
    old_protocol: bool,
) -> None:
    connected = connect(repo)
    sha = repo.commit({"model.joblib": model})
    repo.amend("Another")
    git("reflog", "expire", "--expire=now", "--all", cwd=repo.bare)
    git("gc", "-q", "--prune=now", cwd=repo.bare)
    forge.old_protocol = old_protocol
    assert error_of(connected, sha) == "commit_gone"


def test_a_server_that_hands_out_branches_only_is_asked_for_the_branch(
    connect: Connect,
    forge: Forge,
    repo: Repository,
    model: bytes,
) -> None:
    forge.old_protocol = True
    connected = connect(repo)
    first = repo.commit({"model.joblib": model})
    repo.commit({"x.txt": "later"})
    assert connected.pushed(first, leave=("validate_version",)).status == "validating"
    assert error_of(connected, "1" * 40) == "commit_gone"
    assert error_of(connected, first.replace(first[0], "0" if first[0] != "0" else "1"), branch="none") == "branch_gone"


# -- hostile repositories -------------------------------------------------------------------------------------------------


def _odd_tree(repo: Repository, *names: bytes) -> bytes:
    blob = bytes.fromhex(repo.blob(b"x"))
    return b"".join(b"100644 " + name + b"\0" + blob for name in names)


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        ("120000 {blob}\tmodel.joblib", "link_member"),
        ("160000 {sha}\tvendor/lib", "submodule"),
    ],
)
def test_links_and_submodules_are_refused(connect: Connect, repo: Repository, entry: str, code: str) -> None:
    sha = repo.commit({"a.txt": "a"})
    odd = repo.commit_index(entry.format(blob=repo.blob(b"/etc/passwd"), sha=sha))
    assert error_of(connect(repo), odd) == code


@pytest.mark.parametrize("name", [b"..", b".git", b"a/../../b"])
def test_names_that_leave_the_folder_are_refused(connect: Connect, repo: Repository, name: bytes) -> None:
    sha = repo.commit_tree(_odd_tree(repo, name))
    assert error_of(connect(repo), sha) == "git_broken"


@pytest.mark.parametrize("name", [b"back\\slash.txt", b"new\nline", b"\xff\xfe"])
def test_strange_names_are_refused(connect: Connect, repo: Repository, name: bytes) -> None:
    sha = repo.commit_tree(_odd_tree(repo, name))
    assert error_of(connect(repo), sha) == "bad_member_name"


def test_too_many_files_are_refused(connect: Connect, repo: Repository) -> None:
    sha = repo.commit({f"d/{number}.txt": "x" for number in range(2_001)})
    assert error_of(connect(repo), sha) == "too_many_files"


def test_a_tree_that_unfolds_without_end_is_left(connect: Connect, repo: Repository) -> None:
    """Ten folders in each of ten, ten levels deep: 11 objects, 10 billion files."""
    repo.commit({"a.txt": "a"})
    kind, inner = "100644 blob", repo.blob(b"x")
    for _ in range(10):
        lines = "".join(f"{kind} {inner}\td{number}\n" for number in range(10))
        kind, inner = "040000 tree", git("mktree", cwd=repo.work, stdin=lines.encode())
    sha = git("commit-tree", "-m", "Bomb", inner, cwd=repo.work)
    git("push", "-q", "-f", repo.url, f"{sha}:refs/heads/main", cwd=repo.work)
    assert error_of(connect(repo), sha) == "too_many_files"


def test_too_large_a_commit_is_refused_and_its_disk_given_back(
    connect: Connect, repo: Repository, settings: Any
) -> None:
    settings.GIT_LIMIT_BYTES = 2 << 20
    assert error_of(connect(repo), repo.commit({"model.bin": os.urandom(6 << 20)})) in ("git_too_large", "git_broken")


def test_files_that_grow_past_a_gigabyte_are_refused_by_their_list(
    connect: Connect, repo: Repository, monkeypatch: Any
) -> None:
    monkeypatch.setattr("registry.git.tree.MAX_INFLATED_BYTES", 1 << 20)
    assert error_of(connect(repo), repo.commit({"zeros.bin": bytes(2 << 20)})) == "too_large"


def test_nothing_of_a_hostile_repository_is_executed(
    connect: Connect,
    forge: Forge,
    repo: Repository,
    model: bytes,
    tmp_path: Path,
) -> None:
    marker = tmp_path / "executed"
    run = f"touch {marker}"
    sha = repo.commit(
        {
            "model.joblib": model,
            ".gitattributes": "* filter=evil diff=evil merge=evil text eol=crlf",
            ".gitconfig": f'[filter "evil"]\n smudge = {run}\n[core]\n fsmonitor = {run}\n sshCommand = {run}\n',
            ".lfsconfig": "[lfs]\n url = http://127.0.0.1:1/elsewhere\n",
            ".gitmodules": '[submodule "x"]\n path = x\n url = https://git.example.test/x\n',
            "hooks/post-checkout": f"#!/bin/sh\n{run}\n",
            "big.bin": repo.lfs(b"weights"),
        }
    )
    hook = repo.bare / "hooks" / "post-upload-pack"
    hook.parent.mkdir(exist_ok=True)
    push = connect(repo).pushed(sha, leave=("validate_version",))
    assert push.status == "validating", push.error
    assert _names(push.version) == ["big.bin", "hooks/post-checkout", "model.joblib"]
    assert not marker.exists()
    assert any(path.endswith("/info/lfs/objects/batch") for _, path, _ in forge.asked)


# -- hostile servers ------------------------------------------------------------------------------------------------------


def test_a_redirect_is_not_followed(
    connect: Connect, forge: Forge, repo: Repository, model: bytes, tmp_path: Path
) -> None:
    sha = repo.commit({"model.joblib": model})
    with git_server.running(tmp_path / "elsewhere") as elsewhere:
        forge.redirect = elsewhere.url
        assert error_of(connect(repo), sha) == "git_redirect"
        assert elsewhere.asked == []


def test_a_server_without_the_smart_protocol_leads_us_nowhere(
    connect: Connect, forge: Forge, repo: Repository, model: bytes, tmp_path: Path
) -> None:
    """Plain files may name another server's objects as its own (http-alternates)."""
    sha = repo.commit({"model.joblib": model})
    with git_server.running(tmp_path / "elsewhere") as elsewhere:
        (repo.bare / "objects/info/http-alternates").write_text(f"{elsewhere.url}/acme/secret.git/objects\n")
        git("update-server-info", cwd=repo.bare)
        forge.dumb = True
        assert error_of(connect(repo), sha) == "git_failed"
        assert elsewhere.asked == []


def test_an_address_that_is_not_public_is_not_asked(
    connect: Connect, forge: Forge, repo: Repository, settings: Any
) -> None:
    connected = connect(repo)
    sha = repo.commit({"a.txt": "a"})
    forge.asked.clear()
    settings.OUTBOUND_ALLOW = []
    type(connected.source).objects.update(clone_url=repo.url.replace("http://", "https://"))
    push = connected.source.pushes.create(
        organization=connected.world.acme, sha=sha, ref="refs/heads/main", branch="main", production=True, created_by=connected.world.alice
    )  # fmt: skip
    job = enqueue("deploy_push", organization=connected.world.acme, args={"push_id": push.pk})
    runner.run(job.pk)
    push.refresh_from_db()
    assert (push.status, push.error["code"]) == ("failed", "address_refused")
    assert forge.asked == []


def test_git_goes_to_the_address_that_was_checked_whatever_the_name_says_later(
    connect: Connect, forge: Forge, repo: Repository, model: bytes, settings: Any, monkeypatch: Any
) -> None:
    """No resolver knows this name: git can only reach it because it was told the address."""
    port = forge.place.split(":")[1]
    place = f"forge.example.test:{port}"
    settings.OUTBOUND_ALLOW = [place]
    asked: list[str] = []

    def look_up(host: str, *args: Any, **more: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", int(port)))]

    monkeypatch.setattr(outbound.socket, "getaddrinfo", look_up)
    sha = repo.commit({"model.joblib": model})
    repo.url = repo.url.replace(forge.place, place)
    push = connect(repo).pushed(sha, leave=("validate_version",))
    assert push.status == "validating", push.error
    assert asked == ["forge.example.test"]


def test_the_token_opens_the_repository_and_stands_nowhere_else(
    connect: Connect,
    forge: Forge,
    repo: Repository,
    model: bytes,
    caplog: Any,
    monkeypatch: Any,
) -> None:
    forge.token = "ghp_a-very-secret-token"
    sha = repo.commit({"model.joblib": model, "big.bin": repo.lfs(b"weights")})
    words: list[str] = []
    start = process.subprocess.Popen
    monkeypatch.setattr(process.subprocess, "Popen", lambda args, **more: words.extend(args) or start(args, **more))
    assert error_of(connect(repo, deployment="wrong", token="ghp_wrong"), sha) == "git_refused"
    assert error_of(connect(repo, deployment="none"), sha) == "git_refused"
    connected = connect(repo, token=forge.token)
    push = connected.pushed(sha, leave=("validate_version",))
    assert push.status == "validating", push.error
    assert words
    assert not any(forge.token in str(word) for word in words)
    assert forge.token not in caplog.text
    assert forge.token not in connected.source.token_sealed
    assert forge.token not in str(connected.api("get").json())
    objects = [headers for _, path, headers in forge.asked if path.startswith("/objects/")]
    assert objects
    assert all("Authorization" not in headers for headers in objects)


def test_a_failed_fetch_is_tried_again_from_its_job(
    connect: Connect, forge: Forge, repo: Repository, model: bytes, world: Any, jobs_now: Any
) -> None:
    forge.token = "good"
    connected = connect(repo, token="bad")
    sha = repo.commit({"model.joblib": model})
    assert error_of(connected, sha) == "git_refused"
    push = SourcePush.objects.get()
    assert connected.api("patch", "", {"token": "good"}).status_code == 200
    with jobs_now(leave=("validate_version",)):
        assert world.api("dan").post(f"/api/v1/acme/jobs/{push.job_id}/retry").status_code == 202
    push.refresh_from_db()
    assert (push.status, push.error, push.finished_at) == ("validating", None, None)


# -- Git LFS --------------------------------------------------------------------------------------------------------------


def test_lfs_objects_are_fetched_and_verified(connect: Connect, forge: Forge, repo: Repository, model: bytes) -> None:
    pointer = repo.lfs(model)
    sha = repo.commit({"model.joblib": pointer})
    push = connect(repo).pushed(sha, leave=("validate_version",))
    assert push.status == "validating", push.error
    assert push.version.size_bytes > len(model)
    oid = pointer.split("sha256:")[1][:64]
    for number, lie in enumerate((model[:-1] + b"!", model[:-1], model + b"!")):
        forge.tampered[oid] = lie
        other = connect(repo, deployment=f"lie-{number}", model=f"lie-{number}")
        push = other.pushed(sha)
        assert (push.status, push.version) == ("failed", None)
        assert push.error["code"] in ("lfs_corrupt", "outbound_too_large")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 3\n", "lfs_pointer"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:" + "a" * 64 + "\nsize 3\n", "lfs_missing"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:" + "a" * 64 + "\nsize 99999999999\n", "too_large"),
    ],
)
def test_pointers_that_lead_nowhere_are_explained(connect: Connect, repo: Repository, text: str, code: str) -> None:
    assert error_of(connect(repo), repo.commit({"model.joblib": text})) == code


@pytest.mark.parametrize("href", ["http://169.254.169.254/latest", "https://10.0.0.8/store", "file:///etc"])
def test_lfs_objects_come_from_public_addresses_only(
    connect: Connect, forge: Forge, repo: Repository, href: str
) -> None:
    forge.href = href
    assert error_of(connect(repo), repo.commit({"a.bin": repo.lfs(b"w")})) in (
        "https_only",
        "address_refused",
        "url_invalid",
    )


def test_a_git_that_would_look_names_up_again_is_not_used(
    connect: Connect, repo: Repository, tmp_path: Path, monkeypatch: Any
) -> None:
    """Before 2.37 git did not know http.curloptResolve: the checked address would not be the one it goes to."""
    (tmp_path / "git").write_text("#!/bin/sh\necho git version 2.34.1\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setitem(process._ENVIRONMENT, "PATH", f"{tmp_path}:/usr/bin:/bin")
    assert error_of(connect(repo), "1" * 40) == "git_too_old"


# -- leftovers ------------------------------------------------------------------------------------------------------------


def test_what_a_killed_worker_left_is_removed_and_what_is_in_use_stays(db: None) -> None:
    live_settings.GIT_DIR.mkdir(parents=True, exist_ok=True)
    left = live_settings.GIT_DIR / "fetch-left"
    left.mkdir()
    (left / "lock").touch()
    hour_ago = time.time() - 3600
    os.utime(left, (hour_ago, hour_ago))
    with process.workplace() as work:
        assert process.sweep() == 1
        assert work.folder.exists()
        assert not left.exists()
    assert list(live_settings.GIT_DIR.iterdir()) == []


def test_a_folder_whose_lock_is_just_being_taken_stays(db: None, monkeypatch: Any) -> None:
    real, swept = process.fcntl.flock, []

    def sweep_first(*args: Any) -> None:
        monkeypatch.setattr(process.fcntl, "flock", real)
        swept.append(process.sweep())  # of another worker, between the lock's file and the lock
        real(*args)

    monkeypatch.setattr(process.fcntl, "flock", sweep_first)
    with process.workplace() as work:
        assert swept == [0]
        assert work.folder.exists()
