"""What of a deployment's log is kept: read and change its policy."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import transaction

from accounts import audit
from accounts.caller import Caller
from mlops.core import clock, errors
from registry.models import ModelVersion
from serving import records, redaction
from serving.models import Deployment, LogPolicy, PredictionLog, Redaction

LEAST_DAYS, MOST_DAYS = 1, 365
MOST_ARCHIVE_DAYS = 3650
MOST_COLUMNS = 500


def of(deployment: Deployment) -> LogPolicy:
    """The deployment's, stored or as it is by default."""
    found = LogPolicy.objects.filter(deployment=deployment).first()
    return found or LogPolicy(deployment=deployment, organization_id=deployment.organization_id)


def default_days() -> int:
    return settings.PREDICTION_RETENTION_DAYS


def columns_of(deployment: Deployment) -> list[str]:
    """Every column that a row of this deployment may have: of its model's versions, newest first, then those the newest row has."""
    names: dict[str, None] = {}
    versions = ModelVersion.objects.filter(model=deployment.model_id).exclude(schema=None).order_by("-number")
    for schema in versions.values_list("schema", flat=True)[:50]:
        names |= dict.fromkeys(records.columns_of(schema).names)
    newest = PredictionLog.objects.filter(deployment=deployment).answered().order_by("-pk")
    features = newest.values_list("features", flat=True).first()
    if isinstance(features, dict):
        names |= dict.fromkeys(features)
    return list(names)[: 2 * MOST_COLUMNS]


def change(deployment: Deployment, caller: Caller, **wished: Any) -> LogPolicy:
    """Set retention_days, sample_share, redactions, archive or archive_days. Raises Invalid, naming every field that is wrong."""
    wrong = {name: text for name, value in wished.items() if (text := _wrong(deployment, name, value))}
    if wrong:
        name, text = next(iter(wrong.items()))
        raise errors.Invalid(f"{name}: {text}", fields={name: [text] for name, text in wrong.items()})
    with transaction.atomic():
        LogPolicy.objects.get_or_create(deployment=deployment, defaults={"organization_id": deployment.organization_id})
        row = LogPolicy.objects.select_for_update().get(deployment=deployment)
        changes = {name: value for name, value in wished.items() if getattr(row, name) != value}
        if not changes:
            return row
        before = {name: getattr(row, name) for name in changes}
        for name, value in changes.items():
            setattr(row, name, value)
        if "sample_share" in changes:
            row.sampled_batch = 0  # a smaller share holds for what is there, too
        if Redaction.HASH in row.redactions.values():
            redaction.hasher(deployment.organization)
        row.changed_at = clock.now()
        row.save()
        detail = {name: [before[name], value] for name, value in changes.items()}
        audit.record(deployment.organization, caller, "log.policy_changed", deployment, **detail)
    return row


def _wrong(deployment: Deployment, name: str, value: Any) -> str:
    match name:
        case "retention_days":
            return _not_days(value, MOST_DAYS)
        case "archive_days":
            return _not_days(value, MOST_ARCHIVE_DAYS)
        case "archive":
            return "" if isinstance(value, bool) else "is true or false"
        case "sample_share":
            is_share = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1
            return "" if is_share else "is a share from 0 to 1"
        case "redactions":
            return _not_redactions(deployment, value)
    return "is nothing a policy has"


def _not_days(value: Any, most: int) -> str:
    whole = isinstance(value, int) and not isinstance(value, bool) and LEAST_DAYS <= value <= most
    return "" if value is None or whole else f"is a whole number from {LEAST_DAYS} to {most:,}, or nothing"


def _not_redactions(deployment: Deployment, value: Any) -> str:
    if not isinstance(value, dict) or len(value) > MOST_COLUMNS:
        return 'is an object such as {"customer_id": "hash"}'
    if unknown := {str(how) for how in value.values()} - set(Redaction.values):
        return f"is remove or hash, not {', '.join(sorted(unknown))}"
    known = columns_of(deployment)
    kept = of(deployment).redactions
    strange = [name for name in value if name not in known and name not in kept and not _tensor_column(name)]
    if strange:
        return (
            f"there is no column {', '.join(map(repr, strange[:5]))}; the model has {', '.join(known[:20]) or 'none'}"
        )
    return ""


def _tensor_column(name: str) -> bool:
    return name[:1] == "f" and name[1:].isascii() and name[1:].isdigit()
