"""A deployment's own limit: predictions a minute of all its callers together."""

from __future__ import annotations

from functools import partial

from django.db import transaction

from accounts import audit
from accounts.caller import Caller
from accounts.models import LARGEST_RATE
from mlops.core import errors
from serving.models import Deployment
from serving.routing import snapshot
from serving.services.deployments import next_epoch


def limit_deployment(deployment: Deployment, caller: Caller, *, calls_per_minute: int | None) -> Deployment:
    """None: no limit of its own. Holds here at once, in other processes within about a second. Raises Invalid."""
    if calls_per_minute is not None and not 1 <= calls_per_minute <= LARGEST_RATE:
        raise errors.Invalid(
            f"A deployment's limit is 1 to {LARGEST_RATE:,} calls a minute.",
            code="rate_invalid",
            fields={"calls_per_minute": [f"Use 1 to {LARGEST_RATE:,}, or leave it empty for none."]},
        )
    with transaction.atomic():
        row = Deployment.objects.select_for_update().get(pk=deployment.pk)
        was, row.calls_per_minute = row.calls_per_minute, calls_per_minute
        row.route_epoch = next_epoch(row.route_epoch)
        row.save(update_fields=["calls_per_minute", "route_epoch"])
        audit.record(
            deployment.organization, caller, "deployment.limited", row, was=was, calls_per_minute=calls_per_minute
        )
        transaction.on_commit(partial(snapshot.forget, row.pk))
    return Deployment.objects.with_routes().get(pk=row.pk)
