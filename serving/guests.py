"""What an organisation may call of others: deployments of models that are shared with it for predicting."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from accounts.caller import Caller
from registry.models import ModelVersion, Right, Share
from serving.models import Deployment, DeploymentStatus
from serving.routing import Table, snapshot


@dataclass(frozen=True)
class Shared:
    """A deployment of somebody else, and the version that answers the guest (None when nothing does)."""

    deployment: Deployment
    version: ModelVersion | None
    allowed: frozenset[int] | None  # ids of the versions that the guest may ask; None: all

    def covers(self, version_id: int) -> bool:
        return self.allowed is None or version_id in self.allowed

    @property
    def path(self) -> str:
        """Where to predict: pinned, when another version than the shared one may be the live one."""
        pin = f"?version={self.version.number}" if self.allowed is not None and self.version is not None else ""
        return f"{self.deployment.predict_path}{pin}"


def deployment(caller: Caller, org: str, name: str) -> Shared | None:
    """The deployment, when the caller is its guest and may predict."""
    table = snapshot.find(org, name)
    if table is None or not _may(caller, table):
        return None
    row = Deployment.objects.with_routes().filter(pk=table.deployment_id).first()
    return _shared(row, table.limit_of(caller)) if row is not None else None


def _may(caller: Caller, table: Table) -> bool:
    homes = table.homes_of(caller)
    bound = caller.key is not None and caller.key.deployment  # to a deployment of its own organisation
    able = any(caller.can("deployment.predict", home) for home in homes)
    return able and not bound and table.organization_id not in homes


def _shared(row: Deployment, allowed: frozenset[int] | None) -> Shared:
    version = row.live_version
    if allowed is not None and (version is None or version.pk not in allowed):
        version = ModelVersion.objects.deployable().filter(pk__in=allowed, model_id=row.model_id).first()
    return Shared(row, version, allowed)


def endpoints(shares: Iterable[Share]) -> dict[int, list[Shared]]:
    """Share id -> the live deployments that may be called by it."""
    callable_ = [share for share in shares if share.allows(Right.PREDICT)]
    rows = Deployment.objects.with_routes().filter(
        model__in={share.model_id for share in callable_}, status=DeploymentStatus.LIVE
    )
    by_model: dict[int, list[Deployment]] = {}
    for row in rows:
        by_model.setdefault(row.model_id, []).append(row)
    return {
        share.pk: [
            _shared(row, None if share.version_id is None else frozenset((share.version_id,)))
            for row in by_model.get(share.model_id, [])
        ]
        for share in callable_
    }


def whole(caller: Caller, owner: str) -> list[int]:
    """Ids of the owner's models that are shared whole with the caller for predicting: what other protocols list by name."""
    if caller.key is not None and caller.key.deployment:
        return []
    rows = Share.objects.received_by(caller).filter(organization__slug=owner, version__isnull=True)
    return [
        row.model_id for row in rows if row.allows(Right.PREDICT) and caller.can("deployment.predict", row.grantee_id)
    ]
