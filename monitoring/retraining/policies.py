"""A deployment's retraining policy: read, changed, its secret, its bundle of code, resumed after it has stopped itself."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction

from accounts import audit
from accounts.caller import Caller
from mlops.core import clock, errors, outbound
from monitoring import webhooks
from monitoring.models import RetrainingPolicy
from registry.services import blobs
from registry.uploads import SpooledFile
from serving.models import Deployment

_Way, _Schedule, _Code = RetrainingPolicy.Way, RetrainingPolicy.Schedule, RetrainingPolicy.Code
BUNDLE_ENDINGS = (".py", ".zip", ".tar", ".tar.gz", ".tgz")
# Field -> least and greatest value that mean something, and whether it may be a fraction.
NUMBERS: dict[str, tuple[float, float]] = {
    "every_days": (1, 365),
    "weekday": (0, 6),
    "hour": (0, 23),
    "memory_mb": (128, 1 << 20),
    "minutes": (1, 7 * 24 * 60),
    "days": (1, 365),
    "most_rows": (100, 1_000_000),
    "held_out_percent": (5, 50),
    "min_labels": (10, 1_000_000),
    "replay_rows": (50, 10_000),
    "bake_minutes": (0, 7 * 24 * 60),
    "min_requests": (1, 10_000_000),
    "cooldown_hours": (1, 24 * 90),
    "most_per_week": (1, 50),
    "quiet_hours": (0, 24 * 30),
    "candidate_days": (1, 30),
}
SHARES: dict[str, tuple[float, float]] = {"max_drop": (0, 1), "min_gain": (0, 1), "max_change": (0, 1)}
FLAGS = ("enabled", "on_incident")
CHOICES: dict[str, tuple[str, ...]] = {
    "way": tuple(_Way.values),
    "schedule": tuple(_Schedule.values),
    "code": tuple(_Code.values),
    "action": tuple(RetrainingPolicy.Action.values),
}
FIELDS = (*FLAGS, *CHOICES, "incident_kinds", "url", *NUMBERS, *SHARES)
# What a run keeps of its policy, as it was when it began.
TERMS = (
    "way", "url", "code", "bundle_key", "bundle_name", "bundle_sha256", "bundle_bytes", "minutes", "memory_mb", "days", "most_rows",
    "held_out_percent", "action", "max_drop", "min_gain", "min_labels", "max_change", "replay_rows", "bake_minutes", "min_requests",
    "candidate_days",
)  # fmt: skip


def of(deployment: Deployment) -> RetrainingPolicy:
    """The policy; an unsaved one that begins nothing where nobody has made one."""
    found = RetrainingPolicy.objects.filter(deployment=deployment).select_related("changed_by").first()
    return found or RetrainingPolicy(
        organization_id=deployment.organization_id, deployment=deployment, incident_kinds=list(RetrainingPolicy.KINDS)
    )


def change(deployment: Deployment, caller: Caller, **changes: Any) -> RetrainingPolicy:
    """Set what is named, keep the rest. Raises Invalid with every mistake."""
    if unknown := set(changes) - set(FIELDS):
        raise ValueError(f"not of a policy: {unknown}")
    with transaction.atomic():
        Deployment.objects.select_for_update(of=("self",)).get(pk=deployment.pk)
        policy = of(deployment)
        before = {name: getattr(policy, name) for name in changes}
        for name, value in changes.items():
            setattr(policy, name, value)
        _check(policy, changes)
        if not policy.secret_sealed:
            policy.secret = webhooks.new_secret()
        if policy.pk is None or {"enabled", "schedule", "every_days", "weekday", "hour"} & set(changes):
            policy.next_at = next_time(policy, clock.now())
        if policy.enabled and not before.get("enabled", True):
            policy.counted_from = clock.now()
        policy.changed_by, policy.changed_at = caller.person, clock.now()
        policy.save()
        detail = {name: [before[name], value] for name, value in changes.items() if before[name] != value}
        audit.record(deployment.organization, caller, "retraining.policy_changed", deployment, **_unsecret(detail))
    return policy


def _unsecret(detail: dict[str, Any]) -> dict[str, Any]:
    """An address may hold a token: the log says that it has changed."""
    return {name: "changed" if name == "url" else value for name, value in detail.items()}


def _check(policy: RetrainingPolicy, changes: dict[str, Any]) -> None:
    wrong = {**_wrong_numbers(policy), **_wrong_choices(policy)}
    if policy.way == _Way.WEBHOOK and (policy.enabled or "url" in changes):
        wrong |= _wrong_url(policy.url)
    if policy.way == _Way.SANDBOX and policy.enabled and policy.code == _Code.BUNDLE and not policy.bundle_key:
        wrong["code"] = ["Upload a bundle with train.py first, or take the live version's archive."]
    if wrong:
        name, words = next(iter(wrong.items()))
        raise errors.Invalid(f"{name}: {words[0]}", code="invalid_policy", fields=wrong)


def _wrong_numbers(policy: RetrainingPolicy) -> dict[str, list[str]]:
    wrong: dict[str, list[str]] = {}
    for name, (low, high) in (NUMBERS | SHARES).items():
        value = getattr(policy, name)
        whole = name in NUMBERS
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float) or not low <= value <= high:
            wrong[name] = [f"{'A whole number' if whole else 'A number'} from {low:g} to {high:g}."]
    if "minutes" not in wrong and policy.minutes > settings.TRAINING_MINUTES:
        wrong["minutes"] = [f"At most {settings.TRAINING_MINUTES:,} on this server."]
    if "memory_mb" not in wrong and policy.memory_mb << 20 > settings.TRAINING_MEMORY_BYTES:
        wrong["memory_mb"] = [f"At most {settings.TRAINING_MEMORY_BYTES >> 20:,} on this server."]
    return wrong


def _wrong_choices(policy: RetrainingPolicy) -> dict[str, list[str]]:
    wrong: dict[str, list[str]] = {}
    for name in FLAGS:
        if not isinstance(getattr(policy, name), bool):
            wrong[name] = ["true or false."]
    for name, allowed in CHOICES.items():
        if getattr(policy, name) not in allowed:
            wrong[name] = [f"One of {', '.join(each or 'nothing' for each in allowed)}."]
    kinds = policy.incident_kinds
    if not isinstance(kinds, list) or not set(map(str, kinds)) <= set(RetrainingPolicy.KINDS):
        wrong["incident_kinds"] = [f"A list of {', '.join(RetrainingPolicy.KINDS)}."]
    return wrong


def _wrong_url(url: Any) -> dict[str, list[str]]:
    if not isinstance(url, str) or not url:
        return {"url": ["The https address that is to be called."]}
    try:
        outbound.split(url)
    except errors.Invalid as error:
        return {"url": [f"{error.detail} {error.hint}".strip()]}
    return {}


def next_time(policy: RetrainingPolicy, after: datetime) -> datetime | None:
    """When the schedule comes next, after ``after``; None when there is none."""
    if not policy.enabled or not policy.schedule:
        return None
    at = after.replace(hour=policy.hour, minute=0, second=0, microsecond=0)
    if policy.schedule == _Schedule.WEEKLY:
        at += timedelta(days=(policy.weekday - at.weekday()) % 7)
        return at if at > after else at + timedelta(days=7)
    at += timedelta(days=policy.every_days)
    return at if at > after else at + timedelta(days=1)


def new_secret(deployment: Deployment, caller: Caller) -> tuple[RetrainingPolicy, str]:
    """Another secret for the webhook, shown this once; what was signed with the old one is good no longer."""
    with transaction.atomic():
        policy = of(deployment)
        plain = webhooks.new_secret()
        policy.secret = plain
        policy.changed_by, policy.changed_at = caller.person, clock.now()
        policy.save()
        audit.record(deployment.organization, caller, "retraining.secret_made", deployment)
    return policy, plain


def put_bundle(deployment: Deployment, caller: Caller, file: SpooledFile) -> RetrainingPolicy:
    """Keep a train.py, or an archive that holds one; it is opened in the sandbox alone. Raises Invalid, TooLarge, StorageFull."""
    if not file.name.lower().endswith(BUNDLE_ENDINGS):
        raise errors.Invalid(
            f"{file.name} is neither a train.py nor an archive.",
            code="bundle_unknown",
            hint=f"Send one of {' '.join(BUNDLE_ENDINGS)}.",
            fields={"bundle": [f"One of {' '.join(BUNDLE_ENDINGS)}."]},
        )
    kept = blobs.keep(deployment.organization, file)
    try:
        with transaction.atomic():
            policy = of(deployment)
            before = policy.bundle_key
            policy.bundle_key, policy.bundle_name = kept.stored.key, file.name
            policy.bundle_sha256, policy.bundle_bytes = kept.stored.sha256, kept.stored.size_bytes
            policy.changed_by, policy.changed_at = caller.person, clock.now()
            if not policy.secret_sealed:
                policy.secret = webhooks.new_secret()
            policy.save()
            audit.record(
                deployment.organization, caller, "retraining.bundle_uploaded", deployment, name=file.name, sha256=kept.stored.sha256
            )  # fmt: skip
    except BaseException:
        blobs.give_back(kept)
        raise
    blobs.release(deployment.organization_id, [before])
    return policy


def resume(deployment: Deployment, caller: Caller) -> RetrainingPolicy:
    """Go on after it has stopped itself; failures before do not count any more. Raises Conflict when it has not."""
    with transaction.atomic():
        now = clock.now()
        moved = RetrainingPolicy.objects.filter(deployment=deployment, paused_at__isnull=False).update(
            paused_at=None, paused_reason="", counted_from=now, changed_by=caller.person, changed_at=now
        )
        if moved != 1:
            raise errors.Conflict("The policy has not stopped itself.", code="not_paused", hint="Reload the page.")
        audit.record(deployment.organization, caller, "retraining.resumed", deployment)
    return of(deployment)


def terms_of(policy: RetrainingPolicy) -> dict[str, Any]:
    return {name: getattr(policy, name) for name in TERMS}
