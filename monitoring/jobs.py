"""Monitoring's background work. Recurring functions (listed in mlops/schedules.py) take nothing; the others take ids."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from accounts.caller import Caller
from accounts.models import ApiKey, User
from mlops.core import clock, errors
from mlops.jobs.queue import enqueue
from mlops.jobs.registry import job
from mlops.jobs.runner import JobRun
from monitoring import (
    baselines,
    bell,
    channel_services,
    counting,
    delivery,
    digest_news,
    digest_sending,
    evaluation,
    incidents,
    new_normal,
    reports,
    services,
    simulate,
)
from monitoring.models import Baseline, ColumnCount, DriftCheck
from monitoring.quality import baselines as quality_baselines
from monitoring.quality import jobs as quality_jobs  # noqa: F401  registers its jobs
from monitoring.retraining import triggers as retraining_triggers
from monitoring.retraining import work as retraining_work
from registry.models import ModelVersion
from serving import prediction_log
from serving.models import Deployment

CHECKS_KEPT = timedelta(days=90)
# Of a check's time: what its moved columns do to the predictions is told in the same mail, or not at all.
ASKING_S = 20.0
QUIET_CHECKS_KEPT = timedelta(days=14)
COUNTS_KEPT = timedelta(days=92)  # for a window of 90 days


# -- recurring ----------------------------------------------------------------------------------------------------


def schedule_drift_checks() -> None:
    """Each hour: a check for every live deployment."""
    for deployment in Deployment.objects.live().with_routes():
        if deployment.live_version is not None:
            services.request_check(deployment)


def count_predictions() -> None:
    """Each minute: add what was shipped to the hours of its columns."""
    counting.count_new()


def merge_counts() -> None:
    """Each hour: hours of counts that are old enough become days."""
    counting.merge_days()


def schedule_rules() -> None:
    """Each minute: look at error rates, latencies and people's own rules; wake what was snoozed."""
    evaluation.evaluate_all(pace=timedelta(seconds=30))
    incidents.wake_due()


def deliver_notifications() -> None:
    """Each minute: send what waits in the outbox, and what is to be tried again."""
    delivery.deliver_due()


def send_digests() -> None:
    """Each quarter of an hour, as there are zones that differ by one: the digests whose time has come; then their delivery."""
    if digest_sending.send_due() + digest_news.send_due():
        delivery.deliver_due()


def forget_checks() -> None:
    """Each day: old checks, their reports, and counts nobody compares any more."""
    now = clock.now()
    reports.forget(now - CHECKS_KEPT, now - QUIET_CHECKS_KEPT)
    ColumnCount.objects.filter(hour__lt=now - COUNTS_KEPT).delete()
    counting.forget_retired()


def retrain_due() -> None:
    """Each minute: begin retrainings that are due, and take on those that are open."""
    retraining_triggers.tick()


def forget_trainings() -> None:
    """Each day: folders of trainings that no run needs any more."""
    retraining_triggers.forget()


def forget_notices() -> None:
    """Each day: mails and messages that ended long ago, and old lines at the bell."""
    channel_services.forget_deliveries()
    bell.forget()


# -- jobs ---------------------------------------------------------------------------------------------------------


@job("make_baseline", timeout_s=180)
def make_baseline(run: JobRun, deployment_id: int, version_id: int) -> None:
    deployment, version = Deployment.objects.get(pk=deployment_id), ModelVersion.objects.get(pk=version_id)
    baseline = baselines.make(deployment, version)
    if baseline is None:
        run.log(
            f"No reference came with v{version.number}: its first {baselines.LIVE_ROWS} live rows will be the baseline."
        )
    else:
        run.log(f"Baseline of v{version.number}: {baseline.rows} rows, {baseline.get_source_display().lower()}.")
    known = quality_baselines.ensure(deployment, version)
    run.log(f"Quality of v{version.number}: {known.get_source_display().lower()}, {known.rows:,} rows.")


@job("new_normal", timeout_s=300, max_attempts=1)
def make_new_normal(run: JobRun, deployment_id: int, baseline_id: int, days: int, key_id: int | None = None) -> None:
    """The last days become what a version is compared with; then a check says what that changes."""
    deployment = Deployment.objects.with_routes().get(pk=deployment_id)
    former = Baseline.objects.select_related("version").get(pk=baseline_id, deployment=deployment)
    with run.step("read and fit"):
        caller = Caller(
            user=User.objects.filter(pk=run.created_by_id).first(), key=ApiKey.objects.filter(pk=key_id).first()
        )
        fresh = new_normal.make(deployment, former, days, caller)
    run.log(f"{fresh.rows:,} rows of the last {days} days are the new normal of v{former.version.number}.")
    if deployment.live_version is not None:
        services.request_check(deployment)


@job("check_drift", timeout_s=120)
def check_drift(run: JobRun, deployment_id: int, requested_by: str = "") -> None:
    deployment = Deployment.objects.with_routes().get(pk=deployment_id)
    with run.step("compare"):
        from monitoring import checks  # brings scipy: the web process, which also registers this job, does without
        from monitoring.causes.effects import Asking

        check = checks.run(deployment, requested_by, Asking(run.beat, ASKING_S))
    if check is None:
        raise errors.Conflict(
            f"Nothing is live under {deployment.name}.", code="not_live", hint="Deploy a version first."
        )
    run.log(check.sentence)
    if reports.wanted(check):
        enqueue("drift_report", organization=deployment.organization, subject=deployment, args={"check_id": check.pk})


@job("simulate_drift", timeout_s=240, max_attempts=1)
def simulate_drift(run: JobRun, deployment_id: int, requested_by: str) -> None:
    """Shifted rows through the real path, then the check that finds them."""
    deployment = Deployment.objects.with_routes().get(pk=deployment_id)
    caller = Caller(user=User.objects.filter(pk=run.created_by_id).first())
    last = services.latest_check(deployment)
    with run.step("send shifted rows") as step:
        answered, what = simulate.send(deployment, last.rows if last else 0, caller, run.progress)
        step["message"] = f"{answered} rows answered, with {what}"
    prediction_log.ship_once()
    enqueue(
        "check_drift",
        organization=deployment.organization,
        subject=deployment,
        args={"deployment_id": deployment.pk, "requested_by": requested_by},
    )


def _report_failed(error: dict[str, Any], check_id: int) -> None:
    reports.failed(check_id, error)


@job("drift_report", timeout_s=150, max_attempts=2, on_failed=_report_failed)
def drift_report(run: JobRun, check_id: int) -> None:
    check = DriftCheck.objects.select_related("baseline", "version", "deployment").get(pk=check_id)
    if check.report_key:
        return
    with run.step("draw report"):
        reports.make(check)


@job("deliver_notifications", timeout_s=120)
def deliver_now(run: JobRun) -> None:
    counts = delivery.deliver_due()
    run.log(f"{counts['sent']} sent, {counts['put_off']} put off, {counts['failed']} failed.")


def _retraining_failed(error: dict[str, Any], retraining_id: int) -> None:
    retraining_work.end_failed(error, retraining_id)


@job("retrain", timeout_s=530, on_failed=_retraining_failed)
def retrain(run: JobRun, retraining_id: int) -> None:
    """A retraining from one state to the next, as far as it goes now."""
    retraining_work.take_on(run, retraining_id)
