"""Whatever happens to its worker, its runner host or its job: a validation ends, and says how."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.conf import settings as live_settings

from mlops.core import clock
from mlops.jobs import queue, runner
from mlops.jobs.models import Job
from mlops.runtime import host as host_module
from mlops.runtime.host import RunnerHost, SandboxUnavailable
from registry import checking
from registry.models import Finding, ModelVersion
from registry.services import versions

pytestmark = pytest.mark.django_db


@pytest.fixture
def validating(world, a_model, monkeypatch) -> ModelVersion:
    """A version whose validation waits for a worker."""
    monkeypatch.setattr(queue, "send", lambda job_id: None)
    version = a_model.versions.get()
    versions.start_validation(version, world.caller("dan"))
    version.refresh_from_db()
    return version


def lose_worker(job: Job, started: timedelta = timedelta(seconds=1)) -> None:
    """A worker takes the job and is killed: nothing renews its lease."""
    assert runner._claim(job.pk) is not None
    past = clock.now() - timedelta(seconds=1)
    Job.objects.filter(pk=job.pk).update(lease_until=past, started_at=clock.now() - started)


def test_a_killed_worker_s_validation_is_taken_up_and_dead_lettered_after_three(validating) -> None:
    job = versions.latest_job(validating)
    for outcome in ("requeued", "requeued", "failed"):
        lose_worker(job)
        assert runner.sweep()[outcome] == 1
        validating.refresh_from_db()
        assert validating.status == ("failed" if outcome == "failed" else "validating")
    finding = validating.findings.get()
    assert (finding.level, finding.message) == ("error", "The worker died 3 times while running this job.")
    assert finding.hint


def test_an_endless_validation_ends_as_failed(validating) -> None:
    job = versions.latest_job(validating)
    lose_worker(job, started=timedelta(seconds=job.timeout_s + 20))
    assert runner.sweep()["failed"] == 1
    validating.refresh_from_db()
    assert validating.status == "failed"
    assert f"did not end within {job.timeout_s} seconds" in validating.findings.get().message


def test_a_new_attempt_starts_from_nothing(validating) -> None:
    Finding.objects.create(version=validating, check_name="load", level="ok", message="of a worker that died")
    runner.run(versions.latest_job(validating).pk)  # fails at once: the file of this version is not in the storage
    found = list(validating.findings.values_list("check_name", "level", "message"))
    assert found == [
        ("received", "ok", "fraud.joblib, 3 B."),
        ("hash", "error", "The file is not in the storage any more."),
    ]


def test_a_job_that_runs_twice_changes_nothing(validating) -> None:
    job = versions.latest_job(validating)
    runner.run(job.pk)
    ended = ModelVersion.objects.values().get()
    Job.objects.filter(pk=job.pk).update(status="queued")
    runner.run(job.pk)
    assert ModelVersion.objects.values().get() == ended


def test_without_a_runner_host_it_fails_and_can_be_validated_again(
    push, tiny, world, monkeypatch, jobs_now, runner_host, tmp_path
) -> None:
    monkeypatch.setattr(checking, "HOST_WAIT_S", 0)
    host_module.set_host(RunnerHost(str(tmp_path / "nobody.sock")))
    try:
        pushed = push(tiny["iris_joblib"].path)
    finally:
        host_module.set_host(runner_host.client)
    assert pushed.shown["status"] == "failed"
    assert "runner host does not answer" in pushed.error["message"]
    assert "manage.py up" in pushed.error["hint"]
    with jobs_now():
        again = world.api("dan").post("/api/v1/acme/models/iris/versions/1/validate")
    assert again.status_code == 202
    assert ModelVersion.objects.get().status == "ready"


def test_a_sandbox_that_does_not_hold_runs_nothing(push, tiny, runner_host) -> None:
    class Closed(RunnerHost):
        def ensure(self, spec):
            raise SandboxUnavailable(
                "The sandbox does not hold: the probe 'socket' got through.", "Use a kernel with seccomp."
            )

    host_module.set_host(Closed(live_settings.RUNNERD_SOCKET))
    try:
        pushed = push(tiny["iris_joblib"].path)
    finally:
        host_module.set_host(runner_host.client)
    assert (pushed.shown["status"], pushed.error["check"]) == ("failed", "load")
    assert "probe 'socket'" in pushed.error["message"]
    assert pushed.error["hint"] == "Use a kernel with seccomp."
    assert Job.objects.get().error["code"] == "sandbox_unavailable"
