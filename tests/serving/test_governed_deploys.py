"""A model's rule at work: what a deployment may route to, and how a revoked version leaves it. Real models, the API's doors."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import connection

from accounts.models import AuditEvent
from accounts.roles import Scope
from mlops.core import errors
from registry.models import ModelVersion
from registry.services import revocation
from serving.models import Deployment, Preview, Release
from serving.services import deployments

pytestmark = pytest.mark.django_db
KEY = [Scope.PREDICT, Scope.READ, Scope.WRITE, Scope.ADMIN]
BASE = "/api/v1/acme"


@pytest.fixture
def three(world: Any, ready_version: Any) -> list[ModelVersion]:
    return [ready_version(world.acme) for _ in range(3)]


class Team:
    """Everybody's keys, made once."""

    def __init__(self, world: Any) -> None:
        self.dan, self.alice = world.api("dan"), world.api("alice", KEY)

    def rule(self, **fields: Any) -> None:
        assert self.alice.put(f"{BASE}/models/iris/policy", fields, format="json").status_code == 200

    def promote(self, number: int, to: str = "production") -> None:
        path = f"{BASE}/models/iris/versions/{number}/promotions"
        asked = self.dan.post(path, {"to_stage": to}, format="json").json()
        if asked["state"] == "requested":
            said = self.alice.post(f"{path}/{asked['id']}/approve", {}, format="json")
            assert said.json()["state"] == "approved", said.content

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        return self.dan.post(f"{BASE}/{path}", body or {}, format="json")

    def create(self, name: str = "iris", version: int = 1) -> Any:
        return self.post("deployments", {"name": name, "model": "iris", "version": version})

    def deploy(self, version: int) -> Any:
        return self.post("deployments/iris/versions", {"version": version})

    def routes(self) -> list[tuple[int, int, bool]]:
        shown = self.dan.get(f"{BASE}/deployments/iris").json()
        return [(line["version"], line["weight"], line["shadow"]) for line in shown["traffic"]]

    def revoke(self, number: int, **fields: Any) -> Any:
        return self.post(f"models/iris/versions/{number}/revoke", {"reason": "Wrong labels", **fields})


@pytest.fixture
def team(world: Any) -> Team:
    return Team(world)


def refused(answer: Any, code: str, status: int = 409) -> dict[str, Any]:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.content
    return answer.json()


def test_production_takes_what_was_promoted_and_other_places_what_they_are(team, three) -> None:
    team.rule(production_approvals=1, places={"iris-lab": "dev", "iris-staging": "staging"})
    told = refused(team.create(), "not_promoted")
    assert "as iris needs" in told["detail"]
    assert not Deployment.objects.exists()
    assert team.create("iris-lab").status_code == 201
    assert team.create("iris-staging").status_code == 201  # staging asks nobody here
    listed = team.dan.get(f"{BASE}/deployments").json()["results"]
    assert {row["name"]: row["stage"] for row in listed} == {"iris-lab": "dev", "iris-staging": "staging"}
    team.promote(1)
    assert team.create().status_code == 201


def test_every_way_into_the_routes_asks(team, three) -> None:
    team.rule(production_approvals=1)
    team.promote(1)
    team.create()
    refused(team.deploy(2), "not_promoted")
    half = {"routes": [{"version": 1, "weight": 50}, {"version": 2, "weight": 50}]}
    refused(team.dan.put(f"{BASE}/deployments/iris/traffic", half, format="json"), "not_promoted")
    refused(team.post("deployments/iris/rollout", {"version": 2}), "not_promoted")
    assert team.routes() == [(1, 100, False)]
    shadow = {"routes": [{"version": 1, "weight": 100}, {"version": 2, "shadow": True}]}
    assert team.dan.put(f"{BASE}/deployments/iris/traffic", shadow, format="json").status_code == 200
    refused(team.deploy(2), "not_promoted")  # a shadow answers nobody: it has not come in yet
    assert team.post("deployments/iris/previews", {"name": "try", "version": 3}).status_code == 201
    team.promote(2)
    assert team.deploy(2).status_code == 200


def test_what_was_live_stays_and_going_back_waits_for_nobody(team, three) -> None:
    team.create()
    team.deploy(2)
    team.rule(production_approvals=2)
    assert team.routes() == [(2, 100, False)]
    assert team.post("deployments/iris/rollback").status_code == 200
    assert team.routes() == [(1, 100, False)]
    assert team.post("deployments/iris/stop").status_code == 200
    assert team.post("deployments/iris/start").status_code == 200
    refused(team.deploy(3), "not_promoted")


def test_a_push_that_names_a_deployment_waits_for_its_promotion(team, world, ready_version, jobs_now) -> None:
    from registry.signals import version_ready

    version = ready_version(world.acme, deploy_to="iris", created_by=world.dan)
    team.rule(production_approvals=1)
    with jobs_now():
        version_ready.send(sender=ModelVersion, version=version)
    assert Deployment.objects.get().status == "failed"
    assert "not promoted" in version.findings.get(check_name="deploy").message


def test_a_revocation_of_a_live_version_says_so_and_goes_back(team, three) -> None:
    team.create()
    team.deploy(2)
    team.post("deployments/iris/previews", {"name": "look", "version": 2})
    shown = team.dan.get(f"{BASE}/models/iris/versions/2/revoke").json()
    assert shown["live_in"] == [{"deployment": "iris", "weight": 100, "back_to": 1}]
    told = refused(team.revoke(2), "version_live")
    assert "rollback_to" in told["hint"]
    assert team.routes() == [(2, 100, False)]
    assert team.revoke(2, force=True).status_code == 200
    assert team.routes() == [(1, 100, False)]
    last = Release.objects.first()
    assert (last.kind, last.note) == ("rollback", "Version 2 was revoked: Wrong labels")
    assert not Preview.objects.exists()
    refused(team.deploy(2), "version_revoked")
    refused(team.post("deployments/iris/rollback", {"to": 2}), "version_revoked")
    refused(team.post("deployments/iris/previews", {"name": "look", "version": 2}), "version_revoked")
    refused(team.post("deployments/iris/compare", {"version": 2, "last": 10}), "version_revoked")
    answer = team.dan.post("/api/v1/predict/acme/iris/previews/v2", {"inputs": [[5.1, 3.5, 1.4, 0.2]]}, format="json")
    assert answer.status_code == 404
    assert AuditEvent.objects.filter(action="deployment.rollback").count() == 1


def test_a_rollback_passes_over_what_was_revoked(team, three) -> None:
    for number in (1, 2, 3):
        team.create() if number == 1 else team.deploy(number)
    assert team.revoke(2).status_code == 200
    assert team.post("deployments/iris/rollback").status_code == 200
    assert team.routes() == [(1, 100, False)]


def test_never_no_version_at_all(team, three) -> None:
    team.create()
    told = refused(team.revoke(1, force=True), "nothing_to_roll_back")
    assert "stop the deployment" in told["hint"]
    refused(team.revoke(1, rollback_to=9), "not_found", 404)
    assert team.routes() == [(1, 100, False)]
    assert ModelVersion.objects.filter(revoked_at=None).count() == 3
    assert team.revoke(1, rollback_to=2).status_code == 200
    assert team.routes() == [(2, 100, False)]


def test_a_target_that_was_never_live_needs_its_promotion(team, three) -> None:
    team.create()
    team.rule(production_approvals=1)
    refused(team.revoke(1, rollback_to=2), "not_promoted")
    assert team.routes() == [(1, 100, False)]
    team.promote(2)
    assert team.revoke(1, rollback_to=2).status_code == 200


def test_a_candidate_and_a_shadow_go_without_touching_the_live_version(team, three) -> None:
    team.create()
    team.dan.put(
        f"{BASE}/deployments/iris/traffic",
        {"routes": [{"version": 1, "weight": 100}, {"version": 3, "shadow": True}]},
        format="json",
    )
    assert team.revoke(3, force=True).status_code == 200
    assert team.routes() == [(1, 100, False)]
    assert team.post("deployments/iris/rollout", {"version": 2}).status_code == 201
    assert team.revoke(2, force=True).status_code == 200
    assert team.routes() == [(1, 100, False)]
    assert Deployment.objects.get().rollouts.get().state == "aborted"


def test_a_paused_deployment_stays_paused(team, three) -> None:
    team.create()
    team.deploy(2)
    team.post("deployments/iris/pause")
    assert team.revoke(2, force=True).status_code == 200
    assert (Deployment.objects.get().status, team.routes()) == ("paused", [(1, 100, False)])


@pytest.mark.django_db(transaction=True)
def test_a_deploy_and_a_revocation_at_once_leave_no_revoked_version_live(world, three) -> None:
    team = Team(world)
    team.create()
    row, caller, second = Deployment.objects.get(), world.caller("dan"), three[1]
    deployments.warm(second)
    together, told = threading.Barrier(2), []

    def do(deed: Any) -> None:
        together.wait(20)
        try:
            deed()
            told.append("done")
        except errors.SlipwayError as error:
            told.append(error.code)
        finally:
            connection.close()

    deeds = (
        lambda: deployments.deploy_version(row, second, caller),
        lambda: revocation.revoke_version(ModelVersion.objects.get(pk=second.pk), caller, reason="Wrong"),
    )
    threads = [threading.Thread(target=do, args=(deed,)) for deed in deeds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    revoked = ModelVersion.objects.get(pk=second.pk).revoked_at is not None
    live = [number for number, _, _ in team.routes()]
    assert live in ([1], [2])
    assert not (revoked and live == [2])
    assert told.count("done") == 1
