"""Going back takes no load: the versions before the live one stay in memory while there is plenty of it."""

from __future__ import annotations

from typing import Any

from mlops.core import logs
from mlops.core.errors import SlipwayError
from mlops.runtime.host import get_host
from serving.models import Deployment
from serving.services import deployments

log = logs.get(__name__)

STEPS = 2  # versions before the live one
ROOM = 0.5  # of a device's model memory: with more in use nothing is kept for its own sake


def keep() -> int:
    """Load, or mark as used, what a rollback may want of deployments whose live version is in memory. Returns how many versions.

    A deployment that nobody calls goes idle as a whole; models are never pinned for this, so a full cache takes them first.
    """
    status = get_host().status()
    if not status["ready"] or not _room(status):
        return 0
    resident = {str(entry["key"]).split("-")[1] for entry in status["entries"] if str(entry["key"]).startswith("v-")}
    kept = 0
    for deployment in Deployment.objects.live().with_routes():
        live = deployment.live_version
        if live is None or str(live.pk) not in resident:
            continue
        earlier = [
            version
            for version in deployments.history(deployment)[-STEPS - 1 : -1]
            if version.status == "ready" and version.revoked_at is None
        ]
        for version in earlier:
            try:
                version.model = deployment.model
                deployments.warm(version)
                kept += 1
            except SlipwayError as error:
                log.info("earlier_version_not_kept", version=version.pk, error=error.detail)
    return kept


def _room(status: dict[str, Any]) -> bool:
    devices = (status.get("cache") or {}).get("devices") or {}
    return all(
        device["used_bytes"] <= ROOM * device["capacity_bytes"] for device in devices.values() if device["used_bytes"]
    )
