"""Connected repositories in the browser: connect, look, change, switch off, disconnect; and the lines one pastes elsewhere."""

from __future__ import annotations

import html
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlops.jobs import queue
from registry.models import Source, SourceDelivery, SourcePush
from tests.forge import hooks
from tests.forge.fixtures import Connected
from tests.forge.git_server import Forge, Repository, git

Connect = Callable[..., Connected]
LIST = "/acme/sources/"
TYPED = {
    "clone_url": "https://github.com/acme/walk",
    "kind": "github",
    "model": "walk",
    "branch": "main",
    "previews": "on",
}


@pytest.fixture
def repo(forge: Forge) -> Repository:
    return forge.repository()


def text(answer: Any) -> str:
    return html.unescape(answer.content.decode())


def test_an_admin_connects_a_repository_and_sees_its_secret_once(world: Any) -> None:
    client = world.client("alice")
    assert "No repository is connected." in text(client.get(LIST))
    made = client.post(LIST, {**TYPED, "token": "github_pat_x"})
    assert made.status_code == 201
    source = Source.objects.get()
    assert (source.model, source.deployment, source.token, source.previews) == ("walk", "walk", "github_pat_x", True)
    (secret,) = source.secrets()
    shown = text(made)
    for part in (secret, f"/hooks/{source.pk}", "https://github.com/acme/walk/settings/hooks/new", "application/json"):
        assert part in shown
    pinged = hooks.send_github(f"/hooks/{source.pk}", secret, "ping", {"zen": "x"})
    assert pinged.status_code == 200
    for path in (LIST, f"{LIST}{source.pk}/", f"{LIST}{source.pk}/settings/"):
        page = text(client.get(path))
        assert "acme/walk" in page
        assert secret not in page
        assert "github_pat_x" not in page
    assert "ignored pong" in text(client.get(f"{LIST}{source.pk}/"))


def test_what_cannot_be_connected_is_said_at_its_field_and_others_may_not(world: Any) -> None:
    refused = world.client("alice").post(
        LIST, {**TYPED, "clone_url": "git@github.com:acme/walk.git", "folder": "models"}
    )
    assert refused.status_code == 422
    assert "Only https addresses can be fetched." in text(refused)
    assert 'value="models"' in text(refused)
    app = world.client("alice").post(LIST, {**TYPED, "app_id": "7"})
    assert "A GitHub App needs its id" in text(app) or "Give all three, or none." in text(app)
    assert world.client("dan").post(LIST, TYPED).status_code == 403
    assert "An admin of the organisation can connect one." in text(world.client("dan").get(LIST))
    assert not Source.objects.exists()


def test_settings_change_rotate_switch_off_and_disconnect(world: Any, connect: Connect, repo: Repository) -> None:
    connected, client = connect(repo, token="before"), world.client("alice")
    place = f"{LIST}{connected.source.pk}/"
    assert client.post(f"{place}settings/", {"branch": "trunk", "token": ""}).status_code == 302
    assert (connected.source.branch, connected.source.previews, connected.source.token) == ("trunk", False, "before")
    assert client.post(f"{place}settings/", {"branch": "a..b"}).status_code == 422
    client.post(f"{place}settings/", {"branch": "trunk", "forget": "on"})
    assert connected.source.token == ""

    rotated = client.post(f"{place}rotate/")
    new, old = connected.source.secrets()
    assert new in text(rotated)
    assert old not in text(rotated)
    assert "stays good until" in text(rotated)
    assert "is connected" not in text(rotated)

    client.post(f"{place}enable/", {"on": "0"})
    assert connected.send("ping", {"zen": "x"}).status_code == 410
    assert "Switched off" in text(client.get(place))
    client.post(f"{place}enable/", {"on": "1"})
    assert connected.send("ping", {"zen": "x"}).status_code == 200
    assert world.client("dan").post(f"{place}disconnect/").status_code == 403
    assert client.post(f"{place}disconnect/").status_code == 302
    assert client.get(place).status_code == 404


def test_deploy_now_leads_to_the_push_and_says_what_came_of_it(
    world: Any, connect: Connect, repo: Repository, jobs_now: Any
) -> None:
    connected, client = connect(repo), world.client("dan")
    repo.commit({"README.md": "# nothing to serve"})
    with jobs_now(leave=("deploy_push",)):
        answer = client.post(f"{LIST}{connected.source.pk}/deploy/")
    push = SourcePush.objects.get()
    assert answer["Location"] == f"{LIST}{connected.source.pk}/pushes/{push.pk}/"
    waiting = text(client.get(answer["Location"]))
    assert "Waiting for a worker." in waiting
    assert "data-poll" in waiting
    with jobs_now():
        queue.send(push.job_id)
    push.refresh_from_db()
    assert push.status == "failed"
    ended = text(client.get(answer["Location"]))
    assert push.error["detail"] in ended
    assert "data-poll" not in ended.split("<main")[1]
    listed = text(client.get(f"{LIST}{connected.source.pk}/", headers={"HX-Request": "true"}))
    assert push.sha[:7] in listed
    assert "<html" not in listed


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_the_lines_for_other_servers_call_the_webhook(
    live_server: Any, world: Any, settings: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    settings.BASE_URL = live_server.url
    monkeypatch.setattr(queue, "send", lambda job_id: None)
    made = world.client("alice").post(
        LIST, {**TYPED, "kind": "generic", "clone_url": "https://git.example.test/acme/walk"}
    )
    source = Source.objects.get()
    shown = re.search(r"<pre[^>]*><code>(branch=.*?)</code></pre>", made.content.decode(), re.DOTALL)
    assert shown is not None
    git("init", "-q", "-b", "main", cwd=tmp_path)
    git("commit", "-q", "--allow-empty", "-m", "Walk", cwd=tmp_path)
    environment = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "SLIPWAY_HOOK_SECRET": source.secrets()[0],
        "HOME": str(tmp_path),
    }
    command = html.unescape(shown[1])
    done = subprocess.run(
        ["bash", "-euc", command], cwd=tmp_path, env=environment, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    push = SourcePush.objects.get()
    assert (push.sha, push.branch, push.production) == (git("rev-parse", "HEAD", cwd=tmp_path), "main", True)
    assert SourceDelivery.objects.get().outcome == "queued"
