"""Taking a version out of the world for good: it is never loaded again, and whatever it answered is answered by another one."""

from __future__ import annotations

from django.db import transaction

from accounts import audit
from accounts.caller import Caller
from mlops.core import clock, errors
from registry import uses
from registry.models import ModelVersion, Promotion, VersionStatus
from registry.services import aliases
from registry.services.promotions import NOTE_CHARACTERS

_ENDS = (Promotion.State.REQUESTED, Promotion.State.APPROVED)


def revoke_version(
    version: ModelVersion, caller: Caller, *, reason: str, rollback_to: int | None = None, force: bool = False
) -> ModelVersion:
    """Revoke ``version``. Where it answers, ``rollback_to`` (a version's number) or with ``force`` the good version before takes over first.

    Raises Conflict: not ready, revoked already, live and told nothing (``version_live``), nothing to go back to.
    """
    if not reason.strip():
        raise errors.Invalid("Say why it is revoked.", code="reason_missing", fields={"reason": ["Say why."]})
    _check(version)
    if not force and rollback_to is None:
        _refuse_live(version)
    why = f"Version {version.number} was revoked: {reason.strip()}"[:NOTE_CHARACTERS]
    deeds = [use.take_back(version, caller, rollback_to, why) for use in uses.every() if use.take_back]
    with transaction.atomic():
        for deed in deeds:  # first those that hold deployments, then the version: the order in which routes are changed
            deed()
        held = ModelVersion.objects.select_for_update().get(pk=version.pk)
        _check(held)
        _refuse_live(held)  # somebody may have routed to it meanwhile
        now = clock.now()
        moved = ModelVersion.objects.filter(pk=version.pk, revoked_at=None, status=held.status).update(
            revoked_at=now, revoked_reason=reason.strip()[:NOTE_CHARACTERS], stage="dev"
        )
        if moved != 1:
            raise _again(version)
        version.promotions.filter(state__in=_ENDS).update(state=Promotion.State.REVOKED, decided_at=now)
        for name in list(version.aliases.values_list("name", flat=True)):
            aliases.remove_alias(version.model, caller, name=name)
        audit.record(
            version.organization, caller, "version.revoked", version, model=version.model.slug, number=version.number,
            reason=reason.strip()[:NOTE_CHARACTERS], rollback_to=rollback_to, force=force,
        )  # fmt: skip
    version.refresh_from_db()
    return version


def _check(version: ModelVersion) -> None:
    if version.revoked_at is not None:
        raise _again(version)
    if version.status not in (VersionStatus.READY, VersionStatus.ARCHIVED):
        raise errors.Conflict(
            f"{version} is {version.get_status_display().lower()}: it was never good for use.",
            code="version_not_ready",
            hint="Only a version that passed its validation is revoked.",
        )


def _again(version: ModelVersion) -> errors.Conflict:
    return errors.Conflict(f"{version} is revoked already.", code="version_revoked", hint="Reload the page.")


def _refuse_live(version: ModelVersion) -> None:
    places = uses.standing(version)
    if not places:
        return
    told = ", ".join(place.place for place in places)
    best = next((place.back_to for place in places if place.back_to is not None), None)
    hint = (
        f'Send {{"rollback_to": {best}}}, or {{"force": true}} for the good version before.' if best is not None else ""
    )
    raise errors.Conflict(
        f"{version} is live in {told}.",
        code="version_live",
        hint=hint or "There is no good version to go back to: deploy another version, or stop the deployment first.",
    )
