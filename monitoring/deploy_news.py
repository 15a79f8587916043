"""A deploy as news for the channels that want it."""

from __future__ import annotations

from django.conf import settings
from django.urls import reverse

from monitoring import delivery
from monitoring.announcing import News, announce
from monitoring.models import Channel, Severity
from registry.models import ModelVersion
from serving.models import Deployment, Release

_TOLD = {
    Release.Kind.DEPLOY: "v{number} is live",
    Release.Kind.PROMOTE: "the rollout of v{number} is finished",
    Release.Kind.ROLLBACK: "rolled back to v{number}",
    Release.Kind.RETREAT: "the rollout of v{number} went back by itself",
    Release.Kind.STOP: "stopped",
    Release.Kind.START: "started again with v{number}",
}
_BAD = {Release.Kind.RETREAT: Severity.WARNING}


def tell(deployment: Deployment, version: ModelVersion | None, kind: str) -> None:
    """In the transaction of the change."""
    words = _TOLD.get(Release.Kind(kind)) if kind in Release.Kind.values else None
    org = deployment.organization
    wanted = Channel.objects.filter(organization=org, disabled_at__isnull=True)
    if words is None or not any(channel.wants("deployment", Severity.WARNING) for channel in wanted):
        return
    release = Release.objects.filter(deployment=deployment).order_by("-pk").first()
    number = version.number if version is not None else None
    path = reverse("deployment_detail", kwargs={"org": org.slug, "name": deployment.name})
    by, note = (release.actor, release.note) if release is not None else ("", "")
    what = words.format(number=number)
    news = News(
        type=f"deployment.{kind}",
        key=f"release:{release.pk if release is not None else deployment.pk}",
        title=f"{org.slug}/{deployment.name}: {what}",
        text="\n".join(line for line in (f"By {by}." if by else "", note, settings.BASE_URL + path) if line),
        data={
            "organization": org.slug,
            "deployment": deployment.name,
            "version": number,
            "kind": kind,
            "by": by,
            "note": note,
            "links": {"deployment": settings.BASE_URL + path},
        },
        severity=_BAD.get(Release.Kind(kind), Severity.INFO),
        deployment=deployment,
    )
    if announce(org, news):
        delivery.deliver_soon()
