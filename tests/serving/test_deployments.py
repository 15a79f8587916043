"""What is live changes in one step, is recorded, and can be taken back any number of times."""

from __future__ import annotations

import threading

import pytest
from django.db import connection

from accounts.models import AuditEvent
from mlops.core import errors
from registry.models import ModelVersion
from registry.signals import version_ready
from serving import routing
from serving.errors import NotDeployable
from serving.models import Deployment, DeploymentStatus, Release, Route
from serving.services import deployments
from serving.signals import deployment_changed


@pytest.fixture
def dan(world):
    return world.caller("dan")


@pytest.fixture
def versions(world, ready_version) -> list[ModelVersion]:
    return [ready_version(world.acme) for _ in range(3)]


@pytest.fixture
def flowers(world, versions, dan) -> Deployment:
    return deployments.create_deployment(organization=world.acme, name="flowers", version=versions[0], caller=dan)


def _live(deployment: Deployment) -> int:
    """The number of the one live version: exactly one route, weight 100."""
    (route,) = Route.objects.filter(deployment=deployment)
    assert (route.weight, route.shadow) == (100, False)
    return route.version.number


def test_a_new_deployment_is_live_and_recorded(flowers, world, runner_host) -> None:
    assert (flowers.status, _live(flowers)) == (DeploymentStatus.LIVE, 1)
    release = flowers.releases.get()
    assert (release.number, release.kind, release.actor) == (1, Release.Kind.DEPLOY, str(world.dan))
    assert release.warm_ms > 0
    assert [event.action for event in AuditEvent.objects.order_by("pk")] == ["deployment.create", "deployment.deploy"]
    assert any(
        entry["key"].startswith(f"v-{flowers.live_version.pk}-") for entry in runner_host.client.status()["entries"]
    )


@pytest.mark.parametrize("name", ["new", "", "Flowers", "-a", "a_b", "a" * 64, "a b", "ä"])
def test_names_that_cannot_be_an_address_are_refused(world, versions, dan, name: str) -> None:
    with pytest.raises(errors.Invalid) as refused:
        deployments.create_deployment(organization=world.acme, name=name, version=versions[0], caller=dan)
    assert "name" in refused.value.fields
    assert not Deployment.objects.exists()


def test_a_name_is_taken_once_per_organisation(flowers, world, versions, dan, ready_version) -> None:
    with pytest.raises(errors.Conflict):
        deployments.create_deployment(organization=world.acme, name="flowers", version=versions[1], caller=dan)
    other = deployments.create_deployment(
        organization=world.globex, name="flowers", version=ready_version(world.globex), caller=world.caller("mallory")
    )
    assert other.status == DeploymentStatus.LIVE


def test_a_model_that_does_not_load_leaves_nothing_behind(world, ready_version, dan, tmp_path) -> None:
    from tests import tiny_models

    broken = ready_version(
        world.acme,
        tiny_models.hostile(tmp_path / "hostile")["exit_load"],
        model="broken",
        schema={"kind": "table", "inputs": []},
    )
    with pytest.raises(errors.SlipwayError) as refused:
        deployments.create_deployment(organization=world.acme, name="broken", version=broken, caller=dan)
    assert refused.value.code == "load_failed"
    assert not Deployment.objects.exists()
    assert not AuditEvent.objects.filter(action__startswith="deployment").exists()


def test_a_version_that_does_not_load_does_not_replace_the_live_one(
    flowers, world, ready_version, dan, tmp_path
) -> None:
    from tests import tiny_models

    broken = ready_version(
        world.acme, tiny_models.hostile(tmp_path / "hostile")["exit_load"], schema={"kind": "table", "inputs": []}
    )
    with pytest.raises(errors.SlipwayError):
        deployments.deploy_version(flowers, broken, dan)
    assert _live(flowers) == 1


@pytest.mark.parametrize("status", ["received", "validating", "failed", "archived"])
def test_only_a_ready_version_can_be_deployed(flowers, versions, dan, status: str) -> None:
    ModelVersion.objects.filter(pk=versions[1].pk).update(status=status)
    versions[1].refresh_from_db()
    with pytest.raises(NotDeployable) as refused:
        deployments.deploy_version(flowers, versions[1], dan)
    assert refused.value.hint
    assert _live(flowers) == 1


def test_a_version_archived_while_it_is_warmed_is_not_deployed(flowers, versions, dan, monkeypatch) -> None:
    real = deployments.warm

    def slow(version: ModelVersion):
        found = real(version)
        ModelVersion.objects.filter(pk=version.pk).update(status="archived")
        return found

    monkeypatch.setattr(deployments, "warm", slow)
    with pytest.raises(NotDeployable):
        deployments.deploy_version(flowers, versions[1], dan)
    assert _live(flowers) == 1


def test_another_models_version_is_refused_by_name(flowers, world, ready_version, dan) -> None:
    with pytest.raises(NotDeployable) as refused:
        deployments.deploy_version(flowers, ready_version(world.acme, "regressor_pickle", model="price"), dan)
    assert refused.value.code == "wrong_model"
    assert "price" in refused.value.detail


def test_another_organisations_version_does_not_exist(flowers, world, ready_version, dan) -> None:
    with pytest.raises(errors.NotFound):
        deployments.deploy_version(flowers, ready_version(world.globex), dan)
    assert _live(flowers) == 1


def test_deploying_the_live_version_again_changes_nothing(flowers, versions, dan) -> None:
    deployments.deploy_version(flowers, versions[0], dan)
    assert flowers.releases.count() == 1


def test_rolling_back_goes_back_step_by_step_and_forward_by_number(flowers, versions, dan) -> None:
    for version in versions[1:]:
        deployments.deploy_version(flowers, version, dan)
    assert _live(flowers) == 3
    deployments.roll_back(flowers, dan)
    assert _live(flowers) == 2
    deployments.roll_back(flowers, dan)
    assert _live(flowers) == 1
    with pytest.raises(errors.Conflict) as refused:
        deployments.roll_back(flowers, dan)
    assert refused.value.code == "nothing_to_roll_back"
    deployments.roll_back(Deployment.objects.get(pk=flowers.pk), dan, to=3)
    assert _live(flowers) == 3
    assert [release.kind for release in flowers.releases.order_by("number")] == ["deploy"] * 3 + ["rollback"] * 3


def test_rolling_back_to_a_version_that_was_never_live_is_refused(flowers, versions, dan) -> None:
    with pytest.raises(NotDeployable) as refused:
        deployments.roll_back(flowers, dan, to=3)
    assert "never been live" in refused.value.detail
    with pytest.raises(errors.Conflict):
        deployments.roll_back(flowers, dan, to=1)


def test_stop_and_start(flowers, versions, dan) -> None:
    stopped = deployments.stop(flowers, dan)
    assert (stopped.status, stopped.live_version) == (DeploymentStatus.STOPPED, None)
    with pytest.raises(errors.Conflict):
        deployments.stop(flowers, dan)
    started = deployments.start(stopped, dan)
    assert (started.status, _live(started)) == (DeploymentStatus.LIVE, 1)
    with pytest.raises(errors.Conflict):
        deployments.start(started, dan)


def test_a_stopped_deployments_version_may_be_archived_and_then_it_does_not_start(flowers, versions, dan) -> None:
    from registry.services import versions as registry_versions

    stopped = deployments.stop(flowers, dan)
    registry_versions.archive_version(versions[0], dan)
    with pytest.raises(NotDeployable):
        deployments.start(stopped, dan)


def test_deploying_makes_a_stopped_one_live(flowers, versions, dan) -> None:
    deployments.stop(flowers, dan)
    assert deployments.deploy_version(flowers, versions[1], dan).status == DeploymentStatus.LIVE
    assert _live(flowers) == 2


def test_every_change_raises_the_epoch_and_tells_its_listeners(flowers, versions, dan) -> None:
    heard: list[tuple[int, str]] = []

    def hear(deployment: Deployment, version: ModelVersion, kind: str, **kwargs: object) -> None:
        heard.append((version.number, str(kind)))

    deployment_changed.connect(hear)
    epochs = [flowers.route_epoch]
    try:
        for change in (
            lambda: deployments.deploy_version(flowers, versions[1], dan),
            lambda: deployments.roll_back(flowers, dan),
            lambda: deployments.stop(flowers, dan),
            lambda: deployments.start(Deployment.objects.get(pk=flowers.pk), dan),
        ):
            epochs.append(change().route_epoch)
    finally:
        deployment_changed.disconnect(hear)
    assert epochs == sorted(set(epochs))
    assert heard == [(2, "deploy"), (1, "rollback"), (1, "stop"), (1, "start")]


def test_a_listener_that_fails_takes_the_change_back(flowers, versions, dan) -> None:
    def refuse(**kwargs: object) -> None:
        raise RuntimeError("monitoring is broken")

    deployment_changed.connect(refuse)
    try:
        with pytest.raises(RuntimeError):
            deployments.deploy_version(flowers, versions[1], dan)
    finally:
        deployment_changed.disconnect(refuse)
    assert _live(flowers) == 1
    assert flowers.releases.count() == 1


@pytest.mark.django_db(transaction=True)
def test_deploys_at_the_same_time_leave_exactly_one_live_version(flowers, versions, dan) -> None:
    failures: list[Exception] = []

    def deploy(version: ModelVersion) -> None:
        try:
            deployments.deploy_version(Deployment.objects.get(pk=flowers.pk), version, dan)
        except Exception as error:  # noqa: BLE001  told below
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=deploy, args=(version,)) for version in (*versions[1:], *versions[1:])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert _live(flowers) in (2, 3)
    numbers = list(flowers.releases.order_by("number").values_list("number", flat=True))
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_version_pushed_with_deploy_goes_live_by_itself(world, ready_version, jobs_now) -> None:
    version = ready_version(world.acme, deploy_to="auto", created_by=world.dan)
    with jobs_now():
        version_ready.send(sender=ModelVersion, version=version)
    row = Deployment.objects.get(name="auto")
    assert (row.status, _live(row)) == (DeploymentStatus.LIVE, 1)
    assert row.releases.get().actor == str(world.dan)


def test_one_that_cannot_be_loaded_says_why_on_its_deployment(world, ready_version, jobs_now, tmp_path) -> None:
    from tests import tiny_models

    broken = ready_version(
        world.acme,
        tiny_models.hostile(tmp_path / "hostile")["exit_load"],
        schema={"kind": "table", "inputs": []},
        deploy_to="auto",
        created_by=world.dan,
    )
    with jobs_now():
        version_ready.send(sender=ModelVersion, version=broken)
    row = Deployment.objects.get(name="auto")
    assert row.status == DeploymentStatus.FAILED
    assert row.status_reason
    good = ready_version(world.acme, deploy_to="auto", created_by=world.dan)
    with jobs_now():
        version_ready.send(sender=ModelVersion, version=good)
    row.refresh_from_db()
    assert (row.status, row.status_reason) == (DeploymentStatus.LIVE, "")


def test_a_push_to_another_models_deployment_fails_its_job_and_changes_nothing(
    flowers, world, ready_version, jobs_now
) -> None:
    from mlops.jobs.models import Job

    version = ready_version(world.acme, "regressor_pickle", model="price", deploy_to="flowers", created_by=world.dan)
    with jobs_now():
        version_ready.send(sender=ModelVersion, version=version)
    assert Job.objects.get(kind="deploy_version").error["code"] == "wrong_model"
    finding = version.findings.get(check_name="deploy")  # the pusher looks at the version, not at a job he never saw
    assert finding.level == "error"
    assert "flowers" in finding.message
    assert finding.hint
    assert _live(flowers) == 1
    assert Deployment.objects.get(pk=flowers.pk).status == DeploymentStatus.LIVE


def test_lines_are_chosen_by_weight_and_shadows_never_answer() -> None:
    def line(number: int, weight: int, shadow: bool = False) -> routing.Line:
        return routing.Line(number, number, weight, shadow, None)

    lines = [line(1, 90), line(2, 10), line(3, 0), line(4, 100, shadow=True)]
    chosen = [routing.choose(lines, ticket / 1000).number for ticket in range(1000)]
    assert (chosen.count(1), chosen.count(2)) == (900, 100)
    assert routing.choose(lines, 0.5) == routing.choose(lines, 0.5)
    assert routing.choose([line(4, 100, shadow=True)], 0.5) is None
    assert routing.choose([], 0.5) is None
