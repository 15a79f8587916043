"""Letting a version go on, dev -> staging -> production: ask, approve or reject, withdraw.

Every verb holds the version's row, so that of two approvals at once each sees the other; what moves is compared and set.
"""

from __future__ import annotations

from typing import Any, NoReturn

from django.db import IntegrityError, transaction

from accounts import audit
from accounts.caller import Caller
from accounts.models import User
from accounts.roles import Role
from mlops.core import clock, errors
from registry import signing
from registry.models import Approval, Finding, ModelVersion, Promotion, PromotionPolicy, Stage, VersionStatus
from registry.services import aliases, pushes, stages

NOTE_CHARACTERS = 500
_State, _Verdict = Promotion.State, Approval.Verdict


def request_promotion(version: ModelVersion, caller: Caller, *, to: str, reason: str = "") -> Promotion:
    """Ask for ``version`` at stage ``to``; where the model's rule needs nobody's word it is there at once. Raises Invalid, Conflict."""
    stage = _stage(to)
    with transaction.atomic():
        held = _held(version.pk)
        policy = stages.policy_of(held.model)
        _check_way(held, policy, stage)
        _check_green(held, policy)
        row = _asked(held, caller, stage, reason)
        approvers = _accept(row, held, policy) if policy.approvals(stage) == 0 else None
        audit.record(
            held.organization, caller, "promotion.requested", held, number=held.number, to=stage.value,
            promotion=row.pk, reason=row.reason,
        )  # fmt: skip
        if approvers is not None:
            _tell_accepted(row, held, caller, approvers)
    return row


def _asked(version: ModelVersion, caller: Caller, stage: Stage, reason: str) -> Promotion:
    try:
        with transaction.atomic():
            return Promotion.objects.create(
                organization=version.organization, version=version, from_stage=version.stage, to_stage=stage,
                reason=reason.strip()[:NOTE_CHARACTERS], facts_sha256=signing.facts_sha256(version),
                requester=caller.label, requested_by=caller.person,
            )  # fmt: skip
    except IntegrityError as error:
        raise errors.Conflict(
            f"Somebody has asked for {version} in {stage.value} already.",
            code="promotion_open",
            hint="Approve, reject or withdraw that one.",
        ) from error


def approve(promotion: Promotion, caller: Caller, *, comment: str = "") -> Promotion:
    """One person's yes. The last one needed promotes the version, once. Raises Forbidden, Conflict."""
    return _decide(promotion, caller, _Verdict.APPROVED, comment)


def reject(promotion: Promotion, caller: Caller, *, comment: str = "") -> Promotion:
    """One no ends it. Raises Forbidden, Conflict."""
    return _decide(promotion, caller, _Verdict.REJECTED, comment)


def withdraw(promotion: Promotion, caller: Caller) -> Promotion:
    """Whoever asked takes it back, or an admin. Raises Forbidden, Conflict."""
    with transaction.atomic():
        row, version = _both(promotion)
        role = caller.role_in(row.organization_id)
        if (caller.person is None or caller.person.pk != row.requested_by_id) and not (
            role and role.at_least(Role.ADMIN)
        ):
            raise errors.Forbidden(
                f"{row.requester} asked for it.", code="not_yours", hint="Who asked may withdraw it, or an admin."
            )
        _move(row, _State.WITHDRAWN)
        audit.record(
            row.organization, caller, "promotion.withdrawn", version, number=version.number, promotion=row.pk, to=row.to_stage
        )  # fmt: skip
    return row


# --- Deciding -------------------------------------------------------------------------------------------------------------


def _decide(promotion: Promotion, caller: Caller, verdict: Approval.Verdict, comment: str) -> Promotion:
    with transaction.atomic():
        row, version = _both(promotion)
        policy = stages.policy_of(version.model)
        if not row.open:
            _ended(row)
        person = _approver(row, version, policy, caller)
        facts = signing.facts_sha256(version)
        if facts != row.facts_sha256:
            raise errors.Conflict(
                f"{version} is not what it was when the promotion was asked for.",
                code="promotion_outdated",
                hint="Withdraw it and ask again.",
            )
        _say(row, person, facts, verdict, comment)
        approvers = _decided(row, version, policy, verdict)
        audit.record(
            row.organization, caller, f"promotion.{'approval' if verdict == _Verdict.APPROVED else 'rejected'}", version,
            number=version.number, promotion=row.pk, to=row.to_stage, comment=comment[:NOTE_CHARACTERS],
        )  # fmt: skip
        if approvers is not None:
            _tell_accepted(row, version, caller, approvers)
    return row


def _decided(
    row: Promotion, version: ModelVersion, policy: PromotionPolicy, verdict: Approval.Verdict
) -> list[dict[str, str]] | None:
    """What comes of the word: the approvers when it was the last one needed."""
    if verdict == _Verdict.REJECTED:
        _move(row, _State.REJECTED)
    elif _approvals(row).count() >= policy.approvals(row.to_stage):
        _check_green(version, policy)
        return _accept(row, version, policy)
    return None


def why_not(row: Promotion, version: ModelVersion, policy: PromotionPolicy, caller: Caller) -> str:
    """Why this caller may not decide on an open promotion; empty when he may."""
    try:
        _approver(row, version, policy, caller)
    except errors.SlipwayError as error:
        return f"{error.detail} {error.hint}".strip()
    return ""


def _approver(row: Promotion, version: ModelVersion, policy: PromotionPolicy, caller: Caller) -> User:
    """The person whose word it is: behind a key, who made the key. Another role, or a key, makes nobody another person."""
    person, role = caller.person, caller.role_in(row.organization_id)
    if person is None or role is None:
        raise errors.Forbidden("Nobody stands behind this key any more.", code="no_person")
    needed = Role(policy.approver_role)
    if not role.at_least(needed):
        raise errors.Forbidden(
            f"Approving promotions of {version.model.slug} needs the role {needed.label.lower()}; yours is {role.label.lower()}.",
            code="role_too_low",
            hint="The model's settings say who may approve.",
        )
    if not policy.author_may_approve and person.pk in (version.created_by_id, row.requested_by_id):
        did = "pushed" if person.pk == version.created_by_id else "asked for the promotion of"
        raise errors.Forbidden(
            f"{person} {did} {version}: somebody else must approve it.",
            code="own_promotion",
            hint="Whoever's key it was done with counts as its maker.",
        )
    if row.approvals.filter(ref=_ref(person)).exists():
        raise errors.Conflict(f"{person} has decided already.", code="already_decided", hint="Somebody else must.")
    return person


def _ref(person: User) -> str:
    return f"user:{person.pk}"


def _say(row: Promotion, person: User, facts: str, verdict: Approval.Verdict, comment: str) -> None:
    try:
        with transaction.atomic():
            Approval.objects.create(
                organization=row.organization, promotion=row, person=person, name=str(person)[:200], ref=_ref(person),
                verdict=verdict, comment=comment.strip()[:NOTE_CHARACTERS], facts_sha256=facts,
            )  # fmt: skip
    except IntegrityError as error:
        raise errors.Conflict(
            f"{person} has decided already.", code="already_decided", hint="Somebody else must."
        ) from error


def _approvals(row: Promotion) -> Any:
    """Those that count: about the model as it was asked for."""
    return row.approvals.filter(verdict=_Verdict.APPROVED, facts_sha256=row.facts_sha256)


def _accept(row: Promotion, version: ModelVersion, policy: PromotionPolicy) -> list[dict[str, str]]:
    """Sign and promote; returns the approvers. ``_tell_accepted`` comes last: the audit log's chain is held from its first line on,
    and whoever then waits for a row of somebody who waits for the chain waits for ever."""
    approvers = [
        {"person": each.ref, "name": each.name, "at": each.at.isoformat(timespec="seconds")} for each in _approvals(row)
    ]
    now = clock.now()
    row.envelope = signing.sign_promotion(
        version,
        {
            "promotion": row.pk,
            "from": row.from_stage,
            "to": row.to_stage,
            "requestedBy": _ref(row.requested_by) if row.requested_by else None,
            "approvals": policy.approvals(row.to_stage),
            "approvers": approvers,
            "promotedAt": now.isoformat(timespec="seconds"),
        },
    )
    _move(row, _State.APPROVED)
    if Stage(row.to_stage).rank > Stage(version.stage).rank:
        version.stage = row.to_stage
        version.save(update_fields=["stage"])
    pushes.version_promoted(version)
    aliases.put(version.model, name=row.to_stage, version=version)
    return approvers


def _tell_accepted(row: Promotion, version: ModelVersion, caller: Caller, approvers: list[dict[str, str]]) -> None:
    audit.record(
        row.organization, caller, "promotion.approved", version, number=version.number, promotion=row.pk, to=row.to_stage,
        approvers=[each["person"] for each in approvers],
    )  # fmt: skip
    aliases.tell(version.model, caller, name=row.to_stage, version=version)


def _move(row: Promotion, state: Promotion.State) -> None:
    """Compare-and-set from requested. Raises Conflict when somebody else was first."""
    now = clock.now()
    moved = Promotion.objects.filter(pk=row.pk, state=_State.REQUESTED).update(
        state=state, envelope=row.envelope, decided_at=now
    )
    if moved != 1:
        row.refresh_from_db()
        _ended(row)
    row.state, row.decided_at = state, now


def _ended(row: Promotion) -> NoReturn:
    raise errors.Conflict(
        f"This promotion is {row.get_state_display().lower()} already.", code="promotion_ended", hint="Reload the page."
    )


# --- What must hold -------------------------------------------------------------------------------------------------------


def _stage(to: str) -> Stage:
    if to in (Stage.STAGING, Stage.PRODUCTION):
        return Stage(to)
    raise errors.Invalid(
        f"There is no stage {to[:20]!r} to promote to.", code="unknown_stage", hint="There are staging and production.",
        fields={"to": ["staging or production."]},
    )  # fmt: skip


def _held(pk: int) -> ModelVersion:
    """The version's row until the transaction ends. Raises Conflict unless it is ready and not revoked."""
    ModelVersion.objects.select_for_update().get(pk=pk)
    version = ModelVersion.objects.select_related("organization", "model__organization").get(pk=pk)
    stages.refuse_revoked(version)
    if version.status != VersionStatus.READY:
        raise errors.Conflict(
            f"{version} is {version.get_status_display().lower()}, not ready.",
            code="version_not_ready",
            hint="Promote a version whose validation has passed.",
        )
    return version


def _both(promotion: Promotion) -> tuple[Promotion, ModelVersion]:
    version = _held(promotion.version_id)
    row = Promotion.objects.select_for_update(of=("self",)).select_related("organization").get(pk=promotion.pk)
    row.version = version
    return row, version


def _check_way(version: ModelVersion, policy: PromotionPolicy, stage: Stage) -> None:
    if stage == Stage.PRODUCTION and policy.staging_approvals:
        try:
            stages.require_stage(version, Stage.STAGING, policy)
        except errors.Conflict as error:
            raise errors.Conflict(
                f"{version} is not in staging yet.", code="not_in_staging", hint="Promote it to staging first."
            ) from error
    for row in version.promotions.filter(state=_State.APPROVED, to_stage=stage):
        try:
            _, approvers = stages.signed(version, row)
        except errors.Conflict:
            continue
        if approvers >= policy.approvals(stage):
            raise errors.Conflict(
                f"{version} is in {stage.value} already.", code="already_promoted", hint="Nothing had to be done."
            )


def _check_green(version: ModelVersion, policy: PromotionPolicy) -> None:
    """The checks the model's rule names passed without a warning; every check passed, or the version was not ready."""
    bad = version.findings.filter(check_name__in=policy.required_checks).exclude(
        level__in=(Finding.Level.OK, Finding.Level.INFO)
    )
    missing = set(policy.required_checks) - set(version.findings.values_list("check_name", flat=True))
    if bad or missing:
        names = sorted({found.check_name for found in bad} | missing)
        raise errors.Conflict(
            f"Checks that must be green are not: {', '.join(names)}.",
            code="checks_not_green",
            hint="See the findings on the version's page, and push a mended version.",
        )
