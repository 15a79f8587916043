"""What people and other apps do with monitoring, and the short answers that pages of other apps show."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.urls import reverse

from accounts.caller import Caller
from accounts.models import Organization
from mlops.core import clock, errors
from mlops.jobs.models import ENDED, Job
from mlops.jobs.queue import enqueue
from monitoring import words
from monitoring.models import Baseline, DriftCheck, Incident, IncidentStatus
from monitoring.undelivered import undelivered
from registry.models import ModelVersion
from serving.models import Deployment

# -- baselines and checks -----------------------------------------------------------------------------------------


def request_baseline(deployment: Deployment, version: ModelVersion) -> Job | None:
    """Have the version's baseline made, unless it is there."""
    if Baseline.objects.filter(deployment=deployment, version=version, active=True).exists():
        return None
    return enqueue(
        "make_baseline",
        organization=deployment.organization,
        subject=deployment,
        args={"deployment_id": deployment.pk, "version_id": version.pk},
    )


def running_check(deployment: Deployment) -> Job | None:
    """The simulation, the check, or the report of a check that is under way."""
    kinds = ("simulate_drift", "check_drift", "drift_report")
    jobs = Job.objects.filter(kind__in=kinds, subject_type="deployment", subject_id=str(deployment.pk))
    return jobs.exclude(status__in=ENDED).order_by("pk").first()


def request_check(deployment: Deployment, caller: Caller | None = None) -> Job:
    """Have drift checked now; a check already waiting or running is the answer to a second wish. Raises Conflict when nothing is live."""
    if deployment.live_version is None:
        raise errors.Conflict(
            f"Nothing is live under {deployment.name}, so there is nothing to check.",
            code="not_live",
            hint="Deploy a version first.",
        )
    waiting = Job.objects.filter(kind="check_drift", subject_type="deployment", subject_id=str(deployment.pk)).exclude(
        status__in=ENDED
    )
    wanted_by = caller.label if caller is not None else ""
    found = waiting.filter(args__requested_by=wanted_by).first()
    if found is not None:
        return found
    return enqueue(
        "check_drift",
        organization=deployment.organization,
        subject=deployment,
        args={"deployment_id": deployment.pk, "requested_by": wanted_by},
        created_by=caller.user if caller is not None else None,
    )


def request_simulation(deployment: Deployment, caller: Caller) -> Job:
    """Have shifted rows sent through the real predict path, then checked. Raises Conflict when nothing is live or one is under way."""
    if deployment.live_version is None:
        raise errors.Conflict(
            f"Nothing is live under {deployment.name}.", code="not_live", hint="Deploy a version first."
        )
    if running_check(deployment) is not None:
        raise errors.Conflict("A check is under way.", code="check_running", hint="Wait until it is done.")
    return enqueue(
        "simulate_drift",
        organization=deployment.organization,
        subject=deployment,
        args={"deployment_id": deployment.pk, "requested_by": f"{caller.label} (simulated drift)"},
        created_by=caller.user,
    )


def latest_check(deployment: Deployment) -> DriftCheck | None:
    return DriftCheck.objects.filter(deployment=deployment).select_related("version", "baseline").first()


def drift_states(deployment_ids: Iterable[int]) -> dict[int, str]:
    """The latest verdict of each deployment that was checked: deployment id -> ok, learning, warning or drift."""
    newest = DriftCheck.objects.filter(deployment__in=list(deployment_ids), at__gte=clock.now() - timedelta(days=2))
    found: dict[int, str] = {}
    for deployment, verdict in newest.order_by("at", "pk").values_list("deployment_id", "verdict"):
        found[deployment] = verdict
    return found


# -- for pages of other apps --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Attention:
    """One thing that waits for somebody. level: danger or warning; status: the word for its dot."""

    level: str
    status: str
    title: str
    text: str
    url: str
    since: datetime


def open_incidents(organization: Organization | int) -> int:
    """For the number beside "Incidents" in the menu."""
    return Incident.objects.filter(organization=organization, status=IncidentStatus.OPEN).count()


def attention(organization: Organization) -> list[Attention]:
    """What needs attention, most urgent first: four queries, whatever the number of deployments."""
    org = organization.slug
    unresolved = Incident.objects.filter(organization=organization).exclude(status=IncidentStatus.RESOLVED)
    found = []
    for incident in unresolved.select_related("deployment")[:50]:
        url = reverse("incident_detail", kwargs={"org": org, "incident_id": incident.pk})
        level = "danger" if incident.status == IncidentStatus.OPEN else "warning"
        title = f"{incident.deployment.name}: {incident.title}"
        found.append(Attention(level, incident.status, title, words.first_sentence(incident), url, incident.opened_at))
    found += [_warning(check, org) for check in _warnings(organization, {item.deployment_id for item in unresolved})]
    found += [
        Attention("warning", "failed", each.title, each.text, each.url, each.since)
        for each in undelivered(organization)
    ]
    return sorted(found, key=lambda item: (item.level != "danger", -item.since.timestamp()))


def _warnings(organization: Organization, told: set[int]) -> list[DriftCheck]:
    """Deployments whose newest check warns, and whose story is not told by an incident."""
    recent = DriftCheck.objects.filter(organization=organization, at__gte=clock.now() - timedelta(hours=3))
    newest: dict[int, DriftCheck] = {}
    for check in recent.defer("columns", "facts").select_related("deployment").order_by("at", "pk"):
        newest[check.deployment_id] = check
    return [check for key, check in newest.items() if check.verdict == DriftCheck.Verdict.WARNING and key not in told]


def _warning(check: DriftCheck, org: str) -> Attention:
    url = reverse("deployment_drift", kwargs={"org": org, "name": check.deployment.name})
    return Attention(
        "warning", "warning", f"{check.deployment.name}: columns begin to move", check.sentence, url, check.at
    )
