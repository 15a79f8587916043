"""What happens when a deployment changes: rules are made, every version that answers gets its baseline, a stopped one is left in peace."""

from __future__ import annotations

from typing import Any

from monitoring import alert_rules, deploy_news, incidents, services
from registry.models import ModelVersion
from serving.models import Deployment, Release
from serving.signals import deployment_changed


def connect() -> None:
    deployment_changed.connect(on_deployment_changed, dispatch_uid="monitoring")


def on_deployment_changed(
    sender: type[Deployment], deployment: Deployment, version: ModelVersion | None = None, kind: str = "", **_: Any
) -> None:
    """Runs inside the transaction of the change; the work itself is a job."""
    deploy_news.tell(deployment, version, kind)
    if kind == Release.Kind.STOP:
        incidents.end_for(deployment, "The deployment was stopped.")
        return
    alert_rules.ensure_rules(deployment)
    answering = {route.version for route in deployment.routes.all() if not route.shadow}
    for each in answering | ({version} if version is not None else set()):
        services.request_baseline(deployment, each)
