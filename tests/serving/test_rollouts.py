"""A guarded rollout goes step by step, waits honestly, and takes back what does worse. One decision each, whoever looks."""

from __future__ import annotations

import random
import threading
from datetime import timedelta

import orjson
import pytest
from django.db import IntegrityError, connection, transaction

from accounts.models import AuditEvent
from mlops.core import clock, errors, ids
from registry.models import ModelVersion
from serving import prediction_log, rollout_counts
from serving.models import Deployment, PredictionLog, Release, Rollout, RolloutTally, Route
from serving.records import Call, Row
from serving.services import deployments, rollouts
from serving.services.rollouts import Plan
from serving.services.traffic import Wish, set_traffic

PLAN = Plan(bake_s=60, min_requests=50)


@pytest.fixture
def dan(world):
    return world.caller("dan")


@pytest.fixture
def versions(world, ready_version) -> list[ModelVersion]:
    return [ready_version(world.acme) for _ in range(3)]


@pytest.fixture
def flowers(world, versions, dan) -> Deployment:
    return deployments.create_deployment(organization=world.acme, name="flowers", version=versions[0], caller=dan)


@pytest.fixture
def rollout(flowers, versions, dan) -> Rollout:
    return rollouts.start(flowers, versions[1], dan, PLAN)


def _table(deployment: Deployment) -> dict[int, int]:
    return {route.version.number: route.weight for route in Route.objects.filter(deployment=deployment, shadow=False)}


def _now(rollout: Rollout) -> Rollout:
    return rollouts._read(rollout.pk)


def _calls(rollout: Rollout, version: ModelVersion, count: int, *, status: int = 200, ms: float = 4.0, label: str = "setosa", **fields) -> None:  # fmt: skip
    """Requests as the shipper hands them over."""
    row = Row("0" * 32, 0, prediction=orjson.dumps(label).decode())
    _count(
        [
            Call(rollout.organization_id, rollout.deployment_id, version.pk, clock.now(), status, ms * random.uniform(0.8, 1.2),
                 fields.get("via", "api"), [row] if status == 200 else [], fields.get("pinned", False))
            for _ in range(count)
        ]
    )  # fmt: skip


@transaction.atomic
def _count(calls: list[Call]) -> None:
    """As in the shipper's transaction."""
    rollout_counts.count(calls)


def _baked(rollout: Rollout) -> None:
    past = clock.now() - timedelta(seconds=rollout.bake_s + 1)
    Rollout.objects.filter(pk=rollout.pk).update(baking_since=past)


def _pass(rollout: Rollout, versions: list[ModelVersion]) -> Rollout:
    """Enough good traffic and time for one step."""
    _calls(rollout, versions[0], 200)
    _calls(rollout, versions[1], 60)
    _baked(rollout)
    assert rollouts.tick(_now(rollout))
    return _now(rollout)


def test_it_begins_with_one_per_cent_and_is_told(rollout, flowers) -> None:
    assert _table(flowers) == {1: 99, 2: 1}
    release = flowers.releases.first()
    assert (release.kind, release.version.number, release.note) == (
        "rollout",
        1,
        "Version 2 answers 1 % of the requests.",
    )
    assert Deployment.objects.get(pk=flowers.pk).live_version.number == 1
    assert AuditEvent.objects.filter(action="deployment.rollout").exists()


def test_a_sound_version_goes_all_the_way_and_can_be_rolled_back(rollout, flowers, versions, dan) -> None:
    shares = []
    while rollout.open:
        shares.append(_table(flowers).get(2))
        rollout = _pass(rollout, versions)
    assert shares == [1, 10, 50, 100]
    assert (rollout.state, rollout.reason, _table(flowers)) == ("done", "Every step was passed.", {2: 100})
    assert [each.kind for each in flowers.releases.order_by("number")] == [
        "deploy",
        "rollout",
        "step",
        "step",
        "step",
        "promote",
    ]
    assert [version.number for version in deployments.history(flowers)] == [1, 2]
    assert _table(deployments.roll_back(Deployment.objects.get(pk=flowers.pk), dan)) == {1: 100}


def test_it_waits_for_requests_and_for_time_and_says_so(rollout, versions) -> None:
    _baked(rollout)
    assert not rollouts.tick(_now(rollout))
    assert rollouts.look(_now(rollout)).waiting == "Waiting for traffic: 0 of 50 requests of this step."
    Rollout.objects.filter(pk=rollout.pk).update(baking_since=clock.now())
    _calls(rollout, versions[1], 60)
    assert not rollouts.tick(_now(rollout))
    assert rollouts.look(_now(rollout)).waiting.startswith("Baking")


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        ({"status": 502}, "failed"),
        ({"status": 422}, "failed"),
        ({"ms": 60.0}, "p95"),
        ({"label": "virginica"}, "virginica"),
    ],
)
def test_what_does_worse_is_taken_back_by_itself(rollout, flowers, versions, bad, word) -> None:
    _calls(rollout, versions[0], 300)
    _calls(rollout, versions[1], 60, **bad)
    assert rollouts.tick(_now(rollout))
    rollout = _now(rollout)
    assert (rollout.state, _table(flowers)) == ("rolled_back", {1: 100})
    assert word in rollout.reason
    release = flowers.releases.first()
    assert (release.kind, release.actor) == (Release.Kind.RETREAT, "Slipway")
    assert word in release.note
    assert AuditEvent.objects.filter(action="deployment.retreat", actor="system").count() == 1
    assert not rollouts.tick(rollout)


def test_a_broken_one_is_taken_back_before_the_step_has_its_requests(rollout, flowers, versions) -> None:
    _calls(rollout, versions[0], 600)
    _calls(rollout, versions[1], 5, status=500)
    assert rollouts.tick(_now(rollout))
    assert _table(flowers) == {1: 100}


def test_at_a_hundred_per_cent_it_is_compared_with_the_steps_before(rollout, flowers, versions) -> None:
    for _ in range(3):
        rollout = _pass(rollout, versions)
    assert _table(flowers) == {2: 100}
    _calls(rollout, versions[1], 60, status=500)
    assert rollouts.tick(_now(rollout))
    assert (_now(rollout).state, _table(flowers)) == ("rolled_back", {1: 100})


def test_requests_that_chose_their_version_and_previews_are_no_evidence(rollout, versions) -> None:
    _calls(rollout, versions[0], 300)
    _calls(rollout, versions[1], 60, status=500, pinned=True)
    assert rollouts.look(_now(rollout)).candidate.requests == 0


@pytest.mark.parametrize(
    ("said", "labels"),
    [
        ('"\\ud800"', {"\ufffd": 1}),
        ("1" + "0" * 400, {}),
        ("[1e999, 123456789012345678901234567890]", {}),
    ],
    ids=["half a character", "more than any float", "infinity"],
)
def test_an_answer_that_no_database_takes_as_it_is_counts_all_the_same(rollout, versions, said: str, labels) -> None:
    assert prediction_log.append(
        base_id=ids.prediction_base(), organization_id=rollout.organization_id, deployment_id=rollout.deployment_id,
        version_id=versions[1].pk, at=clock.now().timestamp(), latency_ms=2.0, status=200, code="", detail="", key_prefix="abcd2345",
        request_id="r-1", via="api", request=b'{"inputs": [[1, 2, 3, 4]]}',
        response=b'{"predictions": [%b], "timings_ms": {"total": NaN}}' % said.encode(),
    )  # fmt: skip
    assert prediction_log.ship_once().damaged_bytes == 0
    tally = RolloutTally.objects.get(rollout=rollout)
    assert (tally.requests, sum(tally.latency), tally.labels) == (1, 1, labels)
    assert PredictionLog.objects.count() == 1


def test_held_it_stays_and_is_still_watched(rollout, flowers, versions, dan) -> None:
    rollouts.hold(rollout, dan)
    _calls(rollout, versions[0], 300)
    _calls(rollout, versions[1], 60)
    _baked(rollout)
    assert not rollouts.tick(_now(rollout))
    assert _table(flowers) == {1: 99, 2: 1}
    with pytest.raises(errors.Conflict):
        rollouts.hold(rollout, dan)
    gone_on = rollouts.go_on(rollout, dan)
    assert gone_on.baking_since > clock.now() - timedelta(seconds=30)
    rollouts.hold(rollout, dan)
    _calls(rollout, versions[1], 60, status=500)
    assert rollouts.tick(_now(rollout))
    assert _table(flowers) == {1: 100}


def test_a_paused_deployment_holds_it(rollout, flowers, versions, dan) -> None:
    _calls(rollout, versions[0], 300)
    _calls(rollout, versions[1], 60)
    deployments.pause(flowers, dan)
    _baked(rollout)
    assert not rollouts.tick(_now(rollout))
    deployments.resume(flowers, dan)
    assert not rollouts.tick(_now(rollout))  # its time begins anew
    assert _table(flowers) == {1: 99, 2: 1}


def test_it_may_be_promoted_or_taken_back_at_once(flowers, versions, dan) -> None:
    rollouts.promote(rollouts.start(flowers, versions[1], dan, PLAN), dan)
    assert _table(flowers) == {2: 100}
    aborted = rollouts.abort(rollouts.start(flowers, versions[2], dan, PLAN), dan)
    assert (_table(flowers), aborted.state) == ({2: 100}, "aborted")
    assert [version.number for version in deployments.history(flowers)] == [1, 2]
    with pytest.raises(errors.Conflict) as refused:
        rollouts.promote(aborted, dan)
    assert refused.value.code == "rollout_ended"


def test_whoever_changes_the_table_ends_it(flowers, versions, dan) -> None:
    for change in (
        lambda: deployments.deploy_version(flowers, versions[2], dan),
        lambda: deployments.roll_back(flowers, dan, to=1),
        lambda: set_traffic(flowers, [Wish(1, 60), Wish(2, 40)], dan),
        lambda: deployments.stop(flowers, dan),
    ):
        before = Deployment.objects.get(pk=flowers.pk)
        if len(before.routes.all()) > 1:
            deployments.deploy_version(before, versions[0], dan)
            before = Deployment.objects.get(pk=flowers.pk)
        begun = rollouts.start(before, versions[1], dan, PLAN)
        change()
        assert _now(begun).state == "aborted"
        assert _now(begun).reason


def test_only_one_at_a_time_and_only_beside_one_version(rollout, flowers, versions, dan, world) -> None:
    with pytest.raises(errors.Conflict) as refused:
        rollouts.start(flowers, versions[2], dan)
    assert refused.value.code == "traffic_is_split"
    with pytest.raises(IntegrityError):
        Rollout.objects.create(
            organization=world.acme, deployment=flowers, champion=versions[0], candidate=versions[2], steps=[100], bake_s=1,
            min_requests=1, max_error_increase=0, max_latency_factor=1, actor="x",
        )  # fmt: skip


def test_the_live_version_itself_a_stranger_and_an_archived_one_are_refused(
    flowers, versions, dan, world, ready_version
) -> None:
    with pytest.raises(errors.Conflict):
        rollouts.start(flowers, versions[0], dan)
    with pytest.raises(errors.NotFound):
        rollouts.start(flowers, ready_version(world.globex), dan)
    ModelVersion.objects.filter(pk=versions[1].pk).update(status="archived")
    versions[1].refresh_from_db()
    with pytest.raises(errors.SlipwayError) as refused:
        rollouts.start(flowers, versions[1], dan)
    assert refused.value.code == "not_deployable"
    assert not Rollout.objects.exists()


@pytest.mark.parametrize(
    "plan",
    [
        Plan(steps=()), Plan(steps=(10, 5, 100)), Plan(steps=(10, 50)), Plan(steps=(0, 100)), Plan(steps=(1, 1, 100)),
        Plan(bake_s=-1), Plan(min_requests=0), Plan(max_error_increase=2.0), Plan(max_latency_factor=0.5), Plan(max_shift=7.0),
    ],
)  # fmt: skip
def test_a_plan_that_cannot_be_is_refused_by_name(flowers, versions, dan, plan) -> None:
    with pytest.raises(errors.Invalid) as refused:
        rollouts.start(flowers, versions[1], dan, plan)
    assert refused.value.fields
    assert not Rollout.objects.exists()


def test_the_version_one_may_go_back_to_cannot_be_archived(rollout, versions, dan) -> None:
    from registry.services import versions as registry_versions

    for _ in range(3):
        rollout = _pass(rollout, versions)
    with pytest.raises(errors.Conflict) as refused:
        registry_versions.archive_version(versions[0], dan)
    assert "rollout" in refused.value.detail


@pytest.mark.django_db(transaction=True)
def test_of_many_that_look_at_once_one_acts(flowers, versions, dan) -> None:
    rollout = rollouts.start(flowers, versions[1], dan, PLAN)
    _calls(rollout, versions[0], 300)
    _calls(rollout, versions[1], 60)
    _baked(rollout)
    seen, moved, failures = _now(rollout), [], []
    ready = threading.Barrier(6)

    def look() -> None:
        try:
            ready.wait(10)
            moved.append(rollouts.tick(seen))
        except Exception as error:  # noqa: BLE001  told below
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=look) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sorted(moved) == [False] * 5 + [True]
    assert (_now(rollout).step, _table(flowers)) == (1, {1: 90, 2: 10})
    assert flowers.releases.filter(kind="step").count() == 1
