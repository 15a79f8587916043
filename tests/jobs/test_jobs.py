"""A job ends exactly one way, whatever happens to its worker."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.conf import settings
from django.utils import timezone

from mlops.core import errors
from mlops.jobs import queue, registry, runner, services
from mlops.jobs.models import Job, JobStatus

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def kinds(monkeypatch):
    """Job kinds of this file only; what they do is recorded."""
    monkeypatch.setattr(registry, "_HANDLERS", dict(registry._HANDLERS))
    done: dict[str, list] = {"good": [], "told": [], "sent": []}
    monkeypatch.setattr(queue, "send", done["sent"].append)

    @registry.job("good")
    def good(run: runner.JobRun, number: int) -> None:
        with run.step("count") as step:
            run.progress(0.5)
            run.log("counting")
            step["message"] = f"{number} counted"
        done["good"].append(number)

    @registry.job("refuses", on_failed=lambda error, **args: done["told"].append(error["code"]))
    def refuses(run: runner.JobRun) -> None:
        raise errors.Invalid("The file is empty.", code="empty", hint="Send another.")

    @registry.job("crashes", max_attempts=2, on_failed=lambda error, **args: done["told"].append(error["code"]))
    def crashes(run: runner.JobRun) -> None:
        with run.step("divide"):
            raise ZeroDivisionError("by zero")

    return done


def test_a_job_runs_once_and_shows_its_steps(world, kinds, django_capture_on_commit_callbacks) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        job = queue.enqueue("good", organization=world.acme, args={"number": 3})
    assert kinds["sent"] == [job.pk]
    runner.run(job.pk)
    runner.run(job.pk)  # a redelivered copy of the message
    job.refresh_from_db()
    assert kinds["good"] == [3]
    assert (job.status, job.progress, job.attempts, job.log) == ("done", 1.0, 1, "counting")
    assert [(s["name"], s["status"], s["message"]) for s in job.steps] == [("count", "done", "3 counted")]


def test_an_expected_failure_is_not_tried_again_and_is_told_once(world, kinds) -> None:
    job = queue.enqueue("refuses", organization=world.acme)
    runner.run(job.pk)
    job.refresh_from_db()
    assert (job.status, job.attempts) == ("failed", 1)
    assert job.error == {"code": "empty", "detail": "The file is empty.", "hint": "Send another."}
    assert kinds["told"] == ["empty"]


def test_a_crash_is_tried_again_until_the_attempts_are_used_up(world, kinds) -> None:
    job = queue.enqueue("crashes", organization=world.acme)
    runner.run(job.pk)
    job.refresh_from_db()
    assert (job.status, job.attempts, kinds["sent"]) == ("queued", 1, [job.pk])
    runner.run(job.pk)
    job.refresh_from_db()
    assert (job.status, job.error["code"], kinds["told"]) == ("failed", "job_crashed", ["job_crashed"])
    assert "ZeroDivisionError" in job.error["detail"]
    assert job.steps[0]["status"] == "failed"


def claimed(world, kind: str) -> Job:
    """A job whose worker was killed just after it claimed it."""
    job = queue.enqueue(kind, organization=world.acme, args={"number": 1} if kind == "good" else {})
    return runner._claim(job.pk)


def test_a_killed_workers_job_is_taken_up_again(world, kinds) -> None:
    job = claimed(world, "good")
    assert runner.sweep() == {"requeued": 0, "failed": 0, "resent": 0}
    Job.objects.filter(pk=job.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
    assert runner.sweep()["requeued"] == 1
    runner.run(job.pk)
    job.refresh_from_db()
    assert (job.status, job.attempts, kinds["good"]) == ("done", 2, [1])


def test_a_job_that_kills_every_worker_ends_as_failed(world, kinds) -> None:
    job = claimed(world, "crashes")
    for _ in range(2):
        Job.objects.filter(pk=job.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
        runner.sweep()
        runner._claim(job.pk)
    job.refresh_from_db()
    assert (job.status, job.error["code"], kinds["told"]) == ("failed", "worker_lost", ["worker_lost"])


def test_an_endless_job_ends_as_failed(world, kinds) -> None:
    job = claimed(world, "good")
    long_ago = timezone.now() - timedelta(seconds=job.timeout_s + 1)
    Job.objects.filter(pk=job.pk).update(started_at=long_ago, lease_until=long_ago)
    assert runner.sweep()["failed"] == 1
    job.refresh_from_db()
    assert (job.status, job.error["code"]) == ("failed", "job_timeout")


def test_a_worker_that_lost_its_lease_cannot_write_any_more(world) -> None:
    first = runner.JobRun(claimed(world, "good"))
    Job.objects.filter(pk=first.job_id).update(lease_until=timezone.now() - timedelta(seconds=1))
    runner.sweep()
    runner._claim(first.job_id)
    with pytest.raises(runner.LeaseLost):
        first.progress(0.9)


def test_a_lost_message_is_sent_again(world, kinds) -> None:
    job = queue.enqueue("good", organization=world.acme, args={"number": 1})
    Job.objects.filter(pk=job.pk).update(queued_at=timezone.now() - timedelta(minutes=3))
    assert runner.sweep()["resent"] == 1
    assert kinds["sent"] == [job.pk]


def test_only_a_failed_job_can_be_tried_again(world, kinds) -> None:
    job = queue.enqueue("refuses", organization=world.acme)
    with pytest.raises(errors.Conflict, match="only a failed job"):
        services.retry(job)
    runner.run(job.pk)
    assert services.retry(job).status == JobStatus.QUEUED


def test_the_api_shows_a_job_to_its_organisation_only(world, kinds) -> None:
    job = queue.enqueue("good", organization=world.acme, args={"number": 1})
    runner.run(job.pk)
    shown = world.api("vic").get(f"/api/v1/acme/jobs/{job.pk}")
    assert (shown.status_code, shown.json()["status"], shown.json()["steps"][0]["name"]) == (200, "done", "count")
    assert world.api("mallory").get(f"/api/v1/acme/jobs/{job.pk}").status_code == 404
    assert world.api("mallory").get(f"/api/v1/globex/jobs/{job.pk}").status_code == 404
    assert world.api("vic").post(f"/api/v1/acme/jobs/{job.pk}/retry").status_code == 403


def test_the_queues_retry_is_longer_than_the_longest_job() -> None:
    longest = max(handler.timeout_s for handler in registry.kinds().values())
    assert settings.Q_CLUSTER["timeout"] >= longest
    assert settings.Q_CLUSTER["retry"] >= 2 * (settings.Q_CLUSTER["timeout"] + 5)


def test_long_work_goes_on_in_portions_behind_others(kinds):
    @registry.job("long", max_attempts=2)
    def long(run: runner.JobRun) -> None:
        kinds["good"].append(run.attempt)
        if len(kinds["good"]) < 5:
            raise runner.GoOn

    job = queue.enqueue("long", organization=None)
    for portion in range(1, 6):
        runner.run(job.pk)
        job.refresh_from_db()
        assert job.status == (JobStatus.QUEUED if portion < 5 else JobStatus.DONE)
    assert kinds["good"] == [1] * 5  # a portion that was done uses no attempt up
    assert kinds["sent"].count(job.pk) >= 4


def test_work_that_was_called_off_ends_as_cancelled(kinds):
    @registry.job("called_off", on_failed=lambda error, **args: kinds["told"].append(error["code"]))
    def called_off(run: runner.JobRun) -> None:
        raise runner.Cancelled

    running, waiting = queue.enqueue("called_off", organization=None), queue.enqueue("called_off", organization=None)
    runner.run(running.pk)
    running.refresh_from_db()
    assert (running.status, running.error, kinds["told"]) == (JobStatus.CANCELLED, None, [])
    assert not services.cancel(running)
    assert services.cancel(waiting)
    runner.run(waiting.pk)
    waiting.refresh_from_db()
    assert (waiting.status, waiting.attempts) == (JobStatus.CANCELLED, 0)
