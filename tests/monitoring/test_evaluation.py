"""Error rate and latency from the traffic's counts, each minute, for all live deployments."""

from __future__ import annotations

from datetime import timedelta

from mlops.core import clock
from mlops.jobs.models import Job
from monitoring import alert_rules, baselines, evaluation
from monitoring.models import Incident, IncidentStatus
from monitoring.watching import on_deployment_changed
from serving.models import Deployment, Release, Route, TrafficBucket
from tests.monitoring.scene import Scene

MINUTES_5 = timedelta(minutes=5)


def test_errors_open_an_incident_and_good_traffic_closes_it(scene, at):
    alert_rules.ensure_rules(scene.deployment)
    start = at(clock.now())
    scene.requests(100, broken=30)
    assert evaluation.evaluate_all() == 1
    incident = Incident.objects.get()
    assert "30 % of requests fail" in incident.title
    assert "server" not in incident.title
    later = at(start + 6 * MINUTES_5)
    scene.requests(200, at=later)
    for _ in range(5):
        evaluation.evaluate_all()
    assert Incident.objects.get().status == IncidentStatus.RESOLVED


def test_few_requests_say_nothing(scene):
    alert_rules.ensure_rules(scene.deployment)
    scene.requests(10, broken=10)
    assert evaluation.evaluate_all() == 0
    assert not Incident.objects.exists()


def test_a_switched_off_rule_says_nothing(scene, world):
    alert_rules.ensure_rules(scene.deployment)
    alert_rules.change_rule(alert_rules.rule(scene.deployment, "error_rate"), world.caller("dan"), enabled=False)
    scene.requests(100, broken=50)
    assert evaluation.evaluate_all() == 0


def test_stopped_deployments_are_left_in_peace(scene):
    alert_rules.ensure_rules(scene.deployment)
    Deployment.objects.update(status="stopped")
    scene.requests(100, broken=50)
    assert evaluation.evaluate_all() == 0


def test_slow_answers_open_an_incident_against_the_versions_own_baseline(scene):
    alert_rules.ensure_rules(scene.deployment)
    baselines.make(scene.deployment, scene.version)  # 4 ms at validation
    scene.requests(100, latency_ms=20)
    assert evaluation.evaluate_all() == 0  # five times as slow, and still fast
    scene.requests(3000, latency_ms=400)
    assert evaluation.evaluate_all() == 1
    assert "p95 latency" in Incident.objects.get().title


def test_the_first_live_hour_replaces_what_validation_measured(scene):
    baseline = baselines.make(scene.deployment, scene.version)
    for place in range(12):
        scene.requests(10, at=clock.now() + place * MINUTES_5, latency_ms=50)
    evaluation.settle_latency(baseline)
    baseline.refresh_from_db()
    assert baseline.latency_source == "live"
    assert 40 < baseline.latency_p95_ms < 65


def test_errors_of_an_earlier_version_do_not_count_against_the_live_one(scene, at):
    alert_rules.ensure_rules(scene.deployment)
    scene.requests(100, broken=50)
    scene.go_live(scene.add_version(2))
    assert evaluation.evaluate_all() == 0


def test_no_traffic_is_told_when_somebody_asked_for_it(scene, world, at):
    rule = alert_rules.rule(scene.deployment, "no_traffic")
    alert_rules.change_rule(rule, world.caller("dan"), enabled=True, threshold=2.0)
    start = at(clock.now())
    scene.requests(1)
    assert evaluation.evaluate_all() == 0
    at(start + timedelta(hours=3))
    assert evaluation.evaluate_all() == 1
    scene.requests(1, at=clock.now())
    evaluation.evaluate_all()
    assert Incident.objects.get().status == IncidentStatus.RESOLVED


def test_many_deployments_cost_a_bounded_number_of_queries(world, django_assert_max_num_queries):
    for place in range(12):
        scene = Scene(world.acme, f"d{place}", seed=place)
        alert_rules.ensure_rules(scene.deployment)
        scene.requests(100)
    with django_assert_max_num_queries(60):
        evaluation.evaluate_all()


def test_every_version_that_answers_is_looked_at(scene):
    alert_rules.ensure_rules(scene.deployment)
    canary, shadow = scene.add_version(2), scene.add_version(3)
    Route.objects.filter(deployment=scene.deployment).update(weight=90)
    Route.objects.create(deployment=scene.deployment, version=canary, weight=10)
    Route.objects.create(deployment=scene.deployment, version=shadow, weight=0, shadow=True)
    scene.requests(100)
    bucket = TrafficBucket.objects.get()
    bucket.pk, bucket.version, bucket.client_errors = None, canary, 100
    bucket.save()
    assert evaluation.evaluate_all() == 1
    assert "50 % of requests fail" in Incident.objects.get().title


def test_every_version_that_answers_gets_its_baseline(scene, jobs_now):
    canary = scene.add_version(2)
    Route.objects.create(deployment=scene.deployment, version=canary, weight=10)
    changed = Deployment.objects.with_routes().get(pk=scene.deployment.pk)
    on_deployment_changed(Deployment, changed, scene.version, Release.Kind.TRAFFIC)
    wanted = {job.args["version_id"] for job in Job.objects.filter(kind="make_baseline")}
    assert wanted == {scene.version.pk, canary.pk}
