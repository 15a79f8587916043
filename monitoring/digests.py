"""What a digest says: what drifted, what broke, traffic, what to do, over one period of one organisation."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.db.models import Max

from accounts.models import Organization, User
from monitoring import links, notices, words
from monitoring.models import DigestSubscription, DriftCheck, Incident, IncidentStatus, QualityCount
from monitoring.quality import page as quality_page
from monitoring.quality.live import Past
from registry.models import ModelVersion, VersionStatus
from serving.models import Deployment, DeploymentStatus, TrafficBucket
from serving.traffic import Counts

_Frequency = DigestSubscription.Frequency
LINES_SHOWN = 20


@dataclass
class Line:
    """One deployment in a digest."""

    deployment: Deployment
    counts: Counts
    before: Counts
    verdict: str = ""
    sentence: str = ""
    incidents: list[Incident] = field(default_factory=list)
    quality: str = ""
    drift_url: str = ""
    quality_url: str = ""

    @property
    def moved(self) -> bool:
        return self.verdict in ("drift", "warning")

    @property
    def trend(self) -> str:
        """Requests against the period before, in words."""
        if not self.before.requests:
            return "new" if self.counts.requests else "none"
        share = self.counts.requests / self.before.requests - 1
        if abs(share) < 0.05:
            return "as before"
        return f"{abs(share):.0%} {'more' if share > 0 else 'less'}".replace("%", " %")


@dataclass
class Digest:
    """One organisation over one period; its times are shown in the reader's zone."""

    organization: Organization
    frequency: str
    since: datetime
    until: datetime
    zone: ZoneInfo
    lines: list[Line]
    incidents: list[Incident]
    failed_versions: list[ModelVersion]
    todo: list[tuple[str, str]]

    @property
    def span(self) -> str:
        """The period in words: whole local days by their names, anything else with its times."""
        first, end = self.since.astimezone(self.zone), self.until.astimezone(self.zone)
        if first.time() != time(0) or end.time() != time(0):
            return f"{first:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} ({self.zone.key})"
        last = end.date() - timedelta(days=1)
        days = f"{first:%Y-%m-%d}" if last == first.date() else f"{first:%Y-%m-%d} to {last:%Y-%m-%d}"
        return f"{days} ({self.zone.key})"

    @property
    def is_quiet(self) -> bool:
        """Nothing moved, nothing broke, nothing to do."""
        return not (self.incidents or self.failed_versions or self.todo or any(line.moved for line in self.lines))

    @property
    def drifted(self) -> list[Line]:
        return [line for line in self.lines if line.moved]

    @property
    def labelled(self) -> list[Line]:
        """Those of which it is known how good they were."""
        return [line for line in self.lines if line.quality]

    @property
    def total(self) -> Counts:
        total = Counts()
        for line in self.lines:
            total.include(line.counts)
        return total

    @property
    def shown(self) -> list[Line]:
        return self.lines[:LINES_SHOWN]

    @property
    def not_shown(self) -> int:
        return max(len(self.lines) - LINES_SHOWN, 0)

    @property
    def headline(self) -> str:
        if self.is_quiet:
            return "All quiet"
        parts = []
        if self.drifted:
            parts.append(f"{len(self.drifted)} drifted")
        if still := sum(incident.status != IncidentStatus.RESOLVED for incident in self.incidents):
            parts.append(f"{still} open incident{'s' if still > 1 else ''}")
        elif self.incidents:
            parts.append(f"{len(self.incidents)} incident{'s' if len(self.incidents) > 1 else ''}, all resolved")
        if self.failed_versions:
            parts.append(f"{len(self.failed_versions)} failed validation{'s' if len(self.failed_versions) > 1 else ''}")
        return ", ".join(parts) or f"{len(self.todo)} to do"


# -- what it says -------------------------------------------------------------------------------------------------


def compose(organization: Organization, frequency: str, since: datetime, until: datetime, zone: ZoneInfo) -> Digest:
    """The digest of a period: a handful of queries, whatever the number of deployments."""
    length = until - since
    deployments = list(
        Deployment.objects.filter(organization=organization).select_related("organization").order_by("name")
    )
    now, before = _traffic(organization, since, until), _traffic(organization, since - length, since)
    incidents = _incidents(organization, since, until)
    verdicts = _verdicts(deployments, since, until)
    lines = [_line(each, now, before, verdicts.get(each.pk), incidents) for each in deployments]
    _add_quality(lines, since, until, "the day" if frequency == _Frequency.DAILY else "the week")
    failed = ModelVersion.objects.filter(
        organization=organization, status=VersionStatus.FAILED, created_at__gte=since, created_at__lt=until
    ).select_related("model")[:LINES_SHOWN]
    lines.sort(key=lambda line: (not line.moved, not line.incidents, -line.counts.requests, line.deployment.name))
    digest = Digest(organization, frequency, since, until, zone, lines, incidents, list(failed), [])
    digest.todo = _todo(digest)
    return digest


def _line(
    deployment: Deployment,
    now: dict[int, Counts],
    before: dict[int, Counts],
    check: DriftCheck | None,
    incidents: list[Incident],
) -> Line:
    return Line(
        deployment,
        now.get(deployment.pk, Counts()),
        before.get(deployment.pk, Counts()),
        verdict=check.verdict if check else "",
        sentence=check.sentence if check else "",
        incidents=[each for each in incidents if each.deployment_id == deployment.pk],
        drift_url=links.page("deployment_drift", org=deployment.organization.slug, name=deployment.name),
    )


def _add_quality(lines: list[Line], since: datetime, until: datetime, words: str) -> None:
    """A sentence for each deployment with labels in the period."""
    counted = QualityCount.objects.filter(hour__gte=since, hour__lt=until, rows__gt=0).values("deployment")
    wanted = set(
        counted.filter(deployment__in=[line.deployment for line in lines]).values_list("deployment", flat=True)
    )
    for line in lines:
        if line.deployment.pk in wanted:
            line.quality = quality_page.sentence(Past(line.deployment, since, until), words)
            line.quality_url = links.page(
                "deployment_quality", org=line.deployment.organization.slug, name=line.deployment.name
            )


def _traffic(organization: Organization, since: datetime, until: datetime) -> dict[int, Counts]:
    found: dict[int, Counts] = {}
    buckets = TrafficBucket.objects.filter(organization=organization, at__gte=since, at__lt=until).order_by()
    for bucket in buckets.iterator(chunk_size=2000):
        found.setdefault(bucket.deployment_id, Counts()).include(bucket)
    return found


def _incidents(organization: Organization, since: datetime, until: datetime) -> list[Incident]:
    """Opened in the period, or still open from before."""
    rows = Incident.objects.filter(organization=organization, opened_at__lt=until).select_related("deployment")
    opened = rows.filter(opened_at__gte=since)
    return list((opened | rows.exclude(status=IncidentStatus.RESOLVED)).order_by("-opened_at", "-pk")[:50])


def _verdicts(deployments: list[Deployment], since: datetime, until: datetime) -> dict[int, DriftCheck]:
    """The newest check of each deployment in the period."""
    checks = DriftCheck.objects.filter(deployment__in=deployments, at__gte=since, at__lt=until)
    newest = checks.values("deployment").annotate(newest=Max("pk")).values("newest")
    return {check.deployment_id: check for check in DriftCheck.objects.filter(pk__in=newest).defer("columns")}


def _todo(digest: Digest) -> list[tuple[str, str]]:
    """Things to do, as (sentence, address)."""
    org = digest.organization.slug
    found = []
    for incident in digest.incidents:
        if incident.status == IncidentStatus.OPEN:
            url = links.page("incident_detail", org=org, incident_id=incident.pk)
            found.append((f"Look at the open incident of {incident.deployment.name}: {incident.title}.", url))
    told = {incident.deployment_id for incident in digest.incidents}
    for line in digest.drifted:
        if line.deployment.pk not in told:
            found.append((f"See which columns of {line.deployment.name} begin to move.", line.drift_url))
    for line in digest.lines:
        if line.deployment.status == DeploymentStatus.FAILED:
            url = links.page("deployment_detail", org=org, name=line.deployment.name)
            found.append((f"{line.deployment.name} could not be started: deploy another version.", url))
    for version in digest.failed_versions:
        url = links.page("version_detail", org=org, model=version.model.slug, number=version.number)
        found.append((f"{version.model.name} v{version.number} failed validation: see why, mend it, push again.", url))
    return found[:LINES_SHOWN]


def mail(digest: Digest, user: User) -> dict[str, Any]:
    """Subject, text, html and headers of this digest for this person."""
    org = digest.organization
    leave = links.unsubscribe(org.slug, org.pk, user.pk, "digest")
    drifted = {line.deployment.pk for line in digest.drifted}  # their sentence stands above
    context = {
        "digest": digest,
        "home_url": links.page("org_home", org=org.slug),
        "incidents_url": links.page("incident_list", org=org.slug),
        "settings_url": links.page("digest_settings", org=org.slug),
        "unsubscribe_url": leave,
        "told": [
            (each, "" if each.deployment_id in drifted else words.first_sentence(each)) for each in digest.incidents
        ],
    }
    when = "Daily" if digest.frequency == _Frequency.DAILY else "Weekly"
    subject = f"[{org.slug}] {when} digest: {digest.headline}"
    return {
        "subject": subject[:250],
        **notices.bodies("digest", context),
        "headers": notices.list_headers(leave, "digest"),
    }
