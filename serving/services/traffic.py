"""Sharing a deployment's requests between versions: canary, A/B, shadows. Every version is warm before the table changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.db import transaction

from accounts.caller import Caller
from mlops.core import errors
from registry.models import ModelVersion
from serving.models import Deployment, DeploymentStatus, Release, Rollout, Sticky
from serving.services import deployments, routes
from serving.services.routes import Share

MOST_LINES = 8


@dataclass(frozen=True)
class Wish:
    """A line as somebody asked for it."""

    version: int
    weight: int | None = None
    shadow: bool = False


def set_traffic(
    deployment: Deployment, wishes: Sequence[Wish], caller: Caller, *, sticky: str | None = None
) -> Deployment:
    """Replace the whole route table; the status stays. Ends a rollout that is under way.

    Raises Invalid for a table that cannot be, NotDeployable for a version that may not answer here, Conflict when nothing is live.
    """
    _check(wishes)
    if sticky is not None and sticky not in Sticky.values:
        raise _invalid(f"sticky is one of {', '.join(Sticky.values)}, not {sticky!r}.", field="sticky")
    _check_status(deployment)
    shares = _shares(deployment, wishes)
    loads = [deployments.warm(share.version).load_ms for share in shares]
    with transaction.atomic():
        row = routes.locked(deployment.pk)
        _check_status(row)
        if _same(row, shares) and sticky in (None, row.sticky):
            return row
        row.sticky = sticky or row.sticky
        routes.end_rollout(row, caller, f"The traffic was changed by {caller.label}.")
        detail = {"sticky": sticky} if sticky else {}
        return routes.switch(
            row, shares, caller, Release.Kind.TRAFFIC, warm_ms=max(loads), note=told(shares), live=False, detail=detail
        )


def _same(row: Deployment, shares: Sequence[Share]) -> bool:
    """Whether nothing would change: then nothing is recorded. A rollout under way would change it by itself."""
    now = {(share.version.pk, share.weight, share.shadow) for share in routes.shares_of(row)}
    wanted = {(share.version.pk, share.weight, share.shadow) for share in shares}
    return now == wanted and not Rollout.objects.filter(deployment=row, state__in=Rollout.OPEN).exists()


def told(shares: Sequence[Share]) -> str:
    """The table in words: "v3 90 %, v4 10 %; shadow v5"."""
    ordered = sorted(shares, key=lambda share: share.version.number)
    parts = [", ".join(f"v{share.version.number} {share.weight} %" for share in ordered if not share.shadow)]
    followers = [f"v{share.version.number}" for share in ordered if share.shadow]
    return "; ".join(parts + ([f"shadow {', '.join(followers)}"] if followers else []))


def _check(wishes: Sequence[Wish]) -> None:
    if not wishes:
        raise _invalid(
            "The table is empty: at least one version must answer.", hint="To answer nobody, stop or pause it."
        )
    if len(wishes) > MOST_LINES:
        raise _invalid(f"{len(wishes)} lines are more than {MOST_LINES}.")
    numbers = [wish.version for wish in wishes]
    twice = next((number for number in numbers if numbers.count(number) > 1), None)
    if twice is not None:
        raise _invalid(f"Version {twice} stands in two lines.", hint="A version answers or is a shadow, in one line.")
    for wish in wishes:
        if wish.shadow and wish.weight:
            raise _invalid(
                f"Version {wish.version} is a shadow and has a weight.",
                hint="A shadow is asked every request and answers none: leave the weight out.",
            )
        if not wish.shadow and not (wish.weight is not None and 1 <= wish.weight <= 100):
            raise _invalid(
                f"Version {wish.version} needs a weight from 1 to 100.", hint="To send it nothing, leave its line out."
            )
    answering = [wish for wish in wishes if not wish.shadow]
    if not answering:
        raise _invalid("Every line is a shadow: at least one version must answer.")
    total = sum(wish.weight or 0 for wish in answering)
    if total != 100:
        raise _invalid(f"The weights sum to {total}, not to 100.", hint="Weights are per cent of the requests.")


def _invalid(detail: str, *, hint: str = "", field: str = "routes") -> errors.Invalid:
    return errors.Invalid(detail, code="invalid_traffic", hint=hint, fields={field: [detail]})


def _check_status(row: Deployment) -> None:
    if row.status not in (DeploymentStatus.LIVE, DeploymentStatus.PAUSED):
        raise errors.Conflict(
            f"{row.name} is {row.get_status_display().lower()}: it has no traffic to share.",
            code="not_live",
            hint="Start it, or deploy a version.",
        )


def _shares(deployment: Deployment, wishes: Sequence[Wish]) -> list[Share]:
    found = {
        version.number: version
        for version in ModelVersion.objects.select_related("model").filter(
            model=deployment.model, number__in=[wish.version for wish in wishes]
        )
    }
    shares = []
    for wish in wishes:
        version = found.get(wish.version)
        if version is None:
            raise _invalid(
                f"{deployment.model.slug} has no version {wish.version}.", hint="Only versions of its model can answer."
            )
        deployments.check_deployable(version, deployment.organization_id, deployment.model, deployment)
        shares.append(Share(version, wish.weight or 0, wish.shadow))
    return shares
