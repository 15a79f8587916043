"""The certificate of a deletion: what was looked for, what was deleted, what stays. Text that a person can file; no value stands in it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.conf import settings

from serving.models import LogDeletion

# Counts by their name in ``LogDeletion.found`` and ``deleted``, in the order in which they are told.
WORDS = {
    "rows": "rows of the prediction log",
    "archived_rows": "rows of archives",
    "archives": "archives rewritten or removed",
    "feedback": "ground truth of these predictions",
    "examples": "example rows of shadows and comparisons",
    "check_examples": "drift checks whose example rows were removed",
    "reports": "drift reports drawn from rows of this time",
}


def counted(counts: dict[str, int]) -> list[tuple[str, int]]:
    """What was found or deleted, in words; the two that matter also when they are none."""
    named = [
        (WORDS[name], counts.get(name, 0)) for name in WORDS if counts.get(name) or name in ("rows", "archived_rows")
    ]
    return named + [
        (name.replace("_", " "), count) for name, count in counts.items() if name not in WORDS and name != "hidden"
    ]


def criteria(told: dict[str, Any]) -> str:
    """The request without its value: "column customer_id (value with hash 3f2a...), from ... until ..."."""
    parts = []
    if told["ids"]:
        parts.append(f"{told['ids']:,} prediction id{'s' if told['ids'] != 1 else ''}")
    if told["column"]:
        parts.append(f"one value of the column {told['column']} (its hash: {told['value_hash']})")
    if told["since"]:
        parts.append(f"from {_moment(told['since'])}")
    if told["until"]:
        parts.append(f"until {_moment(told['until'])}")
    return ", ".join(parts)


def _moment(text: str) -> str:
    return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M:%S} UTC"


def text(row: LogDeletion) -> str:
    assert row.finished_at is not None
    lines = [
        "CERTIFICATE OF DELETION",
        "",
        f"Number        {row.pk}",
        f"Organisation  {row.organization.name}",
        f"Deployment    {row.deployment.name}",
        f"Requested     {row.created_at:%Y-%m-%d %H:%M:%S} UTC by {row.actor}",
        f"Completed     {row.finished_at:%Y-%m-%d %H:%M:%S} UTC",
        f"Meant         {criteria(row.told)}",
        "",
        "Deleted:",
        *(f"- {count:,} {name}" for name, count in counted(row.deleted)),
        "",
        "The value that was looked for is not kept: the audit log has its keyed hash only.",
        "",
        "What stays:",
        "- Counts (requests, latencies, distributions of columns per hour, figures of quality): sums, with the names of categories and the smallest and largest numbers; and the words of past checks and incidents.",
        f"- Files of batch runs and their results: for {settings.BATCH_KEEP_DAYS} days from their run.",
        "- Reference and sample rows that were pushed with a version: delete the version.",
        "- Backups of the database and of the storage, which are in the hands of whoever runs this server.",
    ]
    if hidden := row.found.get("hidden"):
        lines.append(
            f"- {hidden:,} rows whose {row.told['column']} had been removed when they were logged: nobody can tell whose they are."
        )
    return "\n".join(lines) + "\n"
