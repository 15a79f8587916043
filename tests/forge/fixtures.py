"""A git server of the test, and repositories that acme has connected to Slipway. Loaded as a plugin by tests/conftest.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as live_settings
from django.http import HttpResponse

from registry.models import Source, SourcePush
from tests.forge import git_server, hooks
from tests.forge.git_server import Forge, Repository
from tests.world import World


@pytest.fixture
def forge(tmp_path: Path, settings: Any) -> Iterator[Forge]:
    """On loopback, named in SLIPWAY_OUTBOUND_ALLOW. No folder of a fetch may be left behind."""
    with git_server.running(tmp_path / "forge") as running:
        settings.OUTBOUND_ALLOW = [running.place]
        yield running
    assert not live_settings.GIT_DIR.exists() or list(live_settings.GIT_DIR.iterdir()) == []


@dataclass
class Connected:
    """A source, its secret, and the calls its git server makes; jobs that follow have run when a call returns."""

    world: World
    jobs_now: Any
    repo: Repository
    shown: dict[str, Any]

    @property
    def source(self) -> Source:
        return Source.objects.get(pk=self.shown["id"])

    @property
    def secret(self) -> str:
        return self.shown["secret"]

    def send(self, event: str, body: dict[str, Any] | bytes, **more: Any) -> HttpResponse:
        with self.jobs_now(leave=more.pop("leave", ())):
            return hooks.send_github(self.shown["hook_url"], self.secret, event, body, **more)

    def pushed(self, sha: str, branch: str = "main", **more: Any) -> SourcePush:
        """The push event of a commit; the row that came of it."""
        answer = self.send("push", hooks.push_body(self.repo, sha, branch), **more)
        assert answer.status_code == 202, answer.content
        return SourcePush.objects.get(pk=answer.json()["push"])

    def pull_request(self, sha: str, branch: str, **more: Any) -> HttpResponse:
        return self.send("pull_request", hooks.pull_request_body(self.repo, sha, branch, **more))

    def api(self, method: str, rest: str = "", body: Any = None, who: str = "alice") -> Any:
        with self.jobs_now():
            client = self.world.api(who)
            return getattr(client, method)(f"/api/v1/acme/sources/{self.shown['id']}{rest}", body, format="json")


@pytest.fixture
def connect(world: World, jobs_now: Any) -> Callable[..., Connected]:
    """``connect(repo)``: as Alice, through the API."""

    def connected(repo: Repository, **fields: Any) -> Connected:
        body = {"kind": "github", "clone_url": repo.url, "model": "churn", **fields}
        answer = world.api("alice").post("/api/v1/acme/sources", body, format="json")
        assert answer.status_code == 201, answer.content
        return Connected(world, jobs_now, repo, answer.json())

    return connected
