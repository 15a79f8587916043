"""Background work of serving."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.conf import settings

from accounts.caller import Caller
from accounts.models import User
from mlops.core import logs
from mlops.jobs.models import Job
from mlops.jobs.registry import job
from mlops.jobs.runner import JobRun
from registry.models import Finding, ModelVersion, SourcePush
from registry.services import pushes
from serving import archiving, batch_work, comparison_work, erasing, push_reports, retention, samples
from serving.models import Deployment
from serving.services import batches, comparisons, deployments, git_releases, log_deletions, previews, rollouts, warmth

log = logs.get(__name__)


def _start_failed(error: dict[str, Any], version_id: int, deployment: str) -> None:
    version = ModelVersion.objects.select_related("model", "organization").get(pk=version_id)
    # Whoever pushed with ``deploy`` looks at the version: that is where the reason must stand.
    Finding.objects.create(
        version=version,
        check_name="deploy",
        level=Finding.Level.ERROR,
        message=f"The version is ready, but it was not deployed as {deployment}: {error['detail']}",
        hint=error.get("hint") or "Deploy it from its page.",
    )
    reason = " ".join(part for part in (error.get("detail"), error.get("hint")) if part)
    deployments.fail_start(version.model, deployment, reason)


@job("deploy_version", timeout_s=180, on_failed=_start_failed)
def deploy_version(run: JobRun, version_id: int, deployment: str) -> None:
    """Make a version live under a name; the deployment is made when it is new."""
    version = ModelVersion.objects.select_related("model", "organization").get(pk=version_id)
    caller = _caller(run)
    row = deployments.reserve_deployment(
        organization=version.organization, name=deployment, model=version.model, caller=caller
    )
    with run.step("warm"):
        deployments.warm(version)
    with run.step("switch"):
        deployments.deploy_version(row, version, caller)


def _release_failed(error: dict[str, Any], push_id: int) -> None:
    pushes.fail(push_id, error)
    push = SourcePush.objects.select_related("source", "version__model").filter(pk=push_id, production=True).first()
    if push is not None and push.version is not None:
        reason = " ".join(part for part in (error.get("detail"), error.get("hint")) if part)
        deployments.fail_start(push.version.model, push.source.deployment, reason)


@job("release_push", timeout_s=180, on_failed=_release_failed)
def release_push(run: JobRun, push_id: int) -> None:
    """A validated push goes live, or gets its preview."""
    rows = SourcePush.objects.select_related(
        "source", "organization", "created_by", "version__model", "version__organization"
    )
    push = rows.filter(pk=push_id).first()
    if push is not None:
        git_releases.release(run, push)


@job("remove_preview", timeout_s=60)
def remove_preview(run: JobRun, deployment: str, preview: str) -> None:
    """The branch or pull request of a preview is gone."""
    organization_id = Job.objects.values_list("organization_id", flat=True).get(pk=run.job_id)
    row = Deployment.objects.filter(organization_id=organization_id, name=deployment).first()
    if row is not None:
        git_releases.remove(row, preview, _caller(run))


@job("report_push", timeout_s=280, on_failed=push_reports.end_failed)
def report_push(run: JobRun, push_id: int) -> None:
    """Tell the git server what became of a push."""
    push_reports.work(run, push_id)


@job("send_samples", timeout_s=240, max_attempts=1)
def send_samples(run: JobRun, deployment_id: int, count: int) -> None:
    """Requests from the version's own example rows through the predict path: traffic to look at."""
    deployment = Deployment.objects.with_routes().get(pk=deployment_id)
    with run.step("send") as step:
        answered = samples.send(deployment, count, _caller(run), on_progress=run.progress)
        step["message"] = f"{answered} of {count} answered"


@job("batch_predict", timeout_s=280, on_failed=batches.end_failed)
def batch_predict(run: JobRun, batch_id: str) -> None:
    """A portion of a batch run."""
    batch_work.work(run, batch_id)


@job("compare_versions", timeout_s=280, max_attempts=2, on_failed=comparisons.end_failed)
def compare_versions(run: JobRun, comparison_id: int) -> None:
    """Both versions answer the same logged rows again."""
    comparison_work.work(run, comparison_id)


def _caller(run: JobRun) -> Caller:
    return Caller(user=User.objects.filter(pk=run.created_by_id).first())


def report_again() -> None:
    """Each minute: what a git server did not take, because it was away or asked us to wait."""
    push_reports.retry()


def move_rollouts() -> None:
    """Each minute: open rollouts take their next step, or are taken back. The shipper looks more often, while requests come in."""
    rollouts.tick_all()


def keep_warm() -> None:
    """Each minute: versions that somebody may go back to stay in memory, while there is plenty."""
    warmth.keep()


def forget_predictions() -> None:
    """Daily: predictions past their retention leave the log, and what shows rows of them. Traffic counts stay."""
    deleted = retention.forget()
    log.info("predictions_forgotten", rows=deleted, archives=archiving.forget(), previews=previews.forget())
    archiving.request_all()


def sample_predictions() -> None:
    """Hourly: answered rows beyond their deployment's sample leave the log, once they are a day old and counted."""
    log.info("predictions_sampled", rows=retention.sample())


@job("archive_log", timeout_s=280)
def archive_log(run: JobRun, policy_id: int) -> None:
    """Rows past their retention into Parquet files."""
    archiving.work(run, policy_id)


@job("delete_logged", timeout_s=280, on_failed=log_deletions.fail)
def delete_logged(run: JobRun, deletion_id: int) -> None:
    """Count or delete the rows somebody asked to have deleted."""
    erasing.work(run, deletion_id)


def forget_batches() -> None:
    """Daily: batch runs past their retention go, with what was sent and what came of it."""
    log.info("batches_forgotten", runs=batches.forget(timedelta(days=settings.BATCH_KEEP_DAYS)))
