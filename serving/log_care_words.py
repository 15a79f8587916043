"""A log policy in a sentence, and the sum of archives, for pages."""

from __future__ import annotations

from typing import Any

from django.db.models import Min, QuerySet, Sum

from serving.models import LogArchive, LogPolicy, Redaction
from serving.services import log_policies


def sentence(policy: LogPolicy) -> str:
    """ "Rows are kept for 30 days, 10 % of the answered ones after the first; customer_id is hashed; then they are archived for ever."""
    days = policy.retention_days or log_policies.default_days()
    share = policy.sample_share
    kept = f"Rows are kept for {_days(days)}"
    if share < 1:
        kept += f", {100 * share:g} % of the answered ones after the first day"
    parts = [kept]
    for how, word in ((Redaction.REMOVE, "removed"), (Redaction.HASH, "hashed")):
        names = [name for name, wanted in policy.redactions.items() if wanted == how]
        if names:
            parts.append(f"{_listed(names)} {'are' if len(names) > 1 else 'is'} {word}")
    if policy.archive:
        parts.append(
            f"then they are archived {'for ' + _days(policy.archive_days) if policy.archive_days else 'for good'}"
        )
    else:
        parts.append("then they are deleted")
    return "; ".join(parts) + ". Counts are kept without rows."


def _days(days: int) -> str:
    return f"{days:,} day{'' if days == 1 else 's'}"


def _listed(names: list[str]) -> str:
    shown = names if len(names) <= 3 else [*names[:2], f"{len(names) - 2} more columns"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def totals(archives: QuerySet[LogArchive]) -> dict[str, Any]:
    found = archives.aggregate(rows=Sum("rows"), size_bytes=Sum("size_bytes"), since=Min("day"))
    return {name: value or 0 for name, value in found.items()}
